"""A hand driven by buttons, axes or a glove: whatever is asked, its command moves by no more than a step per tick.

Three ways to ask, all relative to where the hand is commanded now:

- a named posture ("open", "close", ...): all joints travel together and arrive together;
- axes: each moves the hand along one synergy (see `synergies`);
- a glove: only the change of the person's hand since it took hold counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from bora_cli.errors import ConfigError
from bora_cli.input.device import F64
from bora_cli.input.synergies import MAX_SYNERGIES, Synergies, fit_synergies

SPREADS_PER_SECOND = 2.0
"""Speed of a fully deflected axis along its synergy, standard deviations per second."""
OPEN, CLOSE = "open", "close"


@dataclass(frozen=True)
class HandMap:
    """What a hand can be asked, and how fast it may follow.

    names: of the J joints.  low, high: float64 [J] rad.  postures: name -> float64 [J] rad.  synergies: of these
    joints.  rate: rad/s, per joint.
    """

    names: tuple[str, ...]
    low: F64
    high: F64
    postures: Mapping[str, F64]
    synergies: Synergies
    rate: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.rate) and self.rate > 0):
            raise ConfigError(f"Hand with a rate of {self.rate} rad/s; expected a positive number.")
        if self.synergies.names != self.names:
            raise ConfigError(
                f"The synergies are of the joints {', '.join(self.synergies.names)};"
                f" the hand has {', '.join(self.names)}.",
                "Fit synergies to demonstrations of this hand: `bora hand fit`.",
            )
        for name, posture in self.postures.items():
            if posture.shape != (len(self.names),) or not np.isfinite(posture).all():
                raise ConfigError(f"Posture {name} is not {len(self.names)} finite angles.")

    @classmethod
    def build(
        cls,
        names: tuple[str, ...],
        low: ArrayLike,
        high: ArrayLike,
        postures: Mapping[str, ArrayLike],
        rate: float,
        synergies: Synergies | None = None,
    ) -> HandMap:
        """Return the map of a hand; without synergies, they are those of its named postures.

        Raises ConfigError if the synergies are of another hand, DataError if there are neither synergies nor two
        different postures.
        """
        named = {name: np.asarray(angles, np.float64) for name, angles in postures.items()}
        if synergies is None:
            stack = np.array(list(named.values())) if named else np.empty((0, len(names)))
            synergies = fit_synergies(stack, names, MAX_SYNERGIES, "the postures of the profile")
        return cls(names, np.asarray(low, np.float64), np.asarray(high, np.float64), named, synergies, rate)


@dataclass(frozen=True)
class HandState:
    """Where a hand is commanded to be, and what it is on its way to.

    command: float64 [J] rad.  goal: name of the posture it travels to, "" for none.  hold: posture of the
    glove [J] when it took hold, and the command [J] at that time; None while no glove drives.
    """

    command: F64
    goal: str = ""
    hold: tuple[F64, F64] | None = None


def toggled(state: HandState, hand: HandMap) -> HandState:
    """Return the state after the grip button: on its way to "close", or to "open" if it is closed or closing."""
    if state.goal in (OPEN, CLOSE):
        return replace(state, goal=OPEN if state.goal == CLOSE else CLOSE)
    if OPEN not in hand.postures or CLOSE not in hand.postures:
        return state
    distance = {name: np.abs(hand.postures[name] - state.command).max() for name in (OPEN, CLOSE)}
    return replace(state, goal=OPEN if distance[CLOSE] < distance[OPEN] else CLOSE)


def towards(state: HandState, posture: str, hand: HandMap) -> HandState:
    """Return the state after a named posture was asked for; an unknown name changes nothing."""
    return replace(state, goal=posture) if posture in hand.postures else state


def advance(
    state: HandState, hand: HandMap, dt: float, *, axes: ArrayLike | None = None, glove: F64 | None = None
) -> HandState:
    """Return the state one tick of `dt` seconds later; no joint's command moves by more than rate * dt.

    axes: [6] in -1 .. 1, motion along the first synergies; any deflection drops the goal.  glove: float64 [J] rad.
    Numbers that are not finite are ignored.  A command outside the limits only moves inwards.
    """
    reach, here = hand.rate * dt, state.command
    count = len(hand.synergies.spread)
    speeds = np.zeros(count) if axes is None else np.asarray(axes, np.float64)[:count]
    driven = bool(np.isfinite(speeds).all() and speeds.any())
    if driven:
        state = replace(state, goal="", hold=None)
        step = np.zeros(count)
        step[: len(speeds)] = np.clip(speeds, -1, 1) * SPREADS_PER_SECOND * dt
        wanted = here + (step * hand.synergies.spread) @ hand.synergies.directions
    elif state.goal:
        wanted = hand.postures[state.goal]
        state = replace(state, hold=None)
    elif glove is not None and glove.shape == here.shape and np.isfinite(glove).all():
        anchor, origin = state.hold if state.hold is not None else (glove.copy(), here)
        state = replace(state, hold=(anchor, origin))
        wanted = origin + (glove - anchor)
    else:
        return state
    command = _stepped(here, wanted, reach, hand)
    arrived = bool(state.goal) and np.array_equal(command, here)
    return replace(state, command=command, goal="" if arrived else state.goal)


def _stepped(here: F64, wanted: F64, reach: float, hand: HandMap) -> F64:
    """Return a command [J] on the straight way from `here` to `wanted`, inside the limits and at most `reach` away."""
    inside = np.clip(wanted, np.minimum(hand.low, here), np.maximum(hand.high, here))
    step = inside - here
    largest = float(np.abs(step).max())
    return inside if largest <= reach else here + step * (reach / largest)
