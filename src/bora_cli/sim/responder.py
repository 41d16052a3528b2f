"""A scripted person who does something else until an alarm rings, then comes, looks, and takes over if he must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bora_cli.sim.watcher import Watcher

DELAY = (5, 10)
"""Ticks from the alarm until he drives, drawn from this inclusive range: he has to come, and to see what is wrong."""


class Responder(Watcher):
    """A person who is called.

    rings: whether the alarm rings now.  Between the call and his hand on the controls the robot may have gone on by
    itself; then he does not take over.  He drives and hands back as the watcher does.
    """

    def __init__(self, task: str, rng: np.random.Generator, rings: Callable[[], bool]) -> None:
        super().__init__(task, rng)
        self.rule = replace(self.rule, delay=DELAY)
        self._rings = rings

    def _complaint(self) -> str:
        return "the critic foresaw failure" if self._rings() else ""
