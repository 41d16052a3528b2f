"""What a hardware profile consists of, with the rules that make it consistent."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bora_cli.profiles.units import (
    Acceleration,
    Angles,
    AngularAcceleration,
    AngularJerk,
    AngularSpeed,
    Hertz,
    Jerk,
    Metres,
    Point,
    Radians,
    Seconds,
    Speed,
    quantity,
)
from bora_cli.types import F32, ActionSpec, content_hash

Sign = Literal[-1, 1]
DEVICE_TRUST_S = 0.25
"""Seconds for which any device is believed at most; each has a time of its own, up to this."""
ARM_NAMES = ("dx", "dy", "dz", "drx", "dry", "drz")


class Part(BaseModel):
    """A table of the profile: frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Robot(Part):
    """The arm: which driver moves it, how many joints it has, how often it is commanded.

    reach: how far from the base the tool can get at all.
    """

    driver: str
    arm_dof: Annotated[int, Field(ge=1, le=12)]
    control_rate: Hertz
    reach: Annotated[Metres, Field(gt=0)] | None = None


class ArmJoint(Part):
    """One joint of the arm: the range it is kept in, rad, and its fastest motion.

    The maker's own limits lie outside of these, or the arm stops by itself, and not gently.
    """

    name: str
    low: Radians
    high: Radians
    rate: AngularSpeed

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_range(self.name, self.low, self.high)
        return self


