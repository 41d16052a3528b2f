"""A robot under the control loop: the episode says what the robot accepted, at the times it should."""

from __future__ import annotations

from itertools import chain, repeat

import numpy as np
import pytest

from bora_cli.control.guard import GuardedRobot
from bora_cli.control.loop import Gentle, demonstrate, roll_out
from bora_cli.control.pace import Pacer
from bora_cli.control.rig import RobotRig, Verdict
from bora_cli.robot.protocol import Target
from bora_cli.sim.as_robot import SimRobot
from bora_cli.sim.simulation import Simulation
from bora_cli.types import F32, Decision, Observation
from robot_fakes import DOWN, MIDDLE, OPEN, PROFILE, FakeClock, FakeRobot


@pytest.mark.parametrize(("slip", "held"), [(0.0145, False), (0.017, True)])
def test_a_driver_that_slips_is_held_by_its_speed_and_noticed_by_its_axis(slip: float, held: bool) -> None:
    """The guard keeps the speed of the tool; an action has a range per axis, which is what the data are checked for."""
    clock = FakeClock()
    robot = FakeRobot(clock)
    guarded = GuardedRobot.from_profile(robot, PROFILE, clock=clock)
    pacer = Pacer(PROFILE.dt, now=clock, sleep=clock.sleep)
    rig = RobotRig(guarded, PROFILE, prompt="", max_ticks=9, judge=lambda: "", pacer=pacer)
    rig.prepare(0)
    command = robot.command

    def slips(target: Target, *, deadline: float) -> Target:
        up = Target(target.position + np.array([0.0, 0.0, slip]), target.rotation, target.hand)
        return command(up, deadline=deadline)

    robot.command = slips  # type: ignore[method-assign]
    rig.observe()
    applied = rig.step(rig.rest()).applied
    assert bool(robot.holds) == held
    assert applied[2] == pytest.approx(slip)
    assert applied[2] > rig.action_spec.high[2]


class Driver:
    """Drives a straight line, with one tick of nonsense; as an operator and as a policy."""

    execute = 4

    def __init__(self, nonsense_at: int = -1) -> None:
        self.ticks = 0
        self.nonsense_at = nonsense_at

    def begin(self, rig: RobotRig) -> None:
        self.ticks = 0

    def act(self, rig: RobotRig) -> tuple[F32, bool]:
        row = rig.rest()
        row[0], row[5] = 0.01, 0.02
        if self.ticks == self.nonsense_at:
            row[2] = np.nan
        self.ticks += 1
        return row, False

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        row = np.concatenate([np.zeros(6), obs.state[-12:]]).astype(np.float32)
        row[1] = 0.005
        chunk = np.tile(row, (8, 1))
        return Decision(0, 0, "", 0.0, 4, chunk, chunk, chunk, np.zeros((1, 1), np.float16))


def rig(
    verdicts: dict[int, Verdict] | None = None, max_ticks: int = 20
) -> tuple[RobotRig, FakeRobot, FakeClock]:
    clock = FakeClock()
    robot = FakeRobot(clock)
    said = iter(chain([(verdicts or {}).get(i, "") for i in range(max_ticks)], repeat("")))
    made = RobotRig(
        GuardedRobot.from_profile(robot, PROFILE, clock=clock),
        PROFILE,
        prompt="press",
        max_ticks=max_ticks,
        judge=lambda: next(said),
        pacer=Pacer(PROFILE.dt, now=clock, sleep=clock.sleep),
    )
    return made, robot, clock


def test_an_episode_tells_where_the_robot_went() -> None:
    made, robot, clock = rig()
    began = clock.t
    episode = demonstrate(made, Driver(), scene_seed=3, meta={})
    assert len(episode) == 20
    assert clock.t - began == pytest.approx(20 * PROFILE.dt)
    went = np.diff([MIDDLE, *(target.position for target in robot.targets)], axis=0)
    np.testing.assert_allclose(episode.action[:, :3], went, atol=1e-7)
    np.testing.assert_allclose(episode.action[:, 6:], [target.hand for target in robot.targets], atol=1e-6)
    np.testing.assert_allclose(
        episode.state[:, :3].astype(float), [MIDDLE, *(t.position for t in robot.targets)][:-1]
    )
    assert episode.truncated[-1]
    assert episode.reward.sum() == pytest.approx(-0.5)
    assert robot.holds


