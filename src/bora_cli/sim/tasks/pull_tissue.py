"""Pull a tissue: of two boxes, take a tissue out of the one that the instruction names."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Palette, Part, Surface, add_parts
from bora_cli.sim.tasks.base import F64, Phase, Streams, fill, fold, hand_touches
from bora_cli.sim.variation import (
    HELD_OUT_COLOURS,
    draw_kind,
    draw_palettes,
    draw_size,
    name_colour,
)

LIFT = 0.09
"""Height above its place in the box from which a torn-off tissue is taken, m."""
HELD_BACK = 0.12
"""Largest progress of a tissue that is still in its box."""
FLYING = 0.9
"""Progress of a tissue that is high enough but not held."""
FALLEN = 0.03
"""How far below its place in the box a torn-off tissue counts as dropped, m."""
SUNK = 0.006
"""Part of the tissue that is inside the box, m."""
THICK = 0.006
"""Half-thickness of a tissue where it is grasped, m."""
TISSUE_MASS, BOX_MASS = 0.012, 0.4
_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0)}
_ROWS = ((-0.15, -0.12), (0.12, 0.15))
"""Intervals of y in which the two boxes stand, m."""


@dataclass(frozen=True)
class TissueItem:
    """A box with a tissue that looks out of it.

    x, y: m; yaw: rad; half_length (along x), half_width, height of the box: m.  tissue, tissue_width:
    half-height and half-width of the tissue, m.  slant: yaw of slot and tissue in the box, rad.  stretch: m by
    which the tissue has to be drawn out before it tears off.  friction: sliding, of the tissue.  other: the
    box that the instruction does not mean.
    """

    kind: str
    x: float
    y: float
    yaw: float
    half_length: float
    half_width: float
    height: float
    slant: float
    tissue: float
    tissue_width: float
    parts: tuple[Part, ...]
    stretch: float
    friction: float
    palette: Palette
    other: TissueItem | None = None


class PullTissue:
    """Two boxes stand side by side; success is the right tissue torn off and more than 9 cm up for three ticks.

    A tissue torn off the wrong box, and a torn-off tissue that is dropped, end the episode without success.
    """

    name = "pull_tissue"
    max_ticks = 80
    hold_ticks = 3
    wordings: tuple[str, ...] = (
        "pull a tissue out of the {colour} box",
        "take one tissue from the {colour} box",
        "grasp the tissue in the {colour} box and pull it out",
        "get me a tissue from the {colour} tissue box",
        "tear a single tissue off the {colour} box",
        "pull a tissue out of the box on the {side}",
        "take one tissue from the {side} box",
        "pull the tissue on the {side} out of its {colour} box",
    )
    crowded = True

    def instructions(self, item: TissueItem) -> tuple[str, ...]:
        """Return the sentences that only the right box answers to; a new colour has a new word, so for it the
        sentence also says on which side the box is."""
        words = {"colour": name_colour(item.palette.main)}
        if item.other is None:
            return fill(self.wordings, words, None)
        words["side"] = "left" if item.y > item.other.y else "right"
        known = words["colour"] not in HELD_OUT_COLOURS
        return fill(self.wordings, words, ("side", "colour") if known else ("side",))

    def draw(self, streams: Streams, setting: str) -> TissueItem:
        """Return the two boxes of one scene."""
        layout = streams.layout
        beside = [(float(layout.uniform(0.42, 0.53)), float(layout.uniform(*y))) for y in _ROWS]
        if layout.random() < 0.5:
            beside.reverse()
        target, other = (
            _draw_box(streams, setting, at, paint)
            for at, paint in zip(beside, draw_palettes(streams.appearance, streams.hue), strict=True)
        )
        return replace(target, other=other)

    def add_to(self, spec: Any, item: TissueItem) -> None:
        """Add the body `tissue_box`, which slides, and the free body `tissue`, tied to it by the weld `tissue`;
        where there is another box, the same with `decoy_box` and `decoy`."""
        _add_box(spec, item, "tissue", "target")
        if item.other is not None:
            _add_box(spec, item.other, "decoy", "decoy")

    def substep(self, model: mujoco.MjModel, data: mujoco.MjData) -> Callable[[], None]:
        """Return what tears off a tissue that is drawn out too far; sideways it gives way."""
        active, welds = data.eq_active, []
        for name in ("tissue", "decoy"):
            weld = model.eq(name).id
            box, tissue = model.eq_obj1id[weld], model.eq_obj2id[weld]
            turn, rest = data.xmat[box].reshape(3, 3), float(model.eq_data[weld, 5])
            stretch = float(model.numeric(f"{name}_stretch").data[0])
            if active[weld]:
                welds.append((weld, data.xpos[box], data.xpos[tissue], turn, rest, stretch))

        def tear() -> None:
            for weld, box, tissue, turn, rest, stretch in welds:  # the arrays show what the physics does
                if active[weld]:
                    active[weld] = float(((tissue - box) @ turn)[2]) - rest < stretch

        return tear

    def progress(self, model: mujoco.MjModel, data: mujoco.MjData, start: F64) -> float:
        """Return the height of the torn-off tissue as a share of the required one; little while it is tied,
        less than 1 while no hand holds it."""
        lifted = max(0.0, float(data.site("target").xpos[2] - start[2]) / LIFT)
        if data.eq_active[model.eq("tissue").id]:
            return min(lifted, HELD_BACK)
        return lifted if lifted < 1.0 or hand_touches(data, "tissue") else FLYING

    def lost(self, data: mujoco.MjData) -> bool:
        """Return whether the wrong tissue is torn off, or the right one is torn off and dropped."""
        model = data.model
        if not data.eq_active[model.eq("decoy").id]:
            return True
        if data.eq_active[model.eq("tissue").id]:
            return bool(data.site("target").xpos[2] < -0.05)
        sunk = data.body("tissue_box").xpos[2] + model.body("tissue").pos[2] - data.site("target").xpos[2]
        return bool(sunk > FALLEN)

    def yaw(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        """Return the yaw of the tissue."""
        return _heading(data.body("tissue").xmat.reshape(3, 3))

    def decoy(self, data: mujoco.MjData) -> tuple[F64, float]:
        """Return position and yaw of the tissue in the wrong box."""
        return data.site("decoy").xpos.copy(), _heading(data.body("decoy").xmat.reshape(3, 3))

    def plan(self, item: TissueItem, target: F64, yaw: float, progress: float) -> tuple[Phase, ...]:
        """Hover over the tissue, descend, close, pull up."""
        x, y, z = (float(v) for v in target)
        return (
            Phase("hover", (x, y, z + 0.08), yaw, "open", 0.012, live=True),
            Phase("descend", (x, y, z + 0.003), yaw, "open", 0.006, live=True),
            Phase("grasp", (x, y, z - 0.004), yaw, "close", 0.020, dwell=0.7),
            Phase("lift", (x, y, z + 0.16 - LIFT * min(progress, 1.0)), yaw, "close", 0.010),
        )


def _heading(rotation: F64) -> float:
    return fold(math.atan2(rotation[1, 0], rotation[0, 0]))


def box_parts(
    kind: str, half_length: float, half_width: float, height: float, slant: float
) -> tuple[Part, ...]:
    """Return the parts of a box in its frame, whose origin is the centre of its underside; lengths in m."""
    half = height / 2
    top = height + 0.0004
    turn = (math.cos(slant / 2), 0.0, 0.0, math.sin(slant / 2))
    stripe = Part(
        "box", (half_length + 0.0006, half_width + 0.0006, 0.16 * half), (0, 0, 0.62 * half), "second"
    )
    if kind == "rounded":
        r = 0.018
        body = [
            Part("box", (half_length, half_width - r, half), (0, 0, half), mass=0.5, solid=True),
            Part("box", (half_length - r, half_width, half), (0, 0, half - 0.0002), mass=0.3, solid=True),
            *(
                Part(
                    "cylinder",
                    (r, half),
                    (i * (half_length - r), j * (half_width - r), half - 0.0004),
                    mass=0.05,
                    solid=True,
                )
                for i in (-1, 1)
                for j in (-1, 1)
            ),
        ]
    else:
        body = [Part("box", (half_length, half_width, half), (0, 0, half), mass=1.0, solid=True), stripe]
    if kind in ("cube", "upright"):
        rim = Part("cylinder", (0.034, 0.0006), (0, 0, top), "second")
        return (*body, rim, Part("cylinder", (0.028, 0.0008), (0, 0, top), "dark"))
    rim = Part("ellipsoid", (0.021, 0.050, 0.0008), (0, 0, top), "second", quat=turn)
    return (*body, rim, Part("ellipsoid", (0.013, 0.042, 0.0014), (0, 0, top), "dark", quat=turn))


def tissue_parts(width: float, height: float) -> tuple[Part, ...]:
    """Return the parts of a tissue, half-width and half-height in m: a solid fold and two loose corners."""
    diamond = math.pi / 4  # about x: a square that stands on its corner
    corners = tuple(
        Part(
            "box",
            (0.0012, 0.62 * width, 0.62 * width),
            (side * 0.0045, side * 0.30 * width, 0.42 * height),
            "light",
            quat=_turn(side * 0.22, diamond + side * 0.12),
        )
        for side in (-1, 1)
    )
    fold_ = Part(
        "box", (THICK, 0.78 * width, 0.86 * height), (0, 0, -0.14 * height), "light", mass=1.0, solid=True
    )
    return (fold_, *corners)


def _turn(lean: float, roll: float) -> tuple[float, float, float, float]:
    """Return the quaternion of a roll about x followed by a lean about y, rad."""
    a, b, c, d = math.cos(lean / 2), math.sin(lean / 2), math.cos(roll / 2), math.sin(roll / 2)
    return a * c, a * d, b * c, -b * d


def _draw_box(streams: Streams, setting: str, at: tuple[float, float], palette: Palette) -> TissueItem:
    shape = streams.shape
    kind = draw_kind(shape, PullTissue.name, setting)
    tissue = draw_size(shape, PullTissue.name, "tissue", setting)
    wide, deep, high = (float(v) for v in shape.random(3))
    half_length, half_width, height = {
        "cube": (0.050 + 0.004 * wide,) * 2 + (0.084 + 0.006 * high,),
        "upright": (0.044 + 0.004 * deep, 0.044 + 0.006 * wide, 0.094 + 0.009 * high),
    }.get(kind, (0.044 + 0.008 * deep, 0.060 + 0.010 * wide, 0.050 + 0.022 * high))
    slant = 0.5 if kind == "slanted" else 0.0
    return TissueItem(
        kind=kind,
        x=at[0],
        y=at[1],
        yaw=float(streams.layout.uniform(-0.3, 0.3)),
        half_length=half_length,
        half_width=half_width,
        height=height,
        slant=slant,
        tissue=tissue,
        tissue_width=float(shape.uniform(0.026, 0.034)),
        parts=box_parts(kind, half_length, half_width, height, slant),
        stretch=float(streams.physics.uniform(0.010, 0.016)),
        friction=float(streams.physics.uniform(0.9, 1.4)),
        palette=palette,
    )


def _let_slide(box: Any, name: str) -> None:
    """Let a body slide and turn on the table under dry friction.

    Its weight rests on joints: the contacts of two boxes would cost a third of the simulation's speed.
    """
    for axis in "xy":
        joint = box.add_joint(name=f"{name}_{axis}", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=_AXES[axis])
        joint.frictionloss = 0.6 * BOX_MASS * 9.81
        joint.damping = [2.0, 0.0, 0.0]
    turn = box.add_joint(name=f"{name}_yaw", type=mujoco.mjtJoint.mjJNT_HINGE, axis=(0.0, 0.0, 1.0))
    turn.frictionloss = 0.6 * BOX_MASS * 9.81 * 0.04
    turn.damping = [0.01, 0.0, 0.0]


def _add_box(spec: Any, item: TissueItem, name: str, site: str) -> None:
    at, centre = (item.x, item.y), item.height + item.tissue - SUNK
    turn = [math.cos(item.yaw / 2), 0.0, 0.0, math.sin(item.yaw / 2)]
    box = spec.worldbody.add_body(name=f"{name}_box", pos=[*at, 0.0], quat=turn)
    _let_slide(box, f"{name}_box")
    add_parts(box, item.parts, item.palette, prefix=f"{name}_box", mass=BOX_MASS, surface=Surface())
    for geom in box.geoms:
        if geom.conaffinity:
            geom.contype, geom.conaffinity = 0, 6  # meets the hand, not the table
    yaw = item.yaw + item.slant
    tissue = spec.worldbody.add_body(
        name=name, pos=[*at, centre], quat=[math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]
    )
    tissue.add_freejoint().name = name
    soft = Surface((item.friction, 0.02, 0.002), (0.02, 1.0), (0.7, 0.95, 0.003, 0.5, 2.0))
    paper = tissue_parts(item.tissue_width, item.tissue)
    add_parts(tissue, paper, item.palette, prefix=name, mass=TISSUE_MASS, surface=soft)
    tissue.add_site(name=site, size=[0.004, 0, 0], rgba=[0, 0, 0, 0])
    spec.add_exclude(bodyname1=f"{name}_box", bodyname2=name)
    weld = spec.add_equality(
        name=name,
        type=mujoco.mjtEq.mjEQ_WELD,
        objtype=mujoco.mjtObj.mjOBJ_BODY,
        name1=f"{name}_box",
        name2=name,
    )
    weld.solref = [0.02, 1.0]
    weld.data[:10] = 0.0  # tied as they stand now
    weld.data[10] = 0.3  # share of the torque: the tissue may lean
    spec.add_numeric(name=f"{name}_stretch", data=[item.stretch])
