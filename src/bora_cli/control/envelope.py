"""The complete safety envelope of a real robot: a state, and the one function that lets it change.

What `bora_cli.control.safety` enforces on single commands (box, speed, hand rate, leash), this enforces on motion:
acceleration, jerk, an orientation cone, fingertips, and a soft start after every stop.  It only ever yields targets
from which the robot can still stop inside all limits; see `bora_cli.control.motion` for why.

Every function works on many robots at once: [...] is any leading shape, and one robot has none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.control.motion import (
    Brake,
    Dynamics,
    brake_for,
    proceed,
    share_of_balls,
    share_of_box,
    share_of_dynamics,
    towards,
)
from bora_cli.errors import ConfigError
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.frames import rotation_of

F64 = NDArray[np.float64]
Mask = NDArray[np.bool_]

TURN_SHARES = (1.0, 0.5, 0.25, 0.1, 0.0)
"""Parts of a turn that are tried where cone or fingertips refuse it; the last is the way to rest."""
SLACK = 1e-9


@dataclass(frozen=True)
class Envelope:
    """Limits of one robot.

    dt: s per tick.  low, high: float64 [A], range of an action (m, rad per tick; joint angles in rad).  box_low,
    box_high: float64 [3], m, base frame, for the tool point.  translation, rotation: limits per tick.  hand_rate:
    float64 [J], rad per tick.  leash: m between target and measured tool.  soft_start: ticks from rest to full speed.
    cone_axis: float64 [3], unit vector in base that the tool's z axis stays within cone_angle (rad) of; None is no
    cone.  tips: float64 [F, 3], m, points in the tool frame that no posture of the hand reaches beyond (the corners of
    what the fingertips can reach); empty is no limit.  tip_low, tip_high: float64 [3], m, base frame, their box.
    """

    dt: float
    low: F64
    high: F64
    box_low: F64
    box_high: F64
    translation: Dynamics
    rotation: Dynamics
    hand_rate: F64
    leash: float
    soft_start: int = 0
    cone_axis: F64 | None = None
    cone_angle: float = np.pi
    tips: F64 = field(default_factory=lambda: np.zeros((0, 3)))
    tip_low: F64 = field(default_factory=lambda: np.full(3, -np.inf))
    tip_high: F64 = field(default_factory=lambda: np.full(3, np.inf))
    brakes: tuple[Brake, Brake] = field(init=False)

    def __post_init__(self) -> None:
        if not (self.box_low < self.box_high).all():
            raise ConfigError(
                f"Safety box from {self.box_low} to {self.box_high} m is empty in some direction."
            )
        object.__setattr__(self, "brakes", (brake_for(self.translation), brake_for(self.rotation)))

    @classmethod
    def from_profile(cls, profile: HardwareProfile) -> Envelope:
        """Return the envelope that a hardware profile asks for."""
        limits, spec = profile.limits, profile.action_spec
        rates = [limits.hand_rate if joint.rate is None else joint.rate for joint in profile.hand.joints]
        optional: dict[str, Any] = {}
        if limits.fingertips is not None:
            optional |= {"tips": np.array(limits.fingertips), "tip_low": np.array(limits.fingertip_low)}
            optional |= {"tip_high": np.array(limits.fingertip_high)}
        if limits.cone_axis is not None and limits.cone_angle is not None:
            axis = np.array(limits.cone_axis)
            optional |= {"cone_axis": axis / np.linalg.norm(axis), "cone_angle": limits.cone_angle}
        return cls(
            dt=profile.dt,
            low=spec.low.astype(np.float64),
            high=spec.high.astype(np.float64),
            box_low=np.array(limits.workspace_low),
            box_high=np.array(limits.workspace_high),
            translation=Dynamics.from_si(profile.dt, limits.tcp_speed, limits.acceleration, limits.jerk),
            rotation=Dynamics.from_si(
                profile.dt, limits.rotation_speed, limits.rotation_acceleration, limits.rotation_jerk
            ),
            hand_rate=np.minimum(rates, limits.hand_rate) * profile.dt,
            leash=limits.leash,
            soft_start=round((limits.soft_start or 0.0) / profile.dt),
            **optional,
        )

    @property
    def ticks(self) -> int:
        """Ticks of a plan: one step and the longer of the two ways to rest."""
        return 1 + max(brake.ticks for brake in self.brakes)

    def trespass(self, position: F64, rotation: F64) -> str:
        """Return which limit a pose, [3] m and [3, 3], is outside of, with numbers; "" where there is none."""
        if not ((position >= self.box_low - SLACK) & (position <= self.box_high + SLACK)).all():
            return (
                f"tool at {_numbers(position)} m, box {_numbers(self.box_low)} to {_numbers(self.box_high)} m"
            )
        if self.cone_axis is not None:
            angle = float(np.arccos(np.clip(rotation[:, 2] @ self.cone_axis, -1, 1)))
            if angle > self.cone_angle + SLACK:
                return f"tool axis {angle:.3g} rad off the cone's axis, cone {self.cone_angle:.3g} rad"
        tips = position + self.tips @ rotation.T
        for low, high, axis in zip(self.tip_low, self.tip_high, range(3), strict=True):
            if ((tips[:, axis] < low - SLACK) | (tips[:, axis] > high + SLACK)).any():
                span = f"{tips[:, axis].min():.3g} to {tips[:, axis].max():.3g}"
                return f"fingertips from {span} m in {'xyz'[axis]}, allowed {low:.3g} to {high:.3g} m"
        return ""


@dataclass(frozen=True)
class MotionState:
    """What the envelope remembers between two ticks.

    position: [..., 3], m, rotation: [..., 3, 3], hand: [..., J], rad, the target in force.  past, turned: [..., 2, 3],
    steps (m) and turns (rotation vectors, rad) of the last two ticks, the latest last.  plan, turns: [..., K, 3], the
    way to rest, first the step that led here; way: [..., K, 3, 3], the rotations along it.  awake: [...], ticks since
    the last stop.  stopping: [...], on the way to rest.
    """

    position: F64
    rotation: F64
    hand: F64
    past: F64
    turned: F64
    plan: F64
    turns: F64
    way: F64
    awake: NDArray[np.int64]
    stopping: Mask


@dataclass(frozen=True)
class Wish:
    """What somebody wants of this tick: step [..., 3] m, turn [..., 3] rad (base frame), hand [..., J] rad.

    hold: [...], nothing of it counts and the robot shall stop.
    """

    step: F64
    turn: F64
    hand: F64
    hold: Mask


def begin(envelope: Envelope, position: F64, rotation: F64, hand: F64) -> MotionState:
    """Return the state of robots at rest: [..., 3] m, [..., 3, 3], [..., J] rad."""
    lead = position.shape[:-1]
    still = np.zeros((*lead, 2, 3))
    plan = np.zeros((*lead, envelope.ticks, 3))
    return MotionState(
        np.array(position, np.float64),
        np.array(rotation, np.float64),
        np.array(hand, np.float64),
        still,
        still,
        plan,
        plan,
        np.repeat(np.asarray(rotation, np.float64)[..., None, :, :], envelope.ticks, axis=-3),
        np.zeros(lead, np.int64),
        np.zeros(lead, np.bool_),
    )


def wish_of(action: F64) -> Wish:
    """Return what action rows [..., A] ask for."""
    row = np.asarray(action, np.float64)
    return Wish(row[..., :3], row[..., 3:6], row[..., 6:], np.zeros(row.shape[:-1], np.bool_))


def advance(
    envelope: Envelope,
    state: MotionState,
    wish: Wish,
    measured: F64 | None = None,
    only_rest: Mask | None = None,
) -> tuple[MotionState, dict[str, Mask]]:
    """Return the state after one tick, and where [...] which limit changed what was wanted.

    wish: anything; it is cut to the range of an action, and numbers that are not finite hold.  measured: [..., 3], m,
    measured tool, finite; None is no leash.  A robot told to hold takes the planned way to rest, its hand stops at
    once, and it listens again when it rests.  only_rest: [...], arms that take a step of the way to rest at this tick,
    whatever is wanted.
    """
    given = np.concatenate([wish.step, wish.turn, wish.hand], axis=-1)
    sound = np.isfinite(given).all(axis=-1)
    wanted = np.clip(np.where(sound[..., None], given, 0.0), envelope.low, envelope.high)
    safe, safe_turns = proceed(state.plan), proceed(state.turns)
    resting = (np.abs(safe).max(axis=(-2, -1)) == 0.0) & (np.abs(safe_turns).max(axis=(-2, -1)) == 0.0)
    stopping = wish.hold | ~sound | (state.stopping & ~resting)
    go = (sound & ~stopping)[..., None]
    awake = np.where(stopping, 0, state.awake + 1)
    ramp = (
        np.minimum(1.0, awake / max(envelope.soft_start, 1)) if envelope.soft_start else np.ones(awake.shape)
    )
    kept = stopping if only_rest is None else stopping | only_rest

    turns, rotations = _turns(
        envelope, state, np.where(go, wanted[..., 3:6], 0.0), safe_turns, safe, ramp, kept
    )
    plan = _plan(envelope, state, np.where(go, wanted[..., :3], 0.0), safe, rotations, ramp, kept, measured)
    rate = envelope.hand_rate * ramp[..., None]
    low, high = envelope.low[6:], envelope.high[6:]
    asked = np.clip(np.where(go, wanted[..., 6:], state.hand), state.hand - rate, state.hand + rate)
    hand = np.clip(asked, np.minimum(low, state.hand), np.maximum(high, state.hand))
    new = MotionState(
        state.position + plan[..., 0, :],
        rotations[..., 0, :, :],
        hand,
        np.concatenate([state.past[..., 1:, :], plan[..., :1, :]], axis=-2),
        np.concatenate([state.turned[..., 1:, :], turns[..., :1, :]], axis=-2),
        plan,
        turns,
        rotations,
        awake,
        stopping,
    )
    free = go[..., 0]
    changed = {
        "stopping": stopping,
        "motion limits": free & (np.abs(plan[..., 0, :] - given[..., :3]) > SLACK).any(axis=-1),
        "rotation limits": free & (np.abs(turns[..., 0, :] - given[..., 3:6]) > SLACK).any(axis=-1),
        "hand limits": free & (np.abs(hand - given[..., 6:]) > SLACK).any(axis=-1),
    }
    return new, changed


def _turns(
    envelope: Envelope,
    state: MotionState,
    wish: F64,
    safe: F64,
    safe_steps: F64,
    ramp: F64,
    stopping: Mask,
) -> tuple[F64, F64]:
    """Return the turns [..., K, 3] and the rotations they lead to, [..., K, 3, 3].

    Cone and fingertips are not convex in the turns, so parts of the turn are tried, the way to rest last; the
    fingertips are judged along the planned way to rest of the tool point.
    """
    dynamics, brake = envelope.rotation, envelope.brakes[1]
    wanted = towards(wish, state.turned, dynamics, brake, envelope.ticks)
    share = share_of_dynamics(safe, wanted, state.turned, dynamics, dynamics.speed * ramp)
    share = np.where(stopping, 0.0, share)[..., None, None]
    turns = safe + share * (wanted - safe)
    rotations = _rotations(state.rotation, turns)
    if envelope.cone_axis is None and not len(envelope.tips):
        return turns, rotations
    rest = _rotations(state.rotation, safe)
    points = state.position[..., None, :] + np.cumsum(safe_steps, axis=-2)
    open_cases = np.ones(stopping.shape, np.bool_)
    best, where = safe, rest
    for part in TURN_SHARES[:-1]:
        tried = safe + part * share * (wanted - safe)
        led_to = rotations if part == 1.0 else _rotations(state.rotation, tried)
        fits = open_cases & _allowed(envelope, led_to, rest, points)
        best = np.where(fits[..., None, None], tried, best)
        where = np.where(fits[..., None, None, None], led_to, where)
        open_cases &= ~fits
        if not open_cases.any():
            break
    return best, where


def _plan(
    envelope: Envelope,
    state: MotionState,
    wish: F64,
    safe: F64,
    rotations: F64,
    ramp: F64,
    stopping: Mask,
    measured: F64 | None,
) -> F64:
    """Return the steps [..., K, 3], along which the tool point and the fingertips stay in their boxes."""
    dynamics, brake = envelope.translation, envelope.brakes[0]
    wanted = towards(wish, state.past, dynamics, brake, envelope.ticks)
    here = state.position[..., None, :]
    safe_points = here + np.cumsum(safe, axis=-2)
    low, high = np.broadcast_to(envelope.box_low, (3,)), np.broadcast_to(envelope.box_high, (3,))
    if len(envelope.tips):
        below, above = _extent(envelope, rotations)
        low, high = np.maximum(low, envelope.tip_low - below), np.minimum(high, envelope.tip_high - above)
    share = share_of_box(safe_points, here + np.cumsum(wanted, axis=-2), low, high)
    wanted = safe + share[..., None, :] * (wanted - safe)
    if measured is not None:
        start = safe_points - measured[..., None, :]
        move = np.cumsum(wanted - safe, axis=-2)
        radius = np.maximum(envelope.leash, np.linalg.norm(start, axis=-1))
        wanted = safe + share_of_balls(start, move, radius)[..., None, None] * (wanted - safe)
    t = share_of_dynamics(safe, wanted, state.past, dynamics, dynamics.speed * ramp)
    return safe + np.where(stopping, 0.0, t)[..., None, None] * (wanted - safe)


def _rotations(rotation: F64, turns: F64) -> F64:
    """Return where turns [..., K, 3] lead a rotation [..., 3, 3] tick by tick, [..., K, 3, 3]."""
    single = rotation_of(turns)
    out, now = [], rotation
    for tick in range(turns.shape[-2]):
        now = single[..., tick, :, :] @ now
        out.append(now)
    return np.stack(out, axis=-3)


def _extent(envelope: Envelope, rotations: F64) -> tuple[F64, F64]:
    """Return how far the fingertips reach below and above the tool point, [..., K, 3] m each."""
    reach = np.einsum("...ij,fj->...fi", rotations, envelope.tips)
    return reach.min(axis=-2), reach.max(axis=-2)


def _allowed(envelope: Envelope, rotations: F64, rest: F64, points: F64) -> Mask:
    """Tell where rotations [..., K, 3, 3] keep cone and fingertips, or are no worse than the way to rest."""
    fits = np.ones(rotations.shape[:-3], np.bool_)
    if envelope.cone_axis is not None:
        cosine = rotations[..., :, 2] @ envelope.cone_axis
        worst = (rest[..., :, 2] @ envelope.cone_axis).min(axis=-1)
        bound = np.minimum(np.cos(envelope.cone_angle), worst)
        fits &= (cosine >= bound[..., None]).all(axis=-1)
    if len(envelope.tips):
        below, above = _extent(envelope, rotations)
        rest_below, rest_above = _extent(envelope, rest)
        low = np.minimum(envelope.tip_low, (points + rest_below).min(axis=-2))
        high = np.maximum(envelope.tip_high, (points + rest_above).max(axis=-2))
        fits &= (points + below >= low[..., None, :]).all(axis=(-2, -1))
        fits &= (points + above <= high[..., None, :]).all(axis=(-2, -1))
    return fits


def _numbers(values: F64) -> str:
    return " ".join(f"{value:.3f}" for value in values)
