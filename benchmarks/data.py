"""Measure datasets: recording, reading chunks, opening a million ticks; beside LeRobot where it is installed.

    python benchmarks/data.py --out SCRATCH [--lerobot PYTHON] [--quick]

The interpreter of an environment with lerobot may also stand in BORA_LEROBOT_PYTHON.  Both sides get the same frames:
two cameras of 96 x 96 pixels with texture and noise, 28 states, 28 actions, chunks of 16.  Runs of the two sides
alternate, and each number is the best of its runs, because other work on the machine only ever slows a run down.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bora_cli.data.dataset import Dataset
from bora_cli.data.files import read_table
from bora_cli.data.images import read_frames
from bora_cli.data.reader import ChunkReader
from bora_cli.data.recorder import Recorder
from bora_cli.data.schema import DATA_PATH, EPISODE_PATH, episode_file, header
from bora_cli.types import ActionSpec, Controller, Episode

DIM, TICKS, FPS, CHUNK, SIZE = 28, 150, 30, 16, 96
CAMERAS = ("front", "wrist")
Row = dict[str, Any]


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


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many per second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


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


def timed(work: Callable[[], object]) -> float:
    """Return seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def in_a_loop(root: Path, frames: dict[str, np.ndarray], seconds: int) -> Row:
    """Record at 30 Hz and return the longest time that a call took from the loop, in ms.

    The loop takes real-time priority where it may, as a control loop does, and freezes Python's garbage collector;
    without the priority this measures what else runs on the machine.  What the machine itself takes is measured in
    the same loop: work of the same kind and length that stays in this process, before or after the call in turns.
    """
    create(root)
    calls, alone, finishes = [], [], []
    row = np.zeros(DIM, np.float32)
    with Recorder(root) as recorder:
        recorder.submit(episode(frames, 20))
        recorder.wait()
        gc.freeze()
        real_time = take_priority()
        due = time.perf_counter()
        for tick in range(seconds * FPS):
            images = {camera: frames[camera][tick % TICKS] for camera in CAMERAS}
            if tick % 2:
                alone.append(timed(lambda: work_alone(images, row)))  # noqa: B023
            calls.append(timed(lambda: recorder.tick(images, state=row, action=row)))  # noqa: B023
            if not tick % 2:
                alone.append(timed(lambda: work_alone(images, row)))  # noqa: B023
            if tick % 60 == 59:
                finishes.append(timed(lambda: recorder.finish(success=True, prompt="bench")))
            due += 1 / FPS
            time.sleep(max(0.0, due - time.perf_counter()))
        if real_time:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        committed = len(recorder.wait()) - 1
    taken = 1e3 * np.array([*calls, *finishes])
    out = {
        "ticks": len(calls),
        "episodes": committed,
        "median_ms": float(np.median(taken)),
        "p99_ms": float(np.quantile(taken, 0.99)),
        "max_ms": float(taken.max()),
        "over_2_ms": int((taken > 2).sum()),
        "alone_median_ms": 1e3 * float(np.median(alone)),
        "alone_max_ms": 1e3 * max(alone),
        "alone_over_2_ms": int((np.array(alone) > 2e-3).sum()),
        "real_time": real_time,
    }
    print("\nAt 30 Hz: " + ", ".join(f"{k} {v:.3g}" for k, v in out.items()))
    return out


def work_alone(images: dict[str, np.ndarray], row: np.ndarray) -> None:
    """Copy and pickle a tick a few times; takes about as long as handing one over."""
    for _ in range(10):
        found: list[pickle.PickleBuffer] = []
        head = pickle.dumps((images, {"row": row.copy()}), protocol=5, buffer_callback=found.append)
        b"".join([head, *(buffer.raw() for buffer in found)])


def take_priority() -> bool:
    """Give this thread real-time priority; returns whether that was allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(20))
    except (PermissionError, AttributeError):
        return False
    return True


def million(root: Path, episodes: int) -> Row:
    """Open and read a dataset of 250 ticks times `episodes`, with images of 8 pixels; each step in a new process."""
    dataset = create(root, size=8)
    rng = np.random.default_rng(0)
    small = {camera: rng.integers(0, 256, (250, 8, 8, 3), np.uint8) for camera in CAMERAS}
    dataset.append(episode(small, 250))
    multiply(dataset, episodes)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import data; data.{{}}({str(root)!r})"
    out: Row = {"ticks": 250 * episodes}
    for prefix, step in (("first_", "open_once"), ("", "open_once"), ("", "read_many")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(step)], capture_output=True, text=True, check=True
        )
        out |= {prefix + k: v for k, v in json.loads(done.stdout.splitlines()[-1]).items()}
    print("\n" + ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in out.items()))
    return out


def multiply(dataset: Dataset, episodes: int) -> None:
    """Write copies of episode 0 under the next numbers, without the syncs that make an append slow."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = dataset.root
    data, row = (read_table(episode_file(root, path, 0)) for path in (DATA_PATH, EPISODE_PATH))
    for index in range(1, episodes):
        columns = {"episode_index": np.full(250, index), "index": np.arange(250) + 250 * index}
        about = {"episode_index": index, "data/chunk_index": index // 1000, "data/file_index": index % 1000}
        about |= {f"meta/episodes/{k}_index": about[f"data/{k}_index"] for k in ("chunk", "file")}
        about |= {"dataset_from_index": 250 * index, "dataset_to_index": 250 * (index + 1)}
        ticks, one = data, row
        for name, values in columns.items():
            ticks = ticks.set_column(ticks.column_names.index(name), name, pa.array(values))
        for name, value in about.items():
            one = one.set_column(one.column_names.index(name), name, pa.array([value]))
        for path, table in ((DATA_PATH, ticks), (EPISODE_PATH, one)):
            file = episode_file(root, path, index)
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, file)
    (root / "meta/info.json").write_text(json.dumps(header(dataset.identity, episodes, 250 * episodes, 1)))


def memory() -> dict[str, float]:
    """Return resident and anonymous memory of this process in MiB."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        name: int(status[key].split()[0]) / 1024 for name, key in (("rss", "VmRSS"), ("anonymous", "RssAnon"))
    }


def open_once(root: str) -> None:
    """Open a dataset for reading and print the seconds."""
    start = time.perf_counter()
    reader = ChunkReader(root, chunk=CHUNK)
    seconds = time.perf_counter() - start
    print(json.dumps({"open_s": seconds, "length": len(reader)}))


def read_many(root: str) -> None:
    """Read everything once and then at random, and print rates and memory."""
    reader = ChunkReader(root, chunk=CHUNK)
    start = time.perf_counter()
    reader.warm()
    out: Row = {"warm_s": time.perf_counter() - start}
    draw = np.random.default_rng(0).integers(0, len(reader), 40_000)
    seen = []
    for part in np.split(draw, 4):
        start = time.perf_counter()
        for k in range(0, len(part), 32):
            reader.batch(part[k : k + 32])
        out["random_per_s"] = len(part) / (time.perf_counter() - start)
        seen.append(memory())
    out |= {"rss_after_10000_MiB": seen[0]["rss"], "rss_after_40000_MiB": seen[-1]["rss"]}
    out |= {
        "anonymous_after_10000_MiB": seen[0]["anonymous"],
        "anonymous_after_40000_MiB": seen[-1]["anonymous"],
    }
    print(json.dumps(out))


if __name__ == "__main__":
    main()
