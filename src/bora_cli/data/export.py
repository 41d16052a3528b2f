"""Write datasets for others: LeRobot v3.0 or v2.1 without our columns, or one episode as a plain table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bora_cli.data.copy import Progress, link_file, no_progress, require_sound
from bora_cli.data.dataset import Dataset
from bora_cli.data.exchange import new_directory
from bora_cli.data.files import read_json, read_table, write_bytes, write_json, write_table
from bora_cli.data.lerobot import LeRobotDataset
from bora_cli.data.lerobot_v21 import EPISODES, TASK_LINES, open_v21
from bora_cli.data.rows import ROW_OPTIONS, read_row
from bora_cli.data.schema import (
    DATA_PATH,
    EPISODE_PATH,
    FILES_PER_CHUNK,
    IMAGE_PREFIX,
    INFO,
    STATS,
    TASKS,
    episode_file,
    video_file,
)
from bora_cli.data.sources import DatasetSource
from bora_cli.data.tables import column_array
from bora_cli.data.tasks import read_tasks, write_tasks
from bora_cli.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pyarrow as pa

PLAIN = (
    "observation.state",
    "action",
    "next.reward",
    "next.done",
    "next.success",
    "timestamp",
    "frame_index",
    "episode_index",
    "index",
    "task_index",
)
"""Columns that LeRobot's own datasets have too; images come on top."""
DATA_V21 = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_V21 = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
STATS_V21 = Path("meta/episodes_stats.jsonl")
_STATS = ("min", "max", "mean", "std", "count")


def export_lerobot(root: Path, out: Path, *, version: str = "v3.0", progress: Progress = no_progress) -> int:
    """Write a dataset in LeRobot's layout with LeRobot's columns only; returns the number of episodes.

    version: "v3.0" or "v2.1".  The result is read back and compared before it gets its name.
    Raises DataError, with nothing left at `out`, for damaged episodes.
    """
    if version not in ("v3.0", "v2.1"):
        raise ConfigError(f"Unknown version {version!r}; expected v3.0 or v2.1.", "Choose one of them.")
    require_sound(root)
    dataset = Dataset.open(root)
    with new_directory(out) as fresh:
        (_write_v3 if version == "v3.0" else _write_v21)(dataset, fresh, progress)
        _compare(dataset, LeRobotDataset.open(fresh) if version == "v3.0" else open_v21(fresh), progress)
    return len(dataset)


def export_table(root: Path, index: int, out: Path) -> int:
    """Write the numbers of an episode as one table, a column per number; returns its ticks.

    out: a new .csv or .parquet file.  Columns are named like "action.dx"; images are left out.
    Raises ConfigError for another suffix or a file that exists.
    """
    import polars as pl

    if out.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--out {out} is neither .csv nor .parquet.", "Name it episode.csv.")
    if out.exists():
        raise ConfigError(f"{out} already exists.", "Choose another --out.")
    dataset = Dataset.open(root)
    row = dataset.row(index)
    features = dataset.identity.features
    data = read_table(episode_file(root, DATA_PATH, row.index), dataset.identity.numeric)
    columns: dict[str, Any] = {}
    for name in dataset.identity.numeric:
        values = column_array(data[name])
        if values.ndim == 1:
            columns[name] = values
        else:
            columns |= {f"{name}.{label}": values[:, d] for d, label in enumerate(features[name]["names"])}
    frame = pl.DataFrame(columns)
    part = out.with_name(out.name + ".tmp")
    try:
        frame.write_csv(part) if out.suffix == ".csv" else frame.write_parquet(part)
        part.rename(out)
    finally:
        part.unlink(missing_ok=True)
    return len(frame)


def _columns(dataset: Dataset) -> tuple[dict[str, Any], list[str]]:
    """Return LeRobot's features of a dataset, and the columns of its data files."""
    features = {
        k: v for k, v in dataset.identity.features.items() if k in PLAIN or k.startswith(IMAGE_PREFIX)
    }
    stored = [name for name in features if name in PLAIN or not dataset.identity.video]
    return features, stored


def _ticks(dataset: Dataset, index: int, stored: Sequence[str]) -> tuple[pa.Table, dict[str, Any]]:
    """Return an episode's ticks, and the Parquet options for them: PNG files are compressed already."""
    data = read_table(episode_file(dataset.root, DATA_PATH, index), list(stored))
    options = {"compression": "none" if dataset.identity.image_columns else "zstd", "use_dictionary": False}
    return data, options


