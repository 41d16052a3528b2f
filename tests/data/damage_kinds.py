"""Ways to damage a dataset, each a function of its root: a key, a column, a file, a picture."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Damage = Callable[[Path], object]
DATA = "data/chunk-000/file-001.parquet"
ROW = "meta/episodes/chunk-000/file-001.parquet"
FIRST = "data/chunk-000/file-000.parquet"
LOG = "decisions/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.scene/chunk-000/file-001.mp4"


def key(name: str, value: Any) -> Damage:
    """Set a key of meta/bora.json; a dotted name goes into an object."""

    def change(root: Path) -> None:
        file = root / "meta/bora.json"
        data = json.loads(file.read_text())
        inner, *last = name.split(".")
        if last:
            data[inner][last[0]] = value
        else:
            data[inner] = value
        file.write_text(json.dumps(data))

    return change


def without(name: str) -> Damage:
    def change(root: Path) -> None:
        file = root / "meta/bora.json"
        data = json.loads(file.read_text())
        del data[name]
        file.write_text(json.dumps(data))

    return change


def info(name: str, value: Any) -> Damage:
    def change(root: Path) -> None:
        file = root / "meta/info.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))

    return change


def statistic(feature: str, name: str, value: Any) -> Damage:
    """Set one entry of meta/stats.json."""

    def change(root: Path) -> None:
        file = root / "meta/stats.json"
        stats = json.loads(file.read_text())
        stats[feature][name] = value
        file.write_text(json.dumps(stats))

    return change


def text(path: str, content: str) -> Damage:
    return lambda root: (root / path).write_text(content)


def content(path: str, data: bytes) -> Damage:
    return lambda root: (root / path).write_bytes(data)


def cut(path: str, share: float) -> Damage:
    def change(root: Path) -> None:
        whole = (root / path).read_bytes()
        (root / path).write_bytes(whole[: int(share * len(whole))])

    return change


def folder(path: str) -> Damage:
    def change(root: Path) -> None:
        (root / path).unlink()
        (root / path).mkdir()

    return change


def gone(path: str) -> Damage:
    return lambda root: (root / path).unlink()


def copied(source: str, target: str) -> Damage:
    return lambda root: shutil.copy(root / source, root / target)


def table(path: str, change: Callable[[pa.Table], pa.Table]) -> Damage:
    def apply(root: Path) -> None:
        pq.write_table(change(pq.read_table(root / path)), root / path)

    return apply


def column(path: str, name: str, make: Callable[[pa.ChunkedArray], Any]) -> Damage:
    """Replace one column by what `make` returns for it."""
    return table(path, lambda t: t.set_column(t.column_names.index(name), name, make(t[name])))


def values(path: str, name: str, change: Callable[[np.ndarray], Any]) -> Damage:
    """Change the numbers of a scalar column."""
    return column(path, name, lambda c: pa.array(change(c.to_numpy().copy()), c.type))


def vectors(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    """Change the numbers of a column of rows."""

    def make(column: pa.ChunkedArray) -> pa.Array:
        width = column.type.list_size
        new = change(column.combine_chunks().flatten().to_numpy().reshape(-1, width).copy())
        return pa.FixedSizeListArray.from_arrays(pa.array(new.ravel()), new.shape[1])

    return column(DATA, name, make)


def put(at: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[at] = value
        return array

    return change


def row(name: str, value: Any) -> Damage:
    """Set a value in the row of episode 1."""
    return column(ROW, name, lambda c: pa.array([value], None if isinstance(value, str) else c.type))


def pixels(data: bytes) -> Damage:
    def make(column: pa.ChunkedArray) -> pa.Array:
        files = column.to_pylist()
        files[0] = {"bytes": data, "path": None}
        return pa.array(files, column.type)

    return column(DATA, "observation.images.scene", make)


def claims(width: int, height: int) -> bytes:
    """Return a PNG file whose header says a size, and which holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def video(shape: tuple[int, int, int, int]) -> Damage:
    def change(root: Path) -> None:
        from bora_cli.data.video import encode

        (root / VIDEO).write_bytes(encode(np.zeros(shape, np.uint8), "h264", 10))

    return change
