"""Merging, splitting and deleting lose no episode, double none, and change nothing on failure."""

from __future__ import annotations

import itertools
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from episode_factory import (
    CAMERAS,
    SIZE,
    SPEC,
    STATES,
    H,
    P,
    assert_same_episode,
    make_dataset,
    make_decision,
    make_episode,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.data.check import check
from bora_cli.data.content import episode_hash
from bora_cli.data.dataset import Dataset
from bora_cli.data.exchange import backups, recover
from bora_cli.data.files import claimed, locked
from bora_cli.data.filters import matching, parse_numbers
from bora_cli.data.schema import IDENTITY
from bora_cli.data.select import delete, fractions, merge, split
from bora_cli.errors import ConfigError, DataError, SchemaMismatch
from bora_cli.types import Episode


def several(count: int, seed: int = 0) -> list[Episode]:
    """Return episodes that differ in everything that can differ."""
    return [
        make_episode(
            [P] * (2 + i % 3) + [H] * (i % 2),
            seed=seed + i,
            success=i % 3 != 0,
            prompt=("pick up the toy", "open the box")[i % 2],
            meta={"scene_seed": seed + i, "gap": ("none", "bias")[i % 2], "profile_hash": "aa"},
            decisions=[make_decision(0, 2)] if i % 2 else [],
        )
        for i in range(count)
    ]


def hashes(root: Path) -> list[str]:
    dataset = Dataset.open(root)
    return [episode_hash(root, dataset.identity, i) for i in range(len(dataset))]


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("six") / "d", several(6)).root


@settings(max_examples=3, deadline=None)
@given(label=st.lists(st.integers(0, 2), min_size=6, max_size=6))
def test_what_is_split_and_merged_again_is_what_it_was(six: Path, label: list[int]) -> None:
    parts = {f"part-{k}": [i for i in range(6) if label[i] == k] for k in range(3)}
    with tempfile.TemporaryDirectory() as scratch:
        split(six, parts, Path(scratch) / "parts")
        roots = [Path(scratch) / "parts" / name for name in parts]
        before = hashes(six)
        for root, part in zip(roots, parts.values(), strict=True):
            assert hashes(root) == [before[i] for i in part]
            assert check(root) == []
        merge(roots, Path(scratch) / "whole")
        assert sorted(hashes(Path(scratch) / "whole")) == sorted(before)
        assert check(Path(scratch) / "whole") == []


