"""An Inspire RH56 hand over Modbus TCP (`pip install pymodbus`), written against published sources, run on none.

Registers hold six numbers from 0 (closed) to 1000 (open), in the order little, ring, middle, index, thumb bend, thumb
rotation.  What 0 and 1000 are in radians differs between versions of the hand: VERIFY `BENT` before anything moves.
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

CLEAR_ERROR, FORCE_SET, ANGLE_SET, SPEED_SET, ANGLE_ACT, ERROR = 1004, 1498, 1486, 1522, 1546, 1606
FULL = 1000
STRAIGHT = np.array([0.0, 0.0, 0.0, 0.0, 0.0, -0.1])
"""rad of our angles at register value 1000.  VERIFY."""
BENT = np.array([1.7, 1.7, 1.7, 1.7, 0.5, 1.3])
"""rad of our angles at register value 0.  VERIFY."""
LOCKED, HOT = 0x01, 0x04
"""Bits of an error byte, of six: a blocked motor, and one that is too hot."""


class InspireHand:
    """The hand; client: a connected pymodbus ModbusTcpClient.  speed, force: 0 to 1000, of every joint.

    Raises DeviceError if it does not answer.
    """

    def __init__(
        self,
        client: Any,
        profile: HardwareProfile,
        *,
        speed: int = 500,
        force: int = 300,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._clock = clock
        joints = profile.hand.joints
        if any(joint.sign == -1 for joint in joints):
            raise DeviceError(
                "A joint of the Inspire hand has sign -1.", "Its order is in STRAIGHT and BENT; use 1."
            )
        outside = [
            joint.name
            for joint, low, high in zip(joints, STRAIGHT, BENT, strict=True)
            if joint.low < low - 1e-9 or joint.high > high + 1e-9
        ]
        if outside:
            raise DeviceError(
                f"{', '.join(outside)} may go farther than the hand does.", "Tighten the profile."
            )
        try:
            self._write(CLEAR_ERROR, [1])
            self._write(SPEED_SET, [speed] * 6)
            self._write(FORCE_SET, [force] * 6)
            self._read(ANGLE_ACT, 6)
        except RobotFault as error:
            raise DeviceError(
                f"The hand does not answer: {error.message}", "Check its address and power."
            ) from error

    def read(self) -> tuple[float, F64]:
        """Return stamp and angles [6], rad."""
        asked = self._clock()
        raw = np.array(self._read(ANGLE_ACT, 6), np.float64)
        errors = [byte for word in self._read(ERROR, 3) for byte in (word & 0xFF, word >> 8)]
        bad = [finger for finger, byte in enumerate(errors) if byte & (LOCKED | HOT)]
        if bad:
            raise RobotFault(
                f"Motors {bad} of the hand are blocked or hot (errors {errors}).", "Free them, and reset."
            )
        return asked, BENT + (STRAIGHT - BENT) * raw / FULL

    def go(self, angles: F64) -> None:
        """Send joint angles [6], rad."""
        share = np.clip((BENT - angles) / (BENT - STRAIGHT), 0.0, 1.0)
        self._write(ANGLE_SET, [int(x) for x in np.rint(FULL * share)])

    def stop(self) -> None:
        """Stay at the angles that are measured."""
        self._write(ANGLE_SET, self._read(ANGLE_ACT, 6))

    def close(self) -> None:
        """End the connection; the motors keep their last target."""
        self._client.close()

    def _write(self, address: int, values: list[int]) -> None:
        try:
            answer = self._client.write_registers(address, values)
        except Exception as error:
            raise RobotFault(f"Register {address} of the hand cannot be written: {error}.") from error
        if answer.isError():
            raise RobotFault(f"The hand refused to write register {address}: {answer}.")

    def _read(self, address: int, count: int) -> list[int]:
        try:
            answer = self._client.read_holding_registers(address, count=count)
        except Exception as error:
            raise RobotFault(f"Register {address} of the hand cannot be read: {error}.") from error
        if answer.isError() or len(answer.registers) != count:
            raise RobotFault(f"The hand refused to read register {address}: {answer}.")
        return [int(x) for x in answer.registers]
