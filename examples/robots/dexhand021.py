"""A DexHand 021 through the maker's pyzlg_dexhand, written against its source and never run on a hand.

Two things about that interface need care.  `get_feedback` stamps with the time of asking and repeats the last angle of
a board that fell silent, so the stamps of the boards are watched here.  `move_joints` logs what it could not send and
returns nothing, so only the feedback tells whether the hand obeys.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import DeviceError, RobotFault
from bora_cli.profiles import HardwareProfile

F64 = NDArray[np.float64]

FEEDBACK_MS = 10
FIRST_WORD_S = 2.0
"""Time in which every board has to have said something."""


class DexHand021:
    """The hand; hand: a LeftDexHand or RightDexHand.  periodic: FeedbackMode.PERIODIC of the maker's package.

    Its angles are degrees, ours are radians that grow as a joint bends; the profile has the sign of each joint.
    Raises DeviceError if the hand does not come up.
    """

    def __init__(
        self,
        hand: Any,
        periodic: Any,
        profile: HardwareProfile,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._hand = hand
        self._clock = clock
        self._names = tuple(joint.name for joint in profile.hand.joints)
        self._signs = np.array([joint.sign or 1 for joint in profile.hand.joints], np.float64)
        self._heard: dict[int, tuple[Any, float]] = {}
        if not hand.init():
            raise DeviceError(
                "The hand's CAN adapter cannot be opened.", "Is it plugged in, and the udev rule set?"
            )
        if not hand.set_feedback_mode(periodic, FEEDBACK_MS, True):
            raise DeviceError(
                "The hand's boards do not answer.", "Is the hand powered, on the configured channel?"
            )
        hand.clear_errors(clear_all=True)
        until = clock() + FIRST_WORD_S
        while not np.isfinite(self._angles()).all():
            if clock() > until:
                raise DeviceError(
                    f"No angle of {self._silent()} within {FIRST_WORD_S:g} s.", "Power the hand off and on."
                )
            sleep(FEEDBACK_MS / 1e3)

    def read(self) -> tuple[float, F64]:
        """Return when the board that was silent longest was last heard, s, and the angles [12], rad."""
        angles = self._angles()
        errors = {board: error for board, error in self._hand.get_errors().items() if error is not None}
        if errors:
            raise RobotFault(
                f"Boards of the hand report errors: {errors}.", "Free the fingers, then connect again."
            )
        if not np.isfinite(angles).all():
            raise RobotFault(f"The hand does not know the angle of {self._silent()}.", "Connect again.")
        return min(at for _, at in self._heard.values()), np.radians(angles * self._signs)

    def go(self, angles: F64) -> None:
        """Send joint angles [12], rad."""
        degrees = np.degrees(angles) * self._signs
        self._hand.move_joints(**dict(zip(self._names, degrees.tolist(), strict=True)))

    def stop(self) -> None:
        """Stay at the angles that were measured last."""
        angles = self._angles()
        known = {name: float(x) for name, x in zip(self._names, angles, strict=True) if np.isfinite(x)}
        if known:
            self._hand.move_joints(**known)

    def close(self) -> None:
        """Let go of the adapter; the motors keep their last target."""
        self._hand.close()

    def _angles(self) -> F64:
        """Return the maker's angles [12], degrees, NaN where nothing was heard, and note which boards spoke."""
        joints = self._hand.get_feedback().joints
        now = self._clock()
        for board, state in self._hand.board_states.items():
            if board not in self._heard or self._heard[board][0] != state.feedback_timestamp:
                self._heard[board] = (state.feedback_timestamp, now)
        return np.array([joints[name].angle for name in self._names], np.float64)

    def _silent(self) -> str:
        joints = self._hand.get_feedback().joints
        return ", ".join(name for name in self._names if not np.isfinite(joints[name].angle))
