"""Open a box: grasp the handle of the lid and swing it up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Palette, Part, Surface, add_parts
from bora_cli.sim.rotations import about_y, about_z
from bora_cli.sim.tasks.base import F64, Phase, Streams
from bora_cli.sim.variation import draw_kind, draw_palette, draw_size

WALL = 0.004
OPEN_ANGLE = 1.1
"""Lid angle that counts as open, rad; the hinge friction holds the lid from about 0.95 rad on."""
LID_MASS = 0.06
HANDLE_AT = 1.55
"""Distance of the handle from the hinge in units of the box's half-length."""
ARC = (0.3, 0.6, 0.9, 1.15, 1.35)
"""Lid angles of the way points of the opening motion, rad."""


@dataclass(frozen=True)
class BoxItem:
    """A box with a hinged lid.

    x, y: centre, m; yaw: rad; half_length (along x), half_width, height: m.  grip_height: of the handle above
    the hinge, m.  handle: parts in the lid frame, whose origin is the hinge and whose -x points to the
    handle. damping: N m s; friction_share: dry friction of the hinge as a share of the closed lid's weight
    torque.
    """

    kind: str
    x: float
    y: float
    yaw: float
    half_length: float
    half_width: float
    height: float
    grip_height: float
    handle: tuple[Part, ...]
    damping: float
    friction_share: float
    palette: Palette


