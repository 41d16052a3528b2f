"""An arm, a hand and cameras of different makers as one robot: what all drivers of this kind share.

Each part says *when* it measured what it returns; the robot's stamp is the oldest of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import RobotFault
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.protocol import CameraSpec, Reading, RobotSpec, Target, require_joints

F64 = NDArray[np.float64]
LOGGER = logging.getLogger(__name__)


class Arm(Protocol):
    """An arm whose maker's controller follows targets by itself."""

    def recover(self) -> None:
        """Clear errors and be ready for targets.  Raises RobotFault if that is not possible."""

    def read(self) -> tuple[float, F64, F64]:
        """Return stamp (s), position [3] (m) and rotation [3, 3] of the tool in base.  Raises RobotFault."""
        ...

    def joints(self) -> F64:
        """Return the measured joints [N] (rad), in the order of the profile's arm.joints.  Raises RobotFault."""
        ...

    def go(self, position: F64, rotation: F64) -> None:
        """Go to a pose of the tool in base, and stay there until the next one."""

    def stop(self) -> None:
        """Brake and stay."""

    def close(self) -> None:
        """Let go of the device."""


class Hand(Protocol):
    """A hand whose controller follows joint targets by itself."""

    def read(self) -> tuple[float, F64]:
        """Return stamp (s) and joint angles [J] (rad, ours).  Raises RobotFault."""
        ...

    def go(self, angles: F64) -> None:
        """Go to joint angles [J] (rad, ours)."""

    def stop(self) -> None:
        """Stay where it is."""

    def close(self) -> None:
        """Let go of the device."""


class Camera(Protocol):
    """A camera with the size its profile says."""

    def read(self) -> tuple[float, NDArray[np.uint8]]:
        """Return stamp (s) and the latest image, uint8 [H, W, 3], RGB, without waiting for the next one."""
        ...

    def close(self) -> None:
        """Let go of the device."""


class ArmWithHand:
    """A `bora_cli.robot.protocol.Robot` made of parts; cameras in the order of the profile."""

    def __init__(
        self,
        profile: HardwareProfile,
        arm: Arm,
        hand: Hand,
        cameras: Sequence[Camera] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        joints = profile.hand.joints
        self.spec = RobotSpec(
            name=profile.name,
            joints=tuple(joint.name for joint in joints),
            low=tuple(joint.low for joint in joints),
            high=tuple(joint.high for joint in joints),
            dt=profile.dt,
            cameras=tuple(
                CameraSpec(camera.name, camera.height, camera.width)
                for camera in profile.cameras[: len(cameras)]
            ),
            profile_hash=profile.hash,
        )
        self._arm = arm
        self._hand = hand
        self._cameras = dict(zip((camera.name for camera in self.spec.cameras), cameras, strict=True))
        self._clock = clock
        self._target: Target | None = None
        self._closed = False

    def reset(self) -> Reading:
        """Clear the arm's errors and be at rest where the robot stands; it does not go anywhere."""
        self._arm.recover()
        self._target = None
        return self.observe(images=False)

    def observe(self, images: bool = True) -> Reading:
        """Return what arm, hand and cameras measured last."""
        arm_t, position, rotation = self._arm.read()
        hand_t, angles = self._hand.read()
        if self._target is None:
            self._target = Target(position.copy(), rotation.copy(), self._within(angles))
        pictures = {name: camera.read() for name, camera in self._cameras.items()} if images else {}
        return Reading(
            t=min(arm_t, hand_t),
            position=position,
            rotation=rotation,
            hand=angles,
            target=_copy(self._target),
            images={name: image for name, (_, image) in pictures.items()},
            stamps={name: stamp for name, (stamp, _) in pictures.items()},
            arm=self._arm.joints(),
        )

    def command(self, target: Target, *, deadline: float) -> Target:
        """Send a target to arm and hand, unless it is late or no target."""
        require_joints(target, self.spec)
        if self._closed:
            raise RobotFault(f"{self.spec.name} is closed.", "Connect again.")
        if self._target is None:
            self.observe(images=False)
        if target.sound and self._clock() <= deadline:
            wanted = Target(target.position.copy(), target.rotation.copy(), self._within(target.hand))
            self._arm.go(wanted.position, wanted.rotation)
            self._hand.go(wanted.hand)
            self._target = wanted
        assert self._target is not None
        return _copy(self._target)

    def hold(self) -> None:
        """Stop both parts, each even if the other one fails; what is in force then is where they stand."""
        self._target = None
        for part in (self._arm, self._hand):
            if not self._closed:
                _quietly(part.stop)

    def close(self) -> None:
        """Hold, and let go of every device."""
        self.hold()
        if not self._closed:
            self._closed = True
            for close in (self._hand.close, self._arm.close, *(c.close for c in self._cameras.values())):
                _quietly(close)

    def _within(self, angles: F64) -> F64:
        return np.clip(angles, self.spec.low, self.spec.high)


def _copy(target: Target) -> Target:
    return Target(target.position.copy(), target.rotation.copy(), target.hand.copy())


def _quietly(action: Callable[[], None]) -> None:
    """Do something that must not keep the next thing from being done; a failure is logged."""
    try:
        action()
    except Exception:
        LOGGER.exception("A part of the robot failed to stop; use the emergency stop")
