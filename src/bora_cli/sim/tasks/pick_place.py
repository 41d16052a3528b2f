"""Pick and place: of two objects on the table, put the one that the instruction names into the bin."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Palette, Part, Surface, add_parts, lowest_point
from bora_cli.sim.tasks.base import F64, Phase, Streams, fill, fold, hand_touches
from bora_cli.sim.tasks.pick_toy import heading
from bora_cli.sim.variation import (
    HELD_OUT_COLOURS,
    TABLE,
    Intervals,
    colour,
    draw_kind,
    draw_palettes,
    draw_size,
    name_colour,
    pick,
)

NOUNS = {
    "block": "block",
    "cylinder": "cylinder",
    "prism": "prism",
    "egg": "egg",
    "corner": "corner",
    "bowl": "bowl",
}
"""What the kinds are called."""
BIN_REACH = 0.07
"""Half-width of the bin's inside, m."""
BIN_WALL = 0.004
BIN_HEIGHT = 0.044
BIN_GREYS: dict[str, Intervals] = {
    "seen": ((0.34, 0.46),),
    "held_out": ((0.80, 0.92),),
    "any": ((0.34, 0.46), (0.80, 0.92)),
}
"""Brightness of the bin, by the entry of `HUES` in force."""
LOW = 0.05
"""Height below which an object lies in the bin, m."""
AWAY = 0.06
"""Distance of tool point and object from which the hand is away, m."""
RESTING = 0.05
"""Speed below which an object rests, m/s."""
LIFT = 0.10
"""Height above its rest from which an object counts as fully lifted, m."""
CARRY = 0.15
DROP = 0.078
"""Heights at which an object is carried to the bin and let go of, m."""
_ROWS = ((0.0, 0.04), (0.13, 0.17))
"""Intervals of y in which the two objects stand, m: between them the open hand has room."""


@dataclass(frozen=True)
class Bin:
    """An open bin, fixed to the table.  x, y: centre, m; palette: of greys."""

    x: float
    y: float
    palette: Palette


@dataclass(frozen=True)
class PlaceItem:
    """An object to be placed.

    x, y: m; yaw: rad; half_width, half_height: m; mass: kg; friction: sliding, against hand and table.
    goal: the bin; None where this object is not the one that the instruction means.  other: that object.
    """

    kind: str
    x: float
    y: float
    yaw: float
    half_width: float
    half_height: float
    parts: tuple[Part, ...]
    mass: float
    friction: float
    palette: Palette
    goal: Bin | None = None
    other: PlaceItem | None = None

    @property
    def noun(self) -> str:
        """What it is called: by its kind, else by its shape if it is simple, else just an object."""
        if self.kind in NOUNS:
            return NOUNS[self.kind]
        shapes = [part.shape for part in self.parts if part.solid]
        if shapes == ["box"]:
            return "block"
        return "cylinder" if shapes == ["cylinder"] else "object"


