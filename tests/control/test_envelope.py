"""Laws of the complete envelope: whatever comes in, no limit is left; and a robot inside it still gets somewhere."""

from __future__ import annotations

import os
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from robot_worlds import DOWN, FRANKA, MIDDLE, PROFILE, commands, drive

from bora_cli.control.envelope import Envelope, MotionState, Wish, advance, begin, wish_of
from bora_cli.control.motion import Dynamics, brake_for, share_of_box, share_of_dynamics, towards
from bora_cli.errors import ConfigError
from bora_cli.profiles import load_profile
from bora_cli.robot.frames import matrix_of, orthonormal, quaternion_of, rotation_of, vector_of

NIGHTLY = os.environ.get("BORA_NIGHTLY") == "1"
HAND = FRANKA.low[6:]
LIMITS = {
    "franka": FRANKA,
    "no motion limits": Envelope.from_profile(load_profile("sim")),
    "jerk only": replace(FRANKA, translation=Dynamics(0.015, np.inf, 0.002), rotation=Dynamics(0.06, 0.02)),
    "a crawl": replace(FRANKA, translation=Dynamics(0.015, 0.001, 0.0005), soft_start=0),
    "a thin box": replace(
        FRANKA, box_low=MIDDLE - np.array([0.1, 0.1, 0.16]), box_high=MIDDLE + np.array([0.1, 0.1, 0.05])
    ),
}


