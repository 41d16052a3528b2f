"""What goes over the wire between a robot's server and its client: frames, their seals, and arrays in them.

    frame = head | body | seal
    head  = b"BORA" version:u16 kind:u8 zero:u8 sequence:u64 deadline:f64 length:u32     (little-endian, 28 bytes)
    body  = length:u32 JSON, then the arrays that the JSON lists under "arrays", raw and little-endian
    seal  = HMAC-SHA256 over who speaks (one byte), head and body                        (32 bytes)

The key of the seal is made of the token and a random number from either side, so a frame of another session, another
direction or another token is as foreign as noise.  The token itself is never sent.  Nothing is encrypted: whoever can
listen sees the images.  Nothing is ever unpickled.  deadline: s, on the server's clock.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import DeviceError
from bora_cli.robot.protocol import Reading, Target

VERSION = 1
MAGIC = b"BORA"
HEAD = struct.Struct("<4sHBBQdI")
SEAL = 32
LARGEST = 64 << 20
"""Bytes of the largest body: four cameras of 1080p fit."""
DTYPES = {"<f8": np.float64, "|u1": np.uint8}
CLIENT, SERVER = b"c", b"s"
UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    struct.error,
)
"""What a body made of malice may raise while it is read."""

Arrays = dict[str, NDArray[Any]]


class Kind(IntEnum):
    """What a frame says."""

    HELLO = 1
    AUTH = 2
    WELCOME = 3
    REFUSED = 4
    RESET = 5
    OBSERVE = 6
    COMMAND = 7
    HOLD = 8
    READING = 9
    ACCEPTED = 10
    DONE = 11
    FAULT = 12


class WireError(DeviceError):
    """Bytes came that are not this protocol, or are of another version of it."""


@dataclass(frozen=True)
class Frame:
    """One frame as it came; nothing in it is trusted before its seal was checked.

    raw: head and body.
    """

    kind: int
    sequence: int
    deadline: float
    raw: bytes
    seal: bytes

    @property
    def body(self) -> bytes:
        return self.raw[HEAD.size :]


@dataclass
class Stream:
    """Bytes of one connection, cut into frames; largest: bytes of a body."""

    largest: int = LARGEST
    pending: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete.  Raises WireError where the bytes are something else."""
        self.pending += data
        while self.pending:
            foreign = self.pending[: len(MAGIC)] != MAGIC[: len(self.pending)]
            if not foreign and len(self.pending) < HEAD.size:
                return
            if not foreign:
                _, version, kind, _, sequence, deadline, length = HEAD.unpack_from(self.pending)
            if foreign or length > self.largest:
                raise WireError(
                    "What came over the wire is not bora's robot protocol.",
                    "Is this the port of `bora robot serve`?",
                )
            if version != VERSION:
                raise WireError(
                    f"The other side speaks version {version} of the robot protocol; this is version {VERSION}.",
                    "Install the same bora on both sides.",
                )
            end = HEAD.size + length + SEAL
            if len(self.pending) < end:
                return
            raw = bytes(self.pending[: HEAD.size + length])
            seal = bytes(self.pending[HEAD.size + length : end])
            del self.pending[:end]
            yield Frame(kind, sequence, deadline, raw, seal)


def session_key(token: str, server_nonce: bytes, client_nonce: bytes) -> bytes:
    """Return the key of one session."""
    return hmac.digest(token.encode(), b"bora robot" + server_nonce + client_nonce, hashlib.sha256)


def sealed(
    key: bytes, speaker: bytes, kind: Kind, body: bytes = b"", sequence: int = 0, deadline: float = 0.0
) -> bytes:
    """Return a frame with its seal; speaker: CLIENT or SERVER."""
    raw = HEAD.pack(MAGIC, VERSION, kind, 0, sequence, deadline, len(body)) + body
    return raw + hmac.digest(key, speaker + raw, hashlib.sha256)


def genuine(frame: Frame, key: bytes, speaker: bytes) -> bool:
    """Tell whether a frame was sealed with this key by this speaker."""
    return hmac.compare_digest(hmac.digest(key, speaker + frame.raw, hashlib.sha256), frame.seal)


def pack(document: dict[str, Any], arrays: Arrays | None = None) -> bytes:
    """Return a body; arrays: float64 or uint8, of any shape."""
    listed, blobs = [], []
    for name, array in (arrays or {}).items():
        given = np.asarray(array)
        dtype = "|u1" if given.dtype == np.uint8 else "<f8"
        blob = np.ascontiguousarray(given, dtype)
        listed.append([name, dtype, list(blob.shape)])
        blobs.append(blob.tobytes())
    text = json.dumps({**document, "arrays": listed}).encode()
    return struct.pack("<I", len(text)) + text + b"".join(blobs)


def unpack(body: bytes) -> tuple[dict[str, Any], Arrays]:
    """Return what `pack` was given, arrays as copies.  Raises WireError for anything else."""
    try:
        (length,) = struct.unpack_from("<I", body)
        document = json.loads(body[4 : 4 + length])
        arrays, at = {}, 4 + length
        for name, dtype, shape in document.pop("arrays"):
            sides = [int(n) for n in shape]
            if min(sides, default=0) < 0:
                raise ValueError(f"an array of shape {sides}")
            array = np.frombuffer(body, np.dtype(DTYPES[dtype]), math.prod(sides), at).reshape(sides)
            arrays[str(name)], at = array.copy(), at + array.nbytes
    except UNREADABLE as error:
        raise WireError(
            f"A frame has a body that cannot be read ({type(error).__name__}: {error})."
        ) from error
    return document, arrays


def pack_target(target: Target, document: dict[str, Any] | None = None) -> bytes:
    """Return a body with a target."""
    return pack(document or {}, _target_arrays(target, ""))


def unpack_target(arrays: Arrays, prefix: str = "") -> Target:
    """Return the target in a body.  Raises WireError if it is not complete."""
    try:
        parts = [arrays[prefix + name] for name in ("position", "rotation", "hand")]
    except KeyError as error:
        raise WireError(f"A frame with a target has no {error}.") from error
    return Target(*parts)


def pack_reading(reading: Reading, now: float) -> bytes:
    """Return a body with a reading; now: s, of the server's clock."""
    arrays: Arrays = {"position": reading.position, "rotation": reading.rotation, "hand": reading.hand}
    arrays |= _target_arrays(reading.target, "target_")
    arrays |= {f"image_{name}": image for name, image in reading.images.items()}
    arrays |= {} if reading.arm is None else {"arm": reading.arm}
    return pack({"now": now, "t": reading.t, "stamps": reading.stamps}, arrays)


def unpack_reading(body: bytes, offset: float) -> Reading:
    """Return the reading in a body; offset: s, added to its stamps to have them on the reader's clock."""
    document, arrays = unpack(body)
    target = unpack_target(arrays, "target_")
    try:
        stamps = {str(name): float(stamp) + offset for name, stamp in document["stamps"].items()}
        return Reading(
            t=float(document["t"]) + offset,
            position=arrays["position"],
            rotation=arrays["rotation"],
            hand=arrays["hand"],
            target=target,
            images={name: arrays[f"image_{name}"] for name in stamps},
            stamps=stamps,
            arm=arrays.get("arm"),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"A reading came without {error}.") from error


def _target_arrays(target: Target, prefix: str) -> Arrays:
    return {
        f"{prefix}position": target.position,
        f"{prefix}rotation": target.rotation,
        f"{prefix}hand": target.hand,
    }
