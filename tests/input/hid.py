"""HID reports as a SpaceMouse sends them, and a handle that has them instead of a device."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable
from typing import Any

from easyhid import HIDException
from pyspacemouse import get_device_specs

MODELS = dict(get_device_specs())
TWO_REPORTS, ONE_REPORT = "SpaceNavigator", "SpaceMouseWireless"
RING = 64
FULL = 350


def translation(x: int = 0, y: int = 0, z: int = 0) -> bytes:
    """HID axes: x to the right, y towards the person, z down."""
    return struct.pack("<Bhhh", 1, x, y, z)


def rotation(rx: int = 0, ry: int = 0, rz: int = 0) -> bytes:
    return struct.pack("<Bhhh", 2, rx, ry, rz)


def both(*axes: int) -> bytes:
    return struct.pack("<Bhhhhhh", 1, *axes, *(0,) * (6 - len(axes)))


def buttons(mask: int = 0) -> bytes:
    return bytes([3, mask, 0, 0])


def push(model: str, hid_axis: int, value: int) -> list[bytes]:
    """Return the reports of a model whose HID axis (x y z rx ry rz) has a value, from its own table."""
    name = ("x", "y", "z", "pitch", "roll", "yaw")[
        hid_axis
    ]  # the table's names for HID's Rx and Ry are swapped
    spec = MODELS[model].mappings[name]
    report = bytearray(max(13, spec.byte2 + 1))
    report[0] = spec.channel
    report[spec.byte1 : spec.byte2 + 1] = struct.pack("<h", value)
    return [bytes(report)]


class FakeHid:
    """A handle over a kernel's ring: 64 reports, and when it is full the newest is dropped.

    pads: fill reports with zeros to the size asked for, as `easyhid` does.
    """

    product_string, manufacturer_string, release_number, serial_number = "cap", "maker", 1, "7"

    def __init__(self, reports: Iterable[bytes] = (), pads: bool = True) -> None:
        self.ring: deque[bytes] = deque()
        self.pads, self.dropped, self.opened, self.fault = pads, 0, 0, False
        self.send(*reports)

    def send(self, *reports: bytes) -> None:
        for report in reports:
            if len(self.ring) < RING:
                self.ring.append(report)
            else:
                self.dropped += 1

    def open(self) -> None:
        self.opened += 1

    def close(self) -> None:
        self.opened -= 1

    def set_nonblocking(self, enable_nonblocking: int) -> None:
        assert enable_nonblocking

    def read(self, size: int = 64, timeout: int | None = None) -> Any:
        if self.fault:
            raise HIDException("Failed to read from HID device: -1")
        if not self.ring:
            return bytearray()
        report = self.ring.popleft()
        return bytearray((report + bytes(size))[:size] if self.pads else report)
