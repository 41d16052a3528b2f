"""Pick up a plush toy: grasp it and lift it by more than 10 cm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Palette, Part, Role, Shape, Surface, add_parts, lowest_point
from bora_cli.sim.tasks.base import F64, Phase, Streams, fold
from bora_cli.sim.variation import draw_kind, draw_palette, draw_size

UNIT = 0.026
"""Half-width of a toy of scale 1, m."""
LIFT = 0.10
"""Height above the resting height that counts as picked, m."""


@dataclass(frozen=True)
class ToyItem:
    """A plush toy.  x, y: m; yaw: rad; half_width: m; mass: kg; friction: sliding, against hand and table."""

    kind: str
    x: float
    y: float
    yaw: float
    half_width: float
    parts: tuple[Part, ...]
    mass: float
    friction: float
    palette: Palette


class PickToy:
    """The toy stands on the table; success is the toy more than 10 cm above its rest for three ticks."""

    name = "pick_toy"
    max_ticks = 70
    hold_ticks = 3
    wordings: tuple[str, ...] = (
        "pick up the plush toy",
        "grasp the soft toy and lift it",
        "lift the plush animal off the table",
        "take the toy and hold it up",
        "pick the stuffed toy up from the table",
        "grab the plush toy",
    )
    crowded = False
    substep = None

    def instructions(self, item: ToyItem) -> tuple[str, ...]:
        """Return all wordings: there is one object, and each of them means it."""
        return self.wordings

    def draw(self, streams: Streams, setting: str) -> ToyItem:
        """Return the toy of one scene."""
        kind = draw_kind(streams.shape, self.name, setting)
        half_width = UNIT * draw_size(streams.shape, self.name, "scale", setting)
        return ToyItem(
            kind=kind,
            x=float(streams.layout.uniform(0.42, 0.56)),
            y=float(streams.layout.uniform(-0.15, 0.15)),
            yaw=float(streams.layout.uniform(-0.6, 0.6)),
            half_width=half_width,
            parts=toy_parts(kind, half_width),
            mass=float(streams.physics.uniform(0.05, 0.15)),
            friction=float(streams.physics.uniform(0.6, 1.1)),
            palette=draw_palette(streams.appearance, streams.hue),
        )

    def add_to(self, spec: Any, item: ToyItem) -> None:
        """Add the body `toy` with the free joint `toy`."""
        body = spec.worldbody.add_body(
            name="toy",
            pos=[item.x, item.y, 0.001 - lowest_point(item.parts)],
            quat=[math.cos(item.yaw / 2), 0.0, 0.0, math.sin(item.yaw / 2)],
        )
        joint = body.add_freejoint()
        joint.name = "toy"
        surface = Surface((item.friction, 0.02, 0.002), (0.03, 1.0), (0.6, 0.9, 0.006, 0.5, 2.0))
        add_parts(body, item.parts, item.palette, prefix="toy", mass=item.mass, surface=surface)
        body.add_site(name="target", size=[0.004, 0, 0], rgba=[0, 0, 0, 0])

    def progress(self, model: mujoco.MjModel, data: mujoco.MjData, start: F64) -> float:
        """Return the lifted height as a share of the required one."""
        return max(0.0, float(data.site("target").xpos[2] - start[2]) / LIFT)

    def lost(self, data: mujoco.MjData) -> bool:
        """Return whether the toy has fallen off the table."""
        return bool(data.site("target").xpos[2] < -0.05)

    def yaw(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        """Return the heading of the toy's long axis, folded."""
        return heading(data.body("toy").xmat.reshape(3, 3))

    def decoy(self, data: mujoco.MjData) -> None:
        """Return None: there is one object."""

    def plan(self, item: ToyItem, target: F64, yaw: float, progress: float) -> tuple[Phase, ...]:
        """Hover, descend, close, lift."""
        x, y, z = (float(v) for v in target)
        grasp = max(0.027, z)
        close = max(0.012, z - 0.008)  # closing fingers curl upwards: a small toy needs the palm lower
        return (
            Phase("hover", (x, y, max(0.13, z + 0.09)), yaw, "open", 0.012, live=True),
            Phase("descend", (x, y, grasp), yaw, "open", 0.006, live=True),
            Phase("grasp", (x, y, close), yaw, "close", 0.020, dwell=0.6),
            Phase("lift", (x, y, grasp + 0.16), yaw, "close", 0.010),
        )


def heading(rotation: F64) -> float:
    """Return the yaw in rad, folded, of the long axis of a toy with this orientation [3, 3]."""
    axis = rotation[:2, 1]
    if axis @ axis < 0.1:
        axis = -rotation[:2, 2]
    return fold(math.atan2(-axis[0], axis[1]))


def toy_parts(kind: str, s: float) -> tuple[Part, ...]:
    """Return the parts of a toy kind, half-width s in m; body and head are solid, the rest decoration."""
    build = {
        "bear": _bear,
        "cat": _cat,
        "mouse": _mouse,
        "pig": _pig,
        "rabbit": _rabbit,
        "dachshund": _dachshund,
        "duck": _duck,
    }[kind]
    return build(s)


def _trunk(s: float, body: tuple[float, ...], head: tuple[float, ...], at: tuple[float, ...]) -> list[Part]:
    """Return solid body and head ellipsoids and two eyes; all lengths in units of s."""
    bx, by, bz = body
    hx, hy, hz = head
    x, y, z = at
    eye = 0.13 * s
    return [
        Part("ellipsoid", (bx * s, by * s, bz * s), mass=0.65, solid=True),
        Part("ellipsoid", (hx * s, hy * s, hz * s), (x * s, y * s, z * s), mass=0.35, solid=True),
        *(
            Part("sphere", (eye,), (k * 0.42 * hx * s, (y + 0.75 * hy) * s, (z + 0.55 * hz) * s), "dark")
            for k in (-1, 1)
        ),
    ]


