"""A LeRobot robot as a robot: its joints follow poses of the tool.

This runs in LeRobot's environment, needs numpy only, and takes LeRobot's objects by what they can do: the robot by
`get_observation`, `send_action`, `connect`, `disconnect`, `is_connected`; the kinematics by `forward_kinematics` and
`inverse_kinematics` in degrees, as `lerobot.model.kinematics.RobotKinematics` has them.  Written against lerobot 0.4.4,
and tried with a robot in memory that is a subclass of LeRobot's own; never on an arm.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import RobotFault
from bora_cli.robot.frames import orthonormal, vector_of
from bora_cli.robot.protocol import CameraSpec, Reading, RobotSpec, Target, require_joints

F64 = NDArray[np.float64]
LOGGER = logging.getLogger(__name__)
SOLVES = 20
"""Calls of an inverse kinematics that improves its guess a little with each."""
NEAR_M, NEAR_RAD = 5e-4, 5e-3
"""How near the joints have to bring the tool to a target, m and rad; a target that they do not reach moves nothing."""


@dataclass(frozen=True)
class Finger:
    """A joint of the hand, or a gripper: LeRobot's name and range, and ours.

    open, closed: LeRobot's numbers.  low, high: rad (of a gripper: 0 and 1), which they stand for.
    """

    name: str
    open: float = 0.0
    closed: float = 100.0
    low: float = 0.0
    high: float = 1.0

    def ours(self, value: float) -> float:
        """Return LeRobot's number in our unit."""
        return self.low + (value - self.open) / (self.closed - self.open) * (self.high - self.low)

    def theirs(self, angle: float) -> float:
        """Return an angle of ours, kept in its range, as LeRobot's number."""
        share = (min(max(angle, self.low), self.high) - self.low) / (self.high - self.low)
        return self.open + share * (self.closed - self.open)


