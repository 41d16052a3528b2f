"""A hand's command is continuous whatever is asked of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.errors import ConfigError
from bora_cli.input.hand import HandMap, HandState, advance, toggled, towards
from bora_cli.input.synergies import Synergies
from bora_cli.profiles import load_profile

PROFILE = load_profile("sim")
NAMES = tuple(joint.name for joint in PROFILE.hand.joints)
LOW = np.array([joint.low for joint in PROFILE.hand.joints])
HIGH = np.array([joint.high for joint in PROFILE.hand.joints])
HAND = HandMap.build(NAMES, LOW, HIGH, PROFILE.postures, rate=3.0)
DT = 0.1
REACH = 3.0 * DT

any_number = st.floats(allow_nan=True, allow_infinity=True, width=32)
postures = st.lists(st.floats(0, 1), min_size=12, max_size=12).map(lambda v: LOW + np.array(v) * (HIGH - LOW))
asks = st.one_of(
    st.just("toggle"),
    st.sampled_from(["open", "close", "point", "release", "no such posture"]),
    st.lists(any_number, min_size=6, max_size=6),
    st.lists(any_number, min_size=12, max_size=12).map(np.array),
    st.none(),
)


def one_tick(state: HandState, ask: object) -> HandState:
    if isinstance(ask, str):
        state = toggled(state, HAND) if ask == "toggle" else towards(state, ask, HAND)
    if isinstance(ask, np.ndarray):
        return advance(state, HAND, DT, glove=ask)
    return advance(state, HAND, DT, axes=ask if isinstance(ask, list) else None)


@settings(max_examples=200)
@given(postures, st.lists(asks, max_size=30))
def test_the_largest_step_is_bounded(start: np.ndarray, order: list[object]) -> None:
    """Buttons, axes, a glove and nonsense, in any order: never more than rate * dt, never outside the limits."""
    state = HandState(start)
    for ask in order:
        before, state = state.command, one_tick(state, ask)
        assert np.abs(state.command - before).max() <= REACH + 1e-9
        assert (state.command >= LOW - 1e-9).all()
        assert (state.command <= HIGH + 1e-9).all()


@given(postures, st.integers(1, 20))
def test_a_hand_that_is_asked_nothing_does_not_move(start: np.ndarray, ticks: int) -> None:
    state = HandState(start)
    for _ in range(ticks):
        state = advance(state, HAND, DT, axes=np.zeros(6))
    np.testing.assert_array_equal(state.command, start)


@given(postures, postures, st.integers(1, 20))
def test_an_unmoving_glove_changes_nothing(start: np.ndarray, worn: np.ndarray, ticks: int) -> None:
    """However different the person's hand is from the robot's when it takes hold."""
    state = HandState(start)
    for _ in range(ticks):
        state = advance(state, HAND, DT, glove=worn)
    np.testing.assert_allclose(state.command, start, atol=1e-12)


def test_a_glove_moves_the_hand_by_as_much_as_it_moves() -> None:
    state = HandState(PROFILE_POSTURE := np.array(PROFILE.postures["open"]))
    worn = np.full(12, 0.4)
    state = advance(state, HAND, DT, glove=worn)
    state = advance(state, HAND, DT, glove=worn + 0.1)
    np.testing.assert_allclose(state.command, PROFILE_POSTURE + 0.1, atol=1e-12)


def test_after_a_posture_the_glove_goes_on_from_there() -> None:
    state, worn = towards(HandState(np.array(PROFILE.postures["open"])), "close", HAND), np.full(12, 0.4)
    for _ in range(20):
        state = advance(state, HAND, DT, glove=worn)
    np.testing.assert_array_equal(state.command, HAND.postures["close"])
    state = advance(state, HAND, DT, glove=worn + 0.05)
    np.testing.assert_allclose(state.command, HAND.postures["close"] + 0.05, atol=1e-12)


@given(postures)
def test_all_joints_arrive_at_a_posture_together(start: np.ndarray) -> None:
    state, goal = towards(HandState(start), "close", HAND), HAND.postures["close"]
    way = goal - start
    needed = int(np.ceil(np.abs(way).max() / REACH - 1e-9))
    for tick in range(1, needed + 1):
        state = advance(state, HAND, DT)
        np.testing.assert_allclose(
            state.command, start + way * min(1.0, tick * REACH / max(np.abs(way).max(), 1e-12))
        )
    np.testing.assert_allclose(state.command, goal)


def test_the_grip_button_closes_then_opens() -> None:
    state = toggled(HandState(np.array(PROFILE.postures["open"])), HAND)
    assert state.goal == "close"
    assert toggled(state, HAND).goal == "open"
    assert toggled(HandState(np.array(PROFILE.postures["close"])), HAND).goal == "open"


def test_without_those_postures_the_grip_button_does_nothing() -> None:
    hand = HandMap.build(NAMES, LOW, HIGH, {"a": LOW, "b": HIGH}, rate=3.0)
    assert toggled(HandState(LOW), hand) == HandState(LOW)


def test_an_axis_drops_the_goal_and_moves_along_its_synergy() -> None:
    start = (LOW + HIGH) / 2
    state = advance(towards(HandState(start), "close", HAND), HAND, DT, axes=[0, 0.5, 0, 0, 0, 0])
    assert state.goal == ""
    moved = state.command - start
    along = HAND.synergies.directions[1]
    np.testing.assert_allclose(moved, (moved @ along) * along, atol=1e-12)
    assert moved @ along > 0


def test_a_command_outside_the_limits_only_moves_inwards() -> None:
    state = HandState(HIGH + 0.5)
    after = advance(state, HAND, DT, axes=[1, 1, 1, 1, 1, 1]).command
    assert (after <= HIGH + 0.5 + 1e-12).all()


def test_synergies_of_another_hand_are_refused() -> None:
    other = Synergies(("a", "b"), np.zeros(2), np.eye(2), np.ones(2), 1.0)
    with pytest.raises(
        ConfigError, match=r"synergies are of the joints a, b; the hand has thumb_yaw.*bora hand fit"
    ):
        HandMap.build(NAMES, LOW, HIGH, PROFILE.postures, 3.0, other)
    with pytest.raises(ConfigError, match="rate of 0"):
        HandMap.build(NAMES, LOW, HIGH, PROFILE.postures, 0.0)
    with pytest.raises(ConfigError, match="Posture bad is not 12 finite angles"):
        HandMap.build(NAMES, LOW, HIGH, {"bad": np.full(12, np.nan)}, 3.0, HAND.synergies)
