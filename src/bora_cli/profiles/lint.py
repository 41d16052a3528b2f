"""What is probably wrong with a profile that is well formed, found before anything moves.

Every remark names the key it is about.  "error": it contradicts itself or the world.  "unfit": something is missing
without which no real robot may move.  "warning": somebody should look.  The simulator is asked less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bora_cli.profiles.schema import HardwareProfile

HAND_JOINTS: dict[str, tuple[str, ...]] = {
    "dexhand021": (
        "th_dip", "th_mcp", "th_rot", "ff_spr", "ff_dip", "ff_mcp",
        "mf_dip", "mf_mcp", "rf_dip", "rf_mcp", "lf_dip", "lf_mcp",
    ),
    "inspire_rh56": ("little", "ring", "middle", "index", "thumb_bend", "thumb_rotation"),
}  # fmt: skip
"""The joints of hands whose interface is known, in the order of that interface."""

NEEDED = (
    "acceleration",
    "jerk",
    "rotation_acceleration",
    "rotation_jerk",
    "soft_start",
    "cone_angle",
    "fingertips",
    "watchdog_robot",
    "watchdog_cameras",
)
"""Limits without which a real robot does not move; what a profile does not give is not limited."""
TURNS = 2 * np.pi + 1e-6
"""Farthest end of an arm joint's range that is no slip of the pen, rad."""
FAST = 4 * np.pi
"""Rate of an arm joint above which somebody should look, rad/s."""


class Remark(NamedTuple):
    """level, what is remarked, and the key it is about, as a path into the profile."""

    level: Literal["error", "unfit", "warning"]
    message: str
    key: tuple[int | str, ...]


def lint(profile: HardwareProfile) -> Iterator[Remark]:
    """Yield what is suspicious about a robot's profile."""
    yield from _units(profile)
    yield from _joints(profile)
    yield from _arm_joints(profile)
    yield from _reachable(profile)
    yield from _fingertips(profile)
    yield from _times(profile)
    yield from _signs(profile)
    if profile.robot.driver != "sim":
        yield from _missing(profile)


def _units(profile: HardwareProfile) -> Iterator[Remark]:
    limits = profile.limits
    for number, joint in enumerate(profile.hand.joints):
        if max(abs(joint.low), abs(joint.high)) > 2 * np.pi:
            yield Remark(
                "error",
                f"joint {joint.name} may go from {joint.low:g} to {joint.high:g} rad, more than a turn;"
                " were degrees written as rad?",
                ("hand", "joints", number),
            )
        if joint.rate is not None and joint.rate > limits.hand_rate:
            yield Remark(
                "warning",
                f"joint {joint.name} has a rate of {joint.rate:g} rad/s, above limits.hand_rate"
                f" {limits.hand_rate:g} rad/s, which is what counts",
                ("hand", "joints", number),
            )
    span = np.array(limits.workspace_high) - np.array(limits.workspace_low)
    if span.max() > 3.0:
        yield Remark(
            "error",
            f"the workspace is {span.max():g} m long; were millimetres written as m?",
            ("limits", "workspace_high"),
        )
    if np.linalg.norm(profile.calibration.tool_point) > 0.5:
        yield Remark(
            "error",
            f"the tool point is {np.linalg.norm(profile.calibration.tool_point):g} m from the hand's flange;"
            " were millimetres written as m?",
            ("calibration", "tool_point"),
        )


def _joints(profile: HardwareProfile) -> Iterator[Remark]:
    known = HAND_JOINTS.get(profile.hand.driver)
    names = tuple(joint.name for joint in profile.hand.joints)
    if known is None or names == known:
        return
    missing, strange = [n for n in known if n not in names], [n for n in names if n not in known]
    if missing or strange:
        parts = [f"missing: {', '.join(missing)}"] * bool(missing)
        parts += [f"unknown: {', '.join(strange)}"] * bool(strange)
        what = "; ".join(parts)
    else:
        what = f"another order: {', '.join(names)}"
    yield Remark(
        "error",
        f"the hand '{profile.hand.driver}' has the joints {', '.join(known)}; here {what}",
        ("hand", "joints"),
    )


def _arm_joints(profile: HardwareProfile) -> Iterator[Remark]:
    for number, joint in enumerate(profile.arm.joints or ()):
        key = ("arm", "joints", number)
        if max(abs(joint.low), abs(joint.high)) > TURNS:
            yield Remark(
                "error",
                f"arm joint {joint.name} may go from {joint.low:g} to {joint.high:g} rad, more than a turn to a side;"
                " were degrees written as rad?",
                key,
            )
        if joint.rate > FAST:
            yield Remark(
                "warning",
                f"arm joint {joint.name} has a rate of {joint.rate:g} rad/s, {np.degrees(joint.rate):.0f} deg/s; were"
                " degrees written as rad?",
                key,
            )
        if joint.high - joint.low < 2 * joint.rate * profile.dt:
            yield Remark(
                "error",
                f"arm joint {joint.name} has {joint.high - joint.low:g} rad of room, less than it may go in two ticks"
                f" ({2 * joint.rate * profile.dt:g} rad)",
                key,
            )