class LeRobotRobot:
    """A LeRobot robot behind the seam of a robot.

    robot: LeRobot's.  kinematics: of its arm.  arm: names of the arm's joints in the order of the kinematics, whose
    numbers are degrees (`use_degrees=True` in LeRobot's configuration).  fingers: joints of the hand.  dt: s.  tool:
    float64 [3], m, the controlled point in the frame of the kinematics.  cameras: those of LeRobot's to pass on; all by
    default.  largest_step: degrees that a joint may be sent at once; what asks for more (another branch of the inverse
    kinematics, a singular pose) moves nothing.  clock: s.
    """

    def __init__(
        self,
        robot: Any,
        kinematics: Any,
        *,
        arm: Sequence[str],
        fingers: Sequence[Finger],
        dt: float = 0.1,
        tool: Sequence[float] = (0.0, 0.0, 0.0),
        cameras: Sequence[str] | None = None,
        largest_step: float = 12.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        shapes = {key: what for key, what in robot.observation_features.items() if isinstance(what, tuple)}
        chosen = list(shapes) if cameras is None else list(cameras)
        self.spec = RobotSpec(
            name=str(robot.name),
            joints=tuple(finger.name for finger in fingers),
            low=tuple(finger.low for finger in fingers),
            high=tuple(finger.high for finger in fingers),
            dt=dt,
            cameras=tuple(CameraSpec(name, int(shapes[name][0]), int(shapes[name][1])) for name in chosen),
        )
        self._robot, self._kinematics = robot, kinematics
        self._arm, self._fingers = tuple(arm), tuple(fingers)
        self._tool = np.asarray(tool, np.float64)
        self._largest_step = largest_step
        self._clock = clock
        self._target: Target | None = None
        self._sent: F64 | None = None
        self._closed = False

    def reset(self) -> Reading:
        """Connect if that was not done, without calibrating, and be at rest where the robot stands."""
        if not self._robot.is_connected:
            self._robot.connect(calibrate=False)
        self._closed, self._target, self._sent = False, None, None
        return self.observe(images=False)

    def observe(self, images: bool = True) -> Reading:
        """Return what LeRobot measures; it reads its cameras whether they are wanted or not."""
        if not self._robot.is_connected:
            raise RobotFault(f"{self.spec.name} is not connected.", "Reset it, which connects.")
        now = self._clock()
        seen = self._robot.get_observation()
        joints = np.array([float(seen[f"{name}.pos"]) for name in self._arm])
        position, rotation = self._pose(joints)
        hand = np.array([finger.ours(float(seen[f"{finger.name}.pos"])) for finger in self._fingers])
        if self._target is None:
            self._target = Target(position, rotation, np.clip(hand, self.spec.low, self.spec.high))
            self._sent = joints
        pictures = {c.name: np.array(seen[c.name], np.uint8) for c in self.spec.cameras} if images else {}
        stamps, at = dict.fromkeys(pictures, now), np.radians(joints)
        return Reading(now, position, rotation, hand, _copy(self._target), pictures, stamps, at)

    def arm_along(self, positions: F64, rotations: F64) -> F64:
        """Return joints [1 + K, N], rad: those sent last, then those along a way; NaN from where it cannot follow."""
        if self._sent is None:
            self.observe(images=False)
        assert self._sent is not None
        rows, sent = np.full((1 + len(positions), len(self._arm)), np.nan), self._sent
        rows[0] = sent
        for row, (position, rotation) in enumerate(zip(positions, rotations, strict=True), 1):
            joints = self._joints(Target(position, rotation, np.zeros(0)), sent)
            if joints is None:
                break
            rows[row] = sent = joints
        return np.radians(rows)

    def command(self, target: Target, *, deadline: float) -> Target:
        """Send joints that bring the tool to a target; one that is late, nonsense or out of reach moves nothing."""
        require_joints(target, self.spec)
        if self._closed:
            raise RobotFault(f"{self.spec.name} is closed.", "Connect again.")
        if self._target is None:
            self.observe(images=False)
        assert self._target is not None
        if target.sound and self._clock() <= deadline:
            joints = self._joints(target, self._sent)
            if joints is not None:
                hand = np.clip(target.hand, self.spec.low, self.spec.high)
                self._send(joints, hand)
                self._target, self._sent = _copy(Target(target.position, target.rotation, hand)), joints
        return _copy(self._target)

    def hold(self) -> None:
        """Send the joints where they are measured; LeRobot's motors then keep them there."""
        self._target = self._sent = None
        if self._closed:
            return
        try:
            if self._robot.is_connected:
                seen = self._robot.get_observation()
                names = (*self._arm, *(finger.name for finger in self._fingers))
                self._robot.send_action({f"{name}.pos": float(seen[f"{name}.pos"]) for name in names})
        except Exception:
            LOGGER.exception("%s failed to hold; use the emergency stop", self.spec.name)

    def close(self) -> None:
        """Hold and disconnect.  Most of LeRobot's arms let their motors go then: support the arm."""
        self.hold()
        if not self._closed:
            self._closed = True
            try:
                if self._robot.is_connected:
                    self._robot.disconnect()
            except Exception:
                LOGGER.exception("%s did not disconnect", self.spec.name)

    def _pose(self, joints: F64) -> tuple[F64, F64]:
        frame = np.asarray(self._kinematics.forward_kinematics(joints), np.float64)
        rotation = orthonormal(frame[:3, :3])
        return frame[:3, 3] + rotation @ self._tool, rotation

    def _joints(self, target: Target, sent: F64 | None) -> F64 | None:
        """Return the joints, degrees, that reach a target from those sent before; None if there are none near."""
        assert sent is not None
        wanted = np.eye(4)
        wanted[:3, :3], wanted[:3, 3] = target.rotation, target.position - target.rotation @ self._tool
        joints = sent
        for _ in range(SOLVES):
            joints = np.asarray(self._kinematics.inverse_kinematics(joints, wanted), np.float64)
            position, rotation = self._pose(joints)
            off = np.linalg.norm(position - target.position)
            if off <= NEAR_M and np.linalg.norm(vector_of(rotation @ target.rotation.T)) <= NEAR_RAD:
                step = float(np.abs(joints - sent).max())
                if step <= self._largest_step:
                    return joints
                LOGGER.warning("%s: a joint would jump by %.0f degrees; not sent", self.spec.name, step)
                return None
        LOGGER.warning("%s does not reach %s m; not sent", self.spec.name, np.round(target.position, 3))
        return None

    def _send(self, joints: F64, hand: F64) -> None:
        action = {f"{name}.pos": float(angle) for name, angle in zip(self._arm, joints, strict=True)}
        for finger, angle in zip(self._fingers, hand, strict=True):
            action[f"{finger.name}.pos"] = finger.theirs(float(angle))
        try:
            self._robot.send_action(action)
        except Exception as error:
            raise RobotFault(
                f"{self.spec.name} refused an action: {error}.", "Look at its motors."
            ) from error


def _copy(target: Target) -> Target:
    return Target(target.position.copy(), target.rotation.copy(), target.hand.copy())
