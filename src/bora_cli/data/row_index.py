"""All rows of a dataset at once: `cache/rows.parquet` gathers what the row files of the episodes say.

The row files stay the truth.  A gathered row counts only while the size and the time of change of its row file
are those it was read from, so the cache may be deleted or left behind at any time.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from bora_cli.data.files import read_table, write_table
from bora_cli.data.rows import EpisodeRow, named_episode, read_many, read_row
from bora_cli.errors import DataError

logger = logging.getLogger(__name__)

INDEX = Path("cache/rows.parquet")
GATHER = 32
"""Rows read one by one after which the gathered file is worth writing anew."""
Stamp = tuple[int, int]


def read_rows(root: Path, count: int, keep: bool = True) -> list[EpisodeRow]:
    """Return the rows of episodes 0 .. count - 1.

    keep: whether they may be gathered for the next time.
    Raises CorruptEpisode for a row file that cannot be read.
    """
    stamps = _stamps(root)
    known = {i: row for i, (stamp, row) in _gathered(root).items() if stamp == stamps.get(i)}
    fresh = [index for index in range(count) if index not in known]
    many = len(fresh) >= GATHER and parent_process() is None  # threads of polars do not survive a fork
    read = read_many(root, fresh) if many else [read_row(root, index) for index in fresh]
    known |= {row.index: row for row in read}
    rows = [known[index] for index in range(count)]
    if keep and len(fresh) >= GATHER:
        gather(root, rows)
    return rows


def _stamps(root: Path) -> dict[int, Stamp]:
    """Return size and time of change (ns) of every row file."""
    out = {}
    for file in (root / "meta/episodes").glob("chunk-*/file-*.parquet"):
        index = named_episode(file)
        if index is not None:
            about = file.stat()
            out[index] = (about.st_size, about.st_mtime_ns)
    return out


def _gathered(root: Path) -> dict[int, tuple[Stamp | None, EpisodeRow]]:
    if not (root / INDEX).is_file():
        return {}
    try:
        table = read_table(root / INDEX)
        return {int(values["index"]): _row(values) for values in table.to_pylist()}
    except (DataError, KeyError, TypeError, ValueError) as error:
        logger.info("%s is made anew: %s", root / INDEX, error)
        return {}


def _row(values: dict[str, Any]) -> tuple[Stamp, EpisodeRow]:
    stamp = (values.pop("size"), values.pop("changed"))
    values["meta"] = json.loads(values["meta"])
    values["controller_ticks"] = tuple(values["controller_ticks"])
    return stamp, EpisodeRow(**values)


def gather(root: Path, rows: list[EpisodeRow]) -> None:
    """Write the gathered file; where that is not possible nothing happens, because it can be done without."""
    import pyarrow as pa

    stamps = _stamps(root)
    values = []
    for row in rows:
        size, changed = stamps.get(row.index, (0, 0))
        values.append({**asdict(row), "meta": json.dumps(row.meta), "size": size, "changed": changed})
    try:
        write_table(root / INDEX, pa.Table.from_pylist(values), compression="zstd")
    except OSError as error:
        logger.info("%s is not kept: %s", root / INDEX, error)
