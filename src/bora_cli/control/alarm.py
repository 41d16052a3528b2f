"""An alarm on the state value: it rings while a policy's V stays below what successes showed at the same tick.

It is made from recorded episodes by `bora_cli.analysis.alarm`, which sets the margin so that few successes are
disturbed.  Here is only what has to run beside a robot.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from bora_cli.types import content_hash


@dataclass(frozen=True)
class Alarm:
    """When to ask for help.

    reference: median V of the successes at tick 0, 1, ... held after the last.  margin: how far V may be below it,
    units of value.  wait: ticks in a row below it before the alarm rings.  false_alarms, detected: shares of the
    successes and of the failures in which it rang when it was made.  lead_s: median seconds from there to the end of a
    failure, None if it found none.
    """

    reference: tuple[float, ...]
    margin: float
    wait: int
    false_alarms: float
    detected: float
    lead_s: float | None

    @property
    def hash(self) -> str:
        """Identify this alarm."""
        return content_hash(asdict(self))

    def expected(self, tick: int) -> float:
        """Return what V is in successes at a tick."""
        return self.reference[min(tick, len(self.reference) - 1)]


class Bell:
    """An alarm during one episode after the other."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm
        self.begin()

    def begin(self) -> None:
        """Begin an episode."""
        self._below = self._tick = 0
        self.short = math.nan

    def hear(self, v: float, driven: bool = False) -> bool:
        """Take V of this tick and return whether the bell rings.

        driven: a person drives, so nobody needs to be called; what was heard before does not count afterwards.
        """
        self.short = self.alarm.expected(self._tick) - v
        self._tick += 1
        self._below = 0 if driven or not self.short > self.alarm.margin else self._below + 1
        return self.rings

    @property
    def rings(self) -> bool:
        """Whether V has been too low for long enough."""
        return self._below >= self.alarm.wait
