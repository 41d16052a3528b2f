"""What a resting camera keeps of what rests is what casting every ray anew would show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.sim.backdrop import Backdrop, only_in_view
from bora_cli.sim.engine import mujoco
from bora_cli.sim.rays import RayPainter, cast, shoot
from bora_cli.sim.simulation import Simulation

SIZE = 24
KINDS = ("SPHERE", "CAPSULE", "ELLIPSOID", "CYLINDER", "BOX", "PLANE")


def world(rng: np.random.Generator, resting: int, moving: int) -> tuple[Any, Any, Any]:
    """Return a spec, a model and data of random shapes around two cameras, of which the second one moves."""
    spec = mujoco.MjSpec()
    spec.worldbody.add_light(pos=[0, 0, 3], dir=rng.normal(size=3).tolist())

    def shape(body: Any, kind: str) -> None:
        body.add_geom(
            type=getattr(mujoco.mjtGeom, f"mjGEOM_{kind}"),
            size=rng.uniform(0.02, 0.5, 3),
            pos=rng.uniform(-1, 1, 3),
            quat=rng.normal(size=4),
            rgba=[*rng.uniform(0, 1, 3), rng.choice([0.0, 1.0], p=[0.1, 0.9])],
            group=int(rng.choice([0, 2, 4])),
        )

    for i in range(resting):
        shape(spec.worldbody, KINDS[(i - 1) % 6])
    for i in range(moving):
        body = spec.worldbody.add_body(pos=rng.uniform(-1, 1, 3))
        body.add_freejoint()
        shape(body, KINDS[i % 5])
    rider = spec.worldbody.add_body(pos=[0, 0, 1])
    rider.add_freejoint()
    shape(rider, "CAPSULE")
    for body in (spec.worldbody, rider):
        body.add_camera(pos=rng.uniform(-1, 1, 3), quat=rng.normal(size=4), fovy=float(rng.uniform(20, 100)))
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return spec, model, data


def assert_same(painter: RayPainter, model: Any, data: Any) -> None:
    for camera in range(model.ncam):
        expected = np.rint(255 * cast(model, data, camera, SIZE))
        found = painter.paint(model, data, camera, SIZE, False)
        assert np.abs(found - expected).max() <= 1, camera  # a half may be rounded either way
        assert (found != expected).mean() < 0.01


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), resting=st.integers(0, 9), moving=st.integers(0, 9))
def test_any_scene_looks_as_if_every_ray_asked_about_everything(seed: int, resting: int, moving: int) -> None:
    rng = np.random.default_rng(seed)
    _, model, data = world(rng, resting, moving)
    painter = RayPainter()
    for _ in range(2):
        assert_same(painter, model, data)
        data.qpos[:] += 0.2 * rng.normal(size=model.nq)
        mujoco.mj_forward(model, data)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), moving=st.integers(0, 9))
def test_what_is_out_of_view_is_not_asked_and_the_model_stays_as_it_was(seed: int, moving: int) -> None:
    _, model, data = world(np.random.default_rng(seed), 6, moving)
    groups = model.geom_group.copy()
    with only_in_view(model, data, 1):
        hidden = model.geom_group != groups
        found = shoot(model, data, 1, SIZE)
    assert (model.geom_group == groups).all()
    expected = shoot(model, data, 1, SIZE)
    assert not hidden[expected[0][expected[0] >= 0]].any()
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_a_hand_camera_cannot_see_is_hidden() -> None:
    sim = Simulation("pick_toy", backend="rays")
    sim.prepare(1)
    groups = sim.model.geom_group.copy()
    with only_in_view(sim.model, sim.data, sim.model.camera("wrist").id):
        hidden = sim.model.geom_group != groups
    assert hidden[sim.model.geom("link3_0").id]
    assert not hidden[sim.model.geom("table").id]


@pytest.mark.parametrize("task", ["pick_place", "open_box"])
def test_a_task_too(task: str) -> None:
    sim = Simulation(task, setting="unseen,camera=wide,distractors=2", image_size=SIZE, backend="rays")
    painter = RayPainter()
    for seed in (1, 2):
        sim.prepare(seed)
        for _ in range(2):
            assert_same(painter, sim.model, sim.data)
            sim.step(np.full(18, 0.02, np.float32))


def test_what_is_changed_by_hand_is_seen() -> None:
    spec = mujoco.MjSpec()
    spec.worldbody.add_light(pos=[0, 0, 3], dir=[0.3, 0, -1])
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[1, 1, 0.1])
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.2, 0, 0], pos=[0.4, 0, 0.3])
    body = spec.worldbody.add_body(pos=[-0.4, 0, 0.5])
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[0.1, 0.2, 0])
    spec.worldbody.add_camera(pos=[0, 0, 2])
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    painter = RayPainter()
    before = painter.paint(model, data, 0, SIZE, False)
    changes = (
        lambda: model.geom_rgba.__setitem__((slice(None), 0), 0.9),
        lambda: model.light_diffuse.__setitem__(slice(None), 0.1),
        lambda: model.geom_pos.__setitem__((1, 1), 0.3),
        lambda: model.geom_rgba.__setitem__((1, 3), 0.0),
        lambda: model.geom_group.__setitem__(2, 5),
        lambda: model.geom_rgba.__setitem__((1, 3), 1.0),
        lambda: model.cam_fovy.__setitem__(0, 70.0),
        lambda: model.cam_pos.__setitem__((0, 0), 0.1),
    )
    for number, change in enumerate(changes):
        change()
        mujoco.mj_forward(model, data)
        assert_same(painter, model, data)
        after = painter.paint(model, data, 0, SIZE, False)
        assert (after != before).any(), number
        before = after


def test_resting_shapes_that_are_not_copied_are_asked_as_before() -> None:
    spec, _, _ = world(np.random.default_rng(5), 3, 2)
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
    spec.add_mesh(name="tetrahedron", uservert=corners.ravel())
    spec.worldbody.add_geom(type=mujoco.mjtGeom.mjGEOM_MESH, meshname="tetrahedron")
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert not Backdrop(model, data).usable
    assert_same(RayPainter(), model, data)


def test_few_pixels_are_near_a_small_thing() -> None:
    spec = mujoco.MjSpec()
    body = spec.worldbody.add_body(pos=[0, 0, -1])
    body.add_freejoint()
    body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.05, 0, 0])
    spec.worldbody.add_camera(fovy=90.0)
    model = spec.compile()
    data = mujoco.MjData(model)
    for place, count in (([0, 0, -1], 4), ([0, 0, 1], 0), ([5, 0, -1], 0), ([0, 0, 0], SIZE**2)):
        data.qpos[:3] = place
        mujoco.mj_forward(model, data)
        assert Backdrop(model, data).pixels_before(model, data, 0, SIZE).sum() == count
