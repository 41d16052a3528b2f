"""The last thing before the motors: whatever comes in, what goes out is inside the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.control.motion import share_of_balls, shortened
from bora_cli.errors import ConfigError, RobotFault
from bora_cli.profiles import HardwareProfile
from bora_cli.types import F32, ActionSpec

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Applied:
    """What the envelope let through: action float32 [A], and the limits that changed it, in order."""

    action: F32
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class SafetyEnvelope:
    """Limits on one command, and the function that enforces them.

    spec: limits of each action.  dt: seconds per tick.  box_low, box_high: float [3], m, robot base frame,
    for the commanded tool position.  tcp_speed: m/s.  rotation_speed: rad/s.  hand_rate: rad/s per joint.
    leash: m, how far the commanded position may run ahead of the measured one.  watchdog_s: an older command
    holds.
    """

    spec: ActionSpec
    dt: float
    box_low: tuple[float, float, float]
    box_high: tuple[float, float, float]
    tcp_speed: float
    rotation_speed: float
    hand_rate: float
    leash: float
    watchdog_s: float

    def __post_init__(self) -> None:
        for name in ("dt", "tcp_speed", "rotation_speed", "hand_rate", "leash", "watchdog_s"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise ConfigError(f"Safety limit {name} is {value}; expected a positive number.")
        if not all(low < high for low, high in zip(self.box_low, self.box_high, strict=True)):
            raise ConfigError(
                f"Safety box from {self.box_low} to {self.box_high} m is empty in some direction."
            )
        arm = self.spec.slice("arm")
        if arm.stop - arm.start != 6:
            raise ConfigError(
                f"Action group 'arm' has {arm.stop - arm.start} columns; expected 6 (dx..dz, drx..drz)."
            )

    @classmethod
    def from_profile(cls, profile: HardwareProfile) -> SafetyEnvelope:
        """Return the envelope that a hardware profile asks for."""
        limits = profile.limits
        return cls(
            spec=profile.action_spec,
            dt=profile.dt,
            box_low=limits.workspace_low,
            box_high=limits.workspace_high,
            tcp_speed=limits.tcp_speed,
            rotation_speed=limits.rotation_speed,
            hand_rate=limits.hand_rate,
            leash=limits.leash,
            watchdog_s=limits.watchdog,
        )

    def apply(
        self, action: F32, *, target: F32 | F64, measured: F32 | F64, hand: F32 | F64, age_s: float = 0.0
    ) -> Applied:
        """Return the command nearest to `action` in spirit that is safe to send.

        action: [A], any numbers; one that is not finite, or older than the watchdog, holds: no arm motion and
        the hand stays.  target, measured: [3], m, commanded and measured tool position.  hand: [J], rad, last
        hand command. age_s: seconds since the command was made. The new target never leaves the box or the
        leash; if the old one was outside, it only moves inwards. Raises RobotFault if the robot's own state
        is not finite, because then there is nothing to hold on to.
        """
        state = [np.asarray(x, np.float64) for x in (target, measured, hand)]
        if not all(np.isfinite(x).all() for x in state):
            raise RobotFault(
                f"Robot state is not finite (target {target}, measured {measured}, hand {hand}).",
                "Stop the robot and check its state estimation.",
            )
        reasons: list[str] = []
        wanted = np.asarray(action, np.float64)
        if wanted.shape != (self.spec.dim,) or not np.isfinite(wanted).all():
            reasons.append("hold: command not finite")
        elif not 0.0 <= age_s <= self.watchdog_s:
            reasons.append("hold: command too old")
        holding = bool(reasons)
        if holding:
            wanted = np.zeros(self.spec.dim)
            wanted[self.spec.slice("hand")] = state[2]
        safe = np.clip(wanted, self.spec.low.astype(np.float64), self.spec.high.astype(np.float64))
        _note(reasons, "range", safe, wanted)
        arm, fingers = self.spec.slice("arm"), self.spec.slice("hand")
        if not holding:
            shift = slice(arm.start, arm.start + 3)
            safe[shift] = self._move(safe[shift], state[0], state[1], reasons)
        safe[arm.start + 3 : arm.stop] = _cap(
            safe[arm.start + 3 : arm.stop], self.rotation_speed * self.dt, "rotation speed", reasons
        )
        safe[fingers] = self._fingers(safe[fingers], state[2], reasons)
        return Applied(self.spec.clip(safe.astype(np.float32)), tuple(reasons))

    def _move(self, delta: F64, target: F64, measured: F64, reasons: list[str]) -> F64:
        boxed = np.clip(target + delta, self.box_low, self.box_high) - target
        _note(reasons, "workspace box", boxed, delta)
        slow = _cap(boxed, self.tcp_speed * self.dt, "tool speed", reasons)
        radius = max(self.leash, float(np.linalg.norm(target - measured)))
        share = float(share_of_balls((target - measured)[None], slow[None], np.array([radius])))
        if share < 1.0:
            reasons.append("leash")
        return share * slow

    def _fingers(self, joints: F64, hand: F64, reasons: list[str]) -> F64:
        step = self.hand_rate * self.dt
        near = np.clip(joints, hand - step, hand + step)
        _note(reasons, "hand rate", near, joints)
        group = self.spec.slice("hand")
        return np.clip(
            near, self.spec.low[group].astype(np.float64), self.spec.high[group].astype(np.float64)
        )


@dataclass(frozen=True)
class Standing:
    """Where a robot stands.

    target, measured: float [3], m, robot base frame, commanded and measured tool position.  hand: float [J], rad,
    last hand command.
    """

    target: F64
    measured: F64
    hand: F64


class GuardedRig:
    """A rig whose every command passes an envelope before it is executed; in everything else it is that rig.

    standing: says where the robot stands when it is asked.  takeover_step: float32 [A], largest change of the
    command between two ticks while control changes hands, and ramp_ticks, ticks of blending; both read by the control
    loop.
    """

    def __init__(
        self,
        rig: Any,
        envelope: SafetyEnvelope,
        standing: Callable[[], Standing],
        takeover_step: F32,
        ramp_ticks: int,
    ) -> None:
        self._rig = rig
        self._envelope = envelope
        self._standing = standing
        self.takeover_step = takeover_step
        self.ramp_ticks = ramp_ticks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rig, name)

    def step(self, action: F32) -> Any:
        """Execute what the envelope lets through of a command, float32 [A], and return what the rig says."""
        at = self._standing()
        safe = self._envelope.apply(action, target=at.target, measured=at.measured, hand=at.hand)
        return self._rig.step(safe.action)


def _cap(vector: F64, length: float, reason: str, reasons: list[str]) -> F64:
    if np.linalg.norm(vector) <= length:
        return vector
    reasons.append(reason)
    return shortened(vector, length)


def _note(reasons: list[str], reason: str, after: F64, before: F64) -> None:
    if not np.allclose(after, before, rtol=0.0, atol=1e-9):
        reasons.append(reason)
