"""From raw deflection to a twist worth obeying: pure functions.

The size of a deflection is its largest component, so full deflection of one axis has size 1.  Dead band and curve
act on the size and keep the direction: a cap that is pushed askew moves the tool askew, not along the nearest axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bora_cli.errors import ConfigError, DeviceError
from bora_cli.input.device import AXES, F64, STILL


@dataclass(frozen=True)
class Shaping:
    """How deflection becomes a twist.

    enter, leave: sizes above which a resting device begins to move, and below which a moving one rests; the gap
    between them is the hysteresis.  curve: 0 is proportional, 1 cubic (fine near the centre).
    """

    enter: float = 0.08
    leave: float = 0.05
    curve: float = 0.5

    def __post_init__(self) -> None:
        if not (0.0 <= self.leave <= self.enter < 1.0 and 0.0 <= self.curve <= 1.0):
            raise ConfigError(
                f"Device shaping with enter {self.enter}, leave {self.leave}, curve {self.curve};"
                " expected 0 <= leave <= enter < 1 and curve from 0 to 1."
            )

    @classmethod
    def with_dead_band(cls, band: float) -> Shaping:
        """Return the shaping of a profile's dead band: entered at 1.6 times of it, left at it."""
        return cls(enter=min(1.6 * band, 0.99), leave=band)


def clean(raw: ArrayLike) -> F64:
    """Return six numbers in -1 .. 1; anything that is not six finite numbers is rest.  -> [6]"""
    twist = np.asarray(raw, np.float64)
    if twist.shape != (6,) or not np.isfinite(twist).all():
        return STILL
    return np.clip(twist, -1.0, 1.0)


def size(twist: F64) -> float:
    """Return the largest component of a deflection [6]."""
    return float(np.abs(twist).max())


def wakes(moving: bool, deflection: float, shaping: Shaping) -> bool:
    """Return whether a device of this size of deflection moves, given whether it did before."""
    return deflection > (shaping.leave if moving else shaping.enter)


def response(deflection: float, shaping: Shaping) -> float:
    """Return the speed, 0 .. 1, for a size of deflection: 0 up to `leave`, 1 at full, never falling between."""
    share = min(1.0, max(0.0, (deflection - shaping.leave) / (1.0 - shaping.leave)))
    return (1.0 - shaping.curve) * share + shaping.curve * share**3


def shape(raw: ArrayLike, moving: bool, shaping: Shaping, offset: F64 = STILL) -> tuple[F64, bool]:
    """Return the twist [6] in -1 .. 1 of a raw deflection [6], and whether the device moves.

    moving: what this function returned last.  offset: [6], what the device reports at rest.
    """
    values = np.asarray(raw, np.float64)
    twist = clean(values - offset) if values.shape == (6,) else STILL
    deflection = size(twist)
    if not wakes(moving, deflection, shaping):
        return STILL, False
    return twist * (response(deflection, shaping) / deflection), True


def zero_offset(samples: F64, limit: float = 0.15) -> F64:
    """Return what a resting device reports, the median of samples [N, 6] -> [6]; no samples are a zero offset.

    Raises DeviceError if an axis lies further out than `limit`: then the cap is pushed, or broken.
    """
    if len(samples) == 0:
        return STILL
    offset = np.median(np.asarray(samples, np.float64), axis=0)
    worst = int(np.argmax(np.abs(offset)))
    if not np.isfinite(offset).all() or abs(offset[worst]) > limit:
        raise DeviceError(
            f"At rest the device reports {offset[worst]:.2f} on its {AXES[worst]} axis;"
            f" expected at most {limit:g} of full deflection.",
            "Take the hand off it, and start again; if it stays so, it needs a repair.",
        )
    return offset


def turned(twist: F64, yaw: float) -> F64:
    """Return a twist [6] seen from a frame in which the device's frame is turned by `yaw` rad about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    rotation = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    return np.concatenate([rotation @ twist[:3], rotation @ twist[3:]])
