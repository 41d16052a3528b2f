"""The row that makes an episode exist: one Parquet file per episode under meta/episodes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bora_cli.data import stats
from bora_cli.data.files import read_table
from bora_cli.data.schema import (
    CLOCKS,
    EPISODE_PATH,
    FILES_PER_CHUNK,
    IMAGE_PREFIX,
    NAMED,
    PREFIX,
    RESIDUAL,
    Identity,
    episode_file,
)
from bora_cli.data.tables import column_array, meta_json
from bora_cli.errors import CorruptEpisode
from bora_cli.types import INTERVENING, Controller, Episode

if TYPE_CHECKING:
    import pyarrow as pa

ROW_OPTIONS = {
    "compression": "zstd",
    "use_dictionary": False,
    "write_statistics": False,
    "store_schema": False,
}
"""Parquet options for a row file: many columns of one value, where encodings and indices only cost time."""
_HISTOGRAM = "histogram"
_STATS = ("min", "max", "mean", "std", "count")
_COLUMNS = (
    "episode_index",
    "tasks",
    "length",
    "dataset_from_index",
    "bora/success",
    "bora/decisions",
    "bora/controller_ticks",
    "bora/meta",
)


@dataclass(frozen=True)
class EpisodeRow:
    """What is known about an episode without opening its ticks.

    first_index: ticks of all earlier episodes.  decisions: rows of its decision log.
    controller_ticks: number of ticks per `Controller`, in the order of its values.
    """

    index: int
    length: int
    first_index: int
    prompt: str
    success: bool
    decisions: int
    controller_ticks: tuple[int, ...]
    meta: dict[str, Any]

    @property
    def human_ticks(self) -> int:
        """Ticks in which a person had a share in what a policy's roll-out did."""
        return sum(self.controller_ticks[c] for c in INTERVENING)


def row_table(episode: Episode, data: pa.Table, identity: Identity, index: int, first_index: int) -> pa.Table:
    """Return the row of an episode, in LeRobot's columns and ours (prefix `bora/`).

    data: the episode's data table, for the statistics.  `stats/observation.images.<camera>/histogram` keeps
    the intensities [3 * 256], so that statistics over all episodes never need the images again.
    """
    import pyarrow as pa

    chunk, file = index // FILES_PER_CHUNK, index % FILES_PER_CHUNK
    row: dict[str, Any] = {
        "episode_index": index,
        "tasks": [episode.prompt],
        "length": len(episode),
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": first_index,
        "dataset_to_index": first_index + len(episode),
        "meta/episodes/chunk_index": chunk,
        "meta/episodes/file_index": file,
        "bora/success": bool(episode.success),
        "bora/decisions": len(episode.decisions),
        "bora/controller_ticks": np.bincount(episode.controller, minlength=len(Controller)).tolist(),
        "bora/meta": meta_json(episode),
    }
    row |= {name: value for name, value in _named(episode.meta).items() if name in identity.added}
    for column in identity.features:
        if column in CLOCKS:
            continue
        if column.startswith(IMAGE_PREFIX):
            if identity.video:
                row |= _video_columns(column, chunk, file, len(episode) / identity.fps)
            histogram = stats.image_histogram(episode.images[column.removeprefix(IMAGE_PREFIX)])
            values = stats.image_stats(histogram).to_json((3, 1, 1))
            row[f"stats/{column}/{_HISTOGRAM}"] = histogram.ravel().tolist()
            row |= {f"stats/{column}/{name}": values[name] for name in _STATS}
        else:
            row |= _described(column, data)
    return pa.Table.from_pylist([row])


def completed_row(row: pa.Table, data: pa.Table, added: Sequence[str]) -> pa.Table:
    """Return the row of an episode with all columns that a dataset with `Identity.added` has; data: its ticks."""
    import pyarrow as pa

    values: dict[str, Any] = row.to_pylist()[0]
    meta = json.loads(values["bora/meta"])
    values |= {name: value for name, value in _named(meta).items() if name in added}
    if RESIDUAL in added:
        values |= _described(RESIDUAL, data)
    return pa.Table.from_pylist([values])


def _named(meta: dict[str, Any]) -> dict[str, str]:
    """Return what a row says of an episode's meta in columns of their own."""
    return {name: str(meta.get(name.removeprefix(PREFIX), "")) for name in NAMED}


def _described(column: str, data: pa.Table) -> dict[str, Any]:
    values = stats.exact_stats(column_array(data[column])).to_json()
    return {f"stats/{column}/{name}": values[name] for name in _STATS}


