"""Press a button: push its cap down with the index finger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Palette, Part, Surface, add_parts
from bora_cli.sim.tasks.base import F64, Phase, Streams
from bora_cli.sim.variation import draw_kind, draw_palette, draw_size

STROKE = 0.012
PRESSED = 0.008
"""Travel that counts as pressed, m."""
CAP_HALF_HEIGHT = 0.008
TIP_FROM_TOOL = (-0.047, 0.027, -0.027)
"""Tip of the straight index finger relative to the tool point at neutral orientation, world frame, m."""


@dataclass(frozen=True)
class ButtonItem:
    """A button on a housing.

    x, y: m; yaw: rad; radius of the cap, height of the housing: m.  stiffness: N/m of the cap's spring.
    """

    kind: str
    x: float
    y: float
    yaw: float
    radius: float
    height: float
    housing: tuple[Part, ...]
    stiffness: float
    palette: Palette


class PressButton:
    """A sprung cap sits on a housing; success is the cap pressed by more than 8 of its 12 mm."""

    name = "press_button"
    max_ticks = 60
    hold_ticks = 1
    wordings: tuple[str, ...] = (
        "press the button",
        "push the button down",
        "press the round button with the index finger",
        "push down the button with one finger",
        "put a finger on the button and press",
        "push the button",
    )
    crowded = False
    substep = None

    def instructions(self, item: ButtonItem) -> tuple[str, ...]:
        """Return all wordings: there is one object, and each of them means it."""
        return self.wordings

    def draw(self, streams: Streams, setting: str) -> ButtonItem:
        """Return the button of one scene."""
        kind = draw_kind(streams.shape, self.name, setting)
        radius = draw_size(streams.shape, self.name, "radius", setting)
        height = draw_size(streams.shape, self.name, "height", setting)
        return ButtonItem(
            kind=kind,
            x=float(streams.layout.uniform(0.42, 0.56)),
            y=float(streams.layout.uniform(-0.15, 0.15)),
            yaw=float(streams.layout.uniform(-0.6, 0.6)),
            radius=radius,
            height=height,
            housing=housing_parts(kind, height),
            stiffness=float(streams.physics.uniform(150.0, 350.0)),
            palette=draw_palette(streams.appearance, streams.hue),
        )

    def add_to(self, spec: Any, item: ButtonItem) -> None:
        """Add the fixed body `housing` and in it the body `cap` with the slide `cap`, negative when
        pressed."""
        housing = spec.worldbody.add_body(
            name="housing",
            pos=[item.x, item.y, 0.0],
            quat=[math.cos(item.yaw / 2), 0.0, 0.0, math.sin(item.yaw / 2)],
        )
        add_parts(housing, item.housing, item.palette, prefix="housing", mass=0.5, surface=Surface())
        cap = housing.add_body(name="cap", pos=[0.0, 0.0, item.height + CAP_HALF_HEIGHT])
        joint = cap.add_joint(
            name="cap", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0.0, 0.0, 1.0], range=[-STROKE, 0.0]
        )
        joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
        joint.stiffness = [item.stiffness, 0.0, 0.0]
        joint.damping = [4.0, 0.0, 0.0]
        joint.armature = 0.02
        joint.solref_limit = [0.01, 1.0]
        disc = Part("cylinder", (item.radius, CAP_HALF_HEIGHT), mass=1.0, solid=True)
        add_parts(cap, (disc,), item.palette, prefix="cap", mass=0.02, surface=Surface())
        cap.gravcomp = 1.0
        cap.add_site(name="target", pos=[0.0, 0.0, 0.0], size=[0.004, 0, 0], rgba=[0, 0, 0, 0])
        spec.add_exclude(bodyname1="housing", bodyname2="cap")

    def progress(self, model: mujoco.MjModel, data: mujoco.MjData, start: F64) -> float:
        """Return the travel as a share of the required one."""
        return max(0.0, -float(data.joint("cap").qpos[0]) / PRESSED)

    def lost(self, data: mujoco.MjData) -> bool:
        """Return False: the button is fixed to the table."""
        return False

    def yaw(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        """Return 0: a round cap is pressed without turning the hand."""
        return 0.0

    def decoy(self, data: mujoco.MjData) -> None:
        """Return None: there is one object."""

    def plan(self, item: ButtonItem, target: F64, yaw: float, progress: float) -> tuple[Phase, ...]:
        """Point above the cap, come close, push through."""
        x = float(target[0]) - TIP_FROM_TOOL[0]
        y = float(target[1]) - TIP_FROM_TOOL[1]
        z = item.height + CAP_HALF_HEIGHT + 0.017 - TIP_FROM_TOOL[2]
        return (
            Phase("hover", (x, y, z + 0.06), 0.0, "point", 0.012, dwell=0.3),
            Phase("descend", (x, y, z + 0.015), 0.0, "point", 0.006, speed=0.6),
            Phase("press", (x, y, z - 0.030), 0.0, "point", 0.002, speed=0.3),
        )


def housing_parts(kind: str, height: float) -> tuple[Part, ...]:
    """Return the parts of a button housing, full height in m."""
    half = height / 2
    if kind == "square":
        return (Part("box", (0.05, 0.05, half), (0, 0, half), "light", mass=1.0, solid=True),)
    if kind == "rounded":
        return (
            Part("box", (0.052, 0.036, half), (0, 0, half), "light", mass=0.5, solid=True),
            Part("box", (0.036, 0.052, half), (0, 0, half), "light", mass=0.3, solid=True),
            *(
                Part("cylinder", (0.016, half), (i * 0.036, j * 0.036, half), "light", mass=0.05, solid=True)
                for i in (-1, 1)
                for j in (-1, 1)
            ),
        )
    if kind == "drum":
        return (
            Part("cylinder", (0.055, half), (0, 0, half), "second", mass=0.9, solid=True),
            Part("cylinder", (0.060, 0.004), (0, 0, 0.004), "dark", mass=0.1, solid=True),
        )
    side, apothem = 0.030, 0.052
    return tuple(
        Part(
            "box",
            (apothem, side, half),
            (0, 0, half),
            "second",
            quat=(math.cos(k * math.pi / 6), 0.0, 0.0, math.sin(k * math.pi / 6)),
            mass=1 / 3,
            solid=True,
        )
        for k in range(3)
    )
