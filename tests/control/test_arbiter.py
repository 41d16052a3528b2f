"""Laws of the arbiter: the table, the ramps, and no jump at any edge."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.control.arbiter import (
    RAMPS,
    TRANSITIONS,
    ArbiterSettings,
    ArbiterState,
    Command,
    Event,
    Phase,
    arbitrate,
    hold_command,
)
from bora_cli.errors import ConfigError
from bora_cli.input.operator import OperatorSample
from bora_cli.profiles import load_profile
from bora_cli.types import F32, Controller

SPEC = load_profile("sim").action_spec
SETTINGS = ArbiterSettings.for_spec(SPEC, load_profile("sim").takeover_step)
HAND = SPEC.slice("hand")
SLACK = 1e-6


def row(fraction: float) -> F32:
    """An action at `fraction` (-1..1) of every range, [18]."""
    return (SPEC.center + fraction * SPEC.half_range).astype(np.float32)


def person(fraction: float, engaged: bool = True, t: float = 0.0, frame: str = "robot") -> OperatorSample:
    return OperatorSample(row(fraction), engaged, t, frame=frame)  # type: ignore[arg-type]


def run(
    ticks: list[tuple[F32 | None, OperatorSample | None]], settings: ArbiterSettings = SETTINGS
) -> list[Command]:
    state, previous, commands = ArbiterState(), row(0.0), []
    for proposal, sample in ticks:
        state, command = arbitrate(
            state, proposal=proposal, sample=sample, previous=previous, now=0.0, settings=settings
        )
        previous = command.action
        commands.append(command)
    return commands


def phases(commands: list[Command]) -> str:
    return " ".join(c.phase.name for c in commands)


def test_table_is_complete() -> None:
    """Every listed pair leads elsewhere, and nothing but a person leads out of HELD."""
    assert all(old != new for (old, _), new in TRANSITIONS.items())
    assert {event for (old, event) in TRANSITIONS if old == Phase.HELD} == {Event.ENGAGE}
    assert {old for (old, event) in TRANSITIONS if event == Event.OPERATOR_LOST} == set(Phase) - {Phase.HELD}
    assert {old for (old, event) in TRANSITIONS if event == Event.SETTLED} == set(RAMPS)


def test_without_a_person_the_policy_passes_unchanged() -> None:
    proposals = [row(x) for x in (0.9, -0.9, 0.3)]
    commands = run([(p, None) for p in proposals])
    assert all(np.array_equal(c.action, p) for c, p in zip(commands, proposals, strict=True))
    assert {c.controller for c in commands} == {Controller.POLICY}


def test_takeover_and_return_take_the_ramp() -> None:
    there = [(row(0.1), person(0.1))] * 5
    back = [(row(0.1), person(0.1, engaged=False))] * 6
    commands = run([(row(0.1), None), *there, *back])
    assert phases(commands) == (
        "AUTONOMOUS TAKING TAKING HUMAN HUMAN HUMAN HUMAN"
        " RETURNING RETURNING AUTONOMOUS AUTONOMOUS AUTONOMOUS"
    )
    assert [c.event for c in commands if c.event] == [
        Event.ENGAGE,
        Event.SETTLED,
        Event.RELEASE,
        Event.SETTLED,
    ]
    assert commands[4].controller == Controller.HUMAN
    assert commands[2].controller == Controller.BLENDED


def test_blend_is_linear_in_the_command() -> None:
    big = ArbiterSettings.for_spec(SPEC, 10 * SPEC.half_range, n_ramp=3)
    commands = run([(row(0.0), person(0.8))] * 4, big)
    assert [float(c.action[0] / SPEC.half_range[0]) for c in commands] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_one_tick_of_let_go_stops_but_does_not_return() -> None:
    commands = run([(row(0.0), person(0.1))] * 4 + [(row(0.0), person(0.1, False)), (row(0.0), person(0.1))])
    assert phases(commands).endswith("HUMAN HUMAN HUMAN HUMAN")
    assert np.array_equal(commands[4].action[:6], np.zeros(6))
    assert commands[4].controller == Controller.BLENDED


def test_engagement_can_ask_for_several_ticks() -> None:
    patient = ArbiterSettings.for_spec(SPEC, n_engage=3)
    flicker = [(row(0.0), person(0.1, engaged)) for engaged in (True, True, False, True, True, True)]
    assert phases(run(flicker, patient)) == " ".join(["AUTONOMOUS"] * 5 + ["TAKING"])


@pytest.mark.parametrize("frame", ["robot", "operator"])
def test_an_unmoving_person_changes_nothing(frame: str) -> None:
    """The hand keeps its last command bit for bit; the arm slows down to rest without turning round."""
    resting = row(0.4) if frame == "operator" else hold_command(row(0.2), SETTINGS)
    resting[:6] = 0.0
    sample = OperatorSample(resting, True, 0.0, frame=frame)  # type: ignore[arg-type]
    before = row(0.2)
    state, previous = ArbiterState(), before
    for _ in range(8):
        state, command = arbitrate(
            state, proposal=row(-0.9), sample=sample, previous=previous, now=0.0, settings=SETTINGS
        )
        assert np.array_equal(command.action[HAND], before[HAND])
        assert (np.abs(command.action[:6]) <= np.abs(previous[:6]) + SLACK).all()
        assert (command.action[:6] * before[:6] >= -SLACK).all()
        previous = command.action
    assert command.phase == Phase.HUMAN
    assert np.array_equal(command.action[:6], np.zeros(6))


def test_only_the_change_of_an_operators_own_hand_counts() -> None:
    start, moved = person(0.6, frame="operator"), row(0.6)
    moved[HAND] += 0.05
    ticks = [(row(0.0), start)] * 3 + [(row(0.0), OperatorSample(moved, True, 0.0, frame="operator"))]
    commands = run(ticks)
    assert commands[-1].phase == Phase.HUMAN
    assert np.allclose(commands[-1].action[HAND], row(0.0)[HAND] + 0.05, atol=1e-6)


@pytest.mark.parametrize(
    "lost", [None, OperatorSample(row(0.1), True, -9.0), OperatorSample(row(np.nan), True, 0.0)]
)
def test_a_lost_person_holds_until_someone_engages(lost: OperatorSample | None) -> None:
    ticks = (
        [(row(0.5), person(0.1))] * 4
        + [(row(0.5), lost)] * 3
        + [(row(0.5), None)] * 3
        + [(row(0.5), person(0.1))]
    )
    commands = run(ticks)
    held = commands[4:10]
    assert {c.phase for c in held} == {Phase.HELD}
    assert all(np.array_equal(c.action[:6], np.zeros(6)) for c in held)
    assert all(np.array_equal(c.action[HAND], commands[3].action[HAND]) for c in held)
    assert commands[4].event == Event.OPERATOR_LOST
    assert commands[10].phase == Phase.TAKING


@pytest.mark.parametrize("proposal", [None, row(np.nan), row(np.inf)])
def test_a_lost_policy_holds(proposal: F32 | None) -> None:
    commands = run([(row(0.5), None), (proposal, None), (row(0.5), None)])
    assert phases(commands) == "AUTONOMOUS HELD HELD"
    assert commands[1].event == Event.POLICY_LOST
    assert np.isfinite(commands[1].action).all()


def test_a_lost_policy_does_not_disturb_a_driving_person() -> None:
    driven = [(row(0.1), person(0.1))] * 4
    assert phases(run(driven + [(None, person(0.1))] * 2)).endswith("HUMAN HUMAN HUMAN")


@pytest.mark.parametrize("proposal", [None, row(np.nan)])
@pytest.mark.parametrize("driven", [1, 5])
def test_letting_go_to_a_lost_policy_holds(proposal: F32 | None, driven: int) -> None:
    ticks = [(row(0.1), person(0.1))] * driven + [(proposal, person(0.1, engaged=False))] * 2
    commands = run(ticks)
    assert commands[-1].phase == Phase.HELD
    assert np.isfinite(commands[-1].action).all()


fractions = st.floats(-1.0, 1.0, width=32)
samples = st.one_of(
    st.none(),
    st.builds(
        lambda x, engaged, old, frame: person(x, engaged, -1.0 if old else 0.0, frame),
        fractions,
        st.booleans(),
        st.sampled_from([False, False, False, False, True]),
        st.sampled_from(["robot", "operator"]),
    ),
)
proposals = st.one_of(st.none(), fractions.map(row), fractions.map(row), st.just(row(np.nan)))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(proposals, samples), min_size=1, max_size=25),
    st.integers(0, 4),
    st.integers(1, 3),
    st.integers(1, 3),
)
def test_no_jump_where_control_changes_hands(
    ticks: list[tuple[F32 | None, OperatorSample | None]], n_ramp: int, n_engage: int, n_release: int
) -> None:
    settings = ArbiterSettings.for_spec(
        SPEC, SETTINGS.max_step, n_ramp=n_ramp, n_engage=n_engage, n_release=n_release
    )
    before = Command(row(0.0), Phase.AUTONOMOUS, Controller.POLICY)
    for command in run(ticks, settings):
        assert np.isfinite(command.action).all()
        if command.phase == Phase.HELD:
            assert np.array_equal(command.action, hold_command(before.action, settings))
        elif command.phase in RAMPS or command.phase != before.phase:
            assert (np.abs(command.action - before.action) <= settings.max_step + SLACK).all()
        before = command


@given(st.lists(st.tuples(proposals, samples), min_size=1, max_size=25))
def test_it_is_a_pure_function(ticks: list[tuple[F32 | None, OperatorSample | None]]) -> None:
    first, second = run(ticks), run(ticks)
    assert phases(first) == phases(second)
    assert all(np.array_equal(a.action, b.action) for a, b in zip(first, second, strict=True))


@given(st.lists(samples, min_size=1, max_size=25))
def test_a_person_drives_only_while_engaged(taken: list[OperatorSample | None]) -> None:
    commands = run([(row(0.0), sample) for sample in taken])
    for command, sample in zip(commands, taken, strict=True):
        if command.controller == Controller.HUMAN:
            assert sample is not None
            assert sample.engaged


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n_release": 0}, "n_release 0"),
        ({"n_ramp": -1}, "n_ramp -1"),
        ({"max_step": np.zeros(18, np.float32)}, "expected positive numbers"),
        ({"max_step": np.ones(3, np.float32)}, "shape (3,); expected (18,)"),
    ],
)
def test_senseless_settings_are_refused(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        ArbiterSettings.for_spec(SPEC, **arguments)  # type: ignore[arg-type]
