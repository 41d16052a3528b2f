"""All rows of a dataset at once: `cache/rows.parquet` gathers what the row files of the episodes say.

The row files stay the truth.  A gathered row counts only while its row file has the size and the time of change that
it was read with, or, in a copy, the same bytes.  So the cache may be deleted or left behind at any time.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from bora_cli.data.content import file_hash
from bora_cli.data.files import read_table, write_table
from bora_cli.data.rows import EpisodeRow, named_episode, read_many, read_row
from bora_cli.data.schema import EPISODE_PATH, episode_file
from bora_cli.errors import DataError

logger = logging.getLogger(__name__)

INDEX = Path("cache/rows.parquet")
GATHER = 32
"""Rows read one by one after which the gathered file is worth writing anew."""
Source = tuple[int, int, str]
"""Size, time of change (ns) and hash of the row file that a row was read from."""
_SOURCE = ["index", "size", "changed", "content"]
_DIGITS = 32


def read_rows(root: Path, count: int, keep: bool = True) -> list[EpisodeRow]:
    """Return the rows of episodes 0 .. count - 1.

    keep: whether they may be gathered for the next time.
    Raises CorruptEpisode for a row file that cannot be read.
    """
    stamps, gathered = _stamps(root), _gathered(root)
    known = {i: row for i, (source, row) in gathered.items() if source[:2] == stamps.get(i)}
    new = [index for index in range(count) if index not in known]
    for index in new:
        (size, _, content), row = gathered.get(index, ((-1, 0, ""), None))
        if row is not None and (size, content) == (stamps.get(index, (0,))[0], _hash(root, index)):
            known[index] = row  # a copy, with a time of its own
    fresh = [index for index in new if index not in known]
    many = len(fresh) >= GATHER and parent_process() is None  # threads of polars do not survive a fork
    read = read_many(root, fresh) if many else [read_row(root, index) for index in fresh]
    known |= {row.index: row for row in read}
    rows = [known[index] for index in range(count)]
    if keep and len(new) >= GATHER:
        gather(root, rows)
    return rows


def _stamps(root: Path) -> dict[int, tuple[int, int]]:
    """Return size and time of change (ns) of every row file."""
    out = {}
    for file in (root / "meta/episodes").glob("chunk-*/file-*.parquet"):
        index = named_episode(file)
        if index is not None:
            about = file.stat()
            out[index] = (about.st_size, about.st_mtime_ns)
    return out


def _hash(root: Path, index: int) -> str:
    return file_hash(episode_file(root, EPISODE_PATH, index))[:_DIGITS]


def _gathered(root: Path) -> dict[int, tuple[Source, EpisodeRow]]:
    """Return the gathered rows and what they were read from; none where the file is not there or not understood."""
    try:
        return {values["index"]: (_source(values), _row(values)) for values in _read(root)}
    except (KeyError, TypeError, ValueError) as error:
        logger.info("%s is made anew: %s", root / INDEX, error)
        return {}


def _read(root: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    if not (root / INDEX).is_file():
        return []
    try:
        found: list[dict[str, Any]] = read_table(root / INDEX, columns).to_pylist()
        return found
    except DataError as error:
        logger.info("%s is made anew: %s", root / INDEX, error)
        return []


def _source(values: dict[str, Any]) -> Source:
    return values["size"], values["changed"], values["content"]


def _row(values: dict[str, Any]) -> EpisodeRow:
    about = {key: value for key, value in values.items() if key == "index" or key not in _SOURCE}
    about["meta"] = json.loads(about["meta"])
    about["controller_ticks"] = tuple(about["controller_ticks"])
    return EpisodeRow(**about)


def gather(root: Path, rows: list[EpisodeRow]) -> None:
    """Write the gathered file; where that is not possible nothing happens, because it can be done without."""
    import pyarrow as pa

    stamps = _stamps(root)
    hashes = {(found["index"], *_source(found)[:2]): found["content"] for found in _read(root, _SOURCE)}
    values = []
    try:
        for row in rows:
            size, changed = stamps.get(row.index, (0, 0))
            content = hashes.get((row.index, size, changed)) or _hash(root, row.index)
            about = {"meta": json.dumps(row.meta), "size": size, "changed": changed, "content": content}
            values.append({**asdict(row), **about})
        write_table(root / INDEX, pa.Table.from_pylist(values), compression="zstd")
    except (OSError, DataError) as error:
        logger.info("%s is not kept: %s", root / INDEX, error)
