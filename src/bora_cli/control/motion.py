"""Motion that can always stop: the next step is only taken if there is a way to rest from it inside all limits.

At every tick there is a *plan*: the steps of the coming K ticks, the last of which leave the robot at rest.  The plan
of the last tick without its first step is a plan again, and it keeps every limit because it did so before.  What
somebody wants gives a second plan: towards his step, then to rest.  All limits here are convex, so the points between
the two plans that keep them form an interval that begins at the old plan; its other end is computed and taken.  By
induction nothing that comes in can lead to a state without a way out, and 'stop' is always the old plan.

Source: ours.  The argument is the recursive feasibility of model predictive control with a terminal set (Mayne et al.
2000), with a line search in place of an optimisation.  All functions work on many robots at once: leading shape [...].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

LONGEST_STOP = 60
"""Ticks that stopping may take at most."""
EASE = 0.6
"""Share of the acceleration and jerk that stopping from full speed may use; the rest is left to change the mind."""
TINY = 1e-15


@dataclass(frozen=True)
class Dynamics:
    """Limits of one vector quantity, as lengths per tick: of a step, of its change, and of the change of that change.

    speed: m or rad per tick.  acceleration: per tick^2.  jerk: per tick^3; inf where there is no limit.
    """

    speed: float
    acceleration: float = np.inf
    jerk: float = np.inf

    def __post_init__(self) -> None:
        for name in ("speed", "acceleration", "jerk"):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"Motion limit {name} is {getattr(self, name)}; expected a positive number."
                )

    @classmethod
    def from_si(cls, dt: float, speed: float, acceleration: float | None, jerk: float | None) -> Dynamics:
        """Return the limits per tick of dt seconds; speed per s, acceleration per s^2, jerk per s^3."""
        return cls(
            speed * dt,
            np.inf if acceleration is None else acceleration * dt**2,
            np.inf if jerk is None else jerk * dt**3,
        )


@dataclass(frozen=True)
class Brake:
    """How to come to rest: steps[m] = table[m, 0] * step now + table[m, 1] * step before it, float64 [K, 2].

    It is the stop within K ticks with the least sum of squared jerks, so it is linear in where it begins.
    """

    table: F64

    @property
    def ticks(self) -> int:
        return len(self.table)


def brake_for(dynamics: Dynamics) -> Brake:
    """Return the shortest stop that keeps the limits from full speed with something to spare.

    Raises ConfigError if that takes more than LONGEST_STOP ticks.
    """
    if np.isinf(dynamics.acceleration) and np.isinf(dynamics.jerk):
        return Brake(np.zeros((1, 2)))
    for ticks in range(1, LONGEST_STOP + 1):
        table = _softest(ticks)
        changes = _changes(np.concatenate([[1.0, 1.0], table @ [1.0, 1.0], [0.0, 0.0]]) * dynamics.speed)
        gentle = np.abs(changes[0]).max() <= EASE * dynamics.acceleration
        if gentle and np.abs(changes[1]).max() <= EASE * dynamics.jerk:
            return Brake(table)
    raise ConfigError(
        f"Acceleration {dynamics.acceleration:g} and jerk {dynamics.jerk:g} (per tick) need more than"
        f" {LONGEST_STOP} ticks to stop from {dynamics.speed:g} per tick.",
        "Lower the speed, or allow more acceleration and jerk.",
    )


def _softest(ticks: int) -> F64:
    """Return the table [ticks, 2] of the stop with the least squared jerk; the last step of it is zero."""
    free = ticks - 1
    if free == 0:
        return np.zeros((1, 2))
    full = np.zeros((ticks + 4, ticks + 4))
    for row in range(2, ticks + 4):
        full[row, row - 2 : row + 1] = (1.0, -2.0, 1.0)
    jerks = full[2:]
    begin, unknown = jerks[:, :2], jerks[:, 2 : 2 + free]
    solution = np.linalg.lstsq(unknown, -begin, rcond=None)[0]
    return np.concatenate([solution[:, ::-1], np.zeros((1, 2))])


def _changes(steps: F64) -> tuple[F64, F64]:
    """Return first and second differences of a sequence [L]."""
    return np.diff(steps), np.diff(steps, 2)


def proceed(plan: F64) -> F64:
    """Return the plan [..., K, 3] that is left after its first step was made."""
    return np.concatenate([plan[..., 1:, :], np.zeros_like(plan[..., :1, :])], axis=-2)


def towards(wish: F64, past: F64, dynamics: Dynamics, brake: Brake, ticks: int) -> F64:
    """Return the plan [..., ticks, 3] that makes as much of a wished step as acceleration and jerk allow, then stops.

    wish: [..., 3] step wanted now.  past: [..., 2, 3], the steps made, the latest last.  ticks: at least those of
    the brake and one more.  The plan need not keep every limit; `blend` sees to that.
    """
    before, last = past[..., 0, :], past[..., 1, :]
    change = shortened(wish - last, dynamics.acceleration)
    if np.isfinite(dynamics.jerk):
        change = (last - before) + shortened(change - (last - before), dynamics.jerk)
    first = shortened(last + change, dynamics.speed)
    rest = brake.table[:, 0, None] * first[..., None, :] + brake.table[:, 1, None] * last[..., None, :]
    plan = np.zeros((*wish.shape[:-1], ticks, 3))
    plan[..., 0, :] = first
    plan[..., 1 : 1 + brake.ticks, :] = rest
    return plan


def share_of_dynamics(safe: F64, wanted: F64, past: F64, dynamics: Dynamics, speed: F64) -> F64:
    """Return the largest t in [0, 1], [...], for which safe + t (wanted - safe) keeps speed, acceleration and jerk.

    safe, wanted: plans [..., K, 3]; `safe` keeps the limits.  past: [..., 2, 3].  speed: [...], largest step; a step
    of `safe` that is longer is allowed to stay.
    """
    own = np.linalg.norm(safe, axis=-1)
    bound = np.maximum(speed[..., None], own)
    t = share_of_balls(safe, wanted - safe, bound)
    for order, limit in ((1, dynamics.acceleration), (2, dynamics.jerk)):
        if np.isinf(limit):
            continue
        rest = np.zeros((*safe.shape[:-2], 2, 3))
        here = np.diff(np.concatenate([past, safe, rest], axis=-2), order, axis=-2)
        there = np.diff(np.concatenate([past, wanted, rest], axis=-2), order, axis=-2)
        own = np.linalg.norm(here, axis=-1)
        t = np.minimum(t, share_of_balls(here, there - here, np.maximum(limit, own)))
    return t


def share_of_box(safe: F64, wanted: F64, low: F64, high: F64) -> F64:
    """Return the largest t in [0, 1] per axis, [..., 3], for which safe + t (wanted - safe) is in a box at every tick.

    safe, wanted: points [..., K, 3].  low, high: broadcast to that; where `safe` is outside, it may stay there.
    """
    low, high = np.minimum(low, safe), np.maximum(high, safe)
    move = wanted - safe
    room = np.where(move > 0, high - safe, safe - low)
    t = np.where(np.abs(move) > TINY, room / np.maximum(np.abs(move), TINY), 1.0)
    return np.clip(t.min(axis=-2), 0.0, 1.0)


def share_of_balls(start: F64, move: F64, radius: F64) -> F64:
    """Return the largest t in [0, 1] for which |start + t move| <= radius for all of [..., L, 3]; |start| <= radius."""
    a = (move * move).sum(-1)
    b = (start * move).sum(-1)
    c = (start * start).sum(-1) - radius**2
    root = np.sqrt(np.maximum(b * b - a * np.minimum(c, 0.0), 0.0))
    t = np.where(a > TINY**2, (root - b) / np.maximum(a, TINY**2), 1.0)
    inside = ((start + move) ** 2).sum(-1) <= radius**2
    return np.clip(np.where(inside, 1.0, t).min(axis=-1), 0.0, 1.0)


def shortened(vector: F64, length: F64 | float) -> F64:
    """Return vectors [..., 3] cut to a length, in their direction."""
    norm = np.linalg.norm(vector, axis=-1, keepdims=True)
    limit = np.asarray(length, np.float64)
    limit = limit[..., None] if limit.ndim else limit
    return vector * np.minimum(1.0, limit / np.maximum(norm, TINY))
