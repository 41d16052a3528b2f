"""A person's session on a robot behind the wire: what is recorded is what moved, whatever happens to the wire."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mischief import Mischief
from serving import ENVIRONMENT, Server
from typer.testing import CliRunner

from bora_cli.cli.app import build
from bora_cli.control.connect import within_limits
from bora_cli.control.flight import FlightRecorder
from bora_cli.control.guard import GuardedRobot
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, SchemaMismatch
from bora_cli.evaluate.on_robot import evaluate_on_robot, other_profiles, require_policy
from bora_cli.evaluate.robot_session import Part, RobotJob, RobotSession
from bora_cli.evaluate.teleoperate import Driver, Scene
from bora_cli.input.device import TAKE_OVER, DeviceSample
from bora_cli.input.keyboard import Keyboard
from bora_cli.input.keys import KeyPress
from bora_cli.profiles import load_profile
from bora_cli.robot.client import RemoteRobot
from bora_cli.robot.protocol import CameraSpec, Robot
from bora_cli.sim.as_robot import SimRobot
from bora_cli.sim.simulation import Simulation
from bora_cli.types import F32, Controller, Decision, Observation
from robot_fakes import PROFILE as FRANKA
from robot_fakes import SPEC, FakeClock, FakeRobot
from typist import Typist

PROFILE = load_profile("sim")


class Puller:
    """A cap that somebody pulls up a little; presses what it is told to at its n-th reading."""

    name, frame, trouble = "cap", "base", ""

    def __init__(self, presses: dict[int, str] | None = None) -> None:
        self.presses, self.reads = presses or {}, 0

    def begin(self) -> None:
        self.reads = 0

    def read(self, now: float) -> DeviceSample:
        self.reads += 1
        pressed = (self.presses[self.reads],) if self.reads in self.presses else ()
        return DeviceSample(now, np.array([0.0, 0.0, 0.2, 0.0, 0.0, 0.0]), pressed)

    def close(self) -> None:
        pass


class Desk:
    """Somebody who begins when asked to, and ends each episode with the next key of `ends` once it is old enough."""

    picture_size = 0
    gone = False

    def __init__(self, ends: str, after: str = "0.5/") -> None:
        self.ends, self.after = list(ends), after
        self.scenes: list[Scene] = []
        self._keys: list[str] = []

    def show(self, scene: Scene) -> None:
        self.scenes.append(scene)
        text = " ".join(scene.lines)
        if "press enter" in text:
            self._keys.append("enter" if self.ends else "q")
        elif self.ends and self.after in text:
            self._keys.append(self.ends.pop(0))

    def pressed(self) -> list[KeyPress]:
        keys, self._keys = self._keys[-1:], []
        return [KeyPress(key, time.monotonic()) for key in keys]


def driver(desk: Desk, device: Puller, clock: Any = time.monotonic, sleep: Any = time.sleep) -> Driver:
    return Driver(desk, Keyboard(tuple(PROFILE.postures)), (device,), clock, sleep)


def job(operator: str = "person", **more: Any) -> RobotJob:
    facts: dict[str, Any] = {"image_size": 16, "limit_s": 1.5, **more}
    return RobotJob("sim", "sim", PROFILE.hash, "press", "press the button", operator, **facts)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.end()


def test_a_bad_network_neither_moves_nor_records_what_was_not_asked(server: Server, tmp_path: Path) -> None:
    """Every millimetre between the reset and the end is in the recorded actions: nobody else moved it."""
    wire = Mischief(server.address, lose=0.05, repeat=0.3, forge=0.3, delay_s=0.01)
    remote = RemoteRobot.connect(wire.address, server.token, timeout=0.5, attempts=60)
    robot = within_limits(remote, PROFILE, kept=remote.guarded)
    assert robot is remote  # the server keeps the limits
    start: list[np.ndarray] = []
    ended: list[np.ndarray] = []
    session = RobotSession(robot, PROFILE, job(), driver(Desk("yn"), Puller()), out=tmp_path / "demos")
    reset = remote.reset

    def watched() -> Any:
        reading = reset()
        start.append(reading.target.position)
        return reading

    remote.reset = watched  # type: ignore[method-assign]
    session.run(2, lambda _: ended.append(remote.observe(images=False).target.position))
    remote.close()
    wire.close()
    assert min(wire.counts[what] for what in ("lost", "forged", "repeated")) > 0, wire.counts
    dataset = Dataset.open(tmp_path / "demos")
    episodes = [dataset.episode(i) for i in range(2)]
    assert [e.success for e in episodes] == [True, False]
    assert [e.meta["judged_by"] for e in episodes] == ["person", "person"]
    for episode, before, after in zip(episodes, start, ended, strict=True):
        moved = after - before
        np.testing.assert_allclose(episode.action[:, :3].sum(axis=0), moved, atol=1e-5)
        assert moved[2] > 0
        assert episode.images["wrist"].shape[1:] == (16, 16, 3)
    assert not check(tmp_path / "demos")
    assert session.tally.successes == 1


# ------------------------------------------------------------------------------ the commands, killed in the middle


def collecting(server: Server, out: Path) -> Typist:
    """Return somebody at `bora robot collect`."""
    command = ["robot", "collect", "--robot", server.address, "--token-file", str(server.token_file)]
    command += ["--profile", "sim", "--prompt", "press it", "--out", str(out), "--window", "none"]
    return Typist(*command, "--image-size", "16", "--json", environment=ENVIRONMENT)


def record(person: Typist, verdict: str) -> None:
    """Begin an episode, move, and judge it."""
    person.wait_for("press enter to begin")
    person.type("\r")
    person.wait_for("/60 s")
    person.type("\x1b[Ar" + verdict)


def test_a_killed_client_and_a_killed_server_lose_no_recorded_episode(tmp_path: Path) -> None:
    server, out = Server(tmp_path), tmp_path / "demos"
    first = collecting(server, out)
    record(first, "y")
    first.wait_for("success, ")
    first.type("\r")
    first.wait_for("/60 s")
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    server.wait_for("sim holds: the driving client is gone")
    server.wait_for("Flight recording (hold: the driving client is gone)")
    first.close()
    assert len(Dataset.open(out)) == 1
    second = collecting(server, out)
    second.wait_for("episode 1")
    record(second, "n")
    second.wait_for("failure, ")
    second.type("\r")
    second.wait_for("/60 s")
    server.end()
    second.wait_for("error: The connection to the robot server is lost")
    assert second.ended()[0] == 4
    second.close()
    assert [row.success for row in Dataset.open(out).rows()] == [True, False]
    assert not check(out)


# ------------------------------------------------------------------------------------------- policies on a robot


class Riser:
    """A policy that goes up by 5 mm per tick."""

    execute = 4

    def __init__(self) -> None:
        self.asked = 0

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        self.asked += 1
        row = np.concatenate([np.zeros(6), obs.state[-12:]]).astype(np.float32)
        row[2] = 0.005
        chunk: F32 = np.tile(row, (8, 1))
        return Decision(0, 0, "", 0.0, 4, chunk, chunk, chunk, np.zeros((1, 1), np.float16))


def simulated(clock: FakeClock) -> Robot:
    robot = SimRobot(Simulation("press_button", image_size=16), profile_hash=PROFILE.hash, clock=clock)
    return GuardedRobot.from_profile(robot, PROFILE, clock=clock)


def test_a_person_beside_a_policy_takes_over_and_it_is_recorded(tmp_path: Path) -> None:
    clock, policy = FakeClock(), Riser()
    desk = Desk("zy", after="1.2/")
    seat = driver(desk, Puller({5: TAKE_OVER}), clock, clock.sleep)
    session = RobotSession(
        simulated(clock), PROFILE, job(), seat, part=lambda _: Part(policy), out=tmp_path / "run"
    )
    tally = session.run(1)
    assert (tally.recorded, tally.successes, tally.discarded) == (1, 1, 1)
    episode = Dataset.open(tmp_path / "run").episode(0)
    assert episode.meta["takeovers"] == 1
    assert (episode.controller[:4] == Controller.POLICY).all()
    assert (episode.controller[8:] == Controller.HUMAN).any()
    assert not check(tmp_path / "run")
    assert any("YOU drive" in " ".join(scene.lines) for scene in desk.scenes)
    assert any("the policy drives" in " ".join(scene.lines) for scene in desk.scenes)


class Breaking(Riser):
    """Does something else at its third decision."""

    def __init__(self, what: BaseException | None) -> None:
        super().__init__()
        self.what = what

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        made = super().decide(obs, rng)
        if self.asked == 4 and self.what is not None:  # the first is to warm up
            raise self.what
        if self.asked >= 4:
            made.final[:] = np.nan
        return made


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (ValueError("no such token"), "ValueError: no such token"),
        (None, "held: policy lost"),
    ],
    ids=str,
)
def test_what_breaks_an_episode_off_leaves_its_last_ticks(
    what: BaseException | None, why: str, tmp_path: Path
) -> None:
    """A fault of the policy, of the program or of the person is no fault of the robot, whose limits are kept."""
    clock = FakeClock()
    seat = driver(Desk("y", after="1.4/"), Puller(), clock, clock.sleep)
    session = RobotSession(
        simulated(clock),
        PROFILE,
        job(),
        seat,
        part=lambda _: Part(Breaking(what)),
        flights=FlightRecorder(tmp_path / "flights", clock=clock),
    )
    with pytest.raises(type(what)) if what is not None else nullcontext():
        session.run(1)
    (flight,) = (tmp_path / "flights").iterdir()
    head, *ticks = (json.loads(line) for line in flight.read_text().splitlines())
    assert head["reason"] == why
    assert len(ticks) == head["ticks"] >= 8
    assert ticks[3]["asked"][2] == pytest.approx(0.005)
    assert ticks[3]["accepted"][2] == pytest.approx(0.005, abs=1e-4)


def test_time_is_a_judge_too_and_a_session_goes_on(tmp_path: Path) -> None:
    for episodes in (1, 2):
        clock = FakeClock()
        seat = driver(Desk("yyyy", after="never"), Puller(), clock, clock.sleep)
        session = RobotSession(
            simulated(clock), PROFILE, job("none"), seat, part=lambda _: Part(Riser()), out=tmp_path / "run"
        )
        session.run(episodes)
    dataset = Dataset.open(tmp_path / "run")
    assert len(dataset) == 2
    episode = dataset.episode(1)
    assert (len(episode), episode.success, bool(episode.truncated[-1])) == (15, False, True)
    assert (episode.meta["judged_by"], episode.meta["missed_ticks"]) == ("clock", 0)
    assert (episode.controller == Controller.POLICY).all()


def test_a_checkpoint_is_counted_on_a_robot(toy_policy: Path) -> None:
    clock = FakeClock()
    seat = driver(Desk("yny"), Puller(), clock, clock.sleep)
    result = evaluate_on_robot(
        toy_policy, simulated(clock), PROFILE, seat, prompt="press the button", episodes=3, limit_s=2.0
    ).to_json()
    assert (result["successes"], result["unaided_successes"], result["episodes"]) == (2, 2, 3)
    assert result["wilson95"] == pytest.approx([0.208, 0.939], abs=1e-3)
    assert (result["operator"], result["takeovers"], result["human_share"]) == ("none", 0, 0.0)
    assert result["session_missed_ticks"] == 0
    assert result["warnings"][0].startswith("The policy was trained on data of profile toy;")


def test_what_was_recorded_on_a_robot_is_trained_on_and_acts_there(
    toy_backbone: Path, tmp_path: Path
) -> None:
    from bora_cli.train.offline import train

    clock, demos, policy = FakeClock(), tmp_path / "demos", tmp_path / "policy"
    seat = driver(Desk("yyy", after="1.4/"), Puller(), clock, clock.sleep)
    RobotSession(simulated(clock), PROFILE, job(image_size=64), seat, out=demos).run(3)
    train("filtered_bc", data=[demos], out=policy, backbone=str(toy_backbone), updates=2)
    seat = driver(Desk("n"), Puller(), clock, clock.sleep)
    result = evaluate_on_robot(
        policy,
        simulated(clock),
        PROFILE,
        seat,
        prompt="press the button",
        episodes=1,
        record=tmp_path / "run",
    ).to_json()
    assert (result["image_size"], result["successes"], result["warnings"]) == (64, 0, [])
    assert not check(tmp_path / "run")


def test_a_policy_of_another_profile_is_worth_a_warning() -> None:
    assert other_profiles({"profile_hash": [PROFILE.hash]}, PROFILE) == []
    assert other_profiles({}, PROFILE) == []
    (warning,) = other_profiles({"profile_hash": ["", "1234"]}, PROFILE)
    assert warning.startswith(f"The policy was trained on data of profile 1234; 'sim' is {PROFILE.hash}")


def test_a_policy_for_another_rig_is_refused(toy_policy: Path) -> None:
    from bora_cli.checkpoint import load_trained

    spec = load_trained(toy_policy).spec
    with pytest.raises(SchemaMismatch, match="profile 'franka_dexhand021'"):
        require_policy(spec, FRANKA, str(toy_policy))


# ---------------------------------------------------------------------------------------------- who keeps limits


def franka() -> FakeRobot:
    cameras = tuple(CameraSpec(camera.name, 4, 6) for camera in FRANKA.cameras)
    return FakeRobot(FakeClock(), spec=replace(SPEC, cameras=cameras))


def test_a_robot_that_nobody_guards_is_guarded_here() -> None:
    robot = franka()
    assert isinstance(within_limits(robot, FRANKA), GuardedRobot)
    assert within_limits(robot, FRANKA, kept=FRANKA.hash) is robot


def test_a_robot_in_the_limits_of_another_profile_is_refused() -> None:
    with pytest.raises(
        SchemaMismatch, match=r"keeps the limits of a profile with hash 1234; 'franka_dexhand021' has"
    ):
        within_limits(franka(), FRANKA, kept="1234")


def test_a_robot_with_another_hand_is_refused() -> None:
    with pytest.raises(
        SchemaMismatch, match="Robot 'fake' and profile 'sim' differ: the robot has joints th_dip"
    ):
        within_limits(FakeRobot(FakeClock()), PROFILE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Neither --robot and --driver given; expected one of them."),
        (["--robot", "a:1", "--driver", "b:c"], "Both --robot and --driver given"),
        (["--robot", "a:1"], "--robot without --token-file."),
        (["--robot", "a:1", "--token-file", "none"], "There is no file none."),
        (["--driver", "b:c", "--limit", "0"], "--limit 0 is not in the range 1 to 600."),
    ],
)
def test_a_command_that_names_no_robot_says_so(arguments: list[str], message: str, tmp_path: Path) -> None:
    given = ["robot", "collect", "--profile", "sim", "--prompt", "x", "--out", str(tmp_path / "o")]
    result = CliRunner().invoke(build(), [*given, "--window", "none", *arguments])
    assert isinstance(result.exception, ConfigError)
    assert re.sub(r"\s+", " ", result.exception.message).startswith(message)
