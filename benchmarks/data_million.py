"""How a dataset of a million ticks opens and reads; part of `benchmarks/data.py`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from data_frames import CAMERAS, CHUNK, Row, create, episode

from bora_cli.data.dataset import Dataset
from bora_cli.data.files import read_table
from bora_cli.data.reader import ChunkReader
from bora_cli.data.rows import ROW_OPTIONS
from bora_cli.data.schema import DATA_PATH, EPISODE_PATH, episode_file, header
from bora_cli.data.tables import write_options


def million(root: Path, episodes: int) -> Row:
    """Open and read a dataset of 250 ticks times `episodes`, with images of 8 pixels; each step in a new process.

    bare: opened without the gathered rows that appends write; copied: with them, but the files' times are new.
    """
    dataset = create(root, size=8)
    rng = np.random.default_rng(0)
    small = {camera: rng.integers(0, 256, (250, 8, 8, 3), np.uint8) for camera in CAMERAS}
    dataset.append(episode(small, 250))
    multiply(dataset, episodes)
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); import data_million as d; d.{{}}({str(root)!r})"
    out: Row = {"ticks": 250 * episodes}
    for prefix, step in (
        ("bare_", "open_once"),
        ("", "open_once"),
        ("copied_", "open_once"),
        ("", "read_many"),
    ):
        if prefix == "copied_":
            for file in (root / "meta/episodes").glob("*/*"):
                file.touch()  # as a copy that does not keep times
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
        options = ((DATA_PATH, ticks, write_options(dataset.identity)), (EPISODE_PATH, one, ROW_OPTIONS))
        for path, table, how in options:
            file = episode_file(root, path, index)
            file.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, file, **how)
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
