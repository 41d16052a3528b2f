"""Robots of others behind our seam: each passes the kit for drivers, and fails as a driver should."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gantry import DOWN, START, Lookalike, adapted
from hilserl_server import HilSerl
from serving import ENVIRONMENT

from bora_cli.control.connect import within_limits
from bora_cli.control.guard import GuardedRobot
from bora_cli.errors import ConfigError, DeviceError, RobotFault
from bora_cli.profiles import HardwareProfile, load_profile
from bora_cli.profiles.schema import ArmJoint
from bora_cli.robot.bare import main
from bora_cli.robot.client import RemoteRobot
from bora_cli.robot.environment import EnvRobot
from bora_cli.robot.frames import rotation_of
from bora_cli.robot.hilserl import HilSerlRobot
from bora_cli.robot.lerobot import Finger
from bora_cli.robot.protocol import RobotSpec, Target
from bora_cli.testing import check_robot
from robot_fakes import FakeClock, completed_profile

OPEN = np.zeros(1)
HERE = Path(__file__).parent


@pytest.fixture
def gripper_profile(tmp_path: Path) -> HardwareProfile:
    """The Franka's profile with a gripper for a hand."""
    text = completed_profile()
    for joints in (
        '[{ name = "gripper", low = "0 rad", high = "1 rad", sign = 1 }]',
        "",
    ):  # the hand's, the arm's
        start = text.rindex("joints = [")
        end = text.index("]\n", start) + 2
        text = text[:start] + (f"knuckles = {joints}\n" if joints else "") + text[end:]
    text = text.replace("knuckles", "joints")
    text = text.replace('driver = "dexhand021"', 'driver = "gripper"')
    a, b = text.index("[postures]"), text.index("[calibration]")
    text = text[:a] + '[postures]\nopen = "0 rad"\nclose = "1 rad"\n\n' + text[b:]
    (tmp_path / "rig.toml").write_text(text)
    return load_profile(tmp_path / "rig.toml")


def shifted(by: float, hand: float = 0.0) -> Target:
    return Target(START + [by, 0.0, 0.0], DOWN.copy(), np.array([hand]))  # noqa: RUF005


# ------------------------------------------------------------------------------------------------------- LeRobot


def test_a_lerobot_robot_is_a_robot() -> None:
    clock = FakeClock()
    check_robot(lambda: adapted(Lookalike(), clock=clock), wait=clock.sleep, clock=clock)


def test_a_lerobot_robot_behind_the_guard_is_one_too(gripper_profile: HardwareProfile) -> None:
    clock = FakeClock()
    robot = within_limits(adapted(Lookalike(), clock=clock), gripper_profile, clock=clock)
    assert isinstance(robot, GuardedRobot)
    check_robot(lambda: robot, wait=clock.sleep, clock=clock)


def test_no_command_leads_out_of_the_joints_of_a_lerobot_robot(gripper_profile: HardwareProfile) -> None:
    """Its adapter computes joints, so the guard knows them beforehand; the profile says rad, the motors degrees."""
    ends = {
        "slide_x": 0.05,
        "slide_y": 0.04,
        "slide_z": 0.06,
        "wrist_x": 0.2,
        "wrist_y": 0.15,
        "wrist_z": 0.3,
    }
    joints = tuple(
        ArmJoint(name=n, low=f"{-x} rad", high=f"{x} rad", rate="0.15 rad/s") for n, x in ends.items()
    )
    arm = gripper_profile.arm.model_copy(update={"joints": joints})
    clock, lerobot, rng = FakeClock(), Lookalike(), np.random.default_rng(3)
    profile = gripper_profile.model_copy(update={"arm": arm})
    robot = within_limits(adapted(lerobot, clock=clock), profile, clock=clock)
    robot.reset()
    wanted, most = Target(START, DOWN, OPEN), np.zeros(6)
    before = np.zeros(6)
    for tick in range(150):
        if tick % 15 == 0:
            turned = rotation_of(rng.uniform(-1, 1, 3)) @ DOWN
            wanted = Target(START + rng.uniform(-0.3, 0.3, 3), turned, OPEN)
        clock.sleep(0.1)
        robot.observe(images=False)
        robot.command(wanted, deadline=clock.t + 0.2)
        sent = np.radians([lerobot.motors.sent[-1][f"{name}.pos"] for name in ends])
        assert (np.abs(sent) <= np.array(list(ends.values())) + 1e-9).all()
        assert (np.abs(sent - before) <= 0.015 + 1e-9).all()
        before, most = sent, np.maximum(most, np.abs(sent))
    assert (most > 0.5 * np.array(list(ends.values()))).sum() >= 4