class PickPlace:
    """Two objects stand beside a bin; success is the right one at rest in it, the hand away.

    The wrong object in the bin, also on top of the right one, ends the episode without success.
    """

    name = "pick_place"
    max_ticks = 110
    hold_ticks = 3
    wordings: tuple[str, ...] = (
        "put the {colour} {noun} into the bin",
        "place the {colour} {noun} in the bin",
        "pick up the {colour} {noun} and drop it into the bin",
        "move the {colour} object to the bin",
        "put the {noun} into the bin",
        "drop the {noun} in the bin",
        "put the object on the {side} into the bin",
        "place the {noun} on the {side} in the bin",
        "move the {colour} {noun} on the {side} to the bin",
    )
    crowded = True
    substep = None

    def instructions(self, item: PlaceItem) -> tuple[str, ...]:
        """Return the sentences that only the right object answers to.

        New colours and kinds have new words, so for them the sentence also says on which side the object is.
        """
        if item.other is None:
            return fill(self.wordings, {"colour": name_colour(item.palette.main), "noun": item.noun}, None)
        words = {
            "colour": name_colour(item.palette.main),
            "noun": item.noun,
            "side": "left" if item.y > item.other.y else "right",
        }
        deciding = {"side"}
        if words["colour"] not in HELD_OUT_COLOURS:
            deciding.add("colour")
        if item.noun != item.other.noun and item.kind in TABLE[self.name].kinds["standard"]:
            deciding.add("noun")
        return fill(self.wordings, words, deciding)

    def draw(self, streams: Streams, setting: str) -> PlaceItem:
        """Return the two objects and the bin of one scene."""
        layout = streams.layout
        beside = [(float(layout.uniform(0.40, 0.54)), float(layout.uniform(*y))) for y in _ROWS]
        if layout.random() < 0.5:
            beside.reverse()
        place = float(layout.uniform(0.42, 0.52)), float(layout.uniform(-0.22, -0.17))
        target, other = (
            _draw_object(streams, setting, at, paint)
            for at, paint in zip(beside, draw_palettes(streams.appearance, streams.hue), strict=True)
        )
        goal = Bin(*place, draw_bin_palette(streams.appearance, streams.hue))
        return replace(target, goal=goal, other=other)

    def add_to(self, spec: Any, item: PlaceItem) -> None:
        """Add the body `object` with a free joint of that name, and where there are, `bin` and `decoy`."""
        # With the usual, smaller numbers a block that has dropped into the bin keeps rocking for seconds.
        spec.option.iterations, spec.option.ls_iterations = 100, 50
        if item.goal is not None:
            add_bin(spec, item.goal)
        _add_object(spec, item, "object", "target")
        if item.other is not None:
            _add_object(spec, item.other, "decoy", "decoy")

    def progress(self, model: mujoco.MjModel, data: mujoco.MjData, start: F64) -> float:
        """Return 0.4 for a lifted object, 0.7 for one above the bin, 0.9 for one in it, 1 once it rests there,
        the hand is away and the wrong one not there too."""
        here, goal = data.site("target").xpos, data.body("bin").xpos
        if not _inside(here, goal):
            lifted = float(np.clip((here[2] - start[2]) / LIFT, 0.0, 1.0))
            way = float(np.linalg.norm(start[:2] - goal[:2])) - BIN_REACH
            left = float(np.linalg.norm(here[:2] - goal[:2])) - BIN_REACH
            return lifted * (0.4 + 0.3 * float(np.clip(1.0 - left / way, 0.0, 1.0)))
        if here[2] >= LOW:
            return 0.7 + 0.2 * float(np.clip((CARRY - here[2]) / (CARRY - LOW), 0.0, 1.0))
        rests = float(np.linalg.norm(data.joint("object").qvel[:3])) < RESTING
        away = float(np.linalg.norm(here - data.site("tool").xpos)) > AWAY
        alone = not _inside(data.site("decoy").xpos, goal)
        return 1.0 if rests and away and alone and not hand_touches(data, "object") else 0.9

    def lost(self, data: mujoco.MjData) -> bool:
        """Return whether the object has fallen off the table, or the wrong one was dropped into the bin."""
        decoy = data.site("decoy").xpos
        settled = decoy[2] < LOW or float(np.linalg.norm(data.joint("decoy").qvel[:3])) < RESTING
        wrong = _inside(decoy, data.body("bin").xpos) and settled and not hand_touches(data, "decoy")
        return bool(wrong or data.site("target").xpos[2] < -0.05)

    def yaw(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        """Return the yaw of the object, folded as its symmetry allows."""
        return _grasp_yaw(data.body("object").xmat.reshape(3, 3))

    def decoy(self, data: mujoco.MjData) -> tuple[F64, float]:
        """Return position and yaw of the wrong object."""
        return data.site("decoy").xpos.copy(), _grasp_yaw(data.body("decoy").xmat.reshape(3, 3))

    def plan(self, item: PlaceItem, target: F64, yaw: float, progress: float) -> tuple[Phase, ...]:
        """Hover, descend, close, lift, carry above the bin, lower, let go, leave."""
        x, y, z = (float(v) for v in target)
        bx, by = (item.goal.x, item.goal.y) if item.goal is not None else (x, y)
        grasp = max(0.027, z)
        close = max(0.012, z - 0.009)  # closing fingers curl upwards: a low object needs the palm lower
        fallen = z < LOW and abs(z - item.half_height) > 0.004
        opened = "release" if fallen and item.kind == "corner" else "open"  # it may be too wide as it lies
        way = (
            Phase("lift", (x, y, max(CARRY, z)), yaw, "close", 0.020, speed=0.8),
            Phase("carry", (bx, by, CARRY), 0.0, "close", 0.020, speed=0.8),
        )
        return (
            Phase("hover", (x, y, max(0.13, z + 0.09)), yaw, opened, 0.012, live=True),
            Phase("descend", (x, y, grasp), yaw, opened, 0.006, live=True),
            Phase("grasp", (x, y, close), yaw, "close", 0.020, dwell=0.6),
            *(way if progress < 0.7 else ()),
            Phase("lower", (bx, by, DROP), 0.0, "close", 0.015),
            Phase("release", (bx, by, DROP), 0.0, "release", 0.020, dwell=0.4),
            Phase("retreat", (bx, by, 0.18), 0.0, "release", 0.020),
        )


def add_bin(spec: Any, goal: Bin) -> None:
    """Add the fixed body `bin`, whose origin is the centre of its underside."""
    body = spec.worldbody.add_body(name="bin", pos=[goal.x, goal.y, 0.0])
    outer, half = BIN_REACH + 2 * BIN_WALL, BIN_HEIGHT / 2
    inner = BIN_REACH + BIN_WALL
    rim = 0.005
    parts = [
        Part("box", (BIN_REACH, BIN_REACH, BIN_WALL), (0, 0, BIN_WALL), "dark", mass=0.2, solid=True),
        *(Part("box", (BIN_WALL, outer, half), (k * inner, 0, half), mass=0.2, solid=True) for k in (-1, 1)),
        *(
            Part("box", (BIN_REACH, BIN_WALL, half), (0, k * inner, half), mass=0.2, solid=True)
            for k in (-1, 1)
        ),
    ]
    for k in (-1, 1):
        ends = (k * inner, -inner, BIN_HEIGHT, k * inner, inner, BIN_HEIGHT)
        parts.append(Part("capsule", (rim,), role="second", fromto=ends))
        ends = (-inner, k * inner, BIN_HEIGHT, inner, k * inner, BIN_HEIGHT)
        parts.append(Part("capsule", (rim,), role="second", fromto=ends))
    add_parts(body, parts, goal.palette, prefix="bin", mass=0.5, surface=Surface())


def draw_bin_palette(rng: np.random.Generator, hues: str) -> Palette:
    """Draw the greys of a bin: dark where hues are seen ones, pale where they are held out, or either."""
    value = pick(BIN_GREYS[hues], float(rng.random()))
    return Palette(
        main=colour(0.6, 0.05, value),
        second=colour(0.6, 0.03, min(1.0, value + 0.16)),
        dark=colour(0.6, 0.05, 0.6 * value),
    )


def object_parts(kind: str, s: float, h: float) -> tuple[Part, ...]:
    """Return the parts of an object kind, half-width s and half-height h in m."""
    band = 0.3 * h
    if kind == "block":
        return (
            Part("box", (s, s, h), mass=1.0, solid=True),
            Part("box", (s + 0.0006, s + 0.0006, band), role="second"),
        )
    if kind == "cylinder":
        return (
            Part("cylinder", (s, h), mass=1.0, solid=True),
            Part("cylinder", (s + 0.0006, band), role="second"),
        )
    if kind == "prism":
        turns = [(math.cos(k * math.pi / 6), 0.0, 0.0, math.sin(k * math.pi / 6)) for k in range(3)]
        side = s / math.sqrt(3.0)
        return (
            # What collides is round: crossed boxes jump when they touch the table.
            Part("cylinder", (1.04 * s, h), role="main", mass=1.0, solid=True),
            # Their tops differ a little: faces in one plane would flicker.
            *(
                Part("box", (1.045 * s, 1.045 * side, h + 0.0003 * (k + 1)), quat=turn)
                for k, turn in enumerate(turns)
            ),
            *(Part("box", (1.08 * s, 1.08 * side, band), role="second", quat=turn) for turn in turns),
        )
    if kind == "egg":
        return (
            Part("ellipsoid", (s, 1.35 * s, 1.05 * s), mass=1.0, solid=True),
            Part("ellipsoid", (1.012 * s, 0.4 * s, 1.062 * s), (0.0, 0.0, 0.0), "second"),
        )
    if kind == "corner":
        return (
            Part("box", (0.5 * s, 1.3 * s, h), (-0.5 * s, 0.0, 0.0), mass=0.65, solid=True),
            Part("box", (0.5 * s, 0.5 * s, h), (0.5 * s, -0.8 * s, 0.0), "second", mass=0.35, solid=True),
        )
    return _bowl(s, h)


def _bowl(s: float, h: float) -> tuple[Part, ...]:
    """Return a wall of twelve staves that lean outwards around something that fills it, which collides."""
    staves, thick, lean = 12, 0.0022, 0.08
    wide = s * math.tan(math.pi / staves)
    middle = s - thick - h * math.sin(lean)
    walls = []
    for k in range(staves):
        angle = 2.0 * math.pi * k / staves
        a, b, c, d = math.cos(angle / 2), math.sin(angle / 2), math.cos(lean / 2), math.sin(lean / 2)
        at = (middle * math.cos(angle), middle * math.sin(angle), 0.0)
        walls.append(Part("box", (thick, wide, h), at, quat=(a * c, -b * d, a * d, b * c)))
    filling = Part("cylinder", (0.87 * s, 0.8 * h), (0.0, 0.0, -0.2 * h), "second", mass=1.0, solid=True)
    return (filling, *walls)


def _draw_object(streams: Streams, setting: str, at: tuple[float, float], palette: Palette) -> PlaceItem:
    kind = draw_kind(streams.shape, PickPlace.name, setting)
    half_width = draw_size(streams.shape, PickPlace.name, "half_width", setting)
    half_height = float(streams.shape.uniform(0.022, 0.032))
    if kind == "egg":
        half_height = 1.05 * half_width
    elif kind == "bowl":
        half_height = max(0.014, 0.7 * half_width)
    return PlaceItem(
        kind=kind,
        x=at[0],
        y=at[1],
        yaw=float(streams.layout.uniform(-0.6, 0.6)),
        half_width=half_width,
        half_height=half_height,
        parts=object_parts(kind, half_width, half_height),
        mass=float(streams.physics.uniform(0.05, 0.15)),
        friction=float(streams.physics.uniform(0.6, 1.1)),
        palette=palette,
    )


def _add_object(spec: Any, item: PlaceItem, name: str, site: str) -> None:
    body = spec.worldbody.add_body(
        name=name,
        pos=[item.x, item.y, 0.001 - lowest_point(item.parts)],
        quat=[math.cos(item.yaw / 2), 0.0, 0.0, math.sin(item.yaw / 2)],
    )
    joint = body.add_freejoint()
    joint.name = name
    surface = Surface((item.friction, 0.02, 0.002), (0.01, 1.0))
    add_parts(body, item.parts, item.palette, prefix=name, mass=item.mass, surface=surface)
    if item.kind not in ("block", "corner"):  # what is round rolls, but not for ever
        for geom in body.geoms:
            geom.condim = 6
            geom.friction = (item.friction, 0.02, 0.004)
    body.add_site(name=site, size=[0.004, 0, 0], rgba=[0, 0, 0, 0])


def _grasp_yaw(rotation: F64) -> float:
    """Return the yaw in rad at which the hand should grasp an object of this orientation [3, 3]."""
    if abs(rotation[2, 2]) < 0.7:  # it fell over: along its axis
        return fold(math.atan2(-rotation[0, 2], rotation[1, 2]))
    return heading(rotation)


def _inside(point: F64, goal: F64) -> bool:
    return bool(abs(point[0] - goal[0]) < BIN_REACH and abs(point[1] - goal[1]) < BIN_REACH)
