"""Who drives: the policy, a person, or nobody.

Five phases and one table.  The command is blended, not the mode: when control changes hands, the command
starts from the one applied last and reaches its new source over `n_ramp` ticks, so that nothing jumps at
either edge.

Source: the takeover ramp and the relative retargeting (an operator who does not move changes nothing) follow
the takeover mechanics of BORA and HandITL.  We differ in one point: they mix the live policy with the person,
we mix the last applied command with whoever drives next, which makes takeover and return the same function.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from bora_cli.errors import ConfigError
from bora_cli.input.operator import OperatorSample
from bora_cli.types import F32, ActionSpec, Controller


class Phase(IntEnum):
    """Who drives at a tick."""

    AUTONOMOUS = 0
    TAKING = 1
    HUMAN = 2
    RETURNING = 3
    HELD = 4


class Event(IntEnum):
    """What happened at a tick, as far as the phase is concerned."""

    NOTHING = 0
    ENGAGE = 1
    RELEASE = 2
    SETTLED = 3
    """The blended command has reached its new source."""
    OPERATOR_LOST = 4
    """The driving operator is silent, late or not a number."""
    POLICY_LOST = 5
    """The policy should drive, but proposed nothing, or something that is not a number."""


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.AUTONOMOUS, Event.ENGAGE): Phase.TAKING,
    (Phase.AUTONOMOUS, Event.OPERATOR_LOST): Phase.HELD,
    (Phase.AUTONOMOUS, Event.POLICY_LOST): Phase.HELD,
    (Phase.TAKING, Event.SETTLED): Phase.HUMAN,
    (Phase.TAKING, Event.RELEASE): Phase.RETURNING,
    (Phase.TAKING, Event.OPERATOR_LOST): Phase.HELD,
    (Phase.TAKING, Event.POLICY_LOST): Phase.HELD,
    (Phase.HUMAN, Event.RELEASE): Phase.RETURNING,
    (Phase.HUMAN, Event.OPERATOR_LOST): Phase.HELD,
    (Phase.HUMAN, Event.POLICY_LOST): Phase.HELD,
    (Phase.RETURNING, Event.SETTLED): Phase.AUTONOMOUS,
    (Phase.RETURNING, Event.ENGAGE): Phase.TAKING,
    (Phase.RETURNING, Event.OPERATOR_LOST): Phase.HELD,
    (Phase.RETURNING, Event.POLICY_LOST): Phase.HELD,
    (Phase.HELD, Event.ENGAGE): Phase.TAKING,
}
"""Every pair that is not listed stays where it is.  Only a person leads out of HELD."""

DRIVEN_BY_PERSON = (Phase.TAKING, Phase.HUMAN)
RAMPS = (Phase.TAKING, Phase.RETURNING)


@dataclass(frozen=True)
class ArbiterSettings:
    """How control changes hands.

    max_step: float32 [A], largest change of the command from one tick to the next while control changes
    hands. n_ramp: ticks of blending.  n_engage, n_release: consecutive ticks the clutch must be down or up to
    count. max_age_s: an older sample counts as silence, for a caller whose samples carry the time of the device; those
    of `roll_out` are of the tick, and silence is the operator's to notice.  arm, hand: columns of the action.
    """

    max_step: F32
    arm: slice
    hand: slice
    n_ramp: int = 2
    n_engage: int = 1
    n_release: int = 2
    max_age_s: float = 0.2

    def __post_init__(self) -> None:
        if min(self.n_ramp, self.n_engage - 1, self.n_release - 1) < 0:
            raise ConfigError(
                f"Arbiter with n_ramp {self.n_ramp}, n_engage {self.n_engage}, n_release {self.n_release};"
                " expected n_ramp 0 or more, the others 1 or more."
            )
        if not (np.isfinite(self.max_step).all() and (self.max_step > 0).all()):
            raise ConfigError(
                f"Arbiter with max_step {self.max_step}; expected positive numbers, one per action."
            )

    @classmethod
    def for_spec(
        cls,
        spec: ActionSpec,
        max_step: F32 | None = None,
        *,
        n_ramp: int = 2,
        n_engage: int = 1,
        n_release: int = 2,
        max_age_s: float = 0.2,
    ) -> ArbiterSettings:
        """Return settings for a robot; max_step: float32 [A], by default half the range of each action."""
        step = spec.half_range if max_step is None else np.asarray(max_step, np.float32)
        if step.shape != (spec.dim,):
            raise ConfigError(
                f"Arbiter max_step has shape {step.shape}; expected ({spec.dim},), one per action."
            )
        return cls(step, spec.slice("arm"), spec.slice("hand"), n_ramp, n_engage, n_release, max_age_s)


@dataclass(frozen=True)
class ArbiterState:
    """What the arbiter remembers between two ticks.

    ticks: spent in `phase`.  pending: consecutive ticks in which the clutch contradicted the phase.
    origin: float32 [A], command applied when the ramp began.  anchor: float32 [A], the operator's action at
    takeover.
    """

    phase: Phase = Phase.AUTONOMOUS
    ticks: int = 0
    pending: int = 0
    origin: F32 | None = None
    anchor: F32 | None = None


@dataclass(frozen=True)
class Command:
    """The decision of one tick: action float32 [A], who stands behind it, and what changed the phase."""

    action: F32
    phase: Phase
    controller: Controller
    event: Event = Event.NOTHING
    reason: str = ""


def hold_command(previous: F32, settings: ArbiterSettings) -> F32:
    """Return the command that stops: no arm motion, hand joints where they were.  [A] -> [A]"""
    command = previous.astype(np.float32, copy=True)
    command[settings.arm] = 0.0
    return command


def arbitrate(
    state: ArbiterState,
    *,
    proposal: F32 | None,
    sample: OperatorSample | None,
    previous: F32,
    now: float,
    settings: ArbiterSettings,
) -> tuple[ArbiterState, Command]:
    """Decide the command of one tick; a pure function.

    proposal: float32 [A] from the policy.  sample: the operator's latest, None if there is no operator.
    previous: float32 [A], finite, the command applied at the last tick; at the first tick zeros for the arm
    and the current joint angles for the hand.  now: monotonic seconds on the clock of `sample.t`. Entering or
    being in a ramp changes the command by at most `settings.max_step`; stopping (HELD) is always allowed at
    once.  The safety envelope comes after this function.
    """
    person = sample if sample is not None and sample.age(now) <= settings.max_age_s else None
    wish, pending = _wish(state, person, proposal, settings)
    phase = TRANSITIONS.get((state.phase, wish), state.phase)
    event = wish if phase != state.phase else Event.NOTHING
    if phase != state.phase:
        anchor = person.action if phase == Phase.TAKING and person is not None else state.anchor
        state = ArbiterState(phase, 0, 0, previous, anchor)
    target = _target(state, person, proposal, previous, settings)
    if phase in RAMPS and state.ticks >= settings.n_ramp and _reached(target, previous, settings):
        phase, event = TRANSITIONS[phase, Event.SETTLED], Event.SETTLED
        state = ArbiterState(phase, 0, pending, state.origin, state.anchor)
    action = target if phase not in RAMPS else _blend(state, target, previous, settings)
    new = ArbiterState(phase, state.ticks + 1, pending, state.origin, state.anchor)
    reason = sample.reason if sample is not None else ""
    return new, Command(action.astype(np.float32), phase, _controller(phase, person), event, reason)


def _wish(
    state: ArbiterState, person: OperatorSample | None, proposal: F32 | None, settings: ArbiterSettings
) -> tuple[Event, int]:
    """Return the event the inputs ask for, and the new count of contradicting ticks."""
    engaged = person is not None and person.engaged
    policy_lost = proposal is None or not np.isfinite(proposal).all()
    if engaged and person is not None and not person.finite:
        return Event.OPERATOR_LOST, 0
    if state.phase in DRIVEN_BY_PERSON:
        if person is None:
            return Event.OPERATOR_LOST, 0
        if engaged:
            return Event.NOTHING, 0
        pending = state.pending + 1
        if pending < settings.n_release:
            return Event.NOTHING, pending
        return (Event.POLICY_LOST if policy_lost else Event.RELEASE), 0
    pending = state.pending + 1 if engaged else 0
    if pending >= settings.n_engage:
        return Event.ENGAGE, 0
    return (Event.POLICY_LOST if policy_lost else Event.NOTHING), pending


def _target(
    state: ArbiterState,
    person: OperatorSample | None,
    proposal: F32 | None,
    previous: F32,
    settings: ArbiterSettings,
) -> F32:
    """Return the command of whoever drives in `state.phase`, before blending.  [A]"""
    if state.phase in DRIVEN_BY_PERSON and person is not None and person.engaged:
        if person.frame == "robot" or state.origin is None or state.anchor is None:
            return person.action
        command = person.action.astype(np.float32, copy=True)
        hand = settings.hand
        command[hand] = state.origin[hand] + (person.action[hand] - state.anchor[hand])
        return command
    if state.phase in (Phase.AUTONOMOUS, Phase.RETURNING) and proposal is not None:
        return proposal
    return hold_command(previous, settings)


def _reached(target: F32, previous: F32, settings: ArbiterSettings) -> bool:
    return bool((np.abs(target - previous) <= settings.max_step).all())


def _blend(state: ArbiterState, target: F32, previous: F32, settings: ArbiterSettings) -> F32:
    """Return origin + beta (target - origin), at most max_step away from the previous command.  [A]"""
    assert state.origin is not None
    beta = min(1.0, (state.ticks + 1) / (settings.n_ramp + 1))
    mixed = state.origin + beta * (target - state.origin)
    return np.clip(mixed, previous - settings.max_step, previous + settings.max_step)


def _controller(phase: Phase, person: OperatorSample | None) -> Controller:
    if phase == Phase.AUTONOMOUS:
        return Controller.POLICY
    if phase == Phase.HUMAN and person is not None and person.engaged:
        return Controller.HUMAN
    return Controller.HELD if phase == Phase.HELD else Controller.BLENDED
