"""A Franka arm through franky (`pip install franky-control`), written against version 2.0.0 and never run on an arm.

The arm's own 1 kHz loop plans from one target to the next within limits that are set here from the profile, so a
target that stays away leaves the arm at the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import DeviceError, RobotFault
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.frames import matrix_of, quaternion_of

F64 = NDArray[np.float64]

LIMITS = {
    "translation_velocity_limit": "tcp_speed",
    "translation_acceleration_limit": "acceleration",
    "translation_jerk_limit": "jerk",
    "rotation_velocity_limit": "rotation_speed",
    "rotation_acceleration_limit": "rotation_acceleration",
    "rotation_jerk_limit": "rotation_jerk",
}
"""franky's limits, and the keys of the profile that they are set from."""
MARGIN = 1.5
"""The arm may be this much faster than its targets, or it would fall behind them for ever."""


class FrankaArm:
    """The arm; franky: the module, robot: a franky.Robot.

    tool_point: float [3], m, the controlled point in the frame that is set as end effector in the arm's own settings.
    Raises DeviceError if the limits cannot be set, because the arm is being moved by somebody else.
    """

    def __init__(
        self, franky: Any, robot: Any, profile: HardwareProfile, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._franky = franky
        self._robot = robot
        self._clock = clock
        self._tool_point = np.array(profile.calibration.tool_point)
        try:
            for name, key in LIMITS.items():
                limit = getattr(profile.limits, key)
                if limit is not None:
                    getattr(robot, name).set(MARGIN * limit)
            if profile.arm.joints is not None:
                robot.joint_velocity_limit.set([joint.rate for joint in profile.arm.joints])
        except RuntimeError as error:
            raise DeviceError(
                f"The arm's limits cannot be set: {error}.", "Is another program moving it? End that first."
            ) from error

    def recover(self) -> None:
        """Clear reflexes; a person has to have looked at why there was one."""
        if self._robot.has_errors and not self._robot.recover_from_errors():
            raise RobotFault("The arm does not recover from its errors.", "Look at its Desk page.")

    def read(self) -> tuple[float, F64, F64]:
        """Return stamp, position and rotation of the tool; raises RobotFault after a reflex or a lost connection."""
        try:
            self._robot.poll_motion()
        except self._franky.ControlException as error:
            if not self._preempted(error):
                raise RobotFault(f"The arm stopped by itself: {error}.", "Look why, then reset.") from error
        if self._robot.has_errors:
            raise RobotFault("The arm reports an error.", "Look at its Desk page, then reset.")
        pose = self._robot.current_pose.end_effector_pose
        rotation = matrix_of(np.asarray(pose.quaternion, np.float64).ravel())
        position = np.asarray(pose.translation, np.float64).ravel() + rotation @ self._tool_point
        return self._clock(), position, rotation

    def joints(self) -> F64:
        """Return the measured joints [7], rad."""
        return np.asarray(self._robot.current_joint_positions, np.float64).ravel()

    def go(self, position: F64, rotation: F64) -> None:
        """Let the arm plan from where it is, and how fast it is, to a pose of the tool."""
        flange = position - rotation @ self._tool_point
        target = self._franky.Affine(flange, quaternion_of(rotation))
        motion = self._franky.CartesianMotion(target, return_when_finished=False)
        try:
            self._robot.move(motion, asynchronous=True)
        except self._franky.ControlException as error:
            raise RobotFault(f"The arm refused a target: {error}.", "Look why, then reset.") from error

    def stop(self) -> None:
        """Brake within the arm's limits; where that is refused, as hard as it can."""
        if not self._robot.is_in_control:
            return
        try:
            self._robot.move(self._franky.CartesianStopMotion(), asynchronous=True)
        except self._franky.ControlException:
            self._robot.stop()

    def close(self) -> None:
        """End the motion; the connection ends with the object."""
        self._robot.stop()

    @staticmethod
    def _preempted(error: Exception) -> bool:
        """Tell whether a motion only ended because the next one began."""
        return "preempted" in str(error)