@pytest.mark.parametrize(("verdict", "success"), [("success", True), ("failure", False)])
def test_a_person_ends_the_episode(verdict: Verdict, success: bool) -> None:
    made, _, _ = rig({6: verdict})
    episode = demonstrate(made, Driver(), scene_seed=3, meta={})
    assert (len(episode), episode.success, bool(episode.terminated[-1])) == (7, success, True)
    assert episode.reward[-1] == pytest.approx(float(success) - 0.5 / 20)


def test_nonsense_holds_and_the_record_says_so() -> None:
    made, robot, _ = rig()
    episode = demonstrate(made, Driver(nonsense_at=12), scene_seed=3, meta={})
    assert np.isfinite(episode.action).all()
    assert (np.diff(np.linalg.norm(episode.action[12:16, :3], axis=1)) < 0).all()
    assert np.isfinite([t.position for t in robot.targets]).all()


def test_a_policy_drives_it_as_any_rig() -> None:
    made, robot, _ = rig()
    episode = roll_out(made, Driver(), scene_seed=1, rng=np.random.default_rng(0), meta={})
    assert len(episode.decisions) == 5
    assert robot.at.position[1] > 0.03
    assert list(episode.images) == ["scene"]


def test_the_person_arranges_the_scene_before_the_robot_moves() -> None:
    clock = FakeClock()
    robot = FakeRobot(clock)
    seen: list[int] = []
    made = RobotRig(
        robot, PROFILE, prompt="", max_ticks=3, judge=lambda: "", arrange=seen.append, clock=clock,
        pacer=Pacer(0.1, now=clock, sleep=clock.sleep),
    )  # fmt: skip
    made.prepare(41)
    assert seen == [41]
    made.close()
    assert robot.closed


@pytest.mark.parametrize("held_by", ["rig", "below", "command", "observe"])
def test_after_a_hold_rest_moves_nothing(held_by: str) -> None:
    """Also where the arm was pushed away meanwhile, and where the guard, a server or a fault held."""
    made, robot, _ = rig()
    made.prepare(0)
    for _ in range(5):
        made.step(Driver().act(made)[0])
    if held_by == "rig":
        made.hold()
    elif held_by == "below":
        made._robot.hold()
    else:
        robot.broken = held_by
        with pytest.raises(OSError, match="the cable is out"):
            made.observe() if robot.broken == "observe" else made.step(made.rest())
        robot.broken = ""
    robot.at = Target(MIDDLE + np.array([-0.12, 0.1, 0.0]), DOWN, OPEN + 0.1)
    if held_by == "below":
        made.observe()  # as at every tick
    where = robot.at
    rest = made.rest()
    outcome = made.step(rest)
    np.testing.assert_allclose(rest[6:], where.hand, atol=1e-6)
    np.testing.assert_allclose(robot.at.position, where.position, atol=1e-9)
    np.testing.assert_allclose(outcome.applied[:6], np.zeros(6), atol=1e-9)


def test_it_says_how_gently_control_changes_hands() -> None:
    made, _, _ = rig()
    assert isinstance(made, Gentle)
    assert made.ramp_ticks == PROFILE.ramp_ticks == 3
    np.testing.assert_array_equal(made.takeover_step, PROFILE.takeover_step)


def test_the_simulator_is_a_robot_too() -> None:
    clock = FakeClock()
    robot = SimRobot(Simulation("press_button", image_size=16), clock=clock)
    before = robot.reset()
    assert robot.spec.cameras[0].height == 16
    target = before.target
    wanted = target.__class__(target.position + np.array([0.01, 0, 0.01]), target.rotation, target.hand + 0.1)
    accepted = robot.command(wanted, deadline=clock.t + 0.1)
    np.testing.assert_allclose(accepted.position, wanted.position, atol=1e-6)
    late = robot.command(before.target, deadline=clock.t - 0.1)
    np.testing.assert_array_equal(late.position, accepted.position)
    lost = target.__class__(target.position * np.nan, DOWN, OPEN)
    np.testing.assert_array_equal(robot.command(lost, deadline=np.inf).position, accepted.position)
    seen = robot.observe()
    assert seen.images["wrist"].shape == (16, 16, 3)
    assert set(seen.stamps) == {"scene", "wrist"}
    robot.hold()
    robot.close()
