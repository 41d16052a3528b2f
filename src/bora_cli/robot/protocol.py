"""The seam to a real robot: what a driver has to offer, and what it may rely on.

Targets are absolute.  A target that is lost, repeated or late then does no harm that the next one does not mend; a
lost or repeated *difference* would shift the robot for good.

Frames: *base* is the robot's base, z up; *tool* is the controlled point between the thumb and the finger tips
(`calibration.tool_point` of a hardware profile), with z along the fingers and x out of the palm.  Units are SI.
Stamps are seconds of the clock the robot was made with (`time.monotonic` unless a test brings its own); they say when
something was measured, not when it was read or sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import RobotFault, SchemaMismatch
from bora_cli.robot.frames import is_rotation
from bora_cli.types import U8

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class CameraSpec:
    """One camera: its name, and the size of its images in px."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class RobotSpec:
    """What a robot is; known before anything is connected.

    joints: names of the hand's commanded joints, in the order of every hand vector.  low, high: their range, rad.
    dt: s, period at which targets are meant to come.  profile_hash: of the hardware profile it was set up with.
    """

    name: str
    joints: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    dt: float
    cameras: tuple[CameraSpec, ...] = ()
    profile_hash: str = ""

    def __post_init__(self) -> None:
        if not len(self.joints) == len(self.low) == len(self.high):
            raise SchemaMismatch(
                f"Robot {self.name} has {len(self.joints)} joints, {len(self.low)} lower and {len(self.high)} upper"
                " limits; expected as many of each."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON values."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "low": list(self.low),
            "high": list(self.high),
            "dt": self.dt,
            "cameras": [[c.name, c.height, c.width] for c in self.cameras],
            "profile_hash": self.profile_hash,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the spec that `to_json` wrote."""
        return cls(
            name=str(data["name"]),
            joints=tuple(str(x) for x in data["joints"]),
            low=tuple(float(x) for x in data["low"]),
            high=tuple(float(x) for x in data["high"]),
            dt=float(data["dt"]),
            cameras=tuple(CameraSpec(str(n), int(h), int(w)) for n, h, w in data["cameras"]),
            profile_hash=str(data["profile_hash"]),
        )

    def require_same(self, other: RobotSpec, what: str) -> None:
        """Raise SchemaMismatch with every difference unless both specs agree."""
        mine, theirs = self.to_json(), other.to_json()
        bad = [key for key in mine if mine[key] != theirs[key]]
        if bad:
            detail = "; ".join(f"{key}: {mine[key]} against {theirs[key]}" for key in bad)
            raise SchemaMismatch(
                f"{what}: robots differ ({detail}).", "Use the profile that this robot was set up with."
            )


@dataclass(frozen=True)
class Target:
    """Where a robot shall be.

    position: float64 [3], m, and rotation: float64 [3, 3], tool in base.  hand: float64 [J], rad.
    """

    position: F64
    rotation: F64
    hand: F64

    @property
    def sound(self) -> bool:
        """Whether every number is finite and the rotation is one."""
        return bool(
            np.isfinite(self.position).all() and np.isfinite(self.hand).all() and is_rotation(self.rotation)
        )


@dataclass(frozen=True)
class Reading:
    """What a robot measured.

    t: s, stamp of the oldest measurement among position, rotation and hand.  position: float64 [3], m, and rotation:
    float64 [3, 3], measured tool in base.  hand: float64 [J], rad, measured.  target: the one in force, i.e. accepted
    last.  images: camera -> uint8 [H, W, 3], RGB, none unless asked for.  stamps: camera -> s, of these images.
    arm: float64 [N], rad, measured joints of the arm in the order of the profile's `arm.joints`; None: not told.
    """

    t: float
    position: F64
    rotation: F64
    hand: F64
    target: Target
    images: dict[str, U8] = field(default_factory=dict)
    stamps: dict[str, float] = field(default_factory=dict)
    arm: F64 | None = None


class Robot(Protocol):
    """An arm with a hand that can be observed and given targets.

    Drivers are synchronous; one thread makes all calls.  A driver keeps the last target by itself until the next one
    comes (it need not come).  Methods other than `hold` and `close` raise RobotFault when the robot cannot obey.
    """

    @property
    def spec(self) -> RobotSpec:
        """Return what the robot is; works before `reset` and after `close`."""
        ...

    def reset(self) -> Reading:
        """Make ready for an episode (clear errors, go to the start if that was agreed) and be at rest."""
        ...

    def observe(self, images: bool = True) -> Reading:
        """Return what is measured now, in arrays that nobody changes later; no images unless `images`."""
        ...

    def command(self, target: Target, *, deadline: float) -> Target:
        """Go towards a target, and return the one that was accepted, after the driver's own limits.

        deadline: s; a target that is seen later must not move the robot.  The target in force is then returned.  A
        target that is not `sound` must not move the robot either.
        """
        ...

    def hold(self) -> None:
        """Stop and keep position.  Never raises; may be called at any time, twice, and after `close`."""

    def close(self) -> None:
        """Hold and let go of the devices.  May be called twice."""


@runtime_checkable
class Foreseeing(Protocol):
    """A robot that can say which joints its arm would be sent; what more a driver that computes them may offer."""

    def arm_along(self, positions: F64, rotations: F64) -> F64:
        """Return joints, float64 [1 + K, N], rad: those in force, then those along a way of the tool, without moving.

        positions: [K, 3], m, rotations: [K, 3, 3], tool in base, one per tick from the next one on.  The same way gives
        the same joints.  NaN from where on the arm cannot follow.
        """
        ...


def require_joints(target: Target, spec: RobotSpec) -> None:
    """Raise RobotFault unless a target has the shapes that a robot expects."""
    expected = ((3,), (3, 3), (len(spec.joints),))
    given = (target.position.shape, target.rotation.shape, target.hand.shape)
    if given != expected:
        raise RobotFault(
            f"Target with position, rotation and hand of shapes {given}; {spec.name} expects {expected}.",
            "Is this the robot the policy was made for?",
        )