def quiet(
    step: tuple[float, float, float] = (0.0, 0.0, 0.0), turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Wish:
    return Wish(np.array(step), np.array(turn), HAND.copy(), np.array(False))


def start(envelope: Envelope = FRANKA) -> MotionState:
    return begin(envelope, MIDDLE, DOWN, envelope.low[6:])


def run(
    wish: Wish, ticks: int, envelope: Envelope = FRANKA, state: MotionState | None = None
) -> list[MotionState]:
    states = [start(envelope) if state is None else state]
    for _ in range(ticks):
        states.append(advance(envelope, states[-1], wish)[0])
    return states


@pytest.mark.parametrize("name", LIMITS)
def test_no_command_leads_outside(name: str) -> None:
    """Under BORA_NIGHTLY=1 the franka's limits meet a million commands."""
    envelope = LIMITS[name]
    robots, ticks = (10_000, 100) if NIGHTLY and name == "franka" else (60, 50)
    verdict = drive(envelope, robots, ticks, np.random.default_rng(7))
    assert verdict.commands == robots * ticks
    assert not any(verdict.outside.values()), verdict.outside
    assert verdict.moved > 0.001 * verdict.commands * envelope.translation.speed
    assert verdict.turned > 0.001 * verdict.commands * envelope.rotation.speed


numbers = st.floats(width=64, allow_nan=True, allow_infinity=True)


@settings(max_examples=60, deadline=None)
@given(rows=arrays(np.float64, (6, len(FRANKA.low)), elements=numbers | st.floats(-0.1, 0.1)))
def test_any_numbers_at_all_are_survived(rows: np.ndarray) -> None:
    state = run(quiet((0.01, 0.0, -0.01)), 12)[-1]
    for row in rows:
        wish = Wish(row[:3], row[3:6], row[6:], np.array(False))
        state, _ = advance(FRANKA, state, wish)
        assert FRANKA.trespass(state.position, state.rotation) == ""
        assert np.linalg.norm(state.past[1]) <= FRANKA.translation.speed + 1e-9


def test_one_robot_moves_as_many_do() -> None:
    rng = np.random.default_rng(3)
    rows = [commands(FRANKA, 4, rng) for _ in range(30)]
    together = begin(FRANKA, np.tile(MIDDLE, (4, 1)), np.tile(DOWN, (4, 1, 1)), np.tile(HAND, (4, 1)))
    alone = start()
    for wish in rows:
        together, _ = advance(FRANKA, together, wish)
        alone, _ = advance(FRANKA, alone, Wish(wish.step[2], wish.turn[2], wish.hand[2], wish.hold[2]))
    np.testing.assert_allclose(together.position[2], alone.position, atol=1e-12)
    np.testing.assert_allclose(together.rotation[2], alone.rotation, atol=1e-12)


def test_it_reaches_full_speed_and_stays_there() -> None:
    envelope = replace(FRANKA, soft_start=0)
    speeds = [np.linalg.norm(s.past[1]) for s in run(quiet((0.012, 0.0, 0.0)), 12, envelope)]
    assert speeds[4] == pytest.approx(0.012, rel=1e-6)
    assert speeds[-1] == pytest.approx(0.012, rel=1e-6)


def test_a_soft_start_takes_its_time() -> None:
    speeds = [np.linalg.norm(s.past[1]) for s in run(quiet((0.012, 0.0, 0.0)), 12)]
    assert speeds[5] <= 0.5 * FRANKA.translation.speed + 1e-12
    assert (np.diff(speeds) >= -1e-12).all()
    assert speeds[-1] == pytest.approx(0.012, rel=1e-6)


@pytest.mark.parametrize("why", ["hold", "nan"])
def test_it_brakes_to_rest_then_starts_softly_again(why: str) -> None:
    moving = run(quiet((0.012, 0.0, 0.0), (0.0, 0.0, 0.04)), 15)[-1]
    assert moving.past[1].any()
    stop = replace(quiet(), hold=np.array(True)) if why == "hold" else quiet((np.nan, 0.0, 0.0))
    state, changed = advance(FRANKA, moving, stop)
    assert changed["stopping"]
    assert np.array_equal(state.hand, moving.hand)
    speeds = [np.linalg.norm(moving.past[1]), np.linalg.norm(state.past[1])]
    while changed["stopping"]:  # whatever is wanted now is not heard before it rests
        state, changed = advance(FRANKA, state, quiet((0.012, 0.0, 0.0)))
        speeds.append(np.linalg.norm(state.past[1]))
    assert len(speeds) <= FRANKA.ticks + 1
    assert (np.diff(speeds[:-1]) < 0).all()
    assert 0 < speeds[-1] <= 0.1 * FRANKA.translation.speed + 1e-12


def test_it_slides_along_a_wall() -> None:
    state = run(quiet((0.008, 0.008, 0.0)), 80, replace(FRANKA, soft_start=0))[-1]
    assert state.position[0] == pytest.approx(FRANKA.box_high[0], abs=1e-3)
    assert state.position[1] == pytest.approx(FRANKA.box_high[1], abs=1e-3)


def test_fingertips_stop_above_the_table() -> None:
    state = run(quiet((0.0, 0.0, -0.012)), 80)[-1]
    lowest = (state.position + FRANKA.tips @ state.rotation.T)[:, 2].min()
    assert FRANKA.tip_low[2] - 1e-9 <= lowest <= FRANKA.tip_low[2] + 2e-3


def test_a_turn_that_would_push_the_fingertips_into_the_table_is_refused() -> None:
    low = run(quiet((0.0, 0.0, -0.012)), 80)[-1]
    after = run(quiet((0.0, 0.0, 0.0), (0.05, 0.0, 0.0)), 30, state=low)
    lowest = min((s.position + FRANKA.tips @ s.rotation.T)[:, 2].min() for s in after)
    assert lowest >= FRANKA.tip_low[2] - 1e-9


def test_the_cone_is_reached_and_kept() -> None:
    state = run(quiet((0.0, 0.0, 0.0), (0.05, 0.0, 0.0)), 120)[-1]
    angle = np.arccos(state.rotation[:, 2] @ FRANKA.cone_axis)
    assert FRANKA.cone_angle - 0.06 <= angle <= FRANKA.cone_angle + 1e-9


def test_the_leash_is_kept_behind_a_blocked_arm() -> None:
    state = start()
    for _ in range(40):
        state, _ = advance(FRANKA, state, quiet((0.012, 0.0, 0.0)), measured=MIDDLE)
    assert np.linalg.norm(state.position - MIDDLE) <= FRANKA.leash + 1e-9
    assert np.linalg.norm(state.position - MIDDLE) >= 0.8 * FRANKA.leash


def test_a_slow_joint_moves_at_its_own_rate() -> None:
    joints = list(PROFILE.hand.joints)
    joints[2] = joints[2].model_copy(update={"rate": 0.5})
    hand = PROFILE.hand.model_copy(update={"joints": tuple(joints)})
    envelope = Envelope.from_profile(PROFILE.model_copy(update={"hand": hand}))
    assert envelope.hand_rate[2] == pytest.approx(0.05)
    assert envelope.hand_rate[1] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("position", "turn", "says"),
    [
        ((0.1, 0.0, 0.3), 0.0, "tool at 0.100 0.000 0.300 m, box 0.300 -0.300 0.050 to"),
        ((0.48, 0.0, 0.25), 1.2, "tool axis 1.2 rad off the cone's axis, cone 1.05 rad"),
        ((0.48, 0.0, 0.051), 0.3, "m in z, allowed 0.01 to 0.6 m"),
    ],
)
def test_a_pose_outside_is_named(position: tuple[float, ...], turn: float, says: str) -> None:
    assert says in FRANKA.trespass(np.array(position), rotation_of([turn, 0, 0]) @ DOWN)


def test_from_outside_it_only_moves_inwards() -> None:
    outside = begin(FRANKA, np.array([0.70, 0.0, 0.3]), DOWN, HAND)
    out = run(quiet((0.012, 0.0, 0.0)), 20, state=outside)
    assert max(s.position[0] for s in out) <= 0.70 + 1e-9
    back = run(quiet((-0.012, 0.0, 0.0)), 30, state=outside)
    assert back[-1].position[0] < FRANKA.box_high[0]


