"""Limits on the joints of an arm that is told where its tool shall be.

Who commands poses does not know the joints; the arm's kinematics does.  There are two kinds of robots:

- One can say beforehand which joints it would be sent along a way of its tool (`bora_cli.robot.protocol.Foreseeing`).
  Then `advance_within` takes a step only if the joints, on this step and on the way to rest after it, keep their
  limits.  The way to rest of the last tick was judged the same way, so there always is one.
- Of the others the joints are only measured.  Then `Watch.trouble` says when a joint is outside, too fast, or would be
  outside before the robot could be at rest; the robot brakes, and `Watch.refuses` to go on the way that it came, until
  the joint is back.

Angles in rad, rates in rad per tick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bora_cli.control.envelope import Envelope, MotionState, Wish, advance
from bora_cli.profiles import HardwareProfile

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]
Along = Callable[[F64, F64], F64]
"""Positions [..., K, 3] (m) and rotations [..., K, 3, 3] of a way -> joints [..., 1 + K, N], those of now first; NaN
where the arm cannot follow."""

SLACK = 1e-9
SHARES = (0.75, 0.5, 0.25)
"""Of a wish, tried one after the other where the whole of it asks too much of a joint."""
BACK = 0.05
"""How far a joint has to come back before the way on which it was stopped is open again, rad."""
SERVO = 0.02
"""How far outside its range a joint may be measured, rad: servos lag, and swing a little."""


@dataclass(frozen=True)
class ArmLimits:
    """What the joints of an arm are kept in.

    names: of the N joints.  low, high: float64 [N], rad.  rate: float64 [N], rad per tick.  dt: s per tick.
    """

    names: tuple[str, ...]
    low: F64
    high: F64
    rate: F64
    dt: float

    @classmethod
    def from_profile(cls, profile: HardwareProfile) -> Self | None:
        """Return the limits that a hardware profile asks for, None if it asks for none."""
        joints = profile.arm.joints
        if joints is None:
            return None
        return cls(
            tuple(joint.name for joint in joints),
            np.array([joint.low for joint in joints]),
            np.array([joint.high for joint in joints]),
            np.array([joint.rate for joint in joints]) * profile.dt,
            profile.dt,
        )

    def trespass(self, joints: F64, slack: float = SLACK) -> str:
        """Return which joint [N] is outside its range, with numbers; "" where none is."""
        for name, angle, low, high in zip(self.names, joints, self.low, self.high, strict=True):
            if not low - slack <= angle <= high + slack:
                return f"arm joint {name} at {angle:.3f} rad, allowed {low:.3f} to {high:.3f} rad"
        return ""

    def excess(self, joints: F64) -> F64:
        """Return by how much joints [N] are outside their range, [N], 0 inside."""
        return np.maximum(0.0, np.maximum(self.low - joints, joints - self.high))

    def kept(self, joints: F64) -> Mask:
        """Tell where joints along a way, [..., 1 + K, N], keep range and rate; those of now are what they are."""
        rows = joints[..., 1:, :]
        inside = ((rows >= self.low - SLACK) & (rows <= self.high + SLACK)).all(axis=(-2, -1))
        slow = (np.abs(np.diff(joints, axis=-2)) <= self.rate + SLACK).all(axis=(-2, -1))
        return np.asarray(inside & slow)


def advance_within(
    envelope: Envelope,
    state: MotionState,
    wish: Wish,
    measured: F64 | None,
    limits: ArmLimits,
    along: Along,
) -> tuple[MotionState, dict[str, Mask]]:
    """Return what `advance` does where the arm's joints allow it.

    Where they do not, less of what is wanted is tried, then the translation alone, then the rotation alone; where
    nothing fits, the robot goes one step down its way to rest, and listens again at the next tick.  along: says which
    joints the arm is sent.
    """
    start = state.position[..., None, :]
    step, turn = (
        np.clip(row, envelope.low[part], envelope.high[part])
        for row, part in ((wish.step, slice(0, 3)), (wish.turn, slice(3, 6)))
    )
    parts = (*((share * step, share * turn) for share in SHARES), (step, np.zeros(3)), (np.zeros(3), turn))

    def broken(new: MotionState) -> Mask:
        return ~limits.kept(along(start + np.cumsum(new.plan, axis=-2), new.way))

    new, changed = advance(envelope, state, wish, measured)
    refused = broken(new) & ~changed["stopping"]
    left, chosen = refused, wish
    for step, turn in parts:
        if not left.any():
            break
        here = left[..., None]
        chosen = replace(
            chosen, step=np.where(here, step, chosen.step), turn=np.where(here, turn, chosen.turn)
        )
        new, changed = advance(envelope, state, chosen, measured)
        left = left & broken(new)
    if left.any():
        new, changed = advance(envelope, state, chosen, measured, only_rest=left)
    return new, {**changed, "arm joints": refused}


class Watch:
    """Judges the measured joints of an arm that cannot be asked beforehand, or in spite of what it said.

    ticks: of speed as it is now that come before rest, e.g. `ticks_to_rest`; 0 does not look ahead.
    """

    def __init__(self, limits: ArmLimits, ticks: float = 0.0) -> None:
        self.limits = limits
        self._ticks = ticks
        self._before: tuple[float, F64] | None = None
        self._per_tick: F64 = np.zeros(len(limits.names))
        self._stops: list[tuple[F64, int, float]] = []
        self.joints: F64 | None = None

    def see(self, t: float, joints: F64) -> None:
        """Take what was measured at t (s), float64 [N]."""
        self.joints = joints
        if self._before is None:
            self._before = (t, joints)
        elapsed = t - self._before[0]
        if elapsed >= 0.9 * self.limits.dt:  # differences over less than a tick are mostly noise
            self._per_tick = (joints - self._before[1]) * (self.limits.dt / elapsed)
            self._before = (t, joints)

    def rest(self) -> None:
        """Forget how fast the joints were: the robot was placed, or told to hold."""
        self._before = None
        self._per_tick = np.zeros(len(self.limits.names))

    @property
    def outside(self) -> str:
        """Which joint was measured outside its range, "" if none was."""
        return "" if self.joints is None else self.limits.trespass(self.joints, SERVO)

    @property
    def trouble(self) -> str:
        """Why the robot has to brake, "" if nothing is wrong."""
        if self.joints is None:
            return ""
        if where := self.outside:
            return where
        for name, speed, rate in zip(
            self.limits.names, np.abs(self._per_tick), self.limits.rate, strict=True
        ):
            if speed > rate * (1 + SLACK):
                per_s = 1 / self.limits.dt
                return f"arm joint {name} at {speed * per_s:.2f} rad/s, allowed {rate * per_s:.2f} rad/s"
        coming, outwards = self._coming
        inside = np.clip(coming, self.limits.low, self.limits.high)
        if where := self.limits.trespass(np.where(outwards, coming, inside)):
            return f"too fast to stop in time: {where}"
        return ""

    def stopped(self, heading: F64) -> None:
        """Remember the way of the tool, float64 [6] in shares of full speed, on which it had to be stopped."""
        length = float(np.linalg.norm(heading))
        if self.joints is None or length == 0.0:
            return
        for joint in np.flatnonzero(self._coming[1]):
            self._stops.append((heading / length, int(joint), self._room(int(joint))))

    def refuses(self, heading: F64) -> bool:
        """Tell whether a way of the tool [6] is one on which a joint was stopped that has not come back since."""
        self._stops = [stop for stop in self._stops if self._room(stop[1]) <= stop[2] + BACK]
        return any(float(stopped @ heading) > 0.0 for stopped, _, _ in self._stops)

    @property
    def _coming(self) -> tuple[F64, Mask]:
        """Where the joints [N] would come to rest, and which of them would be outside, or farther out than they are."""
        assert self.joints is not None
        coming = self.joints + self._ticks * self._per_tick
        return coming, self.limits.excess(coming) > self.limits.excess(self.joints)

    def _room(self, joint: int) -> float:
        """Return how far a joint is from the nearer end of its range, rad; negative outside."""
        assert self.joints is not None
        return float(
            min(self.limits.high[joint] - self.joints[joint], self.joints[joint] - self.limits.low[joint])
        )


def ticks_to_rest(envelope: Envelope) -> float:
    """Return how many ticks of full speed a stop is as long as, with two in which it is noticed."""
    return 2.0 + max(float(brake.table.sum()) for brake in envelope.brakes)
