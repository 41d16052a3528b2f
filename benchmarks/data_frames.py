"""What the benchmarks of datasets record: two cameras of 96 x 96 pixels, 28 states, 28 actions."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bora_cli.data.dataset import Dataset
from bora_cli.types import ActionSpec, Controller, Episode

DIM, TICKS, FPS, CHUNK, SIZE = 28, 150, 30, 16, 96
CAMERAS = ("front", "wrist")
Row = dict[str, Any]


def pictures(camera: int) -> np.ndarray:
    """Return uint8 [150, 96, 96, 3]: ramps, a moving square, noise of 8 levels."""
    rng = np.random.default_rng(camera)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    out = []
    for t in range(TICKS):
        image = np.stack([(2 * x + 3 * t) % 256, (2 * y + 40 * camera) % 256, 0 * x + 2 * t % 256], -1)
        at = (2 * t + 10 * camera) % 80
        image[at : at + 12, 20:32] = 255
        out.append(np.clip(image + rng.integers(-8, 8, image.shape), 0, 255))
    return np.stack(out).astype(np.uint8)


def create(root: Path, size: int = SIZE, video: str = "") -> Dataset:
    """Make an empty dataset of the shapes that are compared."""
    shutil.rmtree(root, ignore_errors=True)
    limits = np.full(DIM, 9, np.float32)
    names = tuple(f"a{i}" for i in range(DIM))
    spec = ActionSpec(names, ("rad",) * DIM, -limits, limits, {"arm": (0, 6), "hand": (6, DIM)})
    states = [f"s{i}" for i in range(DIM)]
    return Dataset.create(
        root, spec, states, CAMERAS, image_size=size, fps=FPS, robot_type="bench", video=video
    )


def episode(frames: dict[str, np.ndarray], ticks: int, rng: np.random.Generator | None = None) -> Episode:
    """Return an episode of some of the frames."""
    rows = (rng or np.random.default_rng(0)).standard_normal((ticks, DIM)).astype(np.float32)
    last = np.arange(ticks) == ticks - 1
    return Episode(
        images={camera: images[:ticks] for camera, images in frames.items()},
        state=rows,
        action=rows,
        proposed=rows,
        human=rows,
        controller=np.full(ticks, Controller.DEMO, np.uint8),
        phase=np.zeros(ticks, np.uint8),
        reward=np.zeros(ticks, np.float32),
        terminated=last,
        truncated=np.zeros(ticks, np.bool_),
        success=True,
        prompt="bench",
    )


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many per second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def timed(work: Callable[[], object]) -> float:
    """Return seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
