"""What a glove or VR controller sends over the network: small packets that cannot be forged, replayed or malformed.

    hello    sender -> receiver    "I am here"
    welcome  receiver -> sender    a number that only this run of the receiver has
    motion   sender -> receiver    that number, a sequence, the sender's clock, twist, buttons, hand

Every packet ends with 16 bytes of HMAC-SHA256 over the rest, keyed with a token that both sides have.  A motion without
the number of this run is a recording of another one.  All numbers are little-endian; the header is `<4sBB`: "BORA",
version 1, kind.
"""

from __future__ import annotations

import hmac
import math
import struct
from dataclasses import dataclass

MAGIC, VERSION = b"BORA", 1
HELLO, WELCOME, MOTION = 0, 1, 2
MAC_BYTES = 16
MAX_JOINTS = 32
_HEAD = struct.Struct("<4sBB")
_NONCE = struct.Struct("<8s")
_MOTION = struct.Struct("<8sQdH6fB")
"""Nonce, sequence, sender's clock in s, buttons as bits, twist, number of hand joints; their angles follow, rad."""


@dataclass(frozen=True)
class Motion:
    """One motion: sequence rises with every packet; t: s, any clock of the sender that only runs forward.

    buttons: held down, as bits.  twist: 6 numbers in -1 .. 1 in ROS axes.  hand: rad, may be empty.
    """

    nonce: bytes
    sequence: int
    t: float
    twist: tuple[float, ...]
    buttons: int = 0
    hand: tuple[float, ...] = ()


def hello(token: bytes) -> bytes:
    """Return the packet that asks for a welcome."""
    return _signed(_HEAD.pack(MAGIC, VERSION, HELLO), token)


def welcome(nonce: bytes, token: bytes) -> bytes:
    """Return the packet that tells a sender the number of this run, 8 bytes."""
    return _signed(_HEAD.pack(MAGIC, VERSION, WELCOME) + _NONCE.pack(nonce), token)


def motion(content: Motion, token: bytes) -> bytes:
    """Return the packet of a motion."""
    body = _MOTION.pack(
        content.nonce, content.sequence, content.t, content.buttons, *content.twist, len(content.hand)
    )
    return _signed(
        _HEAD.pack(MAGIC, VERSION, MOTION) + body + struct.pack(f"<{len(content.hand)}f", *content.hand),
        token,
    )


def kind_of(packet: bytes, token: bytes) -> int:
    """Return the kind of a packet that was made with this token, -1 for anything else."""
    body, mac = packet[:-MAC_BYTES], packet[-MAC_BYTES:]
    if len(body) < _HEAD.size or not hmac.compare_digest(mac, _mac(body, token)):
        return -1
    magic, version, kind = _HEAD.unpack_from(body)
    return int(kind) if (magic, version) == (MAGIC, VERSION) else -1


def nonce_of(packet: bytes) -> bytes | None:
    """Return the number in a welcome, None if it is too short.  Ask `kind_of` first."""
    body = packet[_HEAD.size : -MAC_BYTES]
    return body if len(body) == _NONCE.size else None


def read_motion(packet: bytes) -> Motion | None:
    """Return the motion in a packet, None if it has the wrong length or numbers that are none.  Ask `kind_of` first."""
    body = packet[_HEAD.size : -MAC_BYTES]
    if len(body) < _MOTION.size:
        return None
    nonce, sequence, t, buttons, *twist, joints = _MOTION.unpack_from(body)
    if joints > MAX_JOINTS or len(body) != _MOTION.size + 4 * joints:
        return None
    hand = struct.unpack_from(f"<{joints}f", body, _MOTION.size)
    if not all(math.isfinite(x) for x in (t, *twist, *hand)):
        return None
    return Motion(nonce, sequence, t, tuple(twist), buttons, hand)


def _mac(body: bytes, token: bytes) -> bytes:
    return hmac.digest(token, body, "sha256")[:MAC_BYTES]


def _signed(body: bytes, token: bytes) -> bytes:
    return body + _mac(body, token)
