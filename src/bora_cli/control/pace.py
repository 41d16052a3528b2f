"""Ticks at absolute deadlines: what was late once does not make everything after it late."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bora_cli.errors import ConfigError

REMEMBERED = 36_000
"""Ticks whose lateness is kept: an hour at 10 Hz."""


@dataclass(frozen=True)
class Punctuality:
    """How late ticks began: their number, percentiles and maximum in ms, and whole periods that were left out."""

    ticks: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    missed: int


class Pacer:
    """A clock that ticks every dt seconds from `start` on.

    Deadlines are start + k dt.  A tick that is more than a period late drops the deadlines that have passed instead of
    hurrying after them: two commands in a row would move the robot twice as fast.  now, sleep: for tests.
    """

    def __init__(
        self,
        dt: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not dt > 0:
            raise ConfigError(f"Ticks of {dt} s; expected a positive number.")
        self.dt = dt
        self.now = now
        self._sleep = sleep
        self._late: deque[float] = deque(maxlen=REMEMBERED)
        self._ticks = self._missed = 0
        self._origin = now()
        self._next = 1

    def start(self) -> None:
        """Begin to count periods now; what was measured before is kept."""
        self._origin, self._next = self.now(), 1

    def wait(self) -> float:
        """Sleep until the next deadline and return by how many seconds it was missed, 0 or more."""
        deadline = self._origin + self._next * self.dt
        left = deadline - self.now()
        if left > 0:
            self._sleep(left)
        late = max(0.0, self.now() - deadline)
        skipped = int(late / self.dt)
        self._next += 1 + skipped
        self._ticks, self._missed = self._ticks + 1, self._missed + skipped
        self._late.append(late)
        return late

    @property
    def missed(self) -> int:
        """Whole periods that were left out so far."""
        return self._missed

    @property
    def behind(self) -> float:
        """By how many seconds the last deadline was missed."""
        return self._late[-1] if self._late else 0.0

    @property
    def punctuality(self) -> Punctuality:
        """How late the ticks of the last hour were."""
        late = np.array(self._late or [0.0]) * 1e3
        p50, p99 = np.percentile(late, [50, 99])
        return Punctuality(self._ticks, float(p50), float(p99), float(late.max()), self._missed)
