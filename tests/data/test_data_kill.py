"""A recorder killed with SIGKILL at random moments loses no episode that it had acknowledged.

20 kills are part of every run; 220 more are made with BORA_NIGHTLY=1.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from episode_factory import assert_same_episode, make_dataset, make_episode
from kill_driver import episode_of

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.repair import repair
from bora_cli.errors import CorruptEpisode

nightly = pytest.mark.skipif(not os.environ.get("BORA_NIGHTLY"), reason="BORA_NIGHTLY is not set")
RUNS = [
    pytest.param(12, 1, "", "append", id="append"),
    pytest.param(6, 2, "h264-lossless", "append", id="append-video"),
    pytest.param(1, 3, "", "loop", id="loop"),
    pytest.param(1, 4, "", "writer", id="writer"),
    *(pytest.param(60, s, "", "append", marks=nightly, id=f"append-{s}") for s in (11, 12)),
    pytest.param(60, 13, "h264-lossless", "append", marks=nightly, id="append-video-13"),
    pytest.param(20, 14, "", "loop", marks=nightly, id="loop-14"),
    pytest.param(20, 15, "", "writer", marks=nightly, id="writer-15"),
]


@pytest.mark.parametrize(("kills", "seed", "codec", "how"), RUNS)
def test_no_acknowledged_episode_is_lost(tmp_path: Path, kills: int, seed: int, codec: str, how: str) -> None:
    root = tmp_path / "d"
    command = [sys.executable, str(Path(__file__).with_name("kill_driver.py")), str(root)]
    done = subprocess.run(
        [*command, str(kills), str(seed), codec, how], capture_output=True, text=True, check=True
    )
    counts = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(counts) == kills, done.stderr
    lost = [(acknowledged, found) for acknowledged, found in counts if found < acknowledged]
    assert not lost
    dataset = Dataset.open(root)
    assert len(dataset) == counts[-1][1] > 0
    for index, episode in enumerate(dataset.episodes()):
        assert_same_episode(episode, episode_of(index))
    dataset.repair()
    assert check(root) == []


def test_opening_says_what_it_ignores_and_an_append_puts_it_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode(3)])
    (dataset.root / "data/chunk-000/file-001.parquet").write_bytes(b"half")
    with caplog.at_level(logging.WARNING):
        assert len(Dataset.open(dataset.root)) == 1
    assert "ignored what an interrupted append left (data/chunk-000/file-001.parquet)" in caplog.text
    assert (dataset.root / "data/chunk-000/file-001.parquet").read_bytes() == b"half"
    Dataset.open(dataset.root).append(make_episode(4))
    assert "put aside what an interrupted append left of episode 1" in caplog.text
    kept = dataset.root / "quarantine/episode-000001"
    assert (kept / "data--chunk-000--file-001.parquet").read_bytes() == b"half"
    assert "interrupted" in (kept / "reason.txt").read_text()
    assert check(dataset.root) == []


def test_an_episode_that_the_header_counts_is_no_leftover(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = [make_episode(3), make_episode(4), make_episode(5, seed=7)]
    dataset = make_dataset(tmp_path / "d", made)
    (dataset.root / "meta/episodes/chunk-000/file-002.parquet").unlink()
    before = {p: p.read_bytes() for p in dataset.root.rglob("*") if p.is_file()}
    with caplog.at_level(logging.WARNING):
        opened = Dataset.open(dataset.root)
    assert len(opened) == 2
    assert "meta/info.json counts 3 episodes, but meta/episodes has no episode 2" in caplog.text
    for act in (opened.repair, lambda: opened.append(make_episode(3))):
        with pytest.raises(CorruptEpisode, match="counts 3 episodes"):
            act()
    assert {p: p.read_bytes() for p in dataset.root.rglob("*") if p.is_file()} == before
    assert [f.message for f in check(dataset.root) if f.severity == "error"]
    assert "Row computed again" in repair(dataset.root).steps[0].message
    mended = Dataset.open(dataset.root).episode(2)
    assert mended.meta.pop("repaired")
    assert_same_episode(mended, made[2])


def test_a_lost_row_file_does_not_make_its_ticks_a_leftover(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = make_dataset(tmp_path / "d", [make_episode(3), make_episode(4), make_episode(5)])
    (dataset.root / "meta/episodes/chunk-000/file-001.parquet").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(Dataset.open(dataset.root)) == 1
    assert "episode 2 exists, but meta/episodes has no episode 1; nothing was removed" in caplog.text
    assert (dataset.root / "data/chunk-000/file-001.parquet").exists()
    with pytest.raises(Exception, match="nothing was removed"):
        Dataset.open(dataset.root).append(make_episode(3))