def _pair(
    shape: Shape, size: tuple[float, ...], at: tuple[float, float, float], role: Role, s: float
) -> tuple[Part, Part]:
    """Return a decoration and its mirror image in x; lengths in units of s."""
    scaled = tuple(v * s for v in size)
    x, y, z = (v * s for v in at)
    return Part(shape, scaled, (x, y, z), role), Part(shape, scaled, (-x, y, z), role)


def _paws(s: float, role: Role = "second", y: float = 0.8, low: float = 1.03) -> tuple[Part, ...]:
    """Return four solid paws that keep the toy upright; `low`: their depth below the centre."""
    r = 0.32
    return tuple(
        Part("sphere", (r * s,), (i * 0.62 * s, j * y * s, (r - low) * s), role, solid=True)
        for i in (-1, 1)
        for j in (-1, 1)
    )


def _bear(s: float) -> tuple[Part, ...]:
    return (
        *_trunk(s, (1.0, 1.25, 1.0), (0.8, 0.8, 0.8), (0, 1.6, 0.1)),
        *_pair("sphere", (0.3,), (0.62, 1.6, 0.75), "main", s),
        Part("ellipsoid", (0.38 * s, 0.3 * s, 0.3 * s), (0, 2.25 * s, 0.0), "light"),
        *_paws(s),
    )


def _cat(s: float) -> tuple[Part, ...]:
    return (
        *_trunk(s, (0.95, 1.35, 0.95), (0.82, 0.75, 0.75), (0, 1.65, 0.15)),
        *_pair("ellipsoid", (0.24, 0.14, 0.45), (0.48, 1.65, 0.8), "main", s),
        Part("sphere", (0.12 * s,), (0, 2.4 * s, 0.1 * s), "dark"),
        Part("capsule", (0.16 * s,), role="second", fromto=_ends(s, (0, -1.2, 0.1), (0.5, -1.9, 0.9))),
        *_paws(s, "light", 0.9, 0.98),
    )


def _mouse(s: float) -> tuple[Part, ...]:
    return (
        *_trunk(s, (1.0, 1.3, 0.95), (0.7, 0.85, 0.7), (0, 1.55, 0.05)),
        *_pair("ellipsoid", (0.5, 0.12, 0.5), (0.62, 1.4, 0.7), "second", s),
        Part("sphere", (0.16 * s,), (0, 2.4 * s, 0.05 * s), "dark"),
        Part("capsule", (0.1 * s,), role="second", fromto=_ends(s, (0, -1.2, -0.3), (0.6, -2.5, -0.5))),
        *_paws(s, "light", 0.8, 0.98),
    )


def _pig(s: float) -> tuple[Part, ...]:
    return (
        *_trunk(s, (1.05, 1.25, 1.0), (0.78, 0.7, 0.78), (0, 1.45, 0.2)),
        Part("cylinder", (0.32 * s,), role="second", fromto=_ends(s, (0, 1.9, 0.1), (0, 2.3, 0.1))),
        *_pair("ellipsoid", (0.28, 0.12, 0.26), (0.5, 1.5, 0.9), "second", s),
        *_paws(s, "dark"),
    )


def _rabbit(s: float) -> tuple[Part, ...]:
    return (
        *_trunk(s, (0.95, 1.15, 1.0), (0.65, 0.7, 0.72), (0, 1.3, 0.45)),
        *(
            Part(
                "capsule", (0.2 * s,), role="main", fromto=_ends(s, (k * 0.3, 1.1, 1.1), (k * 0.55, 0.3, 2.1))
            )
            for k in (-1, 1)
        ),
        Part("sphere", (0.34 * s,), (0, -1.3 * s, 0.1 * s), "light"),
        *_paws(s, "second", 0.75, 1.03),
    )


def _dachshund(s: float) -> tuple[Part, ...]:
    return (
        *_trunk(s, (0.92, 2.0, 0.92), (0.6, 0.7, 0.6), (0, 2.3, 0.35)),
        Part("capsule", (0.3 * s,), role="main", fromto=_ends(s, (0, 2.7, 0.2), (0, 3.4, 0.1))),
        Part("sphere", (0.16 * s,), (0, 3.7 * s, 0.15 * s), "dark"),
        *_pair("ellipsoid", (0.14, 0.35, 0.5), (0.65, 2.2, 0.2), "second", s),
        *_paws(s, "second", 1.4, 0.95),
    )


def _duck(s: float) -> tuple[Part, ...]:
    return (
        *_trunk(s, (1.0, 1.4, 0.95), (0.58, 0.6, 0.58), (0, 1.1, 1.25)),
        Part("capsule", (0.4 * s,), role="main", fromto=_ends(s, (0, 0.95, 0.5), (0, 1.1, 1.1))),
        Part("ellipsoid", (0.36 * s, 0.42 * s, 0.12 * s), (0, 1.85 * s, 1.15 * s), "light"),
        *_pair("ellipsoid", (0.16, 0.8, 0.45), (0.95, -0.2, 0.15), "second", s),
        *_paws(s, "dark", 0.8, 0.95),
    )


def _ends(s: float, a: tuple[float, float, float], b: tuple[float, float, float]) -> tuple[float, ...]:
    return tuple(v * s for v in (*a, *b))