class OpenBox:
    """A hinged lid lies on a fixed box; success is the lid beyond 1.1 rad for three ticks."""

    name = "open_box"
    max_ticks = 100
    hold_ticks = 3
    wordings: tuple[str, ...] = (
        "open the box",
        "lift the lid of the box",
        "open the lid by its handle",
        "swing the box open",
        "grasp the handle and open the box",
        "raise the lid until the box is open",
    )
    crowded = False
    substep = None

    def instructions(self, item: BoxItem) -> tuple[str, ...]:
        """Return all wordings: there is one object, and each of them means it."""
        return self.wordings

    def draw(self, streams: Streams, setting: str) -> BoxItem:
        """Return the box of one scene."""
        kind = draw_kind(streams.shape, self.name, setting)
        half_length = draw_size(streams.shape, self.name, "half_length", setting)
        half_width = draw_size(streams.shape, self.name, "half_width", setting)
        height = draw_size(streams.shape, self.name, "height", setting)
        handle, grip_height = handle_parts(kind, half_length)
        return BoxItem(
            kind=kind,
            x=float(streams.layout.uniform(0.42, 0.50)),
            y=float(streams.layout.uniform(-0.12, 0.12)),
            yaw=float(streams.layout.uniform(-0.3, 0.3)),
            half_length=half_length,
            half_width=half_width,
            height=height,
            grip_height=grip_height,
            handle=handle,
            damping=float(streams.physics.uniform(0.005, 0.02)),
            friction_share=float(streams.physics.uniform(0.60, 0.75)),
            palette=draw_palette(streams.appearance, streams.hue),
        )

    def add_to(self, spec: Any, item: BoxItem) -> None:
        """Add the fixed body `box` and in it the body `lid` with the hinge `lid`."""
        half_length, half_width, height = item.half_length, item.half_width, item.height
        box = spec.worldbody.add_body(
            name="box",
            pos=[item.x, item.y, 0.0],
            quat=[math.cos(item.yaw / 2), 0.0, 0.0, math.sin(item.yaw / 2)],
        )
        add_parts(box, _walls(item), item.palette, prefix="box", mass=0.3, surface=Surface())
        lid = box.add_body(name="lid", pos=[half_length, 0.0, height + WALL])
        joint = lid.add_joint(
            name="lid", type=mujoco.mjtJoint.mjJNT_HINGE, axis=[0.0, 1.0, 0.0], range=[0.0, 1.9]
        )
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.damping = [item.damping, 0.0, 0.0]
        joint.frictionloss = item.friction_share * LID_MASS * 9.81 * half_length
        joint.solref_limit = [0.01, 1.0]
        # With the default, softer friction an open lid creeps shut within seconds.
        joint.solref_friction = [0.005, 1.0]
        joint.solimp_friction = [0.99, 0.999, 0.001, 0.5, 2.0]
        plate = Part(
            "box",
            (half_length + WALL, half_width + WALL, WALL),
            (-half_length, 0.0, 0.0),
            mass=0.85,
            solid=True,
        )
        add_parts(lid, (plate, *item.handle), item.palette, prefix="lid", mass=LID_MASS, surface=Surface())
        lid.add_site(
            name="target",
            pos=[-HANDLE_AT * half_length, 0.0, item.grip_height],
            size=[0.004, 0, 0],
            rgba=[0, 0, 0, 0],
        )
        spec.add_exclude(bodyname1="box", bodyname2="lid")

    def progress(self, model: mujoco.MjModel, data: mujoco.MjData, start: F64) -> float:
        """Return the lid angle as a share of the required one."""
        return max(0.0, float(data.joint("lid").qpos[0]) / OPEN_ANGLE)

    def lost(self, data: mujoco.MjData) -> bool:
        """Return False: the box is fixed to the table."""
        return False

    def yaw(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        """Return the yaw of the box."""
        rotation = data.body("box").xmat.reshape(3, 3)
        return math.atan2(rotation[1, 0], rotation[0, 0])

    def decoy(self, data: mujoco.MjData) -> None:
        """Return None: there is one object."""

    def plan(self, item: BoxItem, target: F64, yaw: float, progress: float) -> tuple[Phase, ...]:
        """Hover over the handle, descend, close, follow the handle's arc about the hinge."""
        x, y, z = (float(v) for v in target)
        angle = OPEN_ANGLE * progress
        arc = tuple(
            Phase("arc", _handle_at(item, a), item.yaw, "close", 0.015) for a in ARC if a > angle + 0.1
        )
        return (
            Phase("hover", (x, y, z + 0.09), yaw, "open", 0.012),
            Phase("descend", (x, y, z - 0.002), yaw, "open", 0.006),
            Phase("grasp", (x, y, z - 0.002), yaw, "close", 0.020, dwell=0.7),
            *arc,
        )


def handle_parts(kind: str, half_length: float) -> tuple[tuple[Part, ...], float]:
    """Return the handle's parts in the lid frame and the height of its grip above the hinge in m."""
    x = -HANDLE_AT * half_length
    posts = tuple(
        Part("capsule", (0.005,), role="dark", fromto=(x, k * 0.028, 0.0, x, k * 0.028, 0.042), mass=0.03)
        for k in (-1, 1)
    )
    if kind == "bar":
        bar = Part(
            "capsule",
            (0.008,),
            role="second",
            fromto=(x, -0.035, 0.042, x, 0.035, 0.042),
            mass=0.09,
            solid=True,
        )
        return (*posts, bar), 0.042
    if kind == "block":
        block = Part("box", (0.008, 0.038, 0.009), (x, 0.0, 0.042), "second", mass=0.09, solid=True)
        return (*posts, block), 0.042
    stem = Part("capsule", (0.006,), role="dark", fromto=(x, 0.0, 0.0, x, 0.0, 0.03), mass=0.06)
    if kind == "knob":
        knob = Part("ellipsoid", (0.012, 0.026, 0.022), (x, 0.0, 0.036), "second", mass=0.09, solid=True)
        return (stem, knob), 0.036
    tab = Part("box", (0.006, 0.020, 0.026), (x, 0.0, 0.030), "second", mass=0.15, solid=True)
    return (tab,), 0.036


def _walls(item: BoxItem) -> tuple[Part, ...]:
    length, width, half_height = item.half_length, item.half_width, item.height / 2
    return (
        # Inside the walls: faces in one plane would flicker.
        Part("box", (length - WALL, width - WALL, WALL / 2), (0, 0, WALL / 2), "dark", mass=0.2, solid=True),
        *(
            Part(
                "box",
                (WALL, width, half_height),
                (k * (length - WALL), 0.0, half_height),
                "second",
                mass=0.2,
                solid=True,
            )
            for k in (-1, 1)
        ),
        *(
            Part(
                "box",
                (length, WALL, half_height),
                (0.0, k * (width - WALL), half_height),
                "second",
                mass=0.2,
                solid=True,
            )
            for k in (-1, 1)
        ),
    )


def _handle_at(item: BoxItem, angle: float) -> tuple[float, float, float]:
    """Return the world position of the grip, m, at a lid angle in rad."""
    in_lid = np.array([-HANDLE_AT * item.half_length, 0.0, item.grip_height])
    in_box = np.array([item.half_length, 0.0, item.height + WALL]) + about_y(angle) @ in_lid
    x, y, z = np.array([item.x, item.y, 0.0]) + about_z(item.yaw) @ in_box
    return float(x), float(y), float(z)
