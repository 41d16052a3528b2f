"""A process killed at any moment of an append leaves N or N + 1 whole episodes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from episode_factory import assert_same_episode, make_dataset, make_decision, make_episode

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import locked

OLD = [make_episode(6, seed=1, decisions=[make_decision(0, 4)]), make_episode(4, seed=2)]
NEW = make_episode(5, prompt="a new instruction", decisions=[make_decision(0, 4)], seed=99)


@pytest.fixture(scope="module")
def crashes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, Path]]:
    """Return (last file operation, directory) of one killed append per file operation."""
    base = tmp_path_factory.mktemp("crash")
    make_dataset(base / "prepared", OLD)
    scratch = base / "killed"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("crash_driver.py")), base / "prepared", scratch],
        capture_output=True,
        text=True,
        check=True,
    )
    *labels, last = done.stdout.splitlines()
    assert last == "finished 0", done.stderr
    return [(label, scratch / f"{i:03d}") for i, label in enumerate(labels)]


def copies(crashes: list[tuple[str, Path]], to: Path) -> list[tuple[str, Path]]:
    return [(label, Path(shutil.copytree(root, to / root.name))) for label, root in crashes]


def test_the_faults_cover_every_file(crashes: list[tuple[str, Path]]) -> None:
    labels = [label for label, _ in crashes]
    for name in ("tasks.parquet", "file-002.parquet", "stats.json", "info.json"):
        for operation in (
            "opened {}.tmp",
            "wrote {}.tmp",
            "synced {}.tmp",
            "renamed to {}",
            "synced directory of {}",
        ):
            assert operation.format(name) in labels
    assert labels.count("renamed to file-002.parquet") == 3


def test_a_killed_append_leaves_whole_episodes(crashes: list[tuple[str, Path]], tmp_path: Path) -> None:
    lengths = []
    for label, root in copies(crashes, tmp_path):
        dataset = Dataset.open(root)
        lengths.append(len(dataset))
        assert len(dataset) in (2, 3), label
        for found, expected in zip(dataset.episodes(), [*OLD, NEW], strict=False):
            assert_same_episode(found, expected)
    assert lengths == sorted(lengths), "an episode that was there must not disappear later in the append"
    assert set(lengths) == {2, 3}


def test_opening_changes_nothing(crashes: list[tuple[str, Path]], tmp_path: Path) -> None:
    for label, root in copies(crashes, tmp_path):
        before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
        Dataset.open(root).rows()
        assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before, label


def test_a_repair_tidies_up_and_counts_anew(crashes: list[tuple[str, Path]], tmp_path: Path) -> None:
    for label, root in copies(crashes, tmp_path):
        dataset = Dataset.open(root)
        dataset.repair()
        assert check(root) == [], label
        assert not list(root.rglob("*.tmp")), label
        on_disk = json.loads((root / "meta/info.json").read_text())
        assert on_disk["total_frames"] == sum(len(e) for e in dataset.episodes(images=False)), label
        stats = json.loads((root / "meta/stats.json").read_text())
        assert stats["index"]["count"] == [on_disk["total_frames"]], label


def test_the_next_append_goes_on(crashes: list[tuple[str, Path]], tmp_path: Path) -> None:
    extra = make_episode(3, seed=7)
    for label, root in copies(crashes, tmp_path):
        dataset = Dataset.open(root)
        assert dataset.append(extra) == len(dataset) - 1
        assert_same_episode(Dataset.open(root).episode(-1), extra)
        assert check(root) == [], label


def test_nothing_is_tidied_while_another_process_writes(
    crashes: list[tuple[str, Path]], tmp_path: Path
) -> None:
    label, killed = next((x, r) for x, r in crashes if x == "wrote file-002.parquet.tmp")
    root = Path(shutil.copytree(killed, tmp_path / "d"))
    with locked(root / "meta/bora.json"):
        assert not Dataset.open(root).repair()
        assert list(root.rglob("*.tmp")), label
    assert Dataset.open(root).repair()
    assert not list(root.rglob("*.tmp"))


def test_the_check_tells_what_was_left_without_touching_it(
    crashes: list[tuple[str, Path]], tmp_path: Path
) -> None:
    _, killed = next((x, r) for x, r in crashes if x == "wrote file-002.parquet.tmp")
    root = Path(shutil.copytree(killed, tmp_path / "d"))
    messages = [(f.severity, f.message) for f in check(root)]
    assert any(s == "warning" and "An interrupted append left decisions/" in m for s, m in messages), messages
    assert all(s == "warning" for s, _ in messages)
    assert list(root.rglob("*.tmp"))


def test_a_directory_that_cannot_be_written_is_still_readable(
    crashes: list[tuple[str, Path]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, killed = next((x, r) for x, r in crashes if x == "wrote file-002.parquet.tmp")
    root = Path(shutil.copytree(killed, tmp_path / "d"))
    for folder in (root, *(p for p in root.rglob("*") if p.is_dir())):
        folder.chmod(0o500)
    try:
        assert_same_episode(Dataset.open(root).episode(0), OLD[0])
    finally:
        for folder in (root, *(p for p in root.rglob("*") if p.is_dir())):
            folder.chmod(0o700)
    assert "ignored what an interrupted append left" in caplog.text