def test_its_tool_point_turns_with_it() -> None:
    clock = FakeClock()
    check_robot(
        lambda: adapted(Lookalike(), tool=(0.05, 0.0, 0.1), clock=clock), wait=clock.sleep, clock=clock
    )


@pytest.mark.parametrize(("x", "why"), [(2.0, "does not reach"), (0.3, "a joint would jump by 30 degrees")])
def test_what_the_joints_do_not_reach_gently_is_not_sent(
    x: float, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    lerobot = Lookalike()
    robot = adapted(lerobot, clock=FakeClock())
    at = robot.reset().target
    accepted = robot.command(shifted(x), deadline=np.inf)
    np.testing.assert_array_equal(accepted.position, at.position)
    assert not lerobot.motors.sent
    assert why in caplog.text


def test_hold_sends_the_joints_where_they_are() -> None:
    lerobot = Lookalike()
    robot = adapted(lerobot, clock=FakeClock())
    robot.reset()
    robot.command(shifted(0.01, 0.5), deadline=np.inf)
    lerobot.motors.at["slide_x.pos"] = 0.4  # it has not arrived
    robot.hold()
    assert lerobot.motors.sent[-1]["slide_x.pos"] == 0.4
    assert robot.observe(images=False).target.position[0] == pytest.approx(START[0] + 0.004)


@pytest.mark.parametrize("broken", ["observe", "send"])
def test_motors_that_do_not_answer(broken: str, caplog: pytest.LogCaptureFixture) -> None:
    lerobot = Lookalike()
    robot = adapted(lerobot, clock=FakeClock())
    robot.reset()
    lerobot.motors.broken = broken
    with pytest.raises((RobotFault, ConnectionError), match="no status packet"):
        robot.observe() if broken == "observe" else robot.command(shifted(0.01), deadline=np.inf)
    robot.hold()
    robot.close()
    assert "failed to hold; use the emergency stop" in caplog.text


def test_a_finger_maps_ranges() -> None:
    finger = Finger("index", open=10.0, closed=90.0, low=0.0, high=1.6)
    assert finger.ours(50.0) == pytest.approx(0.8)
    assert finger.theirs(0.8) == pytest.approx(50.0)
    assert finger.theirs(9.0) == pytest.approx(90.0)


# ------------------------------------------------------------------------------------------------------- HIL-SERL


@pytest.fixture
def hilserl() -> Iterator[HilSerl]:
    server = HilSerl()
    yield server
    server.close()


def test_a_hilserl_server_is_a_robot(hilserl: HilSerl) -> None:
    check_robot(lambda: HilSerlRobot(hilserl.url, timeout=20.0), wait=lambda _: None)
    assert {path for path, _ in hilserl.calls} == {"/getstate", "/pose", "/move_gripper", "/clearerr"}


def test_its_verbs_and_numbers(hilserl: HilSerl) -> None:
    robot = HilSerlRobot(hilserl.url, tool_point=(0.0, 0.0, 0.1), timeout=20.0)
    reading = robot.reset()
    np.testing.assert_allclose(reading.position, START - [0.0, 0.0, 0.1], atol=1e-12)
    hilserl.calls.clear()
    target = Target(reading.position + 0.01, reading.rotation, np.array([0.5]))
    robot.command(target, deadline=np.inf)
    robot.command(target, deadline=np.inf)
    paths = [path for path, _ in hilserl.calls]
    assert paths == ["/pose", "/move_gripper", "/pose"]  # a gripper that is there is not told again
    np.testing.assert_allclose(hilserl.calls[0][1]["arr"][:3], START + 0.01)
    assert hilserl.calls[1][1] == {"gripper_pos": 128}
    assert robot.observe().hand[0] == pytest.approx(128 / 255)


def test_a_server_that_refuses_is_silent_or_is_another_one(
    hilserl: HilSerl, caplog: pytest.LogCaptureFixture
) -> None:
    robot = HilSerlRobot(hilserl.url, timeout=20.0)
    robot.reset()
    hilserl.broken = "/pose"
    with pytest.raises(RobotFault, match="refused /pose with 500"):
        robot.command(shifted(0.01), deadline=np.inf)
    robot.hold()
    assert "did not take a hold; use the emergency stop" in caplog.text
    hilserl.silent = "yes"
    with pytest.raises(RobotFault, match="did not give pose and gripper_pos"):
        robot.observe()
    with pytest.raises(ConfigError, match="'nowhere' is no address of a HIL-SERL server"):
        HilSerlRobot("nowhere")
    with pytest.raises(DeviceError, match="did not answer /clearerr"):
        HilSerlRobot("http://127.0.0.1:1", timeout=0.2).reset()


# ------------------------------------------------------------------------------------------------------ Gymnasium


class Table:
    """An environment as HIL-SERL's: actions are steps of a pose in -1 to 1, and a gripper."""

    scale = np.array([0.02, 0.02, 0.02])

    def __init__(self, ends_after: int = 10**9) -> None:
        self.ends_after = ends_after
        self.steps = 0
        self.closed = False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        self.steps, self.at, self.hand = 0, START.copy(), 0.0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Any]:
        assert np.abs(action).max() <= 1.0
        self.steps += 1
        self.at = self.at + self.scale * action[:3]
        self.hand = 0.5 + 0.5 * action[3]
        return self._seen(), 0.0, False, self.steps >= self.ends_after, {}

    def _seen(self) -> Any:
        return {"tcp": self.at.copy(), "grip": self.hand, "image": np.zeros((4, 6, 3), np.uint8)}

    def close(self) -> None:
        self.closed = True


