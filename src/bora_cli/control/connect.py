"""A robot inside the limits of a profile, wherever these are kept: behind its server, or on this side of the wire."""

from __future__ import annotations

import time
from collections.abc import Callable

from bora_cli.control.flight import FlightRecorder
from bora_cli.control.guard import GuardedRobot
from bora_cli.errors import SchemaMismatch
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.protocol import Robot, RobotSpec

REMEDY = "Use the profile that this robot was set up with."


def within_limits(
    robot: Robot,
    profile: HardwareProfile,
    *,
    kept: str = "",
    recorder: FlightRecorder | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Robot:
    """Return a robot that keeps the limits of a profile: itself where its server does so, else behind a guard.

    kept: hash of the profile whose limits the other side keeps (`RemoteRobot.guarded`), "" for none.
    Raises SchemaMismatch if the robot is not that of the profile, or is kept in the limits of another one.
    """
    require_profile(robot.spec, profile)
    if not kept:
        return GuardedRobot.from_profile(robot, profile, clock=clock, recorder=recorder)
    if kept != profile.hash:
        raise SchemaMismatch(
            f"The robot server keeps the limits of a profile with hash {kept}; '{profile.name}' has {profile.hash}.",
            "Give both sides the same profile: `bora profile show` prints the hash.",
        )
    return robot


def require_profile(spec: RobotSpec, profile: HardwareProfile) -> None:
    """Raise SchemaMismatch unless a robot has the joints, the period and the cameras that a profile says."""
    joints = tuple(joint.name for joint in profile.hand.joints)
    cameras = {camera.name for camera in spec.cameras}
    missing = [camera.name for camera in profile.cameras if camera.name not in cameras]
    if spec.joints != joints:
        what = f"joints {', '.join(spec.joints)}; expected {', '.join(joints)}"
    elif abs(spec.dt - profile.dt) > 1e-6:
        what = f"a period of {spec.dt:g} s; expected {profile.dt:g} s"
    elif missing:
        what = f"no camera {', '.join(missing)}; it has {', '.join(sorted(cameras)) or 'none'}"
    else:
        return
    raise SchemaMismatch(
        f"Robot '{spec.name}' and profile '{profile.name}' differ: the robot has {what}.", REMEDY
    )
