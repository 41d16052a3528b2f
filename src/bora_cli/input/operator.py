"""The seam to whoever holds the controls: a person with a device, or a script.

An operator only says what it wants; `bora_cli.control.arbiter` decides whether it drives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bora_cli.types import F32


@dataclass(frozen=True)
class OperatorSample:
    """What the operator commanded at one instant.

    action: float32 [A] in the units of the robot's `ActionSpec` (arm: delta per tick in m and rad; hand:
    joint angles in rad).  engaged: whether the clutch is down.  t: monotonic seconds at which the device was
    read. reason: why the operator engaged or let go, for the log. frame: "robot" if the hand angles are meant
    for the robot's hand as they are; "operator" if they are the posture of the operator's own hand, of which
    only the change since the takeover counts.
    """

    action: F32
    engaged: bool
    t: float
    reason: str = ""
    frame: Literal["robot", "operator"] = "robot"

    @property
    def finite(self) -> bool:
        """Whether every component of the action is a number."""
        return bool(np.isfinite(self.action).all())

    def age(self, now: float) -> float:
        """Return the seconds passed since the device was read; now: monotonic seconds."""
        return now - self.t