def _write_v3(dataset: Dataset, out: Path, progress: Progress) -> None:
    features, stored = _columns(dataset)
    for index in range(len(dataset)):
        data, options = _ticks(dataset, index, stored)
        write_table(episode_file(out, DATA_PATH, index), data, **options)
        for camera in dataset.cameras if dataset.identity.video else ():
            link_file(video_file(dataset.root, camera, index), video_file(out, camera, index))
        row = read_table(episode_file(dataset.root, EPISODE_PATH, index))
        kept = [name for name in row.column_names if _is_theirs(name, features)]
        row_options: dict[str, Any] = ROW_OPTIONS
        write_table(episode_file(out, EPISODE_PATH, index), row.select(kept), **row_options)
        progress("export", index + 1, len(dataset))
    write_tasks(out / TASKS, read_tasks(dataset.root / TASKS))
    stats = read_json(dataset.root / STATS)
    write_json(out / STATS, {name: stats[name] for name in features if name in stats})
    write_json(out / INFO, {**read_json(dataset.root / INFO), "features": features})


def _is_theirs(column: str, features: dict[str, Any]) -> bool:
    if column.startswith("stats/"):
        _, feature, name = column.split("/")
        return feature in features and name in _STATS
    return not column.startswith("bora/")


def _write_v21(dataset: Dataset, out: Path, progress: Progress) -> None:
    features, stored = _columns(dataset)
    episodes, stats = [], []
    for index in range(len(dataset)):
        data, options = _ticks(dataset, index, stored)
        place = {"episode_chunk": index // FILES_PER_CHUNK, "episode_index": index}
        write_table(out / DATA_V21.format(**place), data, **options)
        for camera in dataset.cameras if dataset.identity.video else ():
            copy = out / VIDEO_V21.format(**place, video_key=IMAGE_PREFIX + camera)
            link_file(video_file(dataset.root, camera, index), copy)
        row = read_row(dataset.root, index)
        episodes.append({"episode_index": index, "tasks": [row.prompt], "length": row.length})
        about = read_table(episode_file(dataset.root, EPISODE_PATH, index)).to_pylist()[0]
        described = {f: {k: about[f"stats/{f}/{k}"] for k in _STATS} for f in features}
        stats.append({"episode_index": index, "stats": described})
        progress("export", index + 1, len(dataset))
    tasks = read_tasks(dataset.root / TASKS)
    _write_lines(out / EPISODES, episodes)
    _write_lines(out / STATS_V21, stats)
    _write_lines(out / TASK_LINES, [{"task_index": number, "task": text} for text, number in tasks.items()])
    header = read_json(dataset.root / INFO)
    videos = len(dataset) * len(dataset.cameras) if dataset.identity.video else 0
    write_json(
        out / INFO,
        {
            "codebase_version": "v2.1",
            **{k: header[k] for k in ("robot_type", "total_episodes", "total_frames", "total_tasks")},
            "total_videos": videos,
            "total_chunks": -(-len(dataset) // FILES_PER_CHUNK),
            "chunks_size": FILES_PER_CHUNK,
            "fps": header["fps"],
            "splits": header["splits"],
            "data_path": DATA_V21,
            "video_path": VIDEO_V21 if videos else None,
            "features": features,
        },
    )


def _write_lines(path: Path, documents: Sequence[dict[str, Any]]) -> None:
    write_bytes(path, "".join(json.dumps(document) + "\n" for document in documents).encode())


def _compare(dataset: Dataset, written: LeRobotDataset, progress: Progress) -> None:
    """Raise DataError unless what was written reads like the dataset."""
    mine = DatasetSource(dataset)
    names = [name for name in PLAIN if name in written.shapes]
    for index in range(len(dataset)):
        ours, theirs = mine.columns(index, names), written.columns(index, names)
        wrong = [
            n for n in names if not np.array_equal(np.ravel(ours[n]), np.ravel(theirs[n]), equal_nan=True)
        ]
        ends = sorted({0, int(mine.lengths[index]) - 1})
        wrong += [c for c in mine.cameras if not _same_frames(mine, written, index, c, ends)]
        if wrong or written.tasks[index] != mine.tasks[index]:
            raise DataError(
                f"Episode {index} of the export differs in {', '.join(wrong) or 'its instruction'}.",
                "Nothing was kept; check the disk.",
            )
        progress("verify", index + 1, len(dataset))


def _same_frames(
    mine: DatasetSource, written: LeRobotDataset, index: int, camera: str, ticks: Sequence[int]
) -> bool:
    return bool(np.array_equal(mine.frames(index, camera, ticks), written.frames(index, camera, ticks)))
