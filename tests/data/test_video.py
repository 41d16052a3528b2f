"""Images as video: what goes in comes out, lossless where promised, and what is wrong with a file is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from episode_factory import CAMERAS, SPEC, STATES, assert_same_episode, make_dataset, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.video import decode, encode
from bora_cli.errors import ConfigError, CorruptEpisode, DataError
from bora_cli.types import Episode

SIZE = (64, 80)


def smooth(ticks: int) -> np.ndarray:
    """Return moving ramps, uint8 [T, 64, 80, 3], as a camera sees surfaces."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    t = np.arange(ticks)[:, None, None]
    return np.stack([(2 * x + t) % 200, (2 * y + 2 * t) % 200, 0 * x + 5 * t % 250], axis=-1).astype(np.uint8)


def video_episode(ticks: int, seed: int = 0) -> Episode:
    episode = make_episode(ticks, seed=seed)
    episode.images = {c: np.roll(smooth(ticks), i + seed, axis=2) for i, c in enumerate(CAMERAS)}
    return episode


def video_dataset(root: Path, codec: str, episodes: list[Episode]) -> Dataset:
    dataset = Dataset.create(
        root, SPEC, STATES, CAMERAS, image_size=SIZE, fps=10, robot_type="test", video=codec
    )
    for episode in episodes:
        dataset.append(episode)
    return dataset


@settings(max_examples=8, deadline=None)
@given(ticks=st.integers(1, 9), fps=st.sampled_from([1, 10, 29.97, 30, 12.5]), seed=st.integers(0, 2**16))
def test_lossless_video_gives_back_every_pixel(
    tmp_path_factory: pytest.TempPathFactory, ticks: int, fps: float, seed: int
) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (ticks, 18, 32, 3), np.uint8)
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    path.write_bytes(encode(images, "h264-lossless", fps))
    assert np.array_equal(decode(path, (18, 32), 0.0, range(ticks), fps), images)
    some = sorted(np.random.default_rng(seed).choice(ticks, size=min(3, ticks), replace=False).tolist())
    assert np.array_equal(decode(path, (18, 32), 0.0, some, fps), images[some])


@pytest.mark.parametrize("codec", ["h264", "av1"])
def test_lossy_video_is_close(tmp_path: Path, codec: str) -> None:
    images = smooth(7)
    (tmp_path / "v.mp4").write_bytes(encode(images, codec, 10))
    found = decode(tmp_path / "v.mp4", SIZE, 0.0, range(7), 10)
    assert np.abs(found.astype(int) - images).mean() < 4
    assert np.array_equal(decode(tmp_path / "v.mp4", SIZE, 0.3, [0, 2], 10), found[[3, 5]])


def test_a_video_dataset_gives_back_its_episodes(tmp_path: Path) -> None:
    made = [video_episode(6, 1), video_episode(9, 2)]
    dataset = video_dataset(tmp_path / "d", "h264-lossless", made)
    for opened in (dataset, Dataset.open(dataset.root)):
        for i, episode in enumerate(made):
            assert_same_episode(opened.episode(i), episode)
    assert check(dataset.root) == []


def test_a_video_dataset_has_the_layout_of_version_3(tmp_path: Path) -> None:
    root = video_dataset(tmp_path / "d", "h264", [video_episode(6)]).root
    info = json.loads((root / "meta/info.json").read_text())
    key = "observation.images.scene"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    assert info["features"][key]["dtype"] == "video"
    assert info["features"][key]["info"]["video.codec"] == "h264"
    assert (root / f"videos/{key}/chunk-000/file-000.mp4").is_file()
    assert key not in pq.read_schema(root / "data/chunk-000/file-000.parquet").names
    row = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()[0]
    assert (row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"]) == (0.0, 0.6)
    assert (row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"]) == (0, 0)


def test_a_png_dataset_keeps_the_format_that_older_versions_read(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "d")
    assert "video" not in dataset.identity.to_json()
    assert dataset.identity.to_json()["format"] == 1


def test_what_an_interrupted_append_left_is_put_aside(tmp_path: Path) -> None:
    dataset = video_dataset(tmp_path / "d", "h264", [video_episode(4)])
    videos = dataset.root / "videos/observation.images.wrist/chunk-000"
    shutil.copy(videos / "file-000.mp4", videos / "file-001.mp4")
    (videos / "file-001.mp4.tmp").write_bytes(b"half")
    (warning,) = check(dataset.root)
    assert warning.severity == "warning"
    assert "An interrupted append left videos/" in warning.message
    opened = Dataset.open(dataset.root)
    assert len(opened) == 1
    assert opened.repair()
    assert sorted(p.name for p in videos.iterdir()) == ["file-000.mp4"]


def test_a_codec_that_cannot_be_used_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"Unknown video codec 'divx'; expected one of h264-lossless, h264, av1"
    ):
        video_dataset(tmp_path / "d", "divx", [])
    assert not (tmp_path / "d").exists()
    with pytest.raises(ConfigError, match="Images of 7 x 6 pixels cannot be stored as h264; expected even"):
        encode(np.zeros((1, 6, 7, 3), np.uint8), "h264", 10)


def test_damaged_videos_are_named(tmp_path: Path) -> None:
    dataset = video_dataset(tmp_path / "d", "h264", [video_episode(6)])
    path = dataset.root / "videos/observation.images.scene/chunk-000/file-000.mp4"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptEpisode, match=r"file-000\.mp4 cannot be decoded"):
        dataset.episode(0)
    path.write_bytes(encode(smooth(4), "h264", 10))
    with pytest.raises(CorruptEpisode, match=r"file-000\.mp4 has no frame at 0\.4 s \(tick 4\)"):
        dataset.episode(0)
    path.write_bytes(encode(smooth(6)[:, :32], "h264", 10))
    with pytest.raises(CorruptEpisode, match="has frames of 80 x 32 pixels; expected 80 x 64"):
        dataset.episode(0)
    path.unlink()
    with pytest.raises(CorruptEpisode, match=r"file-000\.mp4 is missing"):
        dataset.episode(0)


def test_a_dataset_of_an_unknown_codec_is_refused(tmp_path: Path) -> None:
    dataset = video_dataset(tmp_path / "d", "h264", [])
    identity = dataset.identity.to_json() | {"video": "divx"}
    (dataset.root / "meta/bora.json").write_text(json.dumps(identity))
    with pytest.raises(DataError, match=r"video is 'divx'; expected one of .* in format 2 only"):
        Dataset.open(dataset.root)


def test_a_collection_keeps_to_its_images(tmp_path: Path) -> None:
    from bora_cli.evaluate.collect import collect

    job = {"task": "press_button", "episodes": 1, "out": tmp_path / "d", "image_size": 16}
    dataset = collect(**job, video="h264-lossless")
    png = collect(**{**job, "out": tmp_path / "e"})
    assert_same_episode(dataset.episode(0), png.episode(0))
    with pytest.raises(ConfigError, match="keeps images as h264-lossless; PNG was asked for"):
        collect(**job)