class Arm(Part):
    """Largest delta of the commanded tool pose per tick and axis: translation in m, rotation in rad.

    joints: limits of the arm's joints, in the order of its driver; what is not given is not limited.
    """

    translation_per_tick: Annotated[Metres, Field(gt=0)]
    rotation_per_tick: Annotated[Radians, Field(gt=0)]
    joints: Annotated[tuple[ArmJoint, ...], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _require_distinct("arm joint", [joint.name for joint in self.joints or ()])
        return self


class HandJoint(Part):
    """One active joint of the hand with the range of its command, rad.

    rate: its fastest motion, where it must be slower than limits.hand_rate.  sign: 1 where the vendor's angle grows
    with ours, -1 where it shrinks; ours grows as the finger bends.
    """

    name: str
    low: Radians
    high: Radians
    rate: AngularSpeed | None = None
    sign: Sign | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _require_range(self.name, self.low, self.high)
        return self


class Hand(Part):
    """The hand: its driver, its side and its active joints, in the order of the action columns."""

    driver: str
    side: Literal["left", "right"]
    joints: Annotated[tuple[HandJoint, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _require_distinct("hand joint", [joint.name for joint in self.joints])
        return self


class Limits(Part):
    """Safety limits, SI units.  Everything sent to the motors stays inside them.

    workspace_low, workspace_high: box for the commanded tool position, robot base frame.  tcp_speed,
    rotation_speed: length of the tool's velocity vectors.  hand_rate: each hand joint.  leash: how far the
    commanded position may run ahead of the measured one.  takeover_*: largest change of the command between
    two ticks while control changes hands.  watchdog: a command older than this holds the robot.

    The rest is optional, and what is not given is not limited.  acceleration, jerk and their angular kin: of the
    commanded tool.  soft_start: from rest to full speed after every stop.  cone_axis, cone_angle: the direction, in
    the base frame, that the tool's z axis keeps to.  fingertips: points in the tool frame that no posture of the hand
    reaches beyond, kept between fingertip_low and fingertip_high (base frame).  watchdog_robot, watchdog_cameras: an
    older measurement or image holds the robot.  watchdog_operator: what a person's device said longer ago is rest,
    where that is less than the device's own time.
    """

    workspace_low: Point
    workspace_high: Point
    tcp_speed: Speed
    rotation_speed: AngularSpeed
    hand_rate: AngularSpeed
    leash: Annotated[Metres, Field(gt=0)]
    takeover_translation: Annotated[Metres, Field(gt=0)]
    takeover_rotation: Annotated[Radians, Field(gt=0)]
    takeover_hand: Annotated[Radians, Field(gt=0)]
    watchdog: Seconds
    acceleration: Acceleration | None = None
    jerk: Jerk | None = None
    rotation_acceleration: AngularAcceleration | None = None
    rotation_jerk: AngularJerk | None = None
    soft_start: Seconds | None = None
    cone_axis: tuple[float, float, float] | None = None
    cone_angle: Annotated[Radians, Field(gt=0, le=np.pi)] | None = None
    fingertips: Annotated[tuple[Point, ...], Field(min_length=1)] | None = None
    fingertip_low: Point | None = None
    fingertip_high: Point | None = None
    watchdog_robot: Seconds | None = None
    watchdog_cameras: Seconds | None = None
    watchdog_operator: Seconds | None = None
    acknowledged_by: str = ""

    @property
    def planned(self) -> bool:
        """Whether anything is limited that depends on more than one command."""
        keys = ("acceleration", "jerk", "rotation_acceleration", "rotation_jerk", "soft_start")
        return any(getattr(self, key) is not None for key in (*keys, "cone_angle", "fingertips"))

    @property
    def device_trust(self) -> float:
        """Seconds for which a person's device is believed at most."""
        return DEVICE_TRUST_S if self.watchdog_operator is None else self.watchdog_operator

    @model_validator(mode="after")
    def _believed(self) -> Self:
        if self.device_trust > DEVICE_TRUST_S:
            raise ValueError(
                f"watchdog_operator {self.device_trust:g} s; expected at most {DEVICE_TRUST_S:g} s, as no device is"
                " believed for longer"
            )
        return self

    @model_validator(mode="after")
    def _together(self) -> Self:
        for keys in (("cone_axis", "cone_angle"), ("fingertips", "fingertip_low", "fingertip_high")):
            missing = [key for key in keys if getattr(self, key) is None]
            if 0 < len(missing) < len(keys):
                raise ValueError(f"{', '.join(missing)} missing; {', '.join(keys)} belong together")
        if self.cone_axis is not None and not 0 < np.linalg.norm(self.cone_axis) < np.inf:
            raise ValueError(
                f"cone_axis {self.cone_axis} has no direction; expected three numbers, not all zero"
            )
        if self.fingertip_low is not None and self.fingertip_high is not None:
            for axis, low, high in zip("xyz", self.fingertip_low, self.fingertip_high, strict=True):
                if not low < high:
                    raise ValueError(f"fingertips in {axis} from {low:g} to {high:g} m; expected low < high")
        return self

    @model_validator(mode="after")
    def _box(self) -> Self:
        for axis, low, high in zip("xyz", self.workspace_low, self.workspace_high, strict=True):
            if not low < high:
                raise ValueError(f"workspace in {axis} runs from {low:g} to {high:g} m; expected low < high")
        return self


class Camera(Part):
    """One camera: where its images come from and how they are."""

    name: str
    driver: str
    width: Annotated[int, Field(ge=8, le=4096)]
    height: Annotated[int, Field(ge=8, le=4096)]
    rate: Hertz
    mount: Literal["world", "hand"]


class OperatorDevice(Part):
    """The device a person takes over with.

    axis_convention: "ros" is x forward, y left, z up, right-handed.  dead_band: share of full deflection that
    counts as rest.  ramp: duration of the blend at takeover and return.  axis_signs: for a person who does not stand
    behind the robot, 1 or -1 for x, y, z, roll, pitch, yaw.
    """

    device: str
    axis_convention: Literal["ros"]
    dead_band: Annotated[float, Field(ge=0, lt=1)]
    ramp: Annotated[float, quantity("s"), Field(ge=0)]
    axis_signs: tuple[Sign, Sign, Sign, Sign, Sign, Sign] | None = None


class Calibration(Part):
    """What was measured on the rig, and by whom.

    tool_point: the controlled point in the hand frame, m.  verified_by: name and date; "" is nobody.
    """

    tool_point: Point
    verified_by: str = ""


CODE_LIMITS: dict[str, float] = {
    "tcp_speed": 0.25,
    "rotation_speed": 1.2,
    "hand_rate": 3.0,
    "leash": 0.05,
    "takeover_translation": 0.025,
    "takeover_rotation": 0.12,
    "takeover_hand": 0.3,
    "watchdog": 0.2,
    "acceleration": 2.0,
    "jerk": 40.0,
    "rotation_acceleration": 10.0,
    "rotation_jerk": 200.0,
    "watchdog_robot": 0.2,
    "watchdog_cameras": 0.5,
}
"""Largest value of each limit that needs nobody's name, SI units; those a profile does not give are not limited."""
CODE_WORKSPACE = ((0.25, -0.35, 0.012), (0.72, 0.35, 0.5))


class HardwareProfile(Part):
    """Who, where, limits, rates and calibration of one rig.

    tightens: name or file (seen from this one) of the profile that this one may not exceed in anything.
    """

    name: str
    description: str = ""
    tightens: str | None = None
    robot: Robot
    arm: Arm
    hand: Hand
    limits: Limits
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1)]
    operator: OperatorDevice
    postures: dict[str, Angles]
    calibration: Calibration

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for name, angles in self.postures.items():
            if len(angles) != len(self.hand.joints):
                raise ValueError(
                    f"posture {name} has {len(angles)} angles;"
                    f" expected {len(self.hand.joints)}, one per hand joint"
                )
            for joint, angle in zip(self.hand.joints, angles, strict=True):
                if not joint.low - 1e-9 <= angle <= joint.high + 1e-9:
                    raise ValueError(
                        f"posture {name} puts {joint.name} at {angle:g} rad;"
                        f" expected {joint.low:g} to {joint.high:g} rad"
                    )
        if self.arm.joints is not None and len(self.arm.joints) != self.robot.arm_dof:
            raise ValueError(
                f"arm.joints lists {len(self.arm.joints)} joints; expected {self.robot.arm_dof}, robot.arm_dof"
            )
        cameras = [camera.name for camera in self.cameras]
        if len(set(cameras)) != len(cameras):
            raise ValueError(f"cameras {', '.join(cameras)}; expected distinct names")
        loose = loosened(self.limits)
        if loose and not self.limits.acknowledged_by.strip():
            raise ValueError(
                f"limits are looser than the code allows: {'; '.join(loose)}."
                ' Tighten them, or write limits.acknowledged_by = "name, date"'
            )
        return self

    @property
    def planned(self) -> bool:
        """Whether anything is limited that depends on more than one command."""
        return self.limits.planned or self.arm.joints is not None

    @property
    def dt(self) -> float:
        """Seconds per tick."""
        return 1.0 / self.robot.control_rate

    @property
    def hash(self) -> str:
        """Short hash of every number in the profile; layout, comments, description and keys not given do not count."""
        return content_hash(self.model_dump(mode="json", exclude={"description"}, exclude_none=True))

    @property
    def action_spec(self) -> ActionSpec:
        """The action row of this rig: six tool deltas per tick, then one target angle per hand joint."""
        joints = self.hand.joints
        step = [self.arm.translation_per_tick] * 3 + [self.arm.rotation_per_tick] * 3
        return ActionSpec(
            names=(*ARM_NAMES, *(joint.name for joint in joints)),
            units=("m/tick",) * 3 + ("rad/tick",) * 3 + ("rad",) * len(joints),
            low=np.array([-x for x in step] + [joint.low for joint in joints], np.float32),
            high=np.array(step + [joint.high for joint in joints], np.float32),
            groups={"arm": (0, 6), "hand": (6, 6 + len(joints))},
        )

    @property
    def takeover_step(self) -> F32:
        """float32 [A]: largest change of the command between two ticks while control changes hands."""
        limits = self.limits
        arm = [limits.takeover_translation] * 3 + [limits.takeover_rotation] * 3
        return np.array(arm + [limits.takeover_hand] * len(self.hand.joints), np.float32)

    @property
    def ramp_ticks(self) -> int:
        """Ticks of blending at takeover and return."""
        return round(self.operator.ramp * self.robot.control_rate)


def loosened(limits: Limits) -> list[str]:
    """Return the limits that are looser than the code's, as text with both numbers."""
    found = []
    for key, allowed in CODE_LIMITS.items():
        value = getattr(limits, key)
        if value is not None and value > allowed * (1 + 1e-9):
            found.append(f"{key} {value:g} above {allowed:g}")
    for axis, low, high, code_low, code_high in zip(
        "xyz", limits.workspace_low, limits.workspace_high, *CODE_WORKSPACE, strict=True
    ):
        if low < code_low - 1e-9 or high > code_high + 1e-9:
            found.append(f"workspace {axis} {low:g}..{high:g} m outside {code_low:g}..{code_high:g} m")
    return found


def _require_range(name: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"joint {name} has low {low:g} rad and high {high:g} rad; expected low < high")


def _require_distinct(what: str, names: list[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{what} {', '.join(twice)} is listed twice; expected distinct names")
