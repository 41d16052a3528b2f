"""LeRobot's side of benchmarks/data.py; runs in an environment with lerobot and without bora.

python benchmarks/data_lerobot.py FRAMES.npz ROOT STORE EPISODES    STORE: png, h264-stream, h264, libsvtav1
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import time
from typing import Any

import lerobot
import numpy as np
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset

DIM, FPS, CHUNK = 28, 30, 16


def main(frames: str, root: str, store: str, episodes: int) -> None:
    """Record, then draw random chunks with every backend that works, and print one line of JSON."""
    images = dict(np.load(frames))
    out = {"frames_per_s": record(images, root, store, episodes)}
    for backend in ("pyav",) if store == "png" else ("pyav", "torchcodec"):
        try:
            out[f"read_{backend}"] = read(root, backend, 150)
        except (RuntimeError, ImportError, OSError) as error:
            print(f"{backend}: {str(error).splitlines()[0]}", file=sys.stderr)
    print(lerobot.__version__, torch.__version__, file=sys.stderr)
    print(json.dumps(out))


def record(images: dict[str, Any], root: str, store: str, episodes: int) -> float:
    """Return frames per second over add_frame and save_episode."""
    shutil.rmtree(root, ignore_errors=True)
    names = ["height", "width", "channels"]
    kind = "image" if store == "png" else "video"
    features: dict[str, Any] = {
        "observation.state": {"dtype": "float32", "shape": (DIM,), "names": None},
        "action": {"dtype": "float32", "shape": (DIM,), "names": None},
    }
    for camera, frames in images.items():
        features[f"observation.images.{camera}"] = {"dtype": kind, "shape": frames.shape[1:], "names": names}
    known = inspect.signature(LeRobotDataset.create).parameters
    options: dict[str, Any] = {"image_writer_threads": 8}
    if store != "png":
        codec = store.removesuffix("-stream")
        options["streaming_encoding"] = store.endswith("-stream")
        if "vcodec" in known:
            options["vcodec"] = codec
        else:
            from lerobot.configs.video import RGBEncoderConfig

            options["rgb_encoder"] = RGBEncoderConfig(vcodec=codec)
    options = {key: value for key, value in options.items() if key in known}
    dataset = LeRobotDataset.create(
        "local/bench", fps=FPS, features=features, root=root, use_videos=store != "png", **options
    )
    rng = np.random.default_rng(0)
    ticks, taken = len(next(iter(images.values()))), 0.0
    for _ in range(episodes):
        rows = rng.standard_normal((ticks, DIM)).astype(np.float32)
        made = [
            {
                "observation.state": rows[t],
                "action": rows[t],
                "task": "bench",
                **{f"observation.images.{camera}": frames[t] for camera, frames in images.items()},
            }
            for t in range(ticks)
        ]
        start = time.perf_counter()
        for frame in made:
            dataset.add_frame(frame)
        dataset.save_episode()
        taken += time.perf_counter() - start
    dataset.finalize()
    return episodes * ticks / taken


def read(root: str, backend: str, samples: int) -> float:
    """Return random items per second with a chunk of 16 actions."""
    dataset = LeRobotDataset(
        "local/bench",
        root=root,
        video_backend=backend,
        delta_timestamps={"action": [i / FPS for i in range(CHUNK)]},
    )
    draw = np.random.default_rng(1).integers(0, len(dataset), samples + 20)
    for i in draw[:20]:
        dataset[int(i)]
    start = time.perf_counter()
    for i in draw[20:]:
        dataset[int(i)]
    return samples / (time.perf_counter() - start)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
