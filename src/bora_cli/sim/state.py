"""What the simulation hands out beside observations: results of a tick, privileged state, snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bora_cli.types import F32

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class StepResult:
    """What one tick did.  applied: float32 [18], the action after all limits, physical units."""

    applied: F32
    reward: float
    terminated: bool
    truncated: bool
    success: bool


@dataclass(frozen=True)
class Privileged:
    """What only scripted operators and metrics may read; world frame, m and rad.

    commanded_*: the tool pose the arm is told to hold.  target_position: site `target`, [3]; target_start:
    the same after settling.  target_yaw: folded yaw at which to act.  view: unit vector [3] from the target
    to the scene camera.  progress: share of the success condition.  drift: [3] m, how far the execution gap
    moves the tool per tick beyond the command; a person sees it on the moving hand.  Under a latency
    commanded_* and hand_command say where the commands given so far will lead: a person knows what he did.
    arm, arm_command: [7] rad, measured joints of the arm, and those it is told to hold.
    """

    task: str
    item: Any
    tick: int
    dt: float
    tool_position: F64
    tool_rotation: F64
    commanded_position: F64
    commanded_rotation: F64
    hand_command: F64
    target_position: F64
    target_start: F64
    target_yaw: float
    view: F64
    progress: float
    touching: bool
    success: bool
    drift: F64
    arm: F64
    arm_command: F64
    decoy: tuple[F64, float] | None = None


@dataclass(frozen=True)
class Snapshot:
    """A complete state of a simulation.

    task, setting, gap: identities of what it was taken of.  physics: float64, MuJoCo's integration state.
    pending: float64 [ticks of latency, 18], commands that are still on their way, oldest first.
    """

    task: str
    setting: str
    gap: str
    scene_seed: int
    physics: F64
    position: F64
    rotation: F64
    joints: F64
    hand: F64
    start: F64
    tick: int
    held: int
    pending: F64 = field(default_factory=lambda: np.zeros((0, 18)))


class Privy(Protocol):
    """A simulation that lets operators and metrics read its privileged state."""

    def privileged(self) -> Privileged: ...
