"""The example drivers against recording fakes of the makers' calls.  None of this ran on hardware."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vendor_fakes import DEX_JOINTS, FRANKY, ControlException, DexHand, FrankyRobot, Modbus, RealSenses

from bora_cli.control.connect import within_limits
from bora_cli.control.guard import GuardedRobot
from bora_cli.errors import DeviceError, LimitViolation, RobotFault
from bora_cli.profiles import HardwareProfile, load_profile, require_fit
from bora_cli.robot.drivers import load_driver
from bora_cli.robot.frames import rotation_of
from bora_cli.robot.protocol import Target
from bora_cli.testing import check_robot
from robot_fakes import DOWN, MIDDLE, FakeClock, completed_profile

EXAMPLES = Path(__file__).parents[2] / "examples" / "robots"
NAMES = ("parts", "franka", "dexhand021", "inspire", "realsense", "franka_dexhand021", "franka_inspire")


@pytest.fixture(autouse=True)
def examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(EXAMPLES)
    yield
    for name in NAMES:
        sys.modules.pop(name, None)


@pytest.fixture
def dex_profile(tmp_path: Path) -> HardwareProfile:
    (tmp_path / "rig.toml").write_text(completed_profile())
    return require_fit(tmp_path / "rig.toml")


@pytest.fixture
def inspire_profile(tmp_path: Path) -> HardwareProfile:
    text = (EXAMPLES / "franka_inspire.toml").read_text()
    text = re.sub(r'(\{ name = "(?:little|ring|middle|index|thumb_\w+)",)', r"\1 sign = 1,", text)
    (tmp_path / "rig.toml").write_text(text.replace('verified_by = ""', 'verified_by = "A. Person"'))
    return require_fit(tmp_path / "rig.toml")


class Rig:
    """A robot of parts, with the fakes behind it."""

    def __init__(self, profile: HardwareProfile, kind: str) -> None:
        from franka import FrankaArm
        from parts import ArmWithHand

        self.clock = FakeClock()
        self.franky = FrankyRobot(np.array(profile.calibration.tool_point))
        self.dex, self.modbus = DexHand(self.clock), Modbus()
        self.arm = FrankaArm(FRANKY, self.franky, profile, self.clock)
        self.hand: Any
        if kind == "dexhand021":
            from dexhand021 import DexHand021

            self.hand = DexHand021(self.dex, "periodic", profile, self.clock, self.clock.sleep)
        else:
            from inspire import InspireHand

            self.hand = InspireHand(self.modbus, profile, clock=self.clock)
        self.robot = ArmWithHand(profile, self.arm, self.hand, (), self.clock)

    def command(self, position: np.ndarray, rotation: np.ndarray, hand: np.ndarray) -> Target:
        return self.robot.command(Target(position, rotation, hand), deadline=self.clock.t + 0.2)


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("kind", ["dexhand021", "inspire"])
def test_the_drivers_keep_the_contract(
    kind: str, guard: bool, dex_profile: HardwareProfile, inspire_profile: HardwareProfile
) -> None:
    profile = dex_profile if kind == "dexhand021" else inspire_profile
    rig = Rig(profile, kind)
    robot = GuardedRobot.from_profile(rig.robot, profile, clock=rig.clock) if guard else rig.robot
    check_robot(lambda: robot, wait=rig.clock.sleep, clock=rig.clock)


# ------------------------------------------------------------------------------------------------- the arm


def test_the_arm_is_limited_before_it_moves(dex_profile: HardwareProfile) -> None:
    franky = Rig(dex_profile, "dexhand021").franky
    assert franky.translation_velocity_limit.value == pytest.approx(1.5 * 0.15)
    assert franky.rotation_jerk_limit.value == pytest.approx(1.5 * 30)
    assert franky.joint_velocity_limit.value == [1.08] * 4 + [1.3] * 3
    franky.is_in_control = True
    from franka import FrankaArm

    with pytest.raises(DeviceError, match="The arm's limits cannot be set: cannot write while in control"):
        FrankaArm(FRANKY, franky, dex_profile)


def test_the_tool_point_is_what_is_commanded(dex_profile: HardwareProfile) -> None:
    rig = Rig(dex_profile, "dexhand021")
    rig.robot.reset()
    turned = rotation_of([0.0, 0.0, np.pi / 2]) @ DOWN
    rig.command(MIDDLE, turned, np.zeros(12))
    flange = np.ravel(rig.franky.calls[-1].target.translation)
    np.testing.assert_allclose(flange + turned @ [0.05, 0.0, 0.16], MIDDLE, atol=1e-12)
    assert not rig.franky.calls[-1].return_when_finished
    reading = rig.robot.observe(images=False)
    np.testing.assert_allclose(reading.position, MIDDLE, atol=1e-12)
    np.testing.assert_allclose(reading.rotation, turned, atol=1e-12)


def test_near_the_end_of_a_joint_the_arm_is_not_moved(dex_profile: HardwareProfile) -> None:
    rig = Rig(dex_profile, "dexhand021")
    robot = GuardedRobot.from_profile(rig.robot, dex_profile, clock=rig.clock)
    robot.reset()
    rig.franky.current_joint_positions[3] = -0.1
    with pytest.raises(LimitViolation, match=r"arm joint joint4 at -0.100 rad, allowed -2.970 to -0.170 rad"):
        robot.reset()


def test_a_reflex_is_a_fault_and_a_new_target_is_none(dex_profile: HardwareProfile) -> None:
    rig = Rig(dex_profile, "dexhand021")
    rig.robot.reset()
    rig.franky.fails = ControlException("libfranka: Move command preempted!")
    rig.robot.observe(images=False)
    rig.franky.fails = ControlException("libfranka: cartesian_reflex")
    with pytest.raises(RobotFault, match="The arm stopped by itself: libfranka: cartesian_reflex"):
        rig.robot.observe(images=False)
    with pytest.raises(RobotFault, match="The arm refused a target"):
        rig.arm.go(MIDDLE, DOWN)
    rig.franky.fails, rig.franky.has_errors = None, True
    with pytest.raises(RobotFault, match="The arm reports an error"):
        rig.robot.observe(images=False)
    with pytest.raises(RobotFault, match="does not recover"):
        rig.robot.reset()
    rig.franky.recovers = True
    rig.robot.reset()


def test_hold_brakes_gently_and_hard_where_that_fails(dex_profile: HardwareProfile) -> None:
    rig = Rig(dex_profile, "dexhand021")
    rig.robot.reset()
    rig.command(MIDDLE, DOWN, np.zeros(12))
    rig.robot.hold()
    assert type(rig.franky.calls[-1]).__name__ == "CartesianStopMotion"
    rig.command(MIDDLE, DOWN, np.zeros(12))
    rig.franky.fails = ControlException("no")
    rig.robot.hold()
    assert rig.franky.calls[-1] == "stop"


# ------------------------------------------------------------------------------------------------- DexHand 021


def test_angles_are_degrees_with_the_sign_of_the_profile(dex_profile: HardwareProfile) -> None:
    joints = list(dex_profile.hand.joints)
    joints[2] = joints[2].model_copy(update={"sign": -1})
    hand = dex_profile.hand.model_copy(update={"joints": tuple(joints)})
    rig = Rig(dex_profile.model_copy(update={"hand": hand}), "dexhand021")
    assert rig.dex.calls[:2] == [("feedback", ("periodic", 10, True)), ("clear", True)]
    rig.robot.reset()
    rig.command(MIDDLE, DOWN, np.radians(np.arange(12.0)))
    sent = rig.dex.calls[-1][1]
    assert sent == pytest.approx({name: (-i if i == 2 else i) for i, name in enumerate(DEX_JOINTS)})
    np.testing.assert_allclose(rig.robot.observe(images=False).hand, np.radians(np.arange(12.0)), atol=1e-12)


def test_a_board_that_falls_silent_shows_in_the_stamp(dex_profile: HardwareProfile) -> None:
    rig = Rig(dex_profile, "dexhand021")
    rig.robot.reset()
    rig.dex.mute = {3}
    for _ in range(5):
        rig.clock.t += 0.1
        reading = rig.robot.observe(images=False)
    assert rig.clock.t - reading.t == pytest.approx(0.5)
    guarded = GuardedRobot.from_profile(rig.robot, dex_profile, clock=rig.clock)
    guarded.reset()
    guarded.command(Target(MIDDLE + 0.01, DOWN, np.zeros(12)), deadline=rig.clock.t + 0.2)
    assert guarded.changed[0].startswith("hold: robot silent for 0.500 s")


def test_a_hand_that_reports_an_error_is_a_fault(dex_profile: HardwareProfile) -> None:
    rig = Rig(dex_profile, "dexhand021")
    rig.dex.errors = {4: "overcurrent"}
    with pytest.raises(RobotFault, match=r"Boards of the hand report errors: \{4: 'overcurrent'\}"):
        rig.robot.observe(images=False)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ({"opens": False}, "CAN adapter cannot be opened"),
        ({"powered": False}, "No angle of th_dip, th_mcp, th_rot, .* within 2 s"),
    ],
)
def test_a_hand_that_does_not_come_up(
    trouble: dict[str, bool], says: str, dex_profile: HardwareProfile
) -> None:
    from dexhand021 import DexHand021

    clock = FakeClock()
    with pytest.raises(DeviceError, match=says):
        DexHand021(DexHand(clock, **trouble), "periodic", dex_profile, clock, clock.sleep)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- Inspire


def test_registers_go_from_open_to_closed(inspire_profile: HardwareProfile) -> None:
    rig = Rig(inspire_profile, "inspire")
    assert rig.modbus.calls == [(1004, [1]), (1522, [500] * 6), (1498, [300] * 6)]
    rig.robot.reset()
    rig.command(MIDDLE, DOWN, np.array([0.0, 0.85, 1.5, 0.0, 0.25, 0.6]))
    assert rig.modbus.calls[-1] == (1486, [1000, 500, 118, 1000, 500, 500])
    hand = rig.robot.observe(images=False).hand
    np.testing.assert_allclose(hand, [0.0, 0.85, 1.5, 0.0, 0.25, 0.6], atol=1e-3)
    rig.robot.hold()
    assert rig.modbus.calls[-1] == (1486, [1000, 500, 118, 1000, 500, 500])
    rig.robot.close()
    assert rig.modbus.closed


def test_a_blocked_motor_and_a_lost_line_are_faults(inspire_profile: HardwareProfile) -> None:
    rig = Rig(inspire_profile, "inspire")
    rig.modbus.registers[1607] = 0x0100
    with pytest.raises(RobotFault, match=r"Motors \[3\] of the hand are blocked or hot"):
        rig.robot.observe(images=False)
    rig.modbus.registers[1607] = 0
    rig.modbus.refuses = True
    with pytest.raises(RobotFault, match="refused to read register 1546"):
        rig.robot.observe(images=False)
    rig.modbus.broken = True
    with pytest.raises(RobotFault, match=r"Register 1546 of the hand cannot be read: gone"):
        rig.robot.observe(images=False)
    rig.robot.hold()  # does not raise
    with pytest.raises(DeviceError, match="The hand does not answer: Register 1004"):
        _connect(rig, inspire_profile)


def test_a_profile_beyond_the_hand_is_refused(inspire_profile: HardwareProfile) -> None:
    from inspire import InspireHand

    joints = list(inspire_profile.hand.joints)
    joints[4] = joints[4].model_copy(update={"high": 1.0})
    hand = inspire_profile.hand.model_copy(update={"joints": tuple(joints)})
    with pytest.raises(DeviceError, match="thumb_bend may go farther than the hand does"):
        InspireHand(Modbus(), inspire_profile.model_copy(update={"hand": hand}))


# ------------------------------------------------------------------------------------------------- together


def test_one_part_that_fails_does_not_keep_the_other_from_stopping(
    dex_profile: HardwareProfile, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(dex_profile, "dexhand021")
    rig.robot.reset()
    rig.command(MIDDLE, DOWN, np.zeros(12))

    def fails() -> None:
        raise OSError("gone")

    rig.arm.stop = fails
    rig.robot.hold()
    assert rig.dex.calls[-1][0] == "move"
    assert "A part of the robot failed to stop; use the emergency stop" in caplog.text


@pytest.mark.parametrize("name", ["franka_dexhand021", "franka_inspire"])
def test_without_the_makers_packages_it_says_what_to_install(name: str, dex_profile: HardwareProfile) -> None:
    with pytest.raises(DeviceError, match=r"No module named 'franky'.*pip install franky-control"):
        load_driver(f"{name}:connect", dex_profile)


def test_the_examples_profile_is_a_starting_point() -> None:
    profile = load_profile(EXAMPLES / "franka_inspire.toml")
    assert profile.action_spec.dim == 12
    assert profile.calibration.verified_by == ""


def _connect(rig: Rig, profile: HardwareProfile) -> None:
    from inspire import InspireHand

    InspireHand(rig.modbus, profile)


# ------------------------------------------------------------------------------------------------- cameras


def test_a_camera_gives_its_latest_image_with_the_time_it_arrived(dex_profile: HardwareProfile) -> None:
    from realsense import RealSense

    rs, clock = RealSenses(), FakeClock()
    rs.frames = [(np.full((480, 640, 3), k, np.uint8), 1000.0 + k) for k in (1, 2)]
    camera = RealSense(rs, "123", dex_profile.cameras[0], clock, lambda: 1001.25)
    assert rs.calls[:2] == [("device", "123"), ("stream", "color", 640, 480, "rgb8", 30)]
    clock.t = 100.5
    stamp, image = camera.read()
    assert (stamp, int(image[0, 0, 0]), image.shape) == (
        100.5,
        2,
        (480, 640, 3),
    )  # arrived after now: not younger
    clock.t = 103.0
    assert camera.read()[0] == 100.5  # it stopped: what was seen last grows old
    rs.frames = [(np.full((480, 640, 3), 3, np.uint8), 1001.0)]
    assert camera.read()[0] == pytest.approx(103.0 - 0.25)
    rs.frames = [(np.full((480, 640, 3), 4, np.uint8), 0.0)]  # a camera that does not tell
    assert camera.read()[0] == 103.0
    rs.broken = True
    with pytest.raises(RobotFault, match="Camera scene is gone: No device connected"):
        camera.read()
    camera.close()
    assert rs.calls[-1] == "stop"


def test_cameras_that_cannot_be_opened_leave_none_open(dex_profile: HardwareProfile) -> None:
    from realsense import open_cameras

    rs = RealSenses()
    rs.frames = [(np.zeros((480, 640, 3), np.uint8), 1.0)]
    with pytest.raises(DeviceError, match="Camera wrist has no serial number"):
        open_cameras(rs, {"scene": "1", "wrist": ""}, dex_profile)
    assert rs.calls[-1] == "stop"
    rs.broken = True
    with pytest.raises(DeviceError, match=r"Camera scene \(1\) does not start: No device connected"):
        open_cameras(rs, {"scene": "1", "wrist": "2"}, dex_profile)


def test_the_whole_robot_with_its_cameras_keeps_the_contract(dex_profile: HardwareProfile) -> None:
    from parts import ArmWithHand
    from realsense import RealSense

    rig, rs = Rig(dex_profile, "dexhand021"), RealSenses()
    rs.frames = [(np.zeros((480, 640, 3), np.uint8), 0.0)] * 1000
    cameras = [RealSense(rs, "1", camera, rig.clock) for camera in dex_profile.cameras]
    whole = ArmWithHand(dex_profile, rig.arm, rig.hand, cameras, rig.clock)
    robot = within_limits(whole, dex_profile, clock=rig.clock)
    check_robot(lambda: robot, wait=rig.clock.sleep, clock=rig.clock)
    assert rs.calls.count("stop") == 2
