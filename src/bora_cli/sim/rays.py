"""Camera images by ray casting: needs no graphics library, and looks like the OpenGL images.

Shading is the one that `bora_cli.sim.gl` uses for training images: every light adds
rgba * (ambient + diffuse * max(0, -normal . direction)), without specular term, shadow or texture.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.sim.engine import mujoco
from bora_cli.types import U8

VISIBLE_GROUPS = np.array([1, 1, 1, 0, 0, 0], np.uint8)
"""Geom groups that are drawn, the same ones as by default in OpenGL."""


class RayPainter:
    """Paints cameras of any model by casting one ray per pixel."""

    def paint(self, model: Any, data: Any, camera: int, size: int, fancy: bool) -> U8:
        """Return uint8 [size, size, 3]; `fancy` smooths edges with four rays per pixel."""
        if not fancy:
            return _to_uint8(cast(model, data, camera, size))
        fine = cast(model, data, camera, 2 * size)
        return _to_uint8(fine.reshape(size, 2, size, 2, 3).mean(axis=(1, 3)))

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def cast(model: Any, data: Any, camera: int, size: int) -> NDArray[np.float64]:
    """Return the image of a camera, float64 [size, size, 3] in 0..1; what no ray meets is black."""
    geom, normal = shoot(model, data, camera, size)
    light = _light(model, data, -data.cam_xmat[camera].reshape(3, 3)[:, 2], normal)
    paint = np.vstack([_paint(model), np.zeros(3)])  # geom -1, "nothing met", is the black last row
    return np.minimum(paint[geom] * light, 1.0).reshape(size, size, 3)


def shoot(model: Any, data: Any, camera: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the geom that each pixel's ray meets first, -1 for none, and its normal: [size * size] and [..., 3]."""
    rotation = data.cam_xmat[camera].reshape(3, 3)
    directions = np.ascontiguousarray(_pixel_directions(float(model.cam_fovy[camera]), size) @ rotation.T)
    count = size * size
    geom = np.empty(count, np.int32)
    distance = np.empty(count)
    normal = np.empty(3 * count)
    mujoco.mj_multiRay(
        model,
        data,
        data.cam_xpos[camera],
        directions.ravel(),
        VISIBLE_GROUPS,
        True,
        -1,
        geom,
        distance,
        normal,
        count,
        float(model.vis.map.zfar * model.stat.extent),
    )
    return geom, normal.reshape(count, 3)


@lru_cache(maxsize=8)
def _pixel_directions(fovy: float, size: int) -> NDArray[np.float64]:
    """Return unit vectors [size * size, 3] through the pixel centres, camera frame, top row first."""
    half = math.tan(math.radians(fovy) / 2)
    at = ((np.arange(size) + 0.5) / size * 2.0 - 1.0) * half
    x, y = np.meshgrid(at, -at)
    directions = np.stack([x, y, np.full_like(x, -1.0)], axis=-1).reshape(-1, 3)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    directions.setflags(write=False)
    return directions


def _light(
    model: Any, data: Any, forward: NDArray[np.float64], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return RGB light [n, 3] on surfaces with unit normals [n, 3].

    forward: viewing direction of the camera [3], along which the headlight shines.
    """
    head = model.vis.headlight
    sources = [(forward, head.ambient, head.diffuse)] if head.active else []
    sources += [
        (data.light_xdir[i], model.light_ambient[i], model.light_diffuse[i])
        for i in range(model.nlight)
        if model.light_active[i]
    ]
    light = np.zeros_like(normal)
    for direction, ambient, diffuse in sources:
        facing = np.maximum(0.0, normal @ -np.asarray(direction, np.float64))
        light += np.asarray(ambient, np.float64) + facing[:, None] * np.asarray(diffuse, np.float64)
    return light


def _paint(model: Any) -> NDArray[np.float64]:
    """Return the RGB [ngeom, 3] of every geom; a material replaces the geom's own colour."""
    rgba = np.array(model.geom_rgba, np.float64)
    painted = model.geom_matid >= 0
    rgba[painted] = model.mat_rgba[model.geom_matid[painted]]
    return rgba[:, :3]


def _to_uint8(image: NDArray[np.float64]) -> U8:
    return (image * 255.0 + 0.5).astype(np.uint8)
