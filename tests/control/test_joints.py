"""Limits of the arm's joints: no command leads out of them, and what is only measured is braked in time."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from robot_worlds import FRANKA, MIDDLE, at_rest, commands

from bora_cli.control.envelope import MotionState, Wish, advance, begin
from bora_cli.control.flight import FlightRecorder
from bora_cli.control.guard import GuardedRobot, Watchdogs
from bora_cli.control.joints import SERVO, ArmLimits, Watch, advance_within, ticks_to_rest
from bora_cli.errors import LimitViolation, RobotFault
from bora_cli.robot.frames import rotation_of, vector_of
from bora_cli.robot.protocol import Reading, Target
from robot_fakes import DOWN, OPEN, FakeClock, FakeRobot

NIGHTLY = os.environ.get("BORA_NIGHTLY") == "1"
CREPT = SERVO + 0.06
"""How far out an arm may come that is only measured: what is put down to its servo, a first step, and its stop."""
SHOULDER = np.array([0.0, 0.0, 0.3])
NAMES = ("swing", "lift", "reach", "wrist_x", "wrist_y", "wrist_z")


def joints_of(position: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return joints [..., 6] of an arm that swings, lifts and reaches, with a wrist of three; exact, without memory."""
    way = position - SHOULDER
    level = np.linalg.norm(way[..., :2], axis=-1)
    arm = [np.arctan2(way[..., 1], way[..., 0]), np.arctan2(way[..., 2], level), np.linalg.norm(way, axis=-1)]
    return np.concatenate([np.stack(arm, axis=-1), vector_of(rotation @ DOWN.T)], axis=-1)


def limits(tight: float = 0.0) -> ArmLimits:
    """Return limits inside of what the envelope allows, in every joint; tight: m and rad that they are closer."""
    low = np.array([-0.4, -0.5, 0.4, -0.5, -0.45, -0.6]) + tight
    high = np.array([0.45, 0.3, 0.62, 0.5, 0.5, 0.4]) - tight
    return ArmLimits(NAMES, low, high, np.array([0.02, 0.02, 0.012, 0.05, 0.05, 0.03]), 0.1)


def outside(state: MotionState, within: ArmLimits) -> np.ndarray:
    joints = joints_of(state.position, state.rotation)
    return ((joints < within.low - 1e-9) | (joints > within.high + 1e-9)).any(axis=-1)


def inside(count: int, within: ArmLimits, rng: np.random.Generator) -> MotionState:
    """Return robots at rest that keep the limits of their joints."""
    state = at_rest(FRANKA, 40 * count, rng)
    keep = np.flatnonzero(~outside(state, within))[:count]
    assert len(keep) == count
    return begin(FRANKA, state.position[keep], state.rotation[keep], state.hand[keep])


def test_no_command_leads_out_of_the_joints() -> None:
    """Under BORA_NIGHTLY=1 a million commands; the joints are computed from poses alone."""
    robots, ticks = (10_000, 100) if NIGHTLY else (60, 60)
    within, rng = limits(), np.random.default_rng(11)
    state = inside(robots, within, rng)
    wish, turned_down, moved, bad, fast = commands(FRANKA, robots, rng), 0, 0.0, 0, 0

    for tick in range(ticks):
        fresh = commands(FRANKA, robots, rng)
        new = (rng.random(robots) < 1 / 6)[:, None] | (tick == 0)
        wish = Wish(
            *(np.where(new, getattr(fresh, k), getattr(wish, k)) for k in ("step", "turn", "hand")),
            fresh.hold,
        )
        before, now = state, joints_of(state.position, state.rotation)

        def along(positions: np.ndarray, rotations: np.ndarray, now: np.ndarray = now) -> np.ndarray:
            return np.concatenate([now[:, None], joints_of(positions, rotations)], axis=1)

        measured = state.position + rng.uniform(-1, 1, (robots, 3)) * FRANKA.leash
        state, changed = advance_within(FRANKA, state, wish, measured, within, along)
        bad += int(outside(state, within).sum())
        step = np.abs(joints_of(state.position, state.rotation) - now)
        fast += int((step > within.rate + 1e-9).any(axis=-1).sum())
        turned_down += int(changed["arm joints"].sum())
        moved += float(np.linalg.norm(state.position - before.position, axis=-1).sum())
        assert not [
            text
            for i in range(0, robots, 17)
            if (text := FRANKA.trespass(state.position[i], state.rotation[i]))
        ]
    assert (bad, fast) == (0, 0)
    assert turned_down > 0.02 * robots * ticks  # the limits were met
    assert moved > 0.002 * robots * ticks * FRANKA.translation.speed


