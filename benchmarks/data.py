"""Measure datasets: recording, reading chunks, opening a million ticks; beside LeRobot where it is installed.

    python benchmarks/data.py --out SCRATCH [--lerobot PYTHON] [--quick]

The interpreter of an environment with lerobot may also stand in BORA_LEROBOT_PYTHON.  Both sides get the same frames:
two cameras of 96 x 96 pixels with texture and noise, 28 states, 28 actions, chunks of 16.  Runs of the two sides
alternate, and each number is the best of its runs, because other work on the machine only ever slows a run down.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from data_frames import CAMERAS, CHUNK, DIM, TICKS, Row, create, episode, pictures, rate, timed
from data_loop import in_a_loop
from data_million import million

from bora_cli.data.dataset import Dataset
from bora_cli.data.images import read_frames
from bora_cli.data.reader import ChunkReader
from bora_cli.data.recorder import Recorder


def main() -> None:
    """Run everything and print tables as Markdown, then all numbers as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="scratch directory, emptied first")
    parser.add_argument("--lerobot", default=os.environ.get("BORA_LEROBOT_PYTHON", ""))
    parser.add_argument("--episodes", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--quick", action="store_true", help="2 episodes, 1 run, 50 000 ticks instead of a million"
    )
    parser.add_argument("--only", nargs="*", default=["record", "read", "loop", "million"])
    given = parser.parse_args()
    if given.quick:
        given.episodes, given.runs = 2, 1
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    frames = {camera: pictures(i) for i, camera in enumerate(CAMERAS)}
    np.savez(given.out / "frames.npz", **frames)
    found: dict[str, Any] = {}
    if {"record", "read"} & set(given.only):
        found |= compare(given, frames)
    if "loop" in given.only:
        found["loop"] = in_a_loop(given.out / "loop", frames, seconds=3 if given.quick else 180)
    if "million" in given.only:
        found["million"] = million(given.out / "million", 200 if given.quick else 4000)
    print(json.dumps(found))


def record(root: Path, frames: dict[str, np.ndarray], episodes: int, video: str = "") -> Row:
    """Hand ticks over as fast as they are taken; the time ends when every episode is committed."""
    create(root, video=video)
    rng = np.random.default_rng(0)
    with Recorder(root, niceness=0) as recorder:  # as LeRobot's side has it
        recorder.submit(episode(frames, 20))  # imports
        recorder.wait()
        taken, start = 0.0, time.perf_counter()
        for _ in range(episodes):
            rows = rng.standard_normal((TICKS, DIM)).astype(np.float32)
            begin = time.perf_counter()
            for t in range(TICKS):
                images = {camera: frames[camera][t] for camera in CAMERAS}
                recorder.tick(images, state=rows[t], action=rows[t])
            recorder.finish(success=True, prompt="bench")
            taken += time.perf_counter() - begin
        recorder.wait()
        total = time.perf_counter() - start
    size = sum(f.stat().st_size for f in root.rglob("*") if f.is_file())
    return {
        "frames_per_s": episodes * TICKS / total,
        "loop_us": 1e6 * taken / episodes / TICKS,
        "MB": size / 1e6,
    }


def read(root: Path, samples: int, seconds: dict[str, float]) -> Row:
    """Draw random chunks with both images, as arrays and as the float tensors that LeRobot gives."""
    import torch

    torch.set_num_threads(1)
    reader = ChunkReader(root, chunk=CHUNK)
    start = time.perf_counter()
    reader.warm()
    seconds["decode all once, s"] = time.perf_counter() - start
    draw = np.random.default_rng(1).integers(0, len(reader), samples)

    def tensors(item: Row) -> None:
        for camera in reader.cameras:
            torch.from_numpy(item[camera]).movedim(-1, -3).float().div_(255)

    out = {
        "item_per_s": rate(samples, lambda: [reader[int(i)] for i in draw]),
        "float_item_per_s": rate(samples, lambda: [tensors(reader[int(i)]) for i in draw]),
        "float_batch_per_s": rate(
            samples, lambda: [tensors(reader.batch(draw[k : k + 32])) for k in range(0, samples, 32)]
        ),
    }
    cold = ChunkReader(root, chunk=CHUNK, budget=0, folder=root / "nowhere")
    some = draw[:20]
    out["uncached_per_s"] = rate(len(some), lambda: [cold[int(i)] for i in some])
    return out


