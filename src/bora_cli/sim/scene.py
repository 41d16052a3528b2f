"""Scenes: draw a layout from a seed, build a MuJoCo model from a layout.

Names in every compiled model: those of `arm_hand` (which come first, so qpos[:23] and qvel[:23] are the
robot), geoms `table`, `floor`, `wall`, cameras `scene` and `wrist`, light `sun`, and the site `target` where
the hand acts.  The object adds: pick_toy body and free joint `toy`; open_box bodies `box`, `lid` and hinge
`lid`; press_button bodies `housing`, `cap` and slide `cap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bora_cli.seeds import stream
from bora_cli.sim.arm_hand import add_robot, look_at
from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Rgb, Vec3
from bora_cli.sim.tasks import get_task
from bora_cli.sim.tasks.base import Streams
from bora_cli.sim.variation import colour, require_setting

TIMESTEP = 0.0025
"""Physics step, s: with 4 ms and more the hand loses grasps."""
SCENE_CAMERA = (1.02, 0.42, 0.50)
SCENE_CAMERA_TARGET = (0.47, 0.0, 0.06)
MAX_FRAME = 640
"""Largest width and height of a rendered image, px."""


@dataclass(frozen=True)
class Appearance:
    """What a scene looks like without touching its physics.

    table, wall, floor: RGB.  light: direction (unit length not needed).  brightness: factor on the light.
    camera_jitter: m, added to the position of the scene camera.
    """

    table: Rgb
    wall: Rgb
    floor: Rgb
    light: Vec3
    brightness: float
    camera_jitter: Vec3


@dataclass(frozen=True)
class Layout:
    """Everything drawn of a scene; `build_model` needs nothing else.

    item: `ToyItem`, `BoxItem` or `ButtonItem` of the task.  tool_start: where the tool begins, m.
    """

    task: str
    setting: str
    item: Any
    appearance: Appearance
    tool_start: Vec3


def draw_layout(task: str, setting: str, scene_seed: int) -> Layout:
    """Return the layout of a scene seed.

    Shape, layout, physics and appearance come from streams of their own: none of them moves another.
    Raises ConfigError for an unknown task or setting.
    """
    require_setting(setting)
    streams = Streams(*(stream(name, scene_seed) for name in ("shape", "layout", "physics", "appearance")))
    item = get_task(task).draw(streams, setting)
    start = streams.layout.uniform((-0.04, -0.06, -0.02), (0.04, 0.06, 0.03))
    return Layout(
        task=task,
        setting=setting,
        item=item,
        appearance=draw_appearance(streams.appearance),
        tool_start=_triple(np.array([0.47, 0.0, 0.22]) + start),
    )


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """Draw table, backdrop, light and camera jitter."""
    return Appearance(
        table=colour(rng.uniform(0.07, 0.13), rng.uniform(0.10, 0.38), rng.uniform(0.60, 0.86)),
        wall=colour(rng.uniform(0.50, 0.62), rng.uniform(0.03, 0.12), rng.uniform(0.72, 0.90)),
        floor=colour(rng.uniform(0.55, 0.65), rng.uniform(0.05, 0.12), rng.uniform(0.40, 0.55)),
        light=_triple(np.array([0.1, -0.35, -1.0]) + rng.uniform(-0.2, 0.2, 3)),
        brightness=float(rng.uniform(0.85, 1.15)),
        camera_jitter=_triple(rng.uniform(-0.01, 0.01, 3)),
    )


def build_model(layout: Layout) -> mujoco.MjModel:
    """Return the compiled model of a layout; a new one each time, about 3 ms."""
    return build_spec(layout).compile()


def build_spec(layout: Layout) -> Any:
    """Return the MjSpec of a layout, to which more objects can be attached before it is compiled."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    _set_physics(spec)
    add_robot(spec)
    _add_surroundings(spec, layout.appearance)
    get_task(layout.task).add_to(spec, layout.item)
    return spec


def _set_physics(spec: Any) -> None:
    option = spec.option
    option.timestep = TIMESTEP
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # With a pyramidal cone and impratio 1 grasped objects slip out of the hand.
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    option.iterations = 30
    option.ls_iterations = 15
    option.ccd_tolerance = 1e-4
    option.ccd_iterations = 20
    # A diverged state must be reported, not silently replaced by the initial one.
    option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    # A fixed extent keeps the near plane, which is a multiple of it, where the wrist camera needs it.
    spec.stat.extent = 1.0
    spec.stat.center = [0.45, 0.0, 0.2]
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 12.0
    spec.visual.quality.offsamples = 0
    spec.visual.quality.numslices = 12
    spec.visual.quality.numstacks = 6
    spec.visual.global_.offwidth = MAX_FRAME
    spec.visual.global_.offheight = MAX_FRAME
    spec.visual.headlight.ambient = [0.45] * 3
    spec.visual.headlight.diffuse = [0.35] * 3
    spec.visual.headlight.specular = [0.05] * 3


def _add_surroundings(spec: Any, look: Appearance) -> None:
    world = spec.worldbody
    box = mujoco.mjtGeom.mjGEOM_BOX
    table = world.add_geom(name="table", type=box, size=[0.45, 0.5, 0.02], pos=[0.45, 0.0, -0.02])
    table.contype, table.conaffinity, table.condim = 1, 7, 4
    table.friction = [0.9, 0.01, 0.001]
    table.rgba = [*look.table, 1.0]
    for name, size, pos, rgb in (
        ("floor", (3.0, 4.0, 0.02), (0.0, 0.0, -0.5), look.floor),
        ("wall", (0.02, 4.0, 1.5), (-0.9, 0.0, 0.5), look.wall),
    ):
        world.add_geom(name=name, type=box, size=size, pos=pos, rgba=[*rgb, 1.0], contype=0, conaffinity=0)
    world.add_light(
        name="sun",
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.3, 0.6, 1.6],
        dir=look.light,
        diffuse=[0.45 * look.brightness] * 3,
        specular=[0.1] * 3,
        castshadow=False,
    )
    # The camera keeps its direction when it is moved, as a real one that was knocked.
    eye = np.array(SCENE_CAMERA) + look.camera_jitter
    world.add_camera(name="scene", pos=eye, quat=look_at(eye, SCENE_CAMERA_TARGET), fovy=34.0)


def _triple(values: Any) -> Vec3:
    x, y, z = (float(v) for v in values)
    return (x, y, z)
