"""Arms in memory: three slides and three wrist angles, as LeRobot, HIL-SERL and Gymnasium would have them.

With LeRobot installed the robot is a subclass of LeRobot's own base class, otherwise it only looks like one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bora_cli.robot.frames import rotation_of, vector_of
from bora_cli.robot.lerobot import Finger, LeRobotRobot
from bora_cli.robot.protocol import Robot

DOWN = np.diag([1.0, -1.0, -1.0])
START = np.array([0.48, 0.0, 0.25])
ARM = ("slide_x", "slide_y", "slide_z", "wrist_x", "wrist_y", "wrist_z")
PER_METRE = 100.0
"""Degrees of a motor per metre of its slide."""
DEGREE = np.pi / 180


class Kinematics:
    """What `lerobot.model.kinematics.RobotKinematics` offers, for the gantry; each call goes most of the way."""

    def forward_kinematics(self, joints: Any) -> Any:
        frame = np.eye(4)
        frame[:3, 3] = START + np.asarray(joints[:3]) / PER_METRE
        frame[:3, :3] = rotation_of(np.asarray(joints[3:6]) * DEGREE) @ DOWN
        return frame

    def inverse_kinematics(self, current: Any, pose: Any) -> Any:
        wanted = np.empty(6)
        wanted[:3] = (pose[:3, 3] - START) * PER_METRE
        wanted[3:] = vector_of(pose[:3, :3] @ DOWN.T) / DEGREE
        return np.asarray(current) + 0.7 * (np.clip(wanted, -60, 60) - current)


class Motors:
    """Motors that are at once where they are sent; `sent` are the actions, broken what fails."""

    def __init__(self) -> None:
        self.at = {f"{name}.pos": 0.0 for name in (*ARM, "gripper")}
        self.sent: list[dict[str, float]] = []
        self.connected = False
        self.broken = ""

    def observe(self) -> dict[str, Any]:
        if self.broken == "observe":
            raise ConnectionError("no status packet")
        return {**self.at, "scene": np.full((4, 6, 3), 7, np.uint8), "wrist": np.full((4, 6, 3), 9, np.uint8)}

    def send(self, action: dict[str, float]) -> dict[str, float]:
        if self.broken == "send":
            raise ConnectionError("no status packet")
        assert set(action) == set(self.at)
        self.at = dict(action)
        self.sent.append(dict(action))
        return dict(action)


FEATURES: dict[str, Any] = {f"{name}.pos": float for name in (*ARM, "gripper")}
CAMERAS: dict[str, Any] = {"scene": (4, 6, 3), "wrist": (4, 6, 3)}


class Lookalike:
    """The part of LeRobot's `Robot` that is used."""

    name = "gantry"
    observation_features = FEATURES | CAMERAS
    action_features = FEATURES

    def __init__(self) -> None:
        self.motors = Motors()

    @property
    def is_connected(self) -> bool:
        return self.motors.connected

    def connect(self, calibrate: bool = True) -> None:
        assert not calibrate
        self.motors.connected = True

    def get_observation(self) -> dict[str, Any]:
        return self.motors.observe()

    def send_action(self, action: dict[str, float]) -> dict[str, float]:
        return self.motors.send(action)

    def disconnect(self) -> None:
        self.motors.connected = False


def genuine() -> Any:
    """Return the gantry as a subclass of LeRobot's robot; raises ImportError where LeRobot is not installed."""
    from lerobot.robots import Robot as LeRobot
    from lerobot.robots import RobotConfig

    class Gantry(LeRobot):
        config_class = RobotConfig
        name = "gantry"

        def __init__(self) -> None:
            super().__init__(RobotConfig(id="test"))
            self.motors = Motors()

        observation_features = property(lambda self: FEATURES | CAMERAS)
        action_features = property(lambda self: FEATURES)
        is_connected = property(lambda self: self.motors.connected)
        is_calibrated = property(lambda self: True)

        def connect(self, calibrate: bool = True) -> None:
            self.motors.connected = True

        def calibrate(self) -> None:
            pass

        def configure(self) -> None:
            pass

        def get_observation(self) -> dict[str, Any]:
            return self.motors.observe()

        def send_action(self, action: dict[str, float]) -> dict[str, float]:
            return self.motors.send(action)

        def disconnect(self) -> None:
            self.motors.connected = False

    return Gantry()


def adapted(robot: Any, **options: Any) -> LeRobotRobot:
    return LeRobotRobot(robot, Kinematics(), arm=ARM, fingers=[Finger("gripper")], **options)


def connect(profile: Any) -> Robot:
    """Make the genuine one; for `python -m bora_cli.robot.bare gantry:connect`."""
    return adapted(genuine())


def connect_lookalike(profile: Any) -> Robot:
    return adapted(Lookalike())