def test_limits_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("need more than 60 ticks to stop from 0.1 per tick")):
        brake_for(Dynamics(0.1, 1e-5, 1e-6))
    with pytest.raises(ConfigError, match=re.escape("Motion limit jerk is 0.0; expected a positive number")):
        Dynamics(0.1, 1.0, 0.0)
    with pytest.raises(ConfigError, match="is empty in some direction"):
        replace(FRANKA, box_low=FRANKA.box_high)


def test_an_action_outside_its_range_is_cut_and_nonsense_holds() -> None:
    for row, stops in ((np.full(18, 1e300), False), (np.full(18, np.inf), True)):
        state, changed = advance(FRANKA, start(), wish_of(row))
        assert changed["stopping"] == stops
        assert np.isfinite(state.position).all()


# ------------------------------------------------------------------------------------------------- mathematics

vectors = arrays(np.float64, (5, 3), elements=st.floats(-1, 1))


@given(safe=vectors, wanted=vectors, past=arrays(np.float64, (2, 3), elements=st.floats(-1, 1)))
def test_the_share_is_the_largest_that_keeps_the_limits(
    safe: np.ndarray, wanted: np.ndarray, past: np.ndarray
) -> None:
    limits = Dynamics(0.5, 0.4, 0.3)

    def excess(t: float) -> float:
        steps = np.concatenate([past, safe + t * (wanted - safe), np.zeros((2, 3))])
        own = np.concatenate([past, safe, np.zeros((2, 3))])
        worst = 0.0
        for order, limit in enumerate((limits.speed, limits.acceleration, limits.jerk)):
            part = slice(2, -2) if order == 0 else slice(None)
            rows, was = (np.linalg.norm(np.diff(x[part], order, axis=0), axis=1) for x in (steps, own))
            start = 0 if order == 0 else 2 - order
            worst = max(worst, float((rows - np.maximum(limit, was))[start:].max()))
        return worst

    t = float(share_of_dynamics(safe, wanted, past, limits, np.array(limits.speed)))
    assert excess(t) <= 1e-7
    if t < 1 - 1e-6 and np.abs(wanted - safe).max() > 1e-3:
        assert excess(min(1.0, t + 1e-3)) > -1e-4


@given(safe=vectors, wanted=vectors)
def test_the_share_of_a_box_keeps_it(safe: np.ndarray, wanted: np.ndarray) -> None:
    low, high = np.full(3, -0.5), np.full(3, 0.5)
    t = share_of_box(safe, wanted, low, high)
    points = safe + t * (wanted - safe)
    assert (points >= np.minimum(low, safe) - 1e-12).all()
    assert (points <= np.maximum(high, safe) + 1e-12).all()


@given(speed=st.floats(1e-3, 1.0), share=st.floats(0.05, 2.0), jerk=st.floats(0.05, 2.0))
def test_a_brake_ends_at_rest_within_the_limits(speed: float, share: float, jerk: float) -> None:
    limits = Dynamics(speed, share * speed, jerk * speed)
    brake = brake_for(limits)
    steps = np.concatenate([[speed, speed], brake.table @ [speed, speed], [0.0, 0.0]])
    assert abs(steps[-3]) < 1e-9
    assert np.abs(np.diff(steps)).max() <= limits.acceleration + 1e-12
    assert np.abs(np.diff(steps, 2)).max() <= limits.jerk + 1e-12


def test_towards_makes_the_wish_where_nothing_forbids_it() -> None:
    limits = Dynamics(1.0)
    plan = towards(np.array([0.3, 0.0, 0.0]), np.zeros((2, 3)), limits, brake_for(limits), 2)
    assert plan.tolist() == [[0.3, 0.0, 0.0], [0.0, 0.0, 0.0]]


@given(arrays(np.float64, 3, elements=st.floats(-1.7, 1.7)))
def test_rotations_there_and_back(vector: np.ndarray) -> None:
    rotation = rotation_of(vector)
    np.testing.assert_allclose(vector_of(rotation), vector, atol=1e-6)
    np.testing.assert_allclose(matrix_of(quaternion_of(rotation)), rotation, atol=1e-6)
    np.testing.assert_allclose(orthonormal(rotation + 1e-9), rotation, atol=1e-8)


def test_half_turns_have_a_vector() -> None:
    for axis in np.eye(3):
        assert np.linalg.norm(vector_of(rotation_of(np.pi * axis))) == pytest.approx(np.pi)
    assert vector_of(np.eye(3)).tolist() == [0.0, 0.0, 0.0]
