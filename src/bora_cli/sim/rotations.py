"""Rotation matrices and rotation vectors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Mat3 = NDArray[np.float64]
Vec = NDArray[np.float64]


def rotation_from_vector(vector: Vec) -> Mat3:
    """Return exp([v]x), float64 [3, 3], for a rotation vector [3] in rad (Rodrigues' formula)."""
    angle = math.sqrt(float(vector @ vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    skew = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * skew + (1.0 - math.cos(angle)) * (skew @ skew)


def vector_from_rotation(rotation: Mat3) -> Vec:
    """Return the rotation vector [3] in rad, norm at most pi, of a rotation matrix [3, 3]."""
    axis = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    sine = 0.5 * math.sqrt(float(axis @ axis))
    cosine = 0.5 * (float(np.trace(rotation)) - 1.0)
    angle = math.atan2(sine, cosine)
    if sine > 1e-9:
        return axis * (0.5 * angle / sine)
    if cosine > 0.0:
        return 0.5 * axis
    column = int(np.argmax(np.diag(rotation)))
    vector = rotation[:, column] + np.eye(3)[column]
    return math.pi * vector / np.linalg.norm(vector)


def about_z(angle: float) -> Mat3:
    """Return the rotation by `angle` rad about z, [3, 3]."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def about_y(angle: float) -> Mat3:
    """Return the rotation by `angle` rad about y, [3, 3]."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def orthonormal(rotation: Mat3) -> Mat3:
    """Return the rotation matrix nearest to an almost orthonormal matrix [3, 3]."""
    u, _, vt = np.linalg.svd(rotation)
    return u @ vt
