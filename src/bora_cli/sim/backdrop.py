"""What never moves in a scene, told apart from what does, so that few rays ask about everything.

A camera that rests sees the same at every tick wherever nothing that moves can be met.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.sim.engine import mujoco

VISIBLE_GROUPS = np.array([1, 1, 1, 0, 0, 0], np.uint8)
"""Geom groups that are drawn, the same ones as by default in OpenGL."""
_HIDDEN = 5
"""A group that is not drawn."""
_SHAPES = ("PLANE", "SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX")
Hits = tuple[NDArray[np.int32], NDArray[np.float64]]
_COPIED = {int(getattr(mujoco.mjtGeom, f"mjGEOM_{name}")) for name in _SHAPES}
_SIGNS = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
_ENDS = np.array([[1.0], [-1.0], [1.0], [-1.0]])
_NEAR = 1e-3
"""Distance before a camera (in m at a view of 90 degrees) within which nothing can be projected."""


class Backdrop:
    """The visible geoms of a model that rest, as a model of their own, and where the others may hide them.

    usable: False where the model has shapes that are not copied; everything must be asked then.
    """

    def __init__(self, model: Any, data: Any) -> None:
        shown = (VISIBLE_GROUPS[model.geom_group] > 0) & (_alpha(model) > 0)
        rests = model.body_weldid[model.geom_bodyid] == 0
        self._geoms = np.flatnonzero(shown & rests)
        self._moving = np.flatnonzero(shown & ~rests)
        boxes = model.geom_aabb[self._moving]
        self._corners = (boxes[:, None, :3] + _SIGNS * boxes[:, None, 3:]).transpose(0, 2, 1)
        self.usable = set(model.geom_type[self._geoms].tolist()) <= _COPIED and model.nflex == 0
        self._model, self._stands = model, self._pose(model, data)
        if self.usable:
            self._copy, self._state = self._alone(model, data)

    def fits(self, model: Any, data: Any) -> bool:
        """Return whether it is of this model, and nobody moved, showed or hid a geom by hand."""
        return model is self._model and self._pose(model, data) == self._stands

    def shoot(self, origin: NDArray[np.float64], directions: NDArray[np.float64], far: float) -> Hits:
        """Return which resting geom each ray meets first, -1 for none, and its normal; as `multi_ray`."""
        geom, normal = multi_ray(self._copy, self._state, origin, directions, far)
        return np.append(self._geoms, -1)[geom], normal

    def pixels_before(self, model: Any, data: Any, camera: int, size: int) -> NDArray[np.bool_]:
        """Return the pixels where something that moves may be seen, bool [size * size]: its box, projected."""
        turn = data.cam_xmat[camera].reshape(3, 3).T
        centres = turn @ (data.geom_xpos[self._moving] - data.cam_xpos[camera]).T
        frames = turn @ data.geom_xmat[self._moving].reshape(-1, 3, 3)
        across, down, depth = (frames @ self._corners + centres.T[:, :, None]).transpose(1, 0, 2)
        half = math.tan(math.radians(float(model.cam_fovy[camera])) / 2)
        down, depth = -down, -depth * half
        if depth.min(initial=np.inf) < _NEAR:
            beyond = [(side > depth).all(axis=1) for side in (across, -across, down, -down)]
            seen = ~np.any(beyond, axis=0)  # not all corners beyond one side of the view
            across, down, depth = across[seen], down[seen], depth[seen]
            if depth.min(initial=np.inf) < _NEAR:  # a box that reaches behind the camera has no projection
                return np.ones(size * size, np.bool_)
        across, down = across / depth, down / depth
        edges = np.stack([down.min(1), -down.max(1), across.min(1), -across.max(1)])
        pixels = np.floor((np.clip(edges, -1.0, 1.0) + _ENDS) * (size / 2)) * _ENDS
        near = np.zeros((size, size), np.bool_)
        for top, bottom, left, right in pixels.T.astype(int).tolist():
            near[top:bottom, left:right] = True
        return near.ravel()

    def _pose(self, model: Any, data: Any) -> bytes:
        arrays = (data.geom_xpos, data.geom_xmat, model.geom_size)
        shown = model.geom_group.tobytes() + _alpha(model).tobytes()
        return shown + b"".join(array[self._geoms].tobytes() for array in arrays)

    def _alone(self, model: Any, data: Any) -> tuple[Any, Any]:
        spec = mujoco.MjSpec()
        for g in self._geoms:
            quaternion = np.zeros(4)
            mujoco.mju_mat2Quat(quaternion, data.geom_xmat[g])
            spec.worldbody.add_geom(
                type=int(model.geom_type[g]),
                size=model.geom_size[g],
                pos=data.geom_xpos[g],
                quat=quaternion,
            )
        copy = spec.compile()
        state = mujoco.MjData(copy)
        mujoco.mj_kinematics(copy, state)
        state.geom_xpos[:], state.geom_xmat[:] = data.geom_xpos[self._geoms], data.geom_xmat[self._geoms]
        return copy, state


def multi_ray(
    model: Any, data: Any, origin: NDArray[np.float64], directions: NDArray[np.float64], far: float
) -> Hits:
    """Return the geom that each ray meets first, int32 [n], -1 for none, and its normal there, [n, 3].

    origin: [3], m.  directions: unit vectors [n, 3], world frame.  far: m beyond which nothing is met.
    """
    count = len(directions)
    geom, distance, normal = np.empty(count, np.int32), np.empty(count), np.empty(3 * count)
    if count:
        groups, rays = VISIBLE_GROUPS, np.ascontiguousarray(directions).ravel()
        mujoco.mj_multiRay(model, data, origin, rays, groups, True, -1, geom, distance, normal, count, far)
    return geom, normal.reshape(count, 3)


@contextmanager
def only_in_view(model: Any, data: Any, camera: int) -> Iterator[None]:
    """Hide the geoms that no ray of a camera can meet while the block runs, so that none asks about them.

    Hidden is whose bounding sphere lies beyond one side of the view.
    """
    half = math.tan(math.radians(float(model.cam_fovy[camera])) / 2)
    at = (data.geom_xpos - data.cam_xpos[camera]) @ data.cam_xmat[camera].reshape(3, 3)
    aside = np.abs(at[:, :2]).max(axis=1) + half * at[:, 2]  # the camera looks along -z
    bounded = model.geom_rbound > 0  # planes are not
    shown = model.geom_group.copy()
    model.geom_group[bounded & (aside > math.hypot(1.0, half) * model.geom_rbound)] = _HIDDEN
    try:
        yield
    finally:
        model.geom_group[:] = shown


def _alpha(model: Any) -> NDArray[np.float32]:
    alpha = np.array(model.geom_rgba[:, 3])
    painted = model.geom_matid >= 0
    alpha[painted] = model.mat_rgba[model.geom_matid[painted], 3]
    return alpha
