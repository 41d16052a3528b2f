"""Arrays that are too large to keep: their rows lie in a file without a name."""

from __future__ import annotations

import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

FEW = 256
"""Rows that are copied before the pages around them are given back."""


class DiskRows:
    """Rows of one shape and type in the folder for temporary files; they disappear with this object.

    Memory holds what is being looked at: the file is mapped anew each time, and the pages that were touched (with
    their neighbours) are given back with the array.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as this object
        weakref.finalize(self, self._file.close)
        self._count = 0
        self._row: tuple[np.dtype[Any], tuple[int, ...]] | None = None

    def __len__(self) -> int:
        return self._count

    def append(self, rows: NDArray[Any]) -> None:
        """Write rows [n, ...] behind those that are there.

        Raises ValueError for rows of another shape or type, OSError naming the folder where the disk is full.
        """
        row = rows.dtype, rows.shape[1:]
        if self._row not in (None, row):
            raise ValueError(f"Rows are {row}; expected {self._row} as before.")
        self._row = row
        try:
            self._file.write(rows.tobytes())
            self._file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error
        self._count += len(rows)

    def read(self) -> NDArray[Any]:
        """Return all rows [n, ...], mapped; changes stay in memory.  Keep copies of some rows, not the array."""
        dtype, shape = self._row or (np.dtype(np.float32), ())
        if not self._count:
            return np.empty((0, *shape), dtype)
        return np.asarray(np.memmap(self._file, dtype, "c", shape=(self._count, *shape)))

    def take(self, which: NDArray[np.int64]) -> NDArray[Any]:
        """Return copies of some rows, [n, ...].  which: [n]."""
        dtype, shape = self._row or (np.dtype(np.float32), ())
        out = np.empty((len(which), *shape), dtype)
        for at in range(0, len(which), FEW):
            out[at : at + FEW] = self.read()[which[at : at + FEW]]
        return out
