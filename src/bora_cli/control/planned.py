"""A rig whose every command passes the envelope for motion; for a simulation, whose targets can be read and shifted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.control.envelope import Envelope, MotionState, advance, begin, wish_of
from bora_cli.control.joints import Along, ArmLimits, advance_within
from bora_cli.control.safety import GuardedRig
from bora_cli.robot.frames import vector_of
from bora_cli.types import F32

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """Where a rig stands: commanded position [3] m, rotation [3, 3] and hand [J] rad, and measured position [3] m."""

    position: F64
    rotation: F64
    hand: F64
    measured: F64


class PlannedRig(GuardedRig):
    """A rig that keeps the limits on motion of a profile; in everything else it is that rig.

    pose: says where the rig stands when it is asked.  Where an execution gap moved the target, the envelope goes on
    from there with the speed it had.  takeover_step: float32 [A], and ramp_ticks are read by the control loop.  arm:
    limits of the arm's joints, and which joints it is sent along a way; None limits none.
    """

    def __init__(
        self,
        rig: Any,
        envelope: Envelope,
        pose: Callable[[], Pose],
        takeover_step: F32,
        ramp_ticks: int,
        arm: tuple[ArmLimits, Along] | None = None,
    ) -> None:
        self._rig = rig
        self._motion = envelope
        self._pose = pose
        self._arm = arm
        self._state: MotionState | None = None
        self.takeover_step = takeover_step
        self.ramp_ticks = ramp_ticks

    def prepare(self, scene_seed: int) -> None:
        """Prepare the rig and begin at rest."""
        self._rig.prepare(scene_seed)
        self._state = None

    def reset(self, scene_seed: int) -> Any:
        """Prepare the rig and return its first observation."""
        self.prepare(scene_seed)
        return self._rig.observe()

    def restore(self, snapshot: Any) -> None:
        """Return to a snapshot, at rest."""
        self._rig.restore(snapshot)
        self._state = None

    def step(self, action: F32) -> Any:
        """Execute what the envelope makes of a command, float32 [A], and return what the rig says."""
        at = self._pose()
        if self._state is None:
            state = begin(self._motion, at.position, at.rotation, at.hand)
        else:
            state = replace(self._state, position=at.position, rotation=at.rotation, hand=at.hand)
        wish = wish_of(np.asarray(action, np.float64))
        if self._arm is None:
            self._state, _ = advance(self._motion, state, wish, at.measured)
        else:
            self._state, _ = advance_within(self._motion, state, wish, at.measured, *self._arm)
        turn = vector_of(self._state.rotation @ at.rotation.T)
        row = np.concatenate([self._state.position - at.position, turn, self._state.hand])
        return self._rig.step(row.astype(np.float32))
