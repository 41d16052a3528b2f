"""A clock that moves when told, and a robot that goes at once where it is sent unless it is made to misbehave."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from bora_cli.profiles import find_profile, load_profile
from bora_cli.robot.protocol import CameraSpec, Reading, RobotSpec, Target, require_joints

PROFILE = load_profile("franka_dexhand021")
DOWN = np.diag([1.0, -1.0, -1.0])
MIDDLE = np.array([0.48, 0.0, 0.25])
OPEN = np.array(PROFILE.postures["open"])
ARM = np.array([0.0, -0.35, 0.0, -2.35, 0.0, 2.0, 0.785])
"""Measured joints of the fake robot's arm, which stand still whatever the tool does."""
SPEC = RobotSpec(
    "fake",
    tuple(joint.name for joint in PROFILE.hand.joints),
    tuple(joint.low for joint in PROFILE.hand.joints),
    tuple(joint.high for joint in PROFILE.hand.joints),
    PROFILE.dt,
    (CameraSpec("scene", 4, 6),),
)


def completed_profile() -> str:
    """Return the text of the shipped profile of a real robot as a lab would have completed and signed it."""
    text = find_profile("franka_dexhand021").read_text()
    text = re.sub(r'(\{ name = "(?:th|ff|mf|rf|lf)_\w+",)', r"\1 sign = 1,", text)
    return text.replace('verified_by = ""', 'verified_by = "A. Person, 2026-11-21"')


@dataclass
class FakeClock:
    """Seconds that pass when somebody sleeps or says so."""

    t: float = 100.0

    def __call__(self) -> float:
        return self.t

    def sleep(self, seconds: float) -> None:
        self.t += seconds


@dataclass
class FakeRobot:
    """A robot without inertia; `targets` are those it took, `holds` when it was told to hold."""

    clock: FakeClock
    spec: RobotSpec = SPEC
    at: Target = field(default_factory=lambda: Target(MIDDLE.copy(), DOWN.copy(), OPEN.copy()))
    targets: list[Target] = field(default_factory=list)
    holds: list[float] = field(default_factory=list)
    closed: bool = False
    age: float = 0.0
    image_age: float = 0.0
    broken: str = ""

    def reset(self) -> Reading:
        return self.observe(images=False)

    def observe(self, images: bool = True) -> Reading:
        if self.broken == "observe":
            raise OSError("the cable is out")
        now = self.clock()
        bad = np.full(3, np.nan) if self.broken == "nan" else self.at.position.copy()
        at = Target(self.at.position.copy(), self.at.rotation.copy(), self.at.hand.copy())
        pictures = {"scene": np.zeros((4, 6, 3), np.uint8)} if images else {}
        stamps = dict.fromkeys(pictures, now - self.image_age)
        return Reading(now - self.age, bad, at.rotation, at.hand.copy(), at, pictures, stamps, ARM.copy())

    def command(self, target: Target, *, deadline: float) -> Target:
        require_joints(target, self.spec)
        if self.broken == "command":
            raise OSError("the cable is out")
        if target.sound and self.clock() <= deadline:
            low = MIDDLE - 0.01 if self.broken == "clamps" else -np.inf
            position = np.maximum(target.position, low)
            self.at = Target(position, target.rotation.copy(), target.hand.copy())
            self.targets.append(self.at)
        return self.at

    def hold(self) -> None:
        self.holds.append(self.clock())
        if self.broken == "hold":
            raise OSError("the cable is out")

    def close(self) -> None:
        self.closed = True
