"""The simulated robot's action, proprioception and limits: names, units, numbers."""

from __future__ import annotations

import numpy as np

from bora_cli.sim.arm_hand import ACTUATED, HAND_HIGH, HAND_LOW
from bora_cli.types import ActionSpec

DT = 0.1
"""Length of a tick, s."""
TRANSLATION_LIMIT = 0.025
"""Translation of the commanded tool point per tick, m."""
ROTATION_LIMIT = 0.12
"""Rotation of the commanded tool per tick and axis, rad."""
HAND_RATE = 3.0
"""Fastest motion of a hand joint command, rad/s."""
LEASH = 0.05
"""Largest distance between commanded and measured tool point, m: a blocked arm must not wind up."""
WORKSPACE_LOW = (0.25, -0.35, 0.012)
WORKSPACE_HIGH = (0.72, 0.35, 0.50)

ACTION_NAMES = ("dx", "dy", "dz", "drx", "dry", "drz", *ACTUATED)
STATE_NAMES = (
    *(f"tool_{axis}" for axis in "xyz"),
    *(f"tool_r{row}{column}" for column in range(2) for row in range(3)),
    *(f"joint_{name}" for name in ACTUATED),
    *(f"command_{name}" for name in ACTUATED),
)
"""The 33 proprioceptive numbers: tool point (m), first two columns of its orientation, hand joints and
command (rad)."""


def action_spec() -> ActionSpec:
    """Return the action of the suite: tool translation and rotation vector per tick, absolute hand joints."""
    limit = [TRANSLATION_LIMIT] * 3 + [ROTATION_LIMIT] * 3
    return ActionSpec(
        names=ACTION_NAMES,
        units=("m/tick",) * 3 + ("rad/tick",) * 3 + ("rad",) * 12,
        low=np.array([-v for v in limit] + list(HAND_LOW), np.float32),
        high=np.array([*limit, *HAND_HIGH], np.float32),
        groups={"arm": (0, 6), "hand": (6, 18)},
    )
