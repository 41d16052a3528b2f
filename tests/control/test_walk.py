"""The walk before a session: what a person answers, sees and pushes, and every way in which a rig is not ready."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from bora_cli.control.guard import GuardedRobot
from bora_cli.control.walk import Step, walk
from bora_cli.input.device import DeviceSample
from bora_cli.robot.protocol import CameraSpec, Reading, Robot, Target
from bora_cli.types import U8
from robot_fakes import DOWN, MIDDLE, OPEN, PROFILE, SPEC, FakeClock, FakeRobot

AWAY = np.array([0.0, 0.0, 0.004])
ONE_CAMERA = PROFILE.model_copy(update={"cameras": PROFILE.cameras[:1]})


@dataclass
class Rig(FakeRobot):
    """A fake robot whose picture is grey noise; fault: what is wrong with it."""

    fault: str = ""
    resets: int = 0

    def reset(self) -> Reading:
        self.resets += 1
        return super().reset()

    def observe(self, images: bool = True) -> Reading:
        if self.fault == "runs away" and self.targets:
            self.at = Target(self.at.position + AWAY, self.at.rotation, self.at.hand)
        reading = super().observe(images)
        rng = np.random.default_rng(round(self.clock.t * 100))
        for name in reading.images:
            dark = self.fault == "dark"
            reading.images[name] = rng.integers(0, 4 if dark else 256, (48, 64, 3)).astype(np.uint8)
            if self.fault == "frozen":
                reading.stamps[name] = 100.0
            if self.fault == "stuck":
                reading.stamps[name] = round(reading.stamps[name])
        if self.fault in ("bent", "armless"):
            return replace(reading, arm=np.zeros(7) if self.fault == "bent" else None)
        return reading

    def command(self, target: Target, *, deadline: float) -> Target:
        if self.fault == "lame":
            return self.at
        return super().command(target, deadline=deadline)


@dataclass
class Companion:
    """Somebody who says yes, except to questions with a word of `refuses` in them."""

    refuses: str = "no such word"
    told: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    def tell(self, text: str) -> None:
        self.told.append(text)

    def asks(self, question: str) -> bool:
        self.asked.append(question)
        return self.refuses not in question

    def shows(self, camera: str, image: U8) -> str:
        self.shown.append(camera)
        return f"{camera}.png"


@dataclass
class Cap:
    """A cap that is pushed as the companion was told last; wrong: how it lies."""

    companion: Companion
    wrong: str = ""
    name: str = "cap"
    frame: str = "view"
    trouble: str = ""

    def begin(self) -> None:
        self.reads = 0

    def read(self, now: float) -> DeviceSample | None:
        self.reads += 1
        twist = np.zeros(6)
        words = ("away", "left", "up, ")
        asked = [axis for axis, word in enumerate(words) if word in self.companion.told[-1]]
        if self.wrong == "drifts":
            twist[3] = 0.1
        if asked and self.wrong != "deaf" and self.reads % 20 > 10:
            axis = {"swapped": 1 - asked[0]}.get(self.wrong, asked[0])
            twist[axis] = -0.8 if self.wrong == "mirrored" else 0.8
        return DeviceSample(now, twist)

    def close(self) -> None:
        pass


def walked(
    fault: str = "", refuses: str = "no such word", wrong: str | None = None
) -> tuple[dict[str, Step], Rig, Companion]:
    clock = FakeClock()
    cameras = (CameraSpec("scene", 48, 64),)
    rig = Rig(clock, spec=SPEC.__class__(**{**vars(SPEC), "cameras": cameras}), fault=fault)
    if fault == "outside":
        rig.at = Target(MIDDLE + 1.0, DOWN, OPEN)
    if fault == "old":
        rig.age = 0.7
    companion = Companion(refuses)
    devices = [] if wrong is None else [Cap(companion, wrong)]
    robot: Robot = GuardedRobot.from_profile(rig, ONE_CAMERA, clock=clock)
    if fault == "armless":
        robot = rig  # a guard would have refused it before
    steps = list(walk(robot, ONE_CAMERA, devices, companion, clock=clock, wait=clock.sleep))
    return {step.name: step for step in steps}, rig, companion


def test_a_rig_that_is_ready() -> None:
    steps, rig, companion = walked(wrong="")
    assert list(steps) == ["limits", "robot", "emergency stop", "camera scene", "device cap", "stop"]
    assert {step.state for step in steps.values()} == {"ok"}, steps
    assert companion.shown == ["scene"]
    assert "hold: at rest after" in steps["stop"].detail
    assert "silence: at rest after" in steps["stop"].detail
    assert steps["robot"].detail.startswith("fake, tool at 0.480, 0.000, 0.250 m")
    assert rig.holds


@pytest.mark.parametrize(
    ("refuses", "step", "says"),
    [
        ("limits of this rig", "limits", "not agreed to: workspace 0.3 to 0.65 x"),
        ("Press the emergency stop", "emergency stop", "saw no stop; do not use this robot"),
        ("Release it", "emergency stop", "it stopped; not ready again, or not in reach"),
        ("Is this camera", "camera scene", "not what the person expects"),
    ],
)
def test_a_no_is_a_failure_and_nothing_moves_without_a_stop(refuses: str, step: str, says: str) -> None:
    steps, rig, _ = walked(refuses=refuses)
    assert steps[step].state == "fail"
    assert says in steps[step].detail
    if "camera" not in step:
        assert steps["stop"].state == "skipped"
        assert not rig.targets


def test_a_person_may_want_no_motion() -> None:
    steps, rig, _ = walked(refuses="may it move?")
    assert (steps["stop"].state, steps["stop"].detail) == ("skipped", "the person did not want it to move")
    assert steps["device"].state == "skipped"
    assert not rig.targets


@pytest.mark.parametrize(
    ("fault", "step", "says"),
    [
        ("old", "robot", "its measurement is 0.700 s old, allowed 0.2 s"),
        ("outside", "robot", "it stands outside its limits: tool at"),
        ("bent", "robot", "it stands outside its limits: arm joint joint4 at 0.000 rad, allowed"),
        ("armless", "robot", "the profile limits the joints of the arm, and the robot does not measure them"),
        ("frozen", "camera scene", "old, allowed 0.3 s"),
        ("stuck", "camera scene", "old, allowed 0.3 s"),
        ("dark", "camera scene", "its image is of one colour"),
        ("lame", "stop", "it did not move before the stop by hold"),
        ("runs away", "stop", "after the stop by hold it went on"),
    ],
)
def test_a_robot_that_is_not_ready(fault: str, step: str, says: str) -> None:
    steps, _, _ = walked(fault)
    assert steps[step].state == "fail"
    assert says in steps[step].detail


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("drifts", "it moves by itself: +0.10 on roll"),
        ("deaf", "no push away from you within 20 s"),
        ("swapped", "pushed away from you, it said +0.80 on y; expected +x"),
        ("mirrored", "pushed away from you, it said -0.80 on x; expected +x"),
    ],
)
def test_a_device_that_is_not_ready(wrong: str, says: str) -> None:
    steps, _, _ = walked(wrong=wrong)
    assert steps["device cap"].state == "fail"
    assert says in steps["device cap"].detail


@pytest.mark.parametrize(
    ("broken", "says"),
    [("nan", "measured numbers that are not finite"), ("observe", "OSError: the cable is out")],
)
def test_a_robot_that_fails_is_a_step_that_failed(broken: str, says: str) -> None:
    clock = FakeClock()
    rig = Rig(clock, broken=broken)
    robot = GuardedRobot.from_profile(rig, ONE_CAMERA, clock=clock)
    done = walk(robot, ONE_CAMERA, [], Companion(), clock=clock, wait=clock.sleep)
    steps = {step.name: step for step in done}
    assert says in steps["robot"].detail
    assert steps["stop"].state == "skipped"
