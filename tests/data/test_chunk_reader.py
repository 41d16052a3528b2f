"""Ticks drawn in any order are the ticks that were recorded, cached or not, however the cache was damaged."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from episode_factory import CAMERAS, make_dataset, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.data.dataset import Dataset
from bora_cli.data.reader import ChunkReader
from bora_cli.errors import ConfigError, DataError, SchemaMismatch

MADE = [make_episode(n, seed=n, prompt=f"task {n}") for n in (5, 1, 9)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "d", MADE).root


def assert_right(reader: ChunkReader, index: int) -> None:
    """Compare one tick with the episode it comes from, the slow way."""
    tick = index
    for episode_index, episode in enumerate(MADE):  # noqa: B007
        if tick < len(episode):
            break
        tick -= len(episode)
    found = reader[index]
    rows = [min(tick + h, len(episode) - 1) for h in range(reader.chunk)]
    assert np.array_equal(found["action"], episode.action[rows])
    assert found["action_is_pad"].tolist() == [tick + h >= len(episode) for h in range(reader.chunk)]
    assert np.array_equal(found["observation.state"], episode.state[tick])
    assert (found["episode_index"], found["frame_index"]) == (episode_index, tick)
    assert found["task"] == episode.prompt
    for camera in CAMERAS:
        assert np.array_equal(found[f"observation.images.{camera}"], episode.images[camera][tick])


@pytest.mark.parametrize("budget", [0, 3000, 1 << 30])
def test_every_tick_is_what_was_recorded(root: Path, budget: int) -> None:
    reader = ChunkReader(root, chunk=4, budget=budget)
    assert len(reader) == 15
    for index in (*range(15), *range(15)):
        assert_right(reader, index)
    assert reader.cache.size() <= max(budget, 3000 * (budget > 0))
    reader.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset that nobody changes."""
    return make_dataset(tmp_path_factory.mktemp("shared") / "d", MADE).root


@settings(max_examples=25, deadline=None)
@given(indices=st.lists(st.integers(0, 14), min_size=1, max_size=8), chunk=st.integers(1, 12))
def test_a_batch_is_its_items_stacked(shared: Path, indices: list[int], chunk: int) -> None:
    reader = ChunkReader(shared, chunk=chunk, columns=["observation.state", "next.reward", "controller"])
    batch = reader.batch(indices)
    for b, index in enumerate(indices):
        assert_right(reader, index)
        for name, value in reader[index].items():
            assert np.array_equal(batch[name][b], value), name
    reader.close()


def test_the_second_reader_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ChunkReader(root).warm() == 3
    reader = ChunkReader(root)
    monkeypatch.setattr(reader.source, "frames", None)
    for index in range(15):
        assert_right(reader, index)


def test_what_changed_is_decoded_anew(root: Path) -> None:
    ChunkReader(root).warm()
    other = make_dataset(root.parent / "e", [make_episode(5, seed=77), *MADE[1:]])
    file = "data/chunk-000/file-000.parquet"
    os.replace(other.root / file, root / file)
    found = ChunkReader(root)[0]
    assert np.array_equal(found["observation.images.wrist"], make_episode(5, seed=77).images["wrist"][0])
    assert len(list((root / "cache/frames").glob("000000-*"))) == 1


def test_a_copy_keeps_its_cache(root: Path) -> None:
    ChunkReader(root).warm()
    before = {p.name.split("-")[2]: p.stat().st_ino for p in (root / "cache/frames").iterdir()}
    for file in (root / "data").rglob("*.parquet"):
        os.utime(file, (1, 1))
    assert ChunkReader(root).warm() == 3
    assert {p.name.split("-")[2]: p.stat().st_ino for p in (root / "cache/frames").iterdir()} == before


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "gone", "longer"])
def test_a_damaged_cache_is_made_anew(root: Path, damage: str) -> None:
    ChunkReader(root).warm()
    for path in (root / "cache/frames").iterdir():
        whole = path.read_bytes()
        content = {"cut": whole[:-1], "empty": b"", "garbage": b"x" * len(whole), "longer": whole + b"x"}
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(content[damage])
    reader = ChunkReader(root)
    for index in range(15):
        assert_right(reader, index)


def test_a_file_deleted_while_reading_is_made_again(root: Path) -> None:
    reader = ChunkReader(root)
    reader.warm()
    reader.close()
    for path in (root / "cache/frames").iterdir():
        path.unlink()
    for index in range(15):
        assert_right(reader, index)


def test_what_a_killed_process_left_is_removed(root: Path) -> None:
    ChunkReader(root).warm()
    left = root / "cache/frames/000000-a-b-c.npy.999999999.1.tmp"
    left.write_bytes(b"half")
    alive = root / f"cache/frames/000000-a-b-c.npy.{os.getpid()}.1.tmp"
    alive.write_bytes(b"half")
    ChunkReader(root)
    assert (left.exists(), alive.exists()) == (False, True)


def test_a_place_that_cannot_be_written_is_read_all_the_same(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader = ChunkReader(root)

    def refuse(*_: object) -> Path:
        raise PermissionError("read-only")

    monkeypatch.setattr(reader.cache, "_write", refuse)
    for index in range(15):
        assert_right(reader, index)
    assert caplog.text.count("Decoded images are not kept") == 1


def test_a_grown_dataset_shows_its_new_episode(root: Path) -> None:
    ChunkReader(root).warm()
    Dataset.open(root).append(make_episode(4, seed=5))
    reader = ChunkReader(root)
    assert len(reader) == 19
    assert np.array_equal(reader[18]["action"][0], make_episode(4, seed=5).action[3])


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_reads_what_its_parent_had_open(root: Path) -> None:
    reader = ChunkReader(root, chunk=3)
    reader.warm()
    child = os.fork()
    if child == 0:
        try:
            for index in range(15):
                assert_right(reader, index)
        finally:
            os._exit(0 if index == 14 else 1)
    for index in range(15):
        assert_right(reader, index)
    assert os.waitpid(child, 0)[1] == 0


def test_settings_that_cannot_be_are_refused(root: Path) -> None:
    with pytest.raises(ConfigError, match="Chunk is 0 ticks; expected at least 1"):
        ChunkReader(root, chunk=0)
    with pytest.raises(SchemaMismatch, match=r"Unknown column 'state'\. Known: observation\.state"):
        ChunkReader(root, columns=["state"])
    with pytest.raises(DataError, match="Tick 15 does not exist; the dataset has 15"):
        ChunkReader(root)[15]
    with pytest.raises(DataError, match="No dataset at"):
        ChunkReader(root.parent / "nothing")
