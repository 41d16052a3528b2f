"""What a scene looks like without touching its physics: table, backdrop, light and camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bora_cli.seeds import stream
from bora_cli.sim.arm_hand import look_at
from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Rgb, Vec3
from bora_cli.sim.scene_options import SceneOptions
from bora_cli.sim.variation import colour

SCENE_CAMERA = (1.02, 0.42, 0.50)
SCENE_CAMERA_TARGET = (0.47, 0.0, 0.06)
FOVY = 34.0
"""Field of view of the scene camera, degrees."""
TABLE_CENTRE, TABLE_HALF = (0.45, 0.0, -0.02), (0.45, 0.5, 0.02)
PLANK_TOP, PLANK_HALF = 0.0004, 0.0002
"""How far planks rise above the table, and half their thickness, m."""
PLANK_INSET = 0.001
"""How far planks stay away from the edges of the table, m."""

Rng = np.random.Generator


@dataclass(frozen=True)
class Appearance:
    """What a scene looks like without touching its physics.

    table, wall, floor: RGB.  light: direction (unit length not needed).  brightness: factor on the light.
    camera_jitter: m, added to the position of the scene camera.  tint: RGB factor on all light.  fovy: field
    of view of the scene camera, degrees.  camera_aim: m, added to the point that it looks at.
    planks: RGB of equal boards side by side along x, none for a plain table.
    """

    table: Rgb
    wall: Rgb
    floor: Rgb
    light: Vec3
    brightness: float
    camera_jitter: Vec3
    tint: Rgb = (1.0, 1.0, 1.0)
    fovy: float = FOVY
    camera_aim: Vec3 = (0.0, 0.0, 0.0)
    planks: tuple[Rgb, ...] = ()


def draw_appearance(rng: Rng) -> Appearance:
    """Draw table, backdrop, light and camera jitter in their usual ranges."""
    return Appearance(
        table=colour(rng.uniform(0.07, 0.13), rng.uniform(0.10, 0.38), rng.uniform(0.60, 0.86)),
        wall=colour(rng.uniform(0.50, 0.62), rng.uniform(0.03, 0.12), rng.uniform(0.72, 0.90)),
        floor=colour(rng.uniform(0.55, 0.65), rng.uniform(0.05, 0.12), rng.uniform(0.40, 0.55)),
        light=_triple(np.array([0.1, -0.35, -1.0]) + rng.uniform(-0.2, 0.2, 3)),
        brightness=float(rng.uniform(0.85, 1.15)),
        camera_jitter=_triple(rng.uniform(-0.01, 0.01, 3)),
    )


def vary(look: Appearance, options: SceneOptions, scene_seed: int) -> Appearance:
    """Return the appearance with what the options fix or widen drawn anew, from one stream per switch."""
    if options.light != "usual":
        look = _light(look, options.light, stream("wide light", scene_seed))
    if options.table != "usual":
        look = _table(look, options.table, stream("wide table", scene_seed))
    if options.camera != "usual":
        look = _camera(look, options.camera, stream("wide camera", scene_seed))
    return look


def _light(look: Appearance, how: str, rng: Rng) -> Appearance:
    if how == "fixed":
        return replace(look, light=(0.1, -0.35, -1.0), brightness=1.0)
    around, down = float(rng.uniform(-np.pi, np.pi)), float(rng.uniform(0.0, np.radians(60.0)))
    warmth = float(rng.uniform(-1.0, 1.0))  # from about 9000 K to about 3000 K
    return replace(
        look,
        light=_triple(
            np.array([np.sin(down) * np.cos(around), np.sin(down) * np.sin(around), -np.cos(down)])
        ),
        brightness=float(rng.uniform(0.55, 1.40)),
        tint=(1.0 + 0.10 * warmth, 1.0 - 0.02 * abs(warmth), 1.0 - 0.22 * warmth),
    )


def _table(look: Appearance, how: str, rng: Rng) -> Appearance:
    if how == "fixed":
        table, wall, floor = colour(0.095, 0.19, 0.82), colour(0.57, 0.06, 0.86), colour(0.60, 0.08, 0.50)
        return replace(look, table=table, wall=wall, floor=floor)
    hue, saturation, value = rng.random(), rng.uniform(0.0, 0.45), rng.uniform(0.35, 0.92)
    boards = int(rng.integers(4, 13)) if rng.random() < 0.6 else 0
    tones = rng.uniform(0.86, 1.10, boards)
    return replace(
        look,
        table=colour(hue, saturation, value),
        wall=colour(rng.random(), rng.uniform(0.0, 0.30), rng.uniform(0.40, 0.95)),
        floor=colour(rng.random(), rng.uniform(0.0, 0.25), rng.uniform(0.25, 0.70)),
        planks=tuple(colour(hue, saturation, min(1.0, value * float(t))) for t in tones),
    )


def _camera(look: Appearance, how: str, rng: Rng) -> Appearance:
    if how == "fixed":
        return replace(look, camera_jitter=(0.0, 0.0, 0.0))
    return replace(
        look,
        camera_jitter=_triple(rng.uniform(-0.05, 0.05, 3)),
        camera_aim=_triple(rng.uniform(-0.02, 0.02, 3)),
        fovy=float(rng.uniform(30.0, 39.0)),
    )


def add_surroundings(spec: Any, look: Appearance) -> None:
    """Add table, backdrop, light and scene camera to a MjSpec."""
    world = spec.worldbody
    box = mujoco.mjtGeom.mjGEOM_BOX
    table = world.add_geom(name="table", type=box, size=TABLE_HALF, pos=TABLE_CENTRE)
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
        diffuse=[0.45 * look.brightness * t for t in look.tint],
        specular=[0.1] * 3,
        castshadow=False,
    )
    spec.visual.headlight.ambient = [0.45 * t for t in look.tint]
    spec.visual.headlight.diffuse = [0.35 * t for t in look.tint]
    spec.visual.headlight.specular = [0.05] * 3
    # The camera keeps its direction when it is moved, as a real one that was knocked.
    eye = np.array(SCENE_CAMERA) + look.camera_jitter
    aim = np.array(SCENE_CAMERA_TARGET) + look.camera_aim
    world.add_camera(name="scene", pos=eye, quat=look_at(eye, aim), fovy=look.fovy)


def add_planks(spec: Any, look: Appearance) -> None:
    """Paint boards on the table, after everything else: they are a body of their own that nothing touches."""
    if not look.planks:
        return
    body = spec.worldbody.add_body(name="planks")
    width, length = TABLE_HALF[1] - PLANK_INSET, TABLE_HALF[0] - PLANK_INSET
    half = width / len(look.planks)
    for i, rgb in enumerate(look.planks):
        body.add_geom(
            name=f"plank_{i}",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[length, half, PLANK_HALF],
            pos=[TABLE_CENTRE[0], (2 * i + 1) * half - width, PLANK_TOP - PLANK_HALF],
            rgba=[*rgb, 1.0],
            contype=0,
            conaffinity=0,
        )


def _triple(values: Any) -> Vec3:
    x, y, z = (float(v) for v in values)
    return (x, y, z)