def env_robot(table: Table, clock: FakeClock) -> EnvRobot:
    def action(at: Target, wanted: Target) -> tuple[Any, Target]:
        step = np.clip((wanted.position - at.position) / table.scale, -1, 1)
        hand = np.clip(wanted.hand, 0, 1)
        reached = Target(at.position + table.scale * step, at.rotation, hand)
        return np.concatenate([step, 2 * hand - 1]), reached

    spec = RobotSpec("table", ("gripper",), (0.0,), (1.0,), 0.1)
    return EnvRobot(
        table,
        spec,
        stand=lambda seen: (seen["tcp"], DOWN, np.array([seen["grip"]])),
        action=action,
        clock=clock,
    )


def test_a_gymnasium_environment_is_a_robot() -> None:
    """It cannot turn, so of the kit everything passes but that."""
    clock, table = FakeClock(), Table()
    with pytest.raises(RobotFault, match="breaks its contract in 3 points") as found:
        check_robot(lambda: env_robot(table, clock), wait=clock.sleep, clock=clock)
    assert found.value.message.count("rotation: asked to turn") == 3
    assert table.closed


def test_an_environment_that_ended_stands_still(caplog: pytest.LogCaptureFixture) -> None:
    clock, table = FakeClock(), Table(ends_after=2)
    robot = env_robot(table, clock)
    robot.reset()
    for k in range(5):
        robot.command(shifted(0.01 * (k + 1)), deadline=np.inf)
    assert table.steps == 2
    assert "ended its episode and stands still" in caplog.text
    robot.reset()
    assert table.steps == 0


# ------------------------------------------------------------------- a server without limits, in another environment


def test_a_bare_server_says_that_it_keeps_no_limits(tmp_path: Path, gripper_profile: HardwareProfile) -> None:
    bare(sys.executable, "connect_lookalike", tmp_path, gripper_profile)


def bare(python: str, maker: str, folder: Path, profile: HardwareProfile) -> None:
    """Serve the gantry with an interpreter, and drive it from here behind the guard."""
    command = [python, "-m", "bora_cli.robot.bare", f"gantry:{maker}", "--token-file", str(folder / "token")]
    paths = f"{HERE}:{HERE.parents[1] / 'src'}"
    environment = {**ENVIRONMENT, "PYTHONPATH": paths, "HF_LEROBOT_HOME": str(folder), "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stderr is not None
        line = ""
        while "gantry at " not in line:
            line = server.stderr.readline()
            assert line, server.poll()
        remote = RemoteRobot.connect(line.split()[-1], (folder / "token").read_text().strip(), timeout=20.0)
        assert (remote.guarded, remote.spec.joints) == ("", ("gripper",))
        robot = within_limits(remote, profile)
        assert isinstance(robot, GuardedRobot)
        at = robot.reset().target
        for _ in range(30):
            wanted = Target(at.position + [0.01, 0.0, 0.0], at.rotation, at.hand)  # noqa: RUF005
            new = robot.command(wanted, deadline=np.inf)
            assert np.linalg.norm(new.position - at.position) <= profile.limits.tcp_speed * profile.dt + 1e-9
            at = new
        seen = robot.observe()
        assert seen.images["scene"].shape == (4, 6, 3)
        np.testing.assert_allclose(seen.position, at.position, atol=1e-3)
        robot.close()
        server.terminate()
        assert server.wait() == 0
    finally:
        server.kill()
        server.communicate()


def test_a_bare_server_without_a_driver_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["no_such_module:x", "--token-file", str(tmp_path / "t")])
    assert leaving.value.code == 3
    assert "The module of driver no_such_module:x cannot be imported" in caplog.text