def _video_columns(column: str, chunk: int, file: int, seconds: float) -> dict[str, Any]:
    return {
        f"videos/{column}/chunk_index": chunk,
        f"videos/{column}/file_index": file,
        f"videos/{column}/from_timestamp": 0.0,
        f"videos/{column}/to_timestamp": seconds,
    }


def read_row(root: Path, index: int) -> EpisodeRow:
    """Return the row of one episode.

    Raises CorruptEpisode for a file that cannot be read or that belongs to another episode.
    """
    path = episode_file(root, EPISODE_PATH, index)
    return _row(read_table(path, list(_COLUMNS)).to_pylist(), index, path)


def read_many(root: Path, indices: Sequence[int]) -> list[EpisodeRow]:
    """Return the rows of several episodes, in a tenth of the time; the same as `read_row` of each.

    Raises CorruptEpisode where one of the files cannot be read or belongs to another episode.
    """
    import polars as pl

    paths = [episode_file(root, EPISODE_PATH, index) for index in indices]
    try:
        frame = pl.scan_parquet(paths, extra_columns="ignore").select(_COLUMNS).collect()
        found = frame.to_dicts()
        if len(found) == len(paths):
            return [_row([row], i, path) for row, i, path in zip(found, indices, paths, strict=True)]
    except (pl.exceptions.PolarsError, OSError, CorruptEpisode):
        pass  # one by one tells which file it is
    return [read_row(root, index) for index in indices]


def _row(found: list[dict[str, Any]], index: int, path: Path) -> EpisodeRow:
    """Return the row of an episode from what its file holds.  Raises CorruptEpisode where that cannot be."""
    if len(found) != 1 or found[0]["episode_index"] != index:
        raise CorruptEpisode(
            f"{path} describes episodes {[row['episode_index'] for row in found]}; expected [{index}].",
            "Restore the file from a copy.",
        )
    row = found[0]
    try:
        meta = json.loads(row["bora/meta"])
        numbers = [row[name] for name in ("length", "dataset_from_index", "bora/decisions")]
        if not all(isinstance(n, int) and n >= 0 for n in numbers) or row["length"] < 1:
            raise ValueError(
                f"length, first tick and decisions are {numbers}; expected counts, length at least 1"
            )
        if not (
            isinstance(meta, dict)
            and isinstance(row["bora/success"], bool)
            and isinstance(row["tasks"][0], str)
        ):
            raise TypeError("meta must be an object, success true or false, and the task a text")
        return EpisodeRow(
            index=index,
            length=row["length"],
            first_index=row["dataset_from_index"],
            prompt=row["tasks"][0],
            success=row["bora/success"],
            decisions=row["bora/decisions"],
            controller_ticks=_per_controller([int(n) for n in row["bora/controller_ticks"]]),
            meta=meta,
        )
    except (IndexError, TypeError, ValueError) as error:
        raise CorruptEpisode(
            f"{path} cannot be understood: {error}.", "Restore the file from a copy."
        ) from None


def histogram_column(camera: str) -> str:
    """Name the column of a row that keeps the intensities of a camera."""
    return f"stats/{IMAGE_PREFIX}{camera}/{_HISTOGRAM}"


def count_episodes(root: Path, start: int = 0) -> int:
    """Return how many episodes are committed, counting on from `start` episodes known to exist."""
    count = start
    while episode_file(root, EPISODE_PATH, count).exists():
        count += 1
    return count


def named_episode(file: Path) -> int | None:
    """Return the episode that the name of a file stands for, None where it stands for none.

    Copies, backups and what file managers leave ("._file-001.parquet", "file-001 (copy).parquet") stand for none.
    """
    name = re.fullmatch(r"chunk-(\d{3,})/file-(\d{3})", f"{file.parent.name}/{file.stem}")
    if name is None or len(name[1]) > max(3, len(name[1].lstrip("0"))):
        return None
    return int(name[1]) * FILES_PER_CHUNK + int(name[2])


def later_rows(root: Path, index: int) -> Iterator[int]:
    """Yield the episodes behind `index` that have a row file."""
    for file in (root / "meta/episodes").glob("chunk-*/file-*.parquet"):
        number = named_episode(file)
        if number is not None and number > index:
            yield number


def _per_controller(ticks: Sequence[int]) -> tuple[int, ...]:
    """Return the counts with a 0 for each `Controller` that was added after they were written."""
    return tuple(ticks) + (0,) * (len(Controller) - len(ticks))
