"""Rows in a file without a name."""

from __future__ import annotations

import errno
import tempfile
from typing import Any

import numpy as np
import pytest

from bora_cli.analysis.disk_rows import FEW, DiskRows


def test_rows_come_back_as_they_were() -> None:
    rows, written = DiskRows(), np.arange(6 * FEW, dtype=np.int32).reshape(-1, 3)
    assert rows.read().shape == (0,)
    for part in np.array_split(written, 7):
        rows.append(part)
    assert len(rows) == 2 * FEW
    assert rows.read().dtype == np.int32
    assert (rows.read() == written).all()
    which = np.random.default_rng(0).integers(0, len(rows), 3 * FEW - 1)
    assert (rows.take(which) == written[which]).all()
    assert rows.take(which[:0]).shape == (0, 3)


def test_what_is_changed_in_memory_stays_there() -> None:
    rows = DiskRows()
    rows.append(np.ones((2, 2)))
    rows.read()[:] = 0
    assert rows.read().sum() == 4


def test_rows_of_another_shape_are_refused() -> None:
    rows = DiskRows()
    rows.append(np.ones((2, 2), np.float32))
    for other in (np.ones((2, 3), np.float32), np.ones((2, 2))):
        with pytest.raises(ValueError, match="as before"):
            rows.append(other)
    assert len(rows) == 2


def test_a_full_disk_names_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write(self, data: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match="No space left on device") as raised:
        DiskRows().append(np.ones(3))
    assert raised.value.filename == tempfile.gettempdir()
