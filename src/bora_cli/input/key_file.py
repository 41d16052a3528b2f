"""Keys that are pressed in another process, at `bora console`: lines in a file, read by a thread.

Only keys about the episode go this way, none that moves a robot: a file tells nothing about when a key was pressed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from bora_cli.input.keys import KeyPress

KEYS = "keys.txt"
"""Name of the file in the directory of a run."""
ALLOWED = ("enter", "y", "n", "z", "q", "t")
"""Begin, success, failure, discard, stop, take over and hand back."""
LOOK_S = 0.05
LONGEST = 4096


def press(path: Path, key: str) -> None:
    """Press a key for the process that reads the file."""
    with open(path, "a", encoding="ascii") as file:
        file.write(key + "\n")


class KeyFile:
    """The keys that are pressed from now on.  clock: monotonic seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = path, clock
        self._pressed: deque[KeyPress] = deque(maxlen=32)
        self._at = self._size()
        self._leave = threading.Event()
        self._thread = threading.Thread(target=self._read_all, name="keys of the console", daemon=True)
        self._thread.start()

    def poll(self) -> list[KeyPress]:
        """Return the keys pressed since the last call; never waits."""
        keys = []
        while self._pressed:
            keys.append(self._pressed.popleft())
        return keys

    def close(self) -> None:
        """Stop listening."""
        self._leave.set()
        self._thread.join()

    def look(self) -> None:
        """Read the lines that are complete; what is no key that may come this way is ignored."""
        if self._size() == self._at:
            return
        with suppress(OSError), open(self._path, "rb") as file:
            file.seek(self._at)
            lines, _, _ = file.read(LONGEST).rpartition(b"\n")
            self._at += len(lines) + bool(lines)
            now = self._clock()
            for key in lines.decode("ascii", "replace").split():
                if key in ALLOWED:
                    self._pressed.append(KeyPress(key, now))

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size
        except OSError:
            return 0

    def _read_all(self) -> None:
        while not self._leave.wait(LOOK_S):
            self.look()