def drive(within: ArmLimits, wish: Wish, ticks: int) -> list[MotionState]:
    """Return where one robot goes."""
    states = [begin(FRANKA, MIDDLE, DOWN, FRANKA.low[6:])]

    def along(positions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        now = joints_of(states[-1].position, states[-1].rotation)
        return np.concatenate([now[None], joints_of(positions, rotations)])

    for _ in range(ticks):
        states.append(advance_within(FRANKA, states[-1], wish, None, within, along)[0])
    return states


def quiet(step: tuple[float, ...] = (0.0, 0.0, 0.0), turn: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Wish:
    return Wish(np.array(step), np.array(turn), FRANKA.low[6:].copy(), np.array(False))


def test_it_goes_near_the_end_of_a_joint_and_back() -> None:
    within = limits()
    out = drive(within, quiet((0.0, 0.012, 0.0)), 90)
    swing = joints_of(out[-1].position, out[-1].rotation)[0]
    assert 0.9 * within.high[0] < swing <= within.high[0]
    assert out[-1].position[1] > out[20].position[1]


def test_where_the_wrist_is_at_its_end_the_tool_still_moves() -> None:
    within = limits()
    out = drive(within, quiet((0.0, -0.008, 0.0), (0.0, 0.0, 0.05)), 50)
    wrist = joints_of(out[-1].position, out[-1].rotation)[5]
    assert wrist <= within.high[5]
    assert out[-1].position[1] < MIDDLE[1] - 0.1


@pytest.mark.parametrize("what", ["step", "turn"])
def test_what_is_no_number_holds_also_where_a_joint_is_at_its_end(what: str) -> None:
    """A part that is refused must not take the nonsense of the other part with it."""
    nothing = limits(tight=1.0)  # which no way keeps
    wish = replace(quiet((0.01, 0.0, 0.0), (0.0, 0.0, 0.02)), **{what: np.full(3, np.nan)})
    state = begin(FRANKA, MIDDLE, DOWN, FRANKA.low[6:])
    new, changed = advance_within(
        FRANKA,
        state,
        wish,
        None,
        nothing,
        lambda p, r: joints_of(np.concatenate([p[:1], p]), np.concatenate([r[:1], r])),
    )
    assert changed["stopping"]
    assert np.array_equal(new.position, MIDDLE)


def test_a_way_that_the_arm_cannot_follow_is_not_gone() -> None:
    state = begin(FRANKA, MIDDLE, DOWN, FRANKA.low[6:])
    new, changed = advance_within(
        FRANKA, state, quiet((0.01, 0.0, 0.0)), None, limits(), lambda p, r: np.full((1 + len(p), 6), np.nan)
    )
    assert changed["arm joints"]
    assert np.array_equal(new.position, MIDDLE)


def test_where_no_joint_is_near_its_end_nothing_changes() -> None:
    wide = ArmLimits(NAMES, np.full(6, -9.0), np.full(6, 9.0), np.full(6, 9.0), 0.1)
    state = begin(FRANKA, MIDDLE, DOWN, FRANKA.low[6:])
    wish = quiet((0.006, 0.0, 0.002), (0.01, 0.0, 0.0))
    for one in drive(wide, wish, 12)[1:]:
        state, _ = advance(FRANKA, state, wish)
        assert np.array_equal(one.position, state.position)
        assert np.array_equal(one.rotation, state.rotation)


# ------------------------------------------------------------------------------------------------- on a robot


@dataclass
class Measured(FakeRobot):
    """The fake robot on an arm whose joints are measured; `off` is what it measures too much."""

    off: np.ndarray = field(default_factory=lambda: np.zeros(6))
    tells: bool = True

    def observe(self, images: bool = True) -> Reading:
        reading = super().observe(images)
        joints = joints_of(self.at.position, self.at.rotation) + self.off
        return replace(reading, arm=joints if self.tells else None)


class Foresighted(Measured):
    """One that can also say where they are going to be."""

    def arm_along(self, positions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        now = joints_of(self.at.position, self.at.rotation)
        return np.concatenate([now[None], joints_of(positions, rotations)])


class Rig:
    """A guarded robot with limits on the joints of its arm, and its clock."""

    def __init__(self, kind: type[Measured], within: ArmLimits, flights: Path | None = None) -> None:
        self.clock = FakeClock()
        self.robot = kind(self.clock)
        watchdogs = Watchdogs(0.2, 0.2, 0.3)
        recorder = None if flights is None else FlightRecorder(flights, clock=self.clock)
        self.guarded = GuardedRobot(
            self.robot, FRANKA, watchdogs, arm=within, clock=self.clock, recorder=recorder
        )

    def go(self, position: np.ndarray, rotation: np.ndarray = DOWN) -> Target:
        self.clock.t += 0.1
        self.guarded.observe()
        return self.guarded.command(Target(position, rotation, OPEN), deadline=self.clock.t + 0.2)

    @property
    def joints(self) -> np.ndarray:
        return joints_of(self.robot.at.position, self.robot.at.rotation)


@settings(max_examples=16, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.sampled_from([Measured, Foresighted]))
def test_every_target_that_is_sent_keeps_the_joints(seed: int, kind: type[Measured]) -> None:
    within, rng = limits(), np.random.default_rng(seed)
    generous = replace(within, rate=10 * within.rate)
    rig = Rig(kind, generous if kind is Measured else within)
    rig.guarded.reset()
    for _ in range(4):
        goal = MIDDLE + rng.uniform(-0.4, 0.4, 3)
        turned = rotation_of(rng.uniform(-1.5, 1.5, 3)) @ DOWN
        for _ in range(12):
            rig.go(goal, turned)
            over = np.maximum(within.low - rig.joints, rig.joints - within.high).max()
            assert over <= (CREPT if kind is Measured else 1e-9)


def test_an_arm_that_is_only_measured_brakes_in_time() -> None:
    within = replace(limits(), rate=np.full(6, 1.0))
    rig = Rig(Measured, within)
    rig.guarded.reset()
    far, said = MIDDLE + np.array([0.0, 0.3, 0.0]), []
    for _ in range(60):
        rig.go(far)
        said += [text for text in rig.guarded.changed if text.startswith("hold")]
        assert rig.joints[0] <= within.high[0] + CREPT
    assert said[0].startswith("hold: too fast to stop in time: arm joint swing at 0.4")
    assert rig.joints[0] > 0.8 * within.high[0]


def test_an_arm_that_was_braked_stays_there_however_long_somebody_pushes(tmp_path: Path) -> None:
    """It is stopped, and written down, once; it may go sideways, and the way is open again once the joint came back."""
    rig = Rig(Measured, replace(limits(), rate=np.full(6, 1.0)), tmp_path)
    rig.guarded.reset()
    far, ends = np.array([0.0, 0.3, 0.0]), []
    for _ in range(2):
        for _ in range(60):
            rig.go(MIDDLE + far)
        ends.append(rig.joints[0])
        assert rig.guarded.changed == ("arm joints",) or "motion limits" in rig.guarded.changed
        before = rig.robot.at.position.copy()
        for _ in range(10):
            rig.go(rig.robot.at.position + np.array([0.0, 0.0, 0.02]))
        assert rig.robot.at.position[2] > before[2] + 0.02
        for _ in range(40):
            rig.go(MIDDLE)
        assert rig.joints[0] < 0.2
    assert all(0.8 * limits().high[0] < end <= limits().high[0] for end in ends), ends
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_an_arm_that_was_braked_before_the_end_of_a_joint_finds_back() -> None:
    rig = Rig(Measured, replace(limits(), rate=np.full(6, 1.0)))
    rig.guarded.reset()
    while not any(text.startswith("hold: too fast") for text in rig.guarded.changed):
        rig.go(MIDDLE + np.array([0.0, 0.3, 0.0]))
    before = rig.joints[0]
    for _ in range(40):
        rig.go(MIDDLE)
    assert rig.joints[0] < before - 0.2


def test_a_joint_that_turns_too_fast_is_braked() -> None:
    rig = Rig(Measured, replace(limits(), rate=np.full(6, 0.01)))
    rig.guarded.reset()
    said = []
    for _ in range(12):
        rig.go(MIDDLE + np.array([0.0, 0.2, 0.0]))
        said += rig.guarded.changed
    assert any(
        text.startswith("hold: arm joint swing at 0.1") and "allowed 0.10 rad/s" in text for text in said
    )


@pytest.mark.parametrize("kind", [Measured, Foresighted])
def test_a_joint_that_is_outside_moves_nothing(kind: type[Measured]) -> None:
    rig = Rig(kind, limits())
    rig.guarded.reset()
    rig.go(MIDDLE)
    rig.robot.off = np.array([0.5, 0, 0, 0, 0, 0])
    rig.go(MIDDLE + 0.1)
    assert rig.guarded.changed[0] == "hold: arm joint swing at 0.500 rad, allowed -0.400 to 0.450 rad"
    assert np.array_equal(rig.robot.at.position, MIDDLE)
    with pytest.raises(LimitViolation, match=r"arm joint swing at 0.500 rad, allowed -0.400 to 0.450 rad"):
        rig.guarded.reset()


@pytest.mark.parametrize("joints", [None, np.zeros(5), np.full(6, np.nan)])
def test_a_robot_that_does_not_tell_is_refused(joints: np.ndarray | None) -> None:
    rig = Rig(Measured, limits())
    observe = rig.robot.observe
    rig.robot.observe = lambda images=True: replace(observe(images), arm=joints)  # type: ignore[method-assign]
    with pytest.raises(RobotFault, match=r"as joints of its arm; the profile limits 6\."):
        rig.guarded.reset()


def test_a_look_ahead_is_as_long_as_a_stop() -> None:
    path, step = 0.0, np.array([FRANKA.translation.speed] * 2)
    for row in FRANKA.brakes[0].table:
        path += float(row @ step)
    assert ticks_to_rest(FRANKA) >= 2 + path / FRANKA.translation.speed - 1e-9


def test_speed_is_measured_over_a_tick_at_least() -> None:
    watch = Watch(replace(limits(), rate=np.full(6, 0.05)))
    watch.see(1.0, np.zeros(6))
    watch.see(1.001, np.full(6, 0.004))  # 4 rad/s, or the noise of an encoder
    assert watch.trouble == "" or "reach" in watch.trouble
    watch.rest()
    assert "rad/s" not in watch.trouble
