"""What a control loop is doing right now, for people who look on: lines in a file that the loop never waits for.

The loop hands over a record and goes on; a thread writes it.  If the disk is slow, or the file cannot be written at
all, records are dropped and counted.  Any number of processes may append to one file, and any number read it.
"""

from __future__ import annotations

import json
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

LIVE = "live.jsonl"
"""Name of the file in the directory of a run."""
EVERY_S = 0.2
"""Seconds between two records, unless one is urgent."""
ROOM = 64
"""Records that may wait to be written."""
LARGEST = 8_000_000
"""Bytes of the file; then it is put aside as FILE.1, and a new one begun."""
FAREWELL_S = 1.0
"""Seconds that `close` waits for what is still to be written."""


class Telemetry:
    """Appends records to a file, one JSON object per line, from a thread of its own.

    clock: monotonic seconds.  Every record has `t`, seconds of the wall clock, `pid`, and `dropped`, how many were lost
    before it.
    """

    def __init__(
        self,
        path: Path,
        *,
        every_s: float = EVERY_S,
        largest: int = LARGEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.dropped = 0
        self._every, self._largest, self._clock = every_s, largest, clock
        self._next = -math.inf
        self._waiting: queue.Queue[dict[str, Any] | None] = queue.Queue(ROOM)
        self._file = -1
        self._thread = threading.Thread(target=self._write_all, name="telemetry", daemon=True)
        self._thread.start()

    def say(self, values: Mapping[str, Any], *, urgent: bool = False) -> bool:
        """Hand over a record if it is time for one, or if it is urgent; never waits.  Returns whether it was taken."""
        now = self._clock()
        if now < self._next and not urgent:
            return False
        self._next = now + self._every
        record = {"t": time.time(), "pid": os.getpid(), "dropped": self.dropped, **values}
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def close(self) -> None:
        """Write what is still to be written, unless that takes long."""
        with suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(FAREWELL_S)

    def _write_all(self) -> None:
        while (record := self._waiting.get()) is not None:
            try:
                self._write((json.dumps(_finite(record)) + "\n").encode())
            except OSError:  # a full disk must not stop a robot
                self.dropped += 1
        if self._file >= 0:
            os.close(self._file)

    def _write(self, line: bytes) -> None:
        """Append a line in one piece, to the file that has the name now."""
        if self._file >= 0 and not _same(self._file, self.path):
            os.close(self._file)
            self._file = -1
        if self._file < 0:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(self._file, line)
        if os.fstat(self._file).st_size > self._largest:
            os.replace(self.path, self.path.with_name(self.path.name + ".1"))


def _same(descriptor: int, path: Path) -> bool:
    try:
        here, there = os.fstat(descriptor), path.stat()
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record in which numbers that are none are null, and others have six digits, large ones more."""
    return {k: _rounded(v) if isinstance(v, float) else v for k, v in record.items()}


def _rounded(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    return float(f"{value:.6g}") if abs(value) < 1e3 else round(value, 3)
