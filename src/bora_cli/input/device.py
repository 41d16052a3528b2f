"""The seam to a device in a person's hands: stamped samples that expire.

    device          what it is                     axes
    keyboard        one press, one step            full deflection for one tick
    spacemouse      a six-axis cap                 deflection
    gamepad         two sticks, two triggers       deflection
    udp             a glove or VR controller       what the sender says; may bring the angles of a hand
    replay          a recording                    what was recorded

A device knows no robot.  `bora_cli.input.person` makes robot commands of its samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
Frame = Literal["view", "base"]

AXES = ("x", "y", "z", "roll", "pitch", "yaw")
"""The axes of a twist as in ROS: x forward, y left, z up, then the rotations about them, right-handed."""
GRIP, FINGERS, TAKE_OVER, RELEASE = "grip", "fingers", "take over", "release"
"""What a button can ask for: close or open the hand, drive the fingers with the axes, drive, let the policy drive.

"posture NAME" asks for a named posture of the hand.  `TAKE_OVER` while driving hands back.
"""
STILL: F64 = np.zeros(6)
STILL.setflags(write=False)


@dataclass(frozen=True)
class DeviceSample:
    """What a device said at one instant.

    t: monotonic seconds at which it was read from the device.  twist: float64 [6], each in -1 .. 1, in the order
    of `AXES` and the frame of the device.  pressed: what the buttons asked for that went down since the last
    sample.  hand: float64 [J] rad, posture of the person's own hand, in the order of the robot's hand joints.
    """

    t: float
    twist: F64
    pressed: tuple[str, ...] = ()
    hand: F64 | None = None

    @property
    def moving(self) -> bool:
        """Whether any axis is deflected."""
        return bool(np.any(self.twist != 0.0))


class Device(Protocol):
    """Something a person holds.

    name: as people call it.  frame: of the twist, "view" (forward is away from the person, into the picture) or
    "base" (the robot's).  trouble: why it is silent for longer than a pause, "" if nothing is wrong.
    """

    @property
    def name(self) -> str: ...
    @property
    def frame(self) -> Frame: ...
    @property
    def trouble(self) -> str: ...
    def begin(self) -> None:
        """Forget what was pressed before an episode."""

    def read(self, now: float) -> DeviceSample | None:
        """Return the newest sample, or None if there is none that is young enough to be obeyed.

        now: monotonic seconds.  Never blocks and never raises.  None means: hold.
        """
        ...

    def close(self) -> None:
        """Let the device go; safe to call twice."""
        ...
