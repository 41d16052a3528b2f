"""A repair puts right what follows from the rest, keeps what it takes out, and says both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
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

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.exchange import backups
from bora_cli.data.files import locked
from bora_cli.data.repair import Report, repair
from bora_cli.data.schema import IDENTITY
from bora_cli.errors import DataError

EPISODES = [
    make_episode(4, seed=1, meta={"scene_seed": 1}, decisions=[make_decision(0, 4)]),
    make_episode([P] * 2 + [H] * 3, seed=2, meta={"scene_seed": 2}, prompt="open the box"),
    make_episode(3, seed=3, truncated=True, success=False, meta={"scene_seed": 3}),
    make_episode(6, seed=4, meta={"scene_seed": 4}, decisions=[make_decision(0, 4), make_decision(4, 2)]),
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("pristine") / "d", EPISODES).root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "d")
    return tmp_path / "d"


def file(root: Path, part: str, index: int) -> Path:
    return root / part / f"chunk-000/file-{index:03d}.parquet"


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def put(path: Path, column: str, t: int, value: object) -> None:
    """Overwrite one scalar of a Parquet file."""
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values[t] = value
    kind = table.schema.field(column).type
    pq.write_table(table.set_column(table.column_names.index(column), column, pa.array(values, kind)), path)


def said(report: Report, action: str) -> str:
    return " ".join(step.message for step in report.steps if step.action == action)


def assert_whole(root: Path, indices: list[int]) -> None:
    """Assert that a dataset is sound and holds these of EPISODES, to the last bit."""
    assert [f for f in check(root) if f.severity == "error"] == []
    found = Dataset.open(root)
    assert len(found) == len(indices)
    for got, index in zip(found.episodes(), indices, strict=True):
        assert_same_episode(got, EPISODES[index])


def test_a_sound_dataset_is_left_alone(root: Path) -> None:
    before = files(root)
    assert repair(root).steps == ()
    assert files(root) == before
    assert backups(root) == []


DAMAGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("index", lambda r: put(file(r, "data", 1), "index", 0, 99), "numbers of its place"),
    ("episode_index", lambda r: put(file(r, "data", 2), "episode_index", 1, 0), "numbers of its place"),
    ("task_index", lambda r: put(file(r, "data", 0), "task_index", 1, 1), "numbers of its place"),
    ("frame_index", lambda r: put(file(r, "data", 0), "frame_index", 3, 9), "again: frame_index."),
    ("timestamp", lambda r: put(file(r, "data", 3), "timestamp", 3, 9.0), "again: timestamp."),
    (
        "row from",
        lambda r: put(file(r, "meta/episodes", 2), "dataset_from_index", 0, 1),
        "numbers of its place",
    ),
    ("row length", lambda r: put(file(r, "meta/episodes", 1), "length", 0, 4), "Counts and statistics"),
    (
        "row stats",
        lambda r: put(file(r, "meta/episodes", 1), "stats/action/mean", 0, [9.0] * 3),
        "Counts and",
    ),
    ("row counts", lambda r: put(file(r, "meta/episodes", 1), "bora/controller_ticks", 0, [5] * 6), "Counts"),
]


@pytest.mark.parametrize(("damage", "message"), [d[1:] for d in DAMAGES], ids=[d[0] for d in DAMAGES])
def test_what_follows_from_the_rest_is_put_right(
    root: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(root)
    before = files(root)
    planned = repair(root, dry_run=True)
    assert files(root) == before
    report = repair(root)
    assert report.steps == planned.steps
    assert message in said(report, "mended")
    assert_whole(root, [0, 1, 2, 3])
    assert files(backups(root)[0]) == before


def test_a_lost_row_is_computed_again_without_its_meta_data(root: Path) -> None:
    file(root, "meta/episodes", 0).write_bytes(b"PAR1")
    file(root, "meta/episodes", 1).unlink()
    report = repair(root)
    assert "without its meta data" in said(report, "mended")
    assert [f for f in check(root) if f.severity == "error"] == []
    mended = Dataset.open(root)
    assert len(mended) == 4
    for index in (0, 1):
        got = mended.episode(index)
        assert "Row computed again" in got.meta.pop("repaired")[0]
        wanted = EPISODES[index]
        assert (got.success, got.prompt, len(got.decisions)) == (
            wanted.success,
            wanted.prompt,
            len(wanted.decisions),
        )
        assert np.array_equal(got.images["wrist"], wanted.images["wrist"])


def test_ticks_outlive_their_decisions(root: Path) -> None:
    file(root, "decisions", 3).write_bytes(b"torn")
    report = repair(root)
    assert "Decisions are lost" in said(report, "mended")
    assert [f for f in check(root) if f.severity == "error"] == []
    got = Dataset.open(root).episode(3)
    assert got.decisions == []
    assert "Decisions are lost" in got.meta["repaired"][0]
    assert np.array_equal(got.action, EPISODES[3].action)
    assert set(pq.read_table(file(root, "data", 3))["decision_id"].to_pylist()) == {-1}


UNUSABLE: list[tuple[str, Callable[[Path], None], str]] = [
    ("torn", lambda p: p.write_bytes(p.read_bytes()[:-9]), "cannot be read"),
    ("gone", lambda p: p.unlink(), "is missing"),
    ("half", lambda p: pq.write_table(pq.read_table(p).slice(0, 2), p), "expected exactly one flag"),
    ("first tick", lambda p: pq.write_table(pq.read_table(p).slice(1), p), "1 of its 5 ticks are lost"),
    ("copy", lambda p: shutil.copy(p.with_name("file-003.parquet"), p), "holds the ticks of episode 3"),
    ("reward", lambda p: put(p, "next.reward", 0, float("nan")), "next.reward has 1 NaN"),
    ("limits", lambda p: put(p, "action", 0, [9.0, 0.0, 0.0]), "dx is 9 m"),
    (
        "image",
        lambda p: put(p, "observation.images.wrist", 0, {"bytes": b"no image", "path": None}),
        "cannot be decoded",
    ),
    ("column", lambda p: pq.write_table(pq.read_table(p).drop_columns(["phase"]), p), "no column 'phase'"),
]


@pytest.mark.parametrize(("damage", "message"), [d[1:] for d in UNUSABLE], ids=[d[0] for d in UNUSABLE])
def test_what_cannot_be_put_right_is_set_aside(
    root: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(file(root, "data", 1))
    before = files(root)
    report = repair(root)
    assert message in said(report, "set aside")
    assert report.renumbered == {2: 1, 3: 2}
    assert_whole(root, [0, 2, 3])
    folder = root / "quarantine/episode-000001"
    assert message in (folder / "reason.txt").read_text()
    kept = {p.name.replace("--", "/"): p.read_bytes() for p in folder.glob("*.parquet")}
    assert kept == {k: v for k, v in before.items() if "file-001" in k}
    assert files(backups(root)[0]) == before


def test_what_a_killed_writer_left_is_set_aside_in_place(root: Path) -> None:
    for part in ("data", "meta/episodes"):
        shutil.copy(file(root, part, 3), file(root, part, 4))
    file(root, "meta/episodes", 4).rename(root / "meta/episodes/chunk-000/file-004.parquet.tmp")
    (root / "meta/info.json").unlink()
    report = repair(root)
    assert "interrupted before it was committed" in said(report, "set aside")
    assert "file-004.parquet.tmp" in said(report, "moved")
    assert report.backup is None
    assert_whole(root, [0, 1, 2, 3])
    assert (root / "quarantine/leftovers/meta--episodes--chunk-000--file-004.parquet.tmp").exists()
    assert (root / "quarantine/episode-000004/data--chunk-000--file-004.parquet").exists()
    assert check(root) == []


@pytest.mark.parametrize("name", ["meta/info.json", "meta/stats.json", "meta/tasks.parquet"])
@pytest.mark.parametrize("content", [None, b"{}"])
def test_files_about_the_whole_dataset_are_renewed(root: Path, name: str, content: bytes | None) -> None:
    before = files(root)
    (root / name).unlink() if content is None else (root / name).write_bytes(content)
    report = repair(root)
    assert said(report, "renewed")
    assert report.backup is None
    assert_whole(root, [0, 1, 2, 3])
    assert check(root) == []
    assert {k for k, v in files(root).items() if before.get(k) != v} <= {
        "meta/stats.json",
        "meta/tasks.parquet",
    }


def test_a_file_that_is_no_episode_is_moved_away(root: Path) -> None:
    shutil.copy(file(root, "meta/episodes", 1), root / "meta/episodes/chunk-000/copy.parquet")
    assert "copy.parquet, not the name of an episode" in said(repair(root), "moved")
    assert (root / "quarantine/leftovers/meta--episodes--chunk-000--copy.parquet").exists()
    assert_whole(root, [0, 1, 2, 3])
    assert check(root) == []


def test_wrong_statistics_are_renewed(root: Path) -> None:
    stats = json.loads((root / "meta/stats.json").read_text())
    stats["action"]["mean"][0] += 1
    (root / "meta/stats.json").write_text(json.dumps(stats))
    assert said(repair(root), "renewed") == "meta/stats.json is wrong about action."
    assert repair(root).steps == ()


def test_a_lost_identity_comes_from_a_dataset_of_the_same_rig(
    root: Path, pristine: Path, tmp_path: Path
) -> None:
    (root / IDENTITY).unlink()
    before = files(root)
    with pytest.raises(DataError, match="follows from nothing else") as raised:
        repair(root)
    assert "--like" in raised.value.hint
    other = Dataset.create(tmp_path / "other", SPEC, ("x",), (), image_size=8, fps=10, robot_type="test")
    with pytest.raises(DataError, match=r"is of another rig: .* otherwise about observation"):
        repair(root, like=other.root)
    assert files(root) == before
    repair(root, like=pristine)
    assert_whole(root, [0, 1, 2, 3])


def test_a_dataset_killed_while_it_was_made_says_so(tmp_path: Path) -> None:
    make_dataset(tmp_path / "d")
    (tmp_path / "d" / IDENTITY).unlink()
    with pytest.raises(DataError, match="interrupted while it was made and has no episode"):
        repair(tmp_path / "d")
    with pytest.raises(DataError, match="is not a dataset"):
        repair(tmp_path)


def test_a_repair_that_fails_changes_nothing(root: Path) -> None:
    file(root, "data", 1).unlink()
    before = files(root)

    def trace(label: str) -> None:
        raise OSError(28, f"No space left on device at {label}")

    with pytest.raises(OSError, match="No space left"):
        repair(root, trace=trace)
    assert files(root) == before
    with locked(root / IDENTITY), pytest.raises(DataError, match="Another process is appending"):
        repair(root)
    assert files(root) == before


def test_two_repairs_keep_two_quarantines(root: Path) -> None:
    for _ in range(2):
        file(root, "data", 1).unlink()
        repair(root, keep_backup=False)
    assert sorted(p.name for p in (root / "quarantine").iterdir()) == ["episode-000001", "episode-000001-2"]
    assert_whole(root, [0, 3])
    assert backups(root) == []


def test_an_interrupted_rewrite_is_recovered(root: Path, tmp_path: Path) -> None:
    root.rename(tmp_path / "d.backup-3")
    (tmp_path / ".d.unfinished").mkdir()
    planned = repair(root, dry_run=True)
    assert not root.exists()
    report = repair(root)
    assert planned.steps == report.steps
    assert "d.backup-3 gets its name back" in said(report, "recovered")
    assert_whole(root, [0, 1, 2, 3])


def test_an_episode_whose_video_is_torn_is_set_aside(tmp_path: Path) -> None:
    root = tmp_path / "d"
    dataset = Dataset.create(
        root, SPEC, STATES, CAMERAS, image_size=SIZE, fps=10, robot_type="test", video="h264-lossless"
    )
    for episode in EPISODES:
        dataset.append(episode)
    (root / "videos/observation.images.wrist/chunk-000/file-001.mp4").write_bytes(b"torn")
    file(root, "meta/episodes", 2).unlink()
    report = repair(root)
    assert "cannot be decoded" in said(report, "set aside")
    assert [f for f in check(root) if f.severity == "error"] == []
    found = Dataset.open(root)
    assert_same_episode(found.episode(2), EPISODES[3])
    assert np.array_equal(found.episode(1).images["scene"], EPISODES[2].images["scene"])
    assert (
        root / "quarantine/episode-000001/videos--observation.images.wrist--chunk-000--file-001.mp4"
    ).exists()
