"""LeRobot reads what we write and we read what LeRobot writes: the same numbers, images and instructions.

LeRobot's pins exclude the torch used here, so it lives in an environment of its own.  Name its interpreter:

    BORA_LEROBOT_PYTHON=/path/to/lerobot/bin/python pytest tests/interop
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bora_cli.data.dataset import Dataset
from bora_cli.data.lerobot import LeRobotDataset
from bora_cli.data.tables import residual_at
from bora_cli.types import Episode

sys.path.append(str(Path(__file__).parents[1] / "data"))
from episode_factory import CAMERAS, SPEC, STATES, H, P, make_decision, make_episode

PYTHON = os.environ.get("BORA_LEROBOT_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="BORA_LEROBOT_PYTHON names no interpreter with lerobot")
CHUNK = 4
SIZE = (64, 96)
TOLERANCE = {"": 0, "h264-lossless": 0, "h264": 4, "av1": 5}
"""Mean error of the pixels that a codec may cause, of 255."""


def pictures(ticks: int, shift: int) -> np.ndarray:
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    t = np.arange(ticks)[:, None, None] + shift
    return np.stack([(2 * x + t) % 190, (2 * y + 2 * t) % 190, 0 * x + 5 * t % 250], axis=-1).astype(np.uint8)


def with_pictures(episode: Episode, seed: int) -> Episode:
    episode.images = {c: pictures(len(episode), 40 * i + 7 * seed) for i, c in enumerate(CAMERAS)}
    return episode


def episodes() -> list[Episode]:
    made = [
        make_episode(6, seed=1, decisions=[make_decision(0, 4)], meta={"task": "pick"}),
        make_episode([P] * 3 + [H] * 4, seed=2, prompt="open the box"),
        make_episode(5, seed=3, truncated=True, success=False),
    ]
    for k, episode in enumerate(made):
        episode.wall_ns = 1_900_000_000_000_000_001 + 100_000_000 * np.arange(len(episode)) + k
        episode.monotonic_ns = episode.wall_ns - 1_900_000_000_000_000_000
    return [with_pictures(episode, i) for i, episode in enumerate(made)]


def lerobot(*arguments: object) -> None:
    script = Path(__file__).with_name("lerobot_side.py")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [PYTHON, str(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("codec", list(TOLERANCE))
def test_lerobot_reads_what_we_write(tmp_path: Path, codec: str) -> None:
    made = episodes()
    ours = Dataset.create(
        tmp_path / "ours", SPEC, STATES, CAMERAS, image_size=SIZE, fps=10, robot_type="test", video=codec
    )
    for episode in made:
        ours.append(episode)
    lerobot("read", ours.root, tmp_path / "found.npz", CHUNK)
    found = np.load(tmp_path / "found.npz")
    assert found["episodes"] == len(made)
    at = 0
    for k, episode in enumerate(made):
        here = slice(at, at + len(episode))
        at += len(episode)
        steps = np.arange(len(episode))[:, None] + np.arange(CHUNK)
        inside = np.minimum(steps, len(episode) - 1)
        assert np.array_equal(found["action"][here], episode.action[inside])
        assert np.array_equal(found["action_is_pad"][here], steps >= len(episode))
        assert np.array_equal(found["observation.state"][here], episode.state)
        assert np.array_equal(found["action.human"][here], episode.human, equal_nan=True)
        assert np.array_equal(found["action.residual"][here], residual_at(episode), equal_nan=True)
        for clock in ("wall_ns", "monotonic_ns"):
            assert found[clock][here].tolist() == getattr(episode, clock).tolist()  # to the nanosecond
        assert np.array_equal(found["next.done"][here], episode.terminated | episode.truncated)
        assert np.array_equal(found["intervention"][here], episode.intervened)
        assert set(found["tasks"][here]) == {episode.prompt}
        assert set(found["episode_index"][here]) == {k}
        for camera in CAMERAS:
            image = 255 * np.moveaxis(found[f"observation.images.{camera}"][here], 1, -1)
            error = np.abs(image - episode.images[camera])
            assert error.mean() <= TOLERANCE[codec] + 1e-3, (camera, error.mean())
    assert at == len(found["tasks"])
    assert np.allclose(found["mean"], np.concatenate([e.action for e in made]).mean(0), atol=1e-6)


@pytest.mark.parametrize("codec", ["png", "libsvtav1", "h264"])
def test_we_read_what_lerobot_writes(tmp_path: Path, codec: str) -> None:
    made = episodes()
    spec = {}
    for k, episode in enumerate(made):
        spec |= {f"state-{k}": episode.state, f"action-{k}": episode.action, f"task-{k}": episode.prompt}
        spec |= {f"{camera}-{k}": episode.images[camera] for camera in CAMERAS}
    np.savez(tmp_path / "spec.npz", **spec)
    lerobot("write", tmp_path / "theirs", tmp_path / "spec.npz", codec)
    found = LeRobotDataset.open(tmp_path / "theirs")
    assert len(found) == len(made)
    assert found.lengths.tolist() == [len(e) for e in made]
    assert found.tasks == [e.prompt for e in made]
    assert found.fps == 10
    for k, episode in enumerate(made):
        columns = found.columns(k, ["observation.state", "action", "frame_index"])
        assert np.array_equal(columns["observation.state"], episode.state)
        assert np.array_equal(columns["action"], episode.action)
        assert columns["frame_index"].ravel().tolist() == list(range(len(episode)))
        for camera in CAMERAS:
            images = found.frames(k, f"observation.images.{camera}", range(len(episode)))
            error = np.abs(images.astype(int) - episode.images[camera]).mean()
            assert error <= (0 if codec == "png" else 6), (camera, error)