def _reachable(profile: HardwareProfile) -> Iterator[Remark]:
    reach, limits = profile.robot.reach, profile.limits
    if reach is None:
        return
    low, high = np.array(limits.workspace_low), np.array(limits.workspace_high)
    nearest = float(np.linalg.norm(np.clip(0.0, low, high)))
    farthest = float(np.linalg.norm(np.maximum(np.abs(low), np.abs(high))))
    if nearest > reach:
        yield Remark(
            "error",
            f"no point of the workspace can be reached: the nearest is {nearest:.2f} m from the base, the arm"
            f" reaches {reach:g} m",
            ("limits", "workspace_low"),
        )
    elif farthest > reach:
        yield Remark(
            "warning",
            f"a corner of the workspace is {farthest:.2f} m from the base, the arm reaches {reach:g} m: there it"
            " will stop by itself, and not gently",
            ("limits", "workspace_high"),
        )


def _fingertips(profile: HardwareProfile) -> Iterator[Remark]:
    limits = profile.limits
    if limits.fingertips is None or limits.fingertip_low is None or limits.fingertip_high is None:
        return
    reach = np.array(limits.fingertips) @ _upright(limits.cone_axis).T
    low = np.maximum(limits.workspace_low, np.array(limits.fingertip_low) - reach.min(axis=0))
    high = np.minimum(limits.workspace_high, np.array(limits.fingertip_high) - reach.max(axis=0))
    for axis, least, most in zip("xyz", low, high, strict=True):
        if least >= most:
            yield Remark(
                "error",
                f"no place in the workspace keeps the fingertips in their box in {axis}: the tool would have to be"
                f" above {least:.3f} m and below {most:.3f} m",
                ("limits", "fingertip_low"),
            )
    if reach[:, 2].min() >= 0:
        yield Remark(
            "warning",
            "no fingertip point is below the tool point when the hand points along the cone's axis; is"
            " limits.fingertips in the tool frame (z along the fingers)?",
            ("limits", "fingertips"),
        )


def _upright(axis: tuple[float, float, float] | None) -> NDArray[np.float64]:
    """Return a rotation whose z axis is the cone's axis, or points down, and whose x axis is as level as possible."""
    z = np.array([0.0, 0.0, -1.0] if axis is None else axis, np.float64)
    z /= np.linalg.norm(z)
    x = np.eye(3)[int(np.argmin(np.abs(z)))]
    x -= (x @ z) * z
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _times(profile: HardwareProfile) -> Iterator[Remark]:
    limits, dt = profile.limits, profile.dt
    if limits.watchdog <= dt:
        yield Remark(
            "warning",
            f"limits.watchdog {limits.watchdog:g} s is not more than a tick ({dt:g} s): every late tick will hold",
            ("limits", "watchdog"),
        )
    if limits.watchdog_operator is not None and limits.watchdog_operator <= dt:
        yield Remark(
            "error",
            f"limits.watchdog_operator {limits.watchdog_operator:g} s is not more than a tick ({dt:g} s): keys and"
            " buttons would be forgotten before anybody reads them",
            ("limits", "watchdog_operator"),
        )
    if profile.robot.driver == "sim":
        return
    for number, camera in enumerate(profile.cameras):
        if camera.rate < profile.robot.control_rate:
            yield Remark(
                "warning",
                f"camera {camera.name} gives {camera.rate:g} images/s for {profile.robot.control_rate:g} ticks/s",
                ("cameras", number, "rate"),
            )
        if limits.watchdog_cameras is not None and limits.watchdog_cameras <= 1 / camera.rate:
            yield Remark(
                "error",
                f"limits.watchdog_cameras {limits.watchdog_cameras:g} s is shorter than a period of camera"
                f" {camera.name} ({1 / camera.rate:g} s): the robot would always hold",
                ("limits", "watchdog_cameras"),
            )


def _signs(profile: HardwareProfile) -> Iterator[Remark]:
    signs = profile.operator.axis_signs
    if signs is not None and np.prod(signs[:3]) < 0:
        yield Remark(
            "error",
            f"operator.axis_signs {list(signs[:3])} for x, y, z mirror the person's hand; expected an even"
            " number of -1",
            ("operator", "axis_signs"),
        )
    elif signs is not None and signs[:3] != signs[3:]:
        yield Remark(
            "error",
            f"operator.axis_signs turn {list(signs[3:])} where they move {list(signs[:3])}; expected the same signs for"
            " roll, pitch, yaw as for x, y, z",
            ("operator", "axis_signs"),
        )
    opened, closed = profile.postures.get("open"), profile.postures.get("close")
    if opened is not None and closed is not None and np.sum(np.subtract(closed, opened)) <= 0:
        yield Remark(
            "warning",
            "posture close bends the joints less than posture open; do the angles grow as the fingers bend?",
            ("postures", "close"),
        )


def _missing(profile: HardwareProfile) -> Iterator[Remark]:
    for key in NEEDED:
        if getattr(profile.limits, key) is None:
            yield Remark("unfit", f"limits.{key} is not given, so it is not limited", ("limits",))
    if profile.arm.joints is None:
        yield Remark(
            "warning",
            "arm.joints is not given: near the end of one the arm stops by itself, or slips",
            ("arm",),
        )
    if profile.robot.reach is None:
        yield Remark(
            "warning",
            "robot.reach is not given: nobody knows whether the workspace can be reached",
            ("robot",),
        )
    unsigned = [joint.name for joint in profile.hand.joints if joint.sign is None]
    if unsigned:
        yield Remark(
            "unfit",
            f"joints {', '.join(unsigned)} have no sign: does the vendor's angle grow (1) or shrink (-1) as they bend?",
            ("hand", "joints"),
        )
    if not profile.calibration.verified_by.strip():
        yield Remark(
            "unfit", "calibration.verified_by is empty: nobody has measured the tool point", ("calibration",)
        )
