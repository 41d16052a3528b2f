"""Rotations of many tools at once: every function takes and gives arrays with any leading shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

SMALL = 1e-12


def rotation_of(vector: ArrayLike) -> F64:
    """Return exp([v]x), float64 [..., 3, 3], for rotation vectors [..., 3] in rad (Rodrigues' formula)."""
    given = np.asarray(vector, np.float64)
    angle = np.sqrt((given * given).sum(-1))
    safe = np.maximum(angle, SMALL)
    x, y, z = np.moveaxis(given / safe[..., None], -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*given.shape[:-1], 3, 3)
    sine, cosine = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.eye(3) + sine * skew + (1.0 - cosine) * (skew @ skew)


def vector_of(rotation: ArrayLike) -> F64:
    """Return the rotation vectors [..., 3] in rad, norm at most pi, of rotation matrices [..., 3, 3]."""
    r = np.asarray(rotation, np.float64)
    axis = np.stack(
        [r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1
    )
    sine = 0.5 * np.sqrt((axis * axis).sum(-1))
    cosine = 0.5 * (np.trace(r, axis1=-2, axis2=-1) - 1.0)
    angle = np.arctan2(sine, cosine)
    usual = axis * (0.5 * angle / np.maximum(sine, SMALL))[..., None]
    column = np.argmax(np.diagonal(r, axis1=-2, axis2=-1), -1)
    picked = np.take_along_axis(r, column[..., None, None], -1)[..., 0] + np.eye(3)[column]
    turned = np.pi * picked / np.maximum(np.linalg.norm(picked, axis=-1, keepdims=True), SMALL)
    small = np.where((cosine > 0.0)[..., None], 0.5 * axis, turned)
    return np.where((sine > 1e-9)[..., None], usual, small)


def orthonormal(rotation: ArrayLike) -> F64:
    """Return the rotation matrices nearest to almost orthonormal matrices [..., 3, 3]."""
    u, _, vt = np.linalg.svd(np.asarray(rotation, np.float64))
    return u @ vt


def is_rotation(rotation: ArrayLike, slack: float = 1e-6) -> bool:
    """Tell whether one matrix [3, 3] is finite, orthonormal and right-handed within `slack`."""
    r = np.asarray(rotation, np.float64)
    if r.shape != (3, 3) or not np.isfinite(r).all():
        return False
    return bool(np.abs(r @ r.T - np.eye(3)).max() <= slack and np.linalg.det(r) > 0)


def matrix_of(quaternion: ArrayLike) -> F64:
    """Return the rotation matrix [3, 3] of a quaternion [x, y, z, w] that need not have length one."""
    x, y, z, w = np.asarray(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(rotation: ArrayLike) -> F64:
    """Return the quaternion [x, y, z, w], w >= 0, of a rotation matrix [3, 3]."""
    vector = vector_of(rotation)
    angle = float(np.linalg.norm(vector))
    axis = vector / max(angle, SMALL)
    return np.array([*(np.sin(angle / 2) * axis), np.cos(angle / 2)])