@settings(max_examples=4, deadline=None)
@given(gone=st.sets(st.integers(0, 5)))
def test_what_is_not_deleted_stays_as_it_was(six: Path, gone: set[int]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(shutil.copytree(six, Path(scratch) / "d"))
        before = hashes(root)
        backup = delete(root, sorted(gone))
        assert hashes(root) == [before[i] for i in range(6) if i not in gone]
        assert backup is not None
        assert hashes(backup) == before
        assert check(root) == []


@settings(max_examples=50, deadline=None)
@given(
    episodes=st.integers(0, 200),
    shares=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_fractions_divide_everything_once(episodes: int, shares: list[int], seed: int) -> None:
    portions = [share / sum(shares) for share in shares]
    parts = fractions(episodes, portions, seed)
    assert sorted(i for part in parts for i in part) == list(range(episodes))
    assert all(abs(len(p) - s * episodes) <= 1 for p, s in zip(parts, portions, strict=True))
    assert parts == fractions(episodes, portions, seed)


def test_merged_episodes_are_equal_to_the_last_bit(tmp_path: Path) -> None:
    a = make_dataset(tmp_path / "a", several(2))
    b = make_dataset(tmp_path / "b", several(3, seed=50))
    assert merge([a.root, b.root], tmp_path / "out") == 5
    merged = Dataset.open(tmp_path / "out")
    for got, want in zip(merged.episodes(), [*a.episodes(), *b.episodes()], strict=True):
        assert_same_episode(got, want)
    assert merged.info["merged_from"] == ["a", "b"]
    assert merged.info["total_frames"] == a.ticks + b.ticks
    assert [row.meta["gap"] for row in merged.rows()] == ["none", "bias", "none", "bias", "none"]


def test_what_merging_makes_equals_what_recording_makes(tmp_path: Path) -> None:
    """Not only the content: rows, indices and statistics are those of a dataset recorded in one go."""
    made = several(4)
    a, b = make_dataset(tmp_path / "a", made[1:2]), make_dataset(tmp_path / "b", [*made[2:], made[0]])
    merge([a.root, b.root], tmp_path / "out")
    recorded = make_dataset(tmp_path / "recorded", [*made[1:], made[0]])
    mine, theirs = files(tmp_path / "out"), files(recorded.root)
    assert mine.keys() == theirs.keys()
    for name in mine:
        if name.endswith(".parquet"):
            merged, at_once = pq.read_table(tmp_path / "out" / name), pq.read_table(recorded.root / name)
            assert merged.schema == at_once.schema, name
            assert repr(merged.to_pylist()) == repr(at_once.to_pylist()), name  # NaN equals NaN there
    assert mine["meta/info.json"] == theirs["meta/info.json"]


def test_datasets_that_differ_are_not_merged(tmp_path: Path) -> None:
    a = make_dataset(tmp_path / "a", several(1))
    b = Dataset.create(
        tmp_path / "b", SPEC, STATES, CAMERAS, image_size=SIZE, fps=20, robot_type="test", extra={}
    )
    with pytest.raises(SchemaMismatch, match=r"a and .*b differ in fps: 10 against 20"):
        merge([a.root, b.root], tmp_path / "out")
    with pytest.raises(ConfigError, match="named twice"):
        merge([a.root, a.root], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_damaged_episodes_are_not_spread(tmp_path: Path) -> None:
    a = make_dataset(tmp_path / "a", several(2))
    (a.root / "data/chunk-000/file-001.parquet").unlink()
    with pytest.raises(DataError, match=r"a, episode 1: .*file-001.parquet is missing") as raised:
        merge([a.root], tmp_path / "out")
    assert "bora data repair" in raised.value.hint
    assert not (tmp_path / "out").exists()
    delete(a.root, [1], keep_backup=False)
    assert check(a.root) == []


def test_deleted_episodes_are_gone_and_kept_in_the_backup(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "d", several(6)).root
    (root / "cache").mkdir()
    (root / "cache/tokens-x-6-4x1.npy").write_bytes(b"numbered by episode")
    (root / "notes.txt").write_text("mine")
    before, everything = hashes(root), files(root)
    backup = delete(root, [0, 4])
    assert hashes(root) == [before[i] for i in (1, 2, 3, 5)]
    assert check(root) == []
    assert not (root / "cache").exists()
    assert (root / "notes.txt").read_text() == "mine"
    assert backup == tmp_path / "d.backup-1"
    assert files(backup) == everything
    assert delete(root, [0], keep_backup=False) is None
    assert backups(root) == [backup]
    Dataset.open(root).append(make_episode(3, seed=77))
    assert check(root) == []


class Injected(Exception):
    """The failure that is injected."""


def failing_at(step: int) -> Callable[[str], None]:
    """Return a tracer that raises at its call number `step`."""
    calls = itertools.count()

    def trace(label: str) -> None:
        if next(calls) == step:
            raise Injected(label)

    return trace


@pytest.mark.parametrize("keep_backup", [True, False])
def test_who_has_a_dataset_open_does_not_append_to_its_successor(tmp_path: Path, keep_backup: bool) -> None:
    recording = make_dataset(tmp_path / "d", several(3))
    delete(recording.root, [0], keep_backup=keep_backup)
    before = files(recording.root)
    with pytest.raises(DataError, match="was rewritten after it was opened"):
        recording.append(make_episode(3))
    assert files(recording.root) == before


@pytest.mark.parametrize(
    ("step", "where"), [(0, "filled .d.unfinished"), (1, "renamed d to d.backup-1"), (2, "exchanged")]
)
def test_nothing_is_lost_wherever_deleting_fails(tmp_path: Path, step: int, where: str) -> None:
    root = make_dataset(tmp_path / "d", several(3)).root
    before = files(root)
    with pytest.raises(Injected, match=where):
        delete(root, [1], trace=failing_at(step), keep_backup=False)
    if where == "exchanged":
        assert files(backups(root)[0]) == before
        assert len(Dataset.open(root)) == 2
    else:
        assert files(root) == before
        assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_a_copy_that_fails_changes_nothing(tmp_path: Path) -> None:
    def full_disk(stage: str, done: int, total: int) -> None:
        raise OSError(28, f"No space left on device, {stage} {done} of {total}")

    root = make_dataset(tmp_path / "d", several(3)).root
    before = files(root)
    with pytest.raises(OSError, match="No space left on device, copy 1 of 2"):
        delete(root, [1], progress=full_disk)
    assert files(root) == before
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_a_merge_that_fails_leaves_nothing(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "d", several(2)).root
    with pytest.raises(Injected):
        merge([root], tmp_path / "out", trace=failing_at(0))
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_nobody_appends_while_a_dataset_is_rewritten(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "d", several(2)).root
    with locked(root / IDENTITY), pytest.raises(DataError, match="Another process is appending"):
        delete(root, [1])
    assert len(Dataset.open(root)) == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from bora_cli.data.select import delete
calls = iter(range(100))
def trace(label):
    if next(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
delete(Path(sys.argv[1]), [1], trace=trace)
"""


@pytest.mark.parametrize("step", [0, 1])
def test_a_process_that_is_killed_loses_nothing(tmp_path: Path, step: int) -> None:
    """Killed before the first rename, and between the two."""
    root = make_dataset(tmp_path / "d", several(3)).root
    before = files(root)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root), str(step)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert recover(root) == (None if step == 0 else tmp_path / "d.backup-1")
    assert files(root) == before
    assert recover(root) is None
    delete(root, [1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d", "d.backup-1"]
    assert len(Dataset.open(root)) == 2


def test_two_processes_do_not_make_the_same_dataset(tmp_path: Path) -> None:
    root = make_dataset(tmp_path / "d", several(1)).root
    with (
        claimed(tmp_path / ".out.unfinished"),
        pytest.raises(ConfigError, match="Another process is working"),
    ):
        merge([root], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_must_be_disjoint(six: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Episodes \[2\] are in more than one part"):
        split(six, {"a": [1, 2], "b": [2]}, tmp_path / "out")
    (tmp_path / "used").mkdir()
    (tmp_path / "used/file").touch()
    with pytest.raises(DataError, match="already exists"):
        split(six, {"a": [1]}, tmp_path / "used")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("3", [3]), ("0:2,5", [0, 1, 5]), ("4:", [4, 5]), (":2", [0, 1]), ("1,1,0:3", [0, 1, 2])],
)
def test_numbers(text: str, wanted: list[int]) -> None:
    assert parse_numbers(text, 6) == wanted


@pytest.mark.parametrize("text", ["", "x", "3:1", "6", "4:9", "-1"])
def test_numbers_that_name_nothing(text: str) -> None:
    with pytest.raises(ConfigError, match="names"):
        parse_numbers(text, 6)


@pytest.mark.parametrize(
    ("conditions", "wanted"),
    [
        (["success=false"], [0, 3]),
        (["gap=bias", "length>3"], [1, 5]),
        (["gap!=bias"], [0, 2, 4]),
        (["gap=none"], [0, 2, 4]),
        (["gap!=none", "profile_hash=aa"], [1, 3, 5]),
        (["scene_seed=77"], []),
        (["human_share > 0.3"], [3]),
        (["scene_seed<=1"], [0, 1]),
        ([], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_conditions(six: Path, conditions: list[str], wanted: list[int]) -> None:
    rows = Dataset.open(six).rows()
    if "human_share > 0.3" in conditions:
        shares = [float(np.mean(e.intervened)) for e in Dataset.open(six).episodes(images=False)]
        wanted = [i for i, share in enumerate(shares) if share > 0.3]
    assert matching(rows, conditions) == wanted


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("success", "is not a condition"),
        ("colour=red", "No episode has a 'colour'"),
        ("length<x", "'x' is not a number"),
        ("gap<3", "need a number"),
        ("success=maybe", "compares .* with 'maybe'"),
        ("gap=bais", "No episode has 'gap' 'bais'. There is bias, none."),
        ("gap!=bais", "No episode has 'gap' 'bais'"),
        ("prompt=", "No episode has 'prompt' ''"),
    ],
)
def test_conditions_that_mean_nothing(six: Path, condition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        matching(Dataset.open(six).rows(), [condition])


def test_a_gap_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    gaps = ["none@1.0", "bias@1.0", "bias@0.5", "bias@1.0+latency@2.0"]
    rows = make_dataset(tmp_path / "d", [make_episode(2, meta={"gap": gap}) for gap in gaps]).rows()
    for asked, found in (("none", [0]), ("bias", [1]), ("bias@1.0", [1]), ("bias@0.5", [2])):
        assert matching(rows, [f"gap={asked}"]) == found
    assert matching(rows, ["gap=bias+latency@2.0"]) == [3]
    with pytest.raises(ConfigError, match=r"There is bias, bias\+latency@2\.0, bias@0\.5, none\."):
        matching(rows, ["gap=friction"])


def test_words_that_no_episode_has_are_answered_with_those_there_are(tmp_path: Path) -> None:
    mistakes = [None, "depth", "high", *(f"m{i:02d}" for i in range(12))]
    made = [make_episode(2, meta={"mistake": name, "style": {"speed": i}}) for i, name in enumerate(mistakes)]
    rows = make_dataset(tmp_path / "d", made).rows()
    assert matching(rows, ["mistake=none"]) == [0]
    with pytest.raises(ConfigError, match=r"No episode has 'mistake' 'none'\. There is depth"):
        matching(rows[1:], ["mistake=none"])
    with pytest.raises(
        ConfigError, match=r"No episode has 'mistake' 'early'\. There is depth, .*, none and 2 more"
    ):
        matching(rows, ["mistake=early"])
    with pytest.raises(ConfigError, match=r"No episode has 'mistake' 'depth'\. There is none\."):
        matching(rows[:1], ["mistake=depth"])
    with pytest.raises(ConfigError, match="'style' is no single value of an episode"):
        matching(rows, ["style=1"])
