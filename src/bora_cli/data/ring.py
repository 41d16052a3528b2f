"""Bytes from one process to another through shared memory, without a system call or a wait on the writer's side."""

from __future__ import annotations

import threading
from multiprocessing.shared_memory import SharedMemory
from typing import Self

SIZE = 32 << 20
_DATA = 128
"""Bytes before the data: how many were written, and on another cache line how many were read."""
_READ = 8


class Ring:
    """A pipe of fixed size for one writer and one reader; made by `create` and `attach`.

    The two counters only grow, and each has one process that writes it.  A lock that nobody else holds is taken
    before a counter is read and after data was copied, because that is a memory barrier on every processor.
    """

    def __init__(self, memory: SharedMemory, owner: bool) -> None:
        self._memory, self._owner = memory, owner
        everything = memoryview(memory.buf or b"")
        self._counts, self._data = everything[:_DATA].cast("Q"), everything[_DATA:]
        self._barrier = threading.Lock()

    @classmethod
    def create(cls, size: int = SIZE) -> Self:
        """Make a ring of `size` bytes and touch all its pages, so that no later write has to wait for one."""
        memory = SharedMemory(create=True, size=_DATA + size)
        made = cls(memory, owner=True)
        made._counts[:] = memoryview(bytes(_DATA)).cast("Q")
        made._data[:] = bytes(len(made._data))
        return made

    @classmethod
    def attach(cls, name: str) -> Self:
        """Open the ring that another process made."""
        return cls(SharedMemory(name), owner=False)

    @property
    def name(self) -> str:
        """What to hand to `attach`."""
        return self._memory.name

    def write(self, part: memoryview) -> int:
        """Copy as many bytes as there is room for, and return how many."""
        with self._barrier:
            written, read = self._counts[0], self._counts[_READ]
        size = len(self._data)
        count = min(len(part), size - (written - read))
        at = written % size
        first = min(count, size - at)
        self._data[at : at + first] = part[:first]
        self._data[: count - first] = part[first:count]
        with self._barrier:
            self._counts[0] = written + count
        return count

    def read(self, limit: int) -> bytes:
        """Return at most `limit` bytes, fewer or none where no more are there."""
        with self._barrier:
            written, read = self._counts[0], self._counts[_READ]
        size = len(self._data)
        count = min(limit, written - read)
        at = read % size
        first = min(count, size - at)
        out = bytes(self._data[at : at + first]) + bytes(self._data[: count - first])
        with self._barrier:
            self._counts[_READ] = read + count
        return out

    def close(self) -> None:
        """Let go of the memory; its maker removes it."""
        self._counts.release()
        self._data.release()
        self._memory.close()
        if self._owner:
            self._memory.unlink()
