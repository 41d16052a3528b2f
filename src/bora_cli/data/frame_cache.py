"""Decoded episodes on disk, so that every image is decoded once and then only copied.

One file per episode under `cache/frames`: the numeric columns as one structured array [T], then each camera as
uint8 [T, H, W, 3], all in NumPy's own format one after the other.  The name carries two hashes: of the content of
the files that it was decoded from, and of their sizes and times of change.  Where the second agrees the file is
used at once; where only the first agrees it is renamed; otherwise it is made anew.  A file gets its name when it
is complete and synced, so any number of processes may build and read one cache, and any of its files may be
deleted at any time.

Files are read with `pread`, not mapped: a mapped file counts as memory of the process page by page, and a file
that somebody truncates kills a process that has it mapped.  A descriptor without a position is also what makes a
reader usable in processes that were forked from one that had already read.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.data.content import file_hash
from bora_cli.data.files import TEMPORARY, make_directory, sync_directory
from bora_cli.data.sources import Source

logger = logging.getLogger(__name__)

FOLDER = Path("cache/frames")
BUDGET = 8 << 30
"""Bytes that the cache of one dataset may take on disk unless told otherwise."""
_SPARE = 1 << 30
"""Bytes that are always left free on the disk."""
_OPEN = 200
"""Files kept open at once."""
_DIGITS = 24


@dataclass(frozen=True)
class Layout:
    """Where the arrays of one cached episode begin, in bytes.  ticks: T.  starts: "" for the columns, then cameras."""

    ticks: int
    starts: dict[str, int]


class FrameCache:
    """The decoded episodes of a source.

    columns: numeric columns that are kept.  budget: bytes on disk; what does not fit is not kept, and `open`
    says None for it.  Nothing that is still valid is evicted, because a random order over more than fits would
    decode whole episodes for single ticks.
    """

    def __init__(
        self,
        source: Source,
        columns: list[str],
        cameras: list[str],
        *,
        folder: Path | None = None,
        budget: int = BUDGET,
    ) -> None:
        self.source, self.cameras, self.budget = source, cameras, budget
        self.folder = folder or source.root / FOLDER
        shapes = source.shapes
        self.record = np.dtype([(name, *shapes[name]) for name in columns])
        self._images = {name: shapes[name][1] for name in cameras}
        about = repr((1, self.record.descr, sorted(self._images.items())))
        self._kind = hashlib.blake2b(about.encode(), digest_size=4).hexdigest()
        self._found = self._listed()
        self._layouts: dict[int, Layout] = {}
        self._open: OrderedDict[int, int] = OrderedDict()
        self._hashes: dict[tuple[str, int, int], str] = {}
        self._full = False
        self._size: int | None = None

    def close(self) -> None:
        """Close all files."""
        while self._open:
            os.close(self._open.popitem()[1])

    def size(self) -> int:
        """Return the bytes that the cache takes on disk."""
        return sum(f.stat().st_size for f in self.folder.glob("*.npy")) if self.folder.is_dir() else 0

    def open(self, index: int) -> tuple[int, Layout] | None:
        """Return descriptor and layout of a cached episode, after making it if there is room; None if not.

        Raises CorruptEpisode where the episode itself cannot be read.
        """
        descriptor = self._open.get(index)
        if descriptor is not None:
            self._open.move_to_end(index)
            return descriptor, self._layouts[index]
        for known in (self._valid(index), None):
            path = known or self._make(index)
            if path is None:
                return None
            with suppress(FileNotFoundError):  # deleted meanwhile: make it again
                layout = self._layouts.get(index) or self._layout(path)
                if layout is not None:
                    return self._keep(index, os.open(path, os.O_RDONLY), layout)
            self._found.pop(index, None)
            self._layouts.pop(index, None)
        return None

    def _keep(self, index: int, descriptor: int, layout: Layout) -> tuple[int, Layout]:
        self._layouts[index] = layout
        self._open[index] = descriptor
        if len(self._open) > _OPEN:
            os.close(self._open.popitem(last=False)[1])
        return descriptor, layout

    def _listed(self) -> dict[int, Path]:
        """Return the files of this kind by episode, and remove what a killed process left."""
        found = {}
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            if path.name.endswith(TEMPORARY):
                if not _alive(path):
                    path.unlink(missing_ok=True)
            elif path.name.split("-")[-1] == f"{self._kind}.npy":
                found[int(path.name.split("-")[0])] = path
        return found

    def _valid(self, index: int) -> Path | None:
        """Return the cached file of an episode if what it was decoded from is still what is there."""
        path = self._found.get(index)
        if path is None or index in self._layouts:
            return path
        stamp = self._stamp(index)
        _, old_stamp, old_content, _ = path.name.split("-")
        layout = self._layout(path)
        if layout is not None and old_stamp != stamp and old_content == self._content(index):
            renamed = self._name(index, stamp, old_content)
            with suppress(OSError):  # a read-only place: it is as good under its old name
                path = path.rename(renamed)
                self._found[index] = path
        elif layout is None or old_stamp != stamp:
            with suppress(OSError):
                path.unlink()
            del self._found[index]
            return None
        self._layouts[index] = layout
        return path

    def _make(self, index: int) -> Path | None:
        length = int(self.source.lengths[index])
        need = length * (self.record.itemsize + sum(math.prod(s) for s in self._images.values()))
        if self._size is None:
            self._size = self.size()
        if self._full or self._size + need > self.budget:
            self._full = True
            return None
        values = self.source.columns(index, list(self.record.names or ()))
        table = np.empty(length, self.record)
        for name, column in values.items():
            table[name] = column.reshape(table[name].shape)
        arrays = [table, *(self.source.frames(index, c, range(length)) for c in self.cameras)]
        try:
            path = self._write(self._name(index, self._stamp(index), self._content(index)), arrays, need)
        except OSError as error:
            logger.warning("Decoded images are not kept in %s: %s", self.folder, error)
            self._full = True
            return None
        self._size += need
        self._found[index] = path
        self._layouts.pop(index, None)
        return path

    def _write(self, path: Path, arrays: list[NDArray[Any]], need: int) -> Path:
        make_directory(self.folder)
        if shutil.disk_usage(self.folder).free < need + _SPARE:
            raise OSError(f"less than {_SPARE >> 30} GiB would be left free on the disk")
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}{TEMPORARY}")
        with open(temporary, "wb") as file:
            for array in arrays:
                np.lib.format.write_array(file, array, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(self.folder)
        return path

    def _layout(self, path: Path) -> Layout | None:
        """Return where the arrays are; None unless the file is whole and of this source's shapes."""
        starts: dict[str, int] = {}
        kinds: dict[str, np.dtype[Any]] = {"": self.record, **dict.fromkeys(self.cameras, np.dtype(np.uint8))}
        try:
            with open(path, "rb") as file:
                ticks = 0
                for name, kind in kinds.items():
                    shape, fortran, dtype = _header(file)
                    ticks = ticks or shape[0]
                    if shape != (ticks, *self._images.get(name, ())) or dtype != kind or fortran:
                        return None
                    starts[name] = file.tell()
                    file.seek(kind.itemsize * math.prod(shape), os.SEEK_CUR)
                whole = file.tell() == os.fstat(file.fileno()).st_size
        except (OSError, ValueError, IndexError):
            return None
        return Layout(ticks, starts) if whole else None

    def _name(self, index: int, stamp: str, content: str) -> Path:
        return self.folder / f"{index:06d}-{stamp}-{content}-{self._kind}.npy"

    def _stamp(self, index: int) -> str:
        digest = hashlib.blake2b(digest_size=_DIGITS // 2)
        for path in self.source.files(index):
            about = path.stat() if path.exists() else None
            digest.update(f"{path.name}:{about and (about.st_size, about.st_mtime_ns)};".encode())
        return digest.hexdigest()

    def _content(self, index: int) -> str:
        digest = hashlib.blake2b(f"{index}:{self.source.lengths[index]}".encode(), digest_size=_DIGITS // 2)
        for path in self.source.files(index):
            about = path.stat()
            key = (str(path), about.st_size, about.st_mtime_ns)
            if key not in self._hashes:
                self._hashes[key] = file_hash(path)
            digest.update(self._hashes[key].encode())
        return digest.hexdigest()


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    found: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(file)
    return found


def _alive(temporary: Path) -> bool:
    """Return whether the process that writes a temporary file still runs."""
    number = temporary.name.split(".")[-3]
    return number.isdigit() and Path("/proc", number).exists()
