"""Camera images by ray casting: needs no graphics library, and looks like the OpenGL images.

Shading is the one that `bora_cli.sim.gl` uses for training images: every light adds
rgba * (ambient + diffuse * max(0, -normal . direction)), without specular term, shadow or texture.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.sim.backdrop import Backdrop, multi_ray, only_in_view
from bora_cli.types import U8


class RayPainter:
    """Paints cameras of any model by casting one ray per pixel, and keeps what a resting camera sees of the rest."""

    def __init__(self) -> None:
        self._backdrop: Backdrop | None = None
        self._kept: dict[tuple[int, int], tuple[bytes, NDArray[np.float64]]] = {}

    def ready(self) -> AbstractContextManager[None]:
        """Hold nothing; rays need nothing."""
        return nullcontext()

    def paint(self, model: Any, data: Any, camera: int, size: int, fancy: bool) -> U8:
        """Return uint8 [size, size, 3]; `fancy` smooths edges with four rays per pixel."""
        if not fancy:
            return _to_uint8(self._cast(model, data, camera, size))
        fine = self._cast(model, data, camera, 2 * size)
        return _to_uint8(fine.reshape(size, 2, size, 2, 3).mean(axis=(1, 3)))

    def close(self) -> None:
        """Forget the model that was painted last."""
        self._backdrop = None
        self._kept.clear()

    def _cast(self, model: Any, data: Any, camera: int, size: int) -> NDArray[np.float64]:
        """Return what `cast` returns; a camera that rests asks anew only where something may have moved."""
        if model.body_weldid[model.cam_bodyid[camera]] != 0:
            with only_in_view(model, data, camera):
                return cast(model, data, camera, size)
        if self._backdrop is None or not self._backdrop.fits(model, data):
            self._backdrop = Backdrop(model, data)
            self._kept.clear()
        backdrop = self._backdrop
        if not backdrop.usable:
            return cast(model, data, camera, size)
        directions, far, origin = _directions(model, data, camera, size), _far(model), data.cam_xpos[camera]
        state = _appearance(model, data, camera)
        if self._kept.get((camera, size), (b"",))[0] != state:
            resting = _colours(model, data, camera, *backdrop.shoot(origin, directions, far))
            self._kept[camera, size] = state, resting
        image = self._kept[camera, size][1].copy()
        near = np.flatnonzero(backdrop.pixels_before(model, data, camera, size))
        hits = multi_ray(model, data, origin, directions[near], far)
        image[near] = _colours(model, data, camera, *hits)
        return image.reshape(size, size, 3)


def cast(model: Any, data: Any, camera: int, size: int) -> NDArray[np.float64]:
    """Return the image of a camera, float64 [size, size, 3] in 0..1; what no ray meets is black."""
    return _colours(model, data, camera, *shoot(model, data, camera, size)).reshape(size, size, 3)


def shoot(model: Any, data: Any, camera: int, size: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return the geom that each pixel's ray meets first, -1 for none, and its normal: [size * size] and [..., 3]."""
    directions = _directions(model, data, camera, size)
    return multi_ray(model, data, data.cam_xpos[camera], directions, _far(model))


def _directions(model: Any, data: Any, camera: int, size: int) -> NDArray[np.float64]:
    """Return unit vectors [size * size, 3] through the pixel centres, world frame, top row first."""
    local = _pixel_directions(float(model.cam_fovy[camera]), size)
    directions: NDArray[np.float64] = local @ data.cam_xmat[camera].reshape(3, 3).T
    return directions


def _far(model: Any) -> float:
    return float(model.vis.map.zfar * model.stat.extent)


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


def _colours(
    model: Any, data: Any, camera: int, geom: NDArray[np.int32], normal: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the RGB in 0..1 [n, 3] of what rays met: geoms [n], -1 for none, and unit normals [n, 3].

    The headlight shines along the viewing direction of the camera.
    """
    head, lit = model.vis.headlight, np.flatnonzero(model.light_active)
    forward = -data.cam_xmat[camera].reshape(3, 3)[:, 2]
    directions = np.vstack([forward, data.light_xdir[lit]])
    diffuse = np.vstack([head.diffuse * bool(head.active), model.light_diffuse[lit]]).astype(np.float64)
    ambient = head.ambient * bool(head.active) + model.light_ambient[lit].sum(0)
    towards = normal @ -directions.T
    light: NDArray[np.float64] = np.maximum(towards, 0.0, out=towards) @ diffuse
    light += np.asarray(ambient, np.float64)
    light *= np.vstack([_paint(model), np.zeros(3)])[geom]  # geom -1, "nothing met", is the black last row
    return np.minimum(light, 1.0, out=light)


def _appearance(model: Any, data: Any, camera: int) -> bytes:
    """Return everything that the colours of a resting scene depend on, but the geoms themselves."""
    head, vis = model.vis.headlight, model.vis.map
    numbers = [*head.ambient, *head.diffuse, head.active, vis.zfar, model.stat.extent, model.cam_fovy[camera]]
    arrays = (
        data.cam_xpos[camera],
        data.cam_xmat[camera],
        data.light_xdir,
        model.light_active,
        model.light_ambient,
        model.light_diffuse,
        _paint(model),
    )
    return np.array(numbers).tobytes() + b"".join(array.tobytes() for array in arrays)


def _paint(model: Any) -> NDArray[np.float64]:
    """Return the RGB [ngeom, 3] of every geom; a material replaces the geom's own colour."""
    rgba = np.array(model.geom_rgba, np.float64)
    painted = model.geom_matid >= 0
    rgba[painted] = model.mat_rgba[model.geom_matid[painted]]
    return rgba[:, :3]


def _to_uint8(image: NDArray[np.float64]) -> U8:
    return (image * 255.0 + 0.5).astype(np.uint8)
