"""Primitive parts: an object is a tuple of these, so that a shape is data and can be drawn, stored or made
up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from bora_cli.sim.engine import mujoco

Role = Literal["main", "second", "light", "dark"]
Shape = Literal["sphere", "ellipsoid", "capsule", "cylinder", "box"]
Rgb = tuple[float, float, float]
Vec3 = tuple[float, float, float]

_GEOM_TYPES = {
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "box": mujoco.mjtGeom.mjGEOM_BOX,
}


@dataclass(frozen=True)
class Palette:
    """The four colours an object is painted with, RGB in 0..1; parts name a role, never a colour."""

    main: Rgb
    second: Rgb
    light: Rgb = (0.96, 0.94, 0.88)
    dark: Rgb = (0.13, 0.13, 0.16)


@dataclass(frozen=True)
class Part:
    """One primitive of a body.

    size: half-sizes in m as MuJoCo orders them (capsule and cylinder: radius, half-length).  pos: m, body
    frame. fromto: both end points of a capsule or cylinder, m; replaces pos, quat and half-length.
    mass: share of the body's mass, 0 for decoration.  solid: whether it collides.
    """

    shape: Shape
    size: tuple[float, ...]
    pos: Vec3 = (0.0, 0.0, 0.0)
    role: Role = "main"
    fromto: tuple[float, ...] | None = None
    quat: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    mass: float = 0.0
    solid: bool = False


@dataclass(frozen=True)
class Surface:
    """Contact properties of an object's solid parts.

    friction: sliding, spinning, rolling.  The object's value counts, not the maximum with the hand's, because
    its `priority` is higher than that of everything else.  solref, solimp: MuJoCo's contact softness.
    """

    friction: Vec3 = (0.8, 0.01, 0.001)
    solref: tuple[float, float] = (0.02, 1.0)
    solimp: tuple[float, float, float, float, float] = (0.9, 0.95, 0.001, 0.5, 2.0)


def add_parts(
    body: Any, parts: Iterable[Part], palette: Palette, *, prefix: str, mass: float, surface: Surface
) -> None:
    """Add parts to a body of a MjSpec as geoms named `<prefix>_<i>`.

    mass: of the whole body in kg, divided over the parts by their shares.
    """
    for i, part in enumerate(parts):
        geom = body.add_geom(
            name=f"{prefix}_{i}",
            type=_GEOM_TYPES[part.shape],
            size=[*part.size, 0.0, 0.0][:3],
            rgba=[*getattr(palette, part.role), 1.0],
            mass=mass * part.mass,
            contype=1 if part.solid else 0,
            conaffinity=7 if part.solid else 0,
        )
        if part.fromto is not None:
            geom.fromto = part.fromto
        else:
            geom.pos = part.pos
            geom.quat = part.quat
        if part.solid:
            geom.condim = 4
            geom.priority = 1
            geom.friction = surface.friction
            geom.solref = surface.solref
            geom.solimp = surface.solimp


def lowest_point(parts: Iterable[Part]) -> float:
    """Return the smallest z (m, body frame) of the solid, axis-aligned parts."""
    lows = []
    for part in parts:
        if not part.solid:
            continue
        if part.fromto is not None:
            lows.append(min(part.fromto[2], part.fromto[5]) - part.size[0])
        else:
            half = part.size[0] if part.shape == "sphere" else part.size[-1]
            reach = half + part.size[0] if part.shape == "capsule" else half
            lows.append(part.pos[2] - reach)
    return min(lows, default=0.0)
