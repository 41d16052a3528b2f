"""The flight recorder: the last half minute of ticks, written down when something goes wrong."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LOGGER = logging.getLogger(__name__)
VERSION = 1


class FlightRecorder:
    """Ticks of the last `seconds`, in memory until `write` is called.

    folder: where recordings go; made when the first is written.  clock: stamps the ticks (s, monotonic).
    """

    def __init__(
        self, folder: Path, seconds: float = 30.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = Path(folder)
        self._seconds = seconds
        self._clock = clock
        self._ticks: deque[dict[str, Any]] = deque()

    def note(self, **values: Any) -> None:
        """Remember a tick: numbers, text and arrays by name; arrays are copied."""
        now = self._clock()
        copied = {key: np.array(x) if isinstance(x, np.ndarray) else x for key, x in values.items()}
        self._ticks.append({"t": now, **copied})
        while self._ticks[0]["t"] < now - self._seconds:
            self._ticks.popleft()

    def write(self, reason: str) -> Path | None:
        """Write what is remembered and return the file, JSON lines of which the first says why.

        Never raises: where the disk refuses, the log says so and None is returned.
        """
        head = {"version": VERSION, "reason": reason, "t": self._clock(), "ticks": len(self._ticks)}
        lines = [json.dumps(row, default=_plain) for row in (head, *self._ticks)]
        stamp = time.strftime("%Y%m%dT%H%M%S")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            number = sum(1 for _ in self._folder.glob(f"flight-{stamp}*.jsonl"))
            path = self._folder / f"flight-{stamp}-{number}.jsonl"
            draft = path.with_suffix(".part")
            draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
            os.replace(draft, path)
        except OSError as error:
            LOGGER.error("Flight recording (%s) could not be written to %s: %s", reason, self._folder, error)
            return None
        LOGGER.warning("Flight recording (%s): %s", reason, path)
        return path


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