def compare(given: argparse.Namespace, frames: dict[str, np.ndarray]) -> Row:
    """Record and read the same frames on both sides, in turns."""
    stores = ["png", "h264-stream", "h264", "libsvtav1"]
    theirs: dict[str, list[Row]] = {store: [] for store in stores}
    ours: dict[str, list[Row]] = {"png": [], "h264": [], "av1": []}
    reads: list[Row] = []
    parts: list[dict[str, float]] = []
    for _ in range(given.runs):
        for store, rows in theirs.items() if given.lerobot else ():
            rows.append(lerobot(given, store))
        for store, rows in ours.items():
            rows.append(
                record(given.out / "ours" / store, frames, given.episodes, "" if store == "png" else store)
            )
        parts.append({})
        shutil.rmtree(given.out / "ours/png/cache", ignore_errors=True)
        reads.append(read(given.out / "ours/png", 4000, parts[-1]))
    best = {store: {k: max(r[k] for r in rows) for k in rows[0]} for store, rows in theirs.items() if rows}
    mine = {store: {k: (min if k in ("loop_us", "MB") else max)(r[k] for r in rows) for k in rows[0]}
            for store, rows in ours.items()}  # fmt: skip
    drawn = {k: max(r[k] for r in reads) for k in reads[0]}
    found: Row = {
        "ours": mine,
        "read": drawn,
        "lerobot": best,
        "runs": given.runs,
        "episodes": given.episodes,
    }
    found["parts"] = where_time_goes(given.out / "ours/png", frames)
    found["parts"]["decode all once, s"] = min(p["decode all once, s"] for p in parts)
    print_comparison(found)
    return found


def lerobot(given: argparse.Namespace, store: str) -> Row:
    """Run LeRobot's side in its own interpreter."""
    script = Path(__file__).with_name("data_lerobot.py")
    root = given.out / "theirs" / store
    command = [
        given.lerobot,
        str(script),
        str(given.out / "frames.npz"),
        str(root),
        store,
        str(given.episodes),
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"LeRobot's side failed for {store}:\n{done.stderr[-2000:]}")
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def print_comparison(found: Row) -> None:
    """Print the tables of docs/results.md."""
    print("| side | store | recorded frames/s | chunks read/s |\n|---|---|---|---|")
    for store, row in found["lerobot"].items():
        reads = ", ".join(f"{name} {value:.0f}" for name, value in row.items() if name.startswith("read_"))
        print(f"| LeRobot | {store} | {row['frames_per_s']:.0f} | {reads} |")
    drawn = found["read"]
    for store, row in found["ours"].items():
        reads = "" if store != "png" else (
            f"{drawn['item_per_s']:.0f}; as float tensors {drawn['float_item_per_s']:.0f}, in batches "
            f"{drawn['float_batch_per_s']:.0f}; without the cache {drawn['uncached_per_s']:.0f}"
        )  # fmt: skip
        print(f"| bora | {store} | {row['frames_per_s']:.0f} | {reads} |")
    if found["lerobot"]:
        rows = found["lerobot"].values()
        theirs = (
            max(r["frames_per_s"] for r in rows),
            max(v for r in rows for k, v in r.items() if "read_" in k),
        )
        mine = found["ours"]["png"]["frames_per_s"], drawn["float_item_per_s"]
        print(
            f"\nRatio to LeRobot's best: recording {mine[0] / theirs[0]:.1f}, reading {mine[1] / theirs[1]:.1f}"
        )
    print("\n| step | ms |\n|---|---|")
    for name, value in found["parts"].items():
        print(f"| {name} | {value if name.endswith(' s') else 1e3 * value:.3g} |")


def where_time_goes(root: Path, frames: dict[str, np.ndarray]) -> dict[str, float]:
    """Return seconds of the steps of appending an episode of 150 ticks, and of reading one chunk."""
    from bora_cli.data import png, tables
    from bora_cli.data.files import write_table
    from bora_cli.data.rows import row_table
    from bora_cli.data.running import DatasetStats

    dataset = Dataset.open(root)
    made = episode(frames, TICKS)
    images = [made.images[camera] for camera in CAMERAS]
    data = tables.data_table(made, dataset.identity, 0, 0, 0)
    row = row_table(made, data, dataset.identity, 0, 0)
    totals, scratch = DatasetStats(dataset.identity), root.with_name("scratch.parquet")
    options = tables.write_options(dataset.identity)
    reader = ChunkReader(root, chunk=CHUNK)
    reader.warm()
    steps: dict[str, Callable[[], object]] = {
        "append: 300 PNG": lambda: [png.encode(x) for x in images],
        "append: statistics of the episode": lambda: row_table(made, data, dataset.identity, 0, 0),
        "append: statistics of the dataset": lambda: totals.add(data, row),
        "append: write and sync the ticks": lambda: write_table(scratch, data, **options),
        "read: one chunk from the cache": lambda: reader[77],
        "read: one frame from PNG in Parquet": lambda: read_frames(root, dataset.identity, 0, "front", [7]),
    }
    return {name: min(timed(step) for _ in range(5)) for name, step in steps.items()}


if __name__ == "__main__":
    main()
