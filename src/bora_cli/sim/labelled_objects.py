"""Objects for labelled scenes: those of the standard setting, and invented ones around them.

An invented object is a random compound that a task's scene code can build like any other.  It stays away
from everything held out: its hue, its sizes and its plan (what distinguishes the unseen kinds: long or raised
necks, long ears, long bodies; handles without two posts; round or six-sided housings; egg-shaped, six-sided,
hollow or angled objects; round or slanted slots, boxes as high as they are wide).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bora_cli.sim.parts import Palette, Part, Role
from bora_cli.sim.tasks import get_task
from bora_cli.sim.tasks.base import Streams
from bora_cli.sim.tasks.open_box import HANDLE_AT, BoxItem
from bora_cli.sim.tasks.pick_place import PlaceItem
from bora_cli.sim.tasks.pick_toy import UNIT, ToyItem
from bora_cli.sim.tasks.press_button import ButtonItem
from bora_cli.sim.tasks.pull_tissue import TissueItem, box_parts
from bora_cli.sim.variation import HUES, TABLE, colour, pick

INVENTED = "invented"
"""Kind of an object that no task draws."""
ROOM = 0.35
"""How far invented sizes leave the standard interval, as a share of the gap to the nearest held-out size."""

Rng = np.random.Generator


def draw_object(rng: Rng, task: str, *, invented: bool) -> Any:
    """Draw the item of a task, for instance `ToyItem` or `BoxItem`, somewhere on the table, alone.

    invented: a made-up object; otherwise one of the standard setting in its own colours.
    """
    item = get_task(task).draw(Streams(rng, rng, rng, rng), "standard")
    if isinstance(item, PlaceItem):
        item = replace(item, other=None, goal=None)
    elif isinstance(item, TissueItem):
        item = replace(item, other=None)
    if invented:
        item = _INVENT[task](rng, item)
    return replace(item, yaw=float(rng.uniform(-0.7, 0.7)) if task != "open_box" else item.yaw)


def allowed_interval(task: str, name: str) -> tuple[float, float]:
    """Return the interval of a size, in the unit of the variation table, in which objects are invented."""
    sizes = TABLE[task].sizes[name]
    low, high = min(a for a, _ in sizes["standard"]), max(b for _, b in sizes["standard"])
    below = [b for _, b in sizes["unseen"] if b <= low]
    above = [a for a, _ in sizes["unseen"] if a >= high]
    room_below = ROOM * (low - max(below)) if below else 0.1 * low
    room_above = ROOM * (min(above) - high) if above else 0.1 * high
    return low - room_below, high + room_above


def draw_colours(rng: Rng, hue: float | None = None) -> Palette:
    """Draw a palette whose main hue is not held out.

    hue: of the main colour, drawn if None.  The second role is a paler neighbour, a second hue or a grey.
    """
    if hue is None:
        hue = pick(HUES["seen"], float(rng.random()))
    saturation, value = float(rng.uniform(0.5, 0.92)), float(rng.uniform(0.6, 0.97))
    style = rng.random()
    if style < 0.5:
        second = colour(hue, 0.4 * saturation, 0.5 * (1.0 + value))
    elif style < 0.8:
        other = pick(HUES["seen"], float(rng.random()))
        second = colour(other, float(rng.uniform(0.2, 0.9)), float(rng.uniform(0.4, 0.95)))
    else:
        second = colour(hue, 0.05, float(rng.uniform(0.25, 0.95)))
    light = colour(
        float(rng.uniform(0.05, 0.16)), float(rng.uniform(0.0, 0.15)), float(rng.uniform(0.7, 1.0))
    )
    return Palette(main=colour(hue, saturation, value), second=second, light=light)


def _size(rng: Rng, task: str, name: str) -> float:
    return float(rng.uniform(*allowed_interval(task, name)))


def _invent_toy(rng: Rng, item: ToyItem) -> ToyItem:
    """Return a compound of a trunk, a low head and a few limbs."""
    s = UNIT * _size(rng, "pick_toy", "scale")
    long = float(rng.uniform(1.1, 1.5))
    high = float(rng.uniform(0.85, 1.05))
    parts = [_lump(rng, (s, long * s, high * s), (0.0, 0.0, 0.0), "main", 0.65)]
    head = float(rng.uniform(0.6, 0.9)) * s
    at = (0.0, float(rng.uniform(1.0, 1.25)) * long * s, float(rng.uniform(0.0, 0.35)) * s)
    parts.append(_lump(rng, (head, head, head), at, _role(rng), 0.35))
    if rng.random() < 0.7:
        ear = head * float(rng.uniform(0.3, 0.6))
        spread = head * float(rng.uniform(0.4, 0.9))
        for side in (-1, 1):
            parts.append(
                Part("ellipsoid", (ear, 0.6 * ear, ear), (side * spread, at[1], at[2] + 0.9 * head), "second")
            )
    if rng.random() < 0.7:
        for side in (-1, 1):
            where = (side * 0.4 * head, at[1] + 0.75 * head, at[2] + 0.5 * head)
            parts.append(Part("sphere", (0.14 * s,), where, "dark"))
    if rng.random() < 0.5:
        end = (float(rng.uniform(-0.8, 0.8)) * s, -(long + 0.8) * s, float(rng.uniform(-0.5, 0.9)) * s)
        parts.append(Part("capsule", (0.14 * s,), role=_role(rng), fromto=(0.0, -0.9 * long * s, 0.0, *end)))
    if rng.random() < 0.75:
        role, r = _role(rng), 0.3 * s
        for i in (-1, 1):
            for j in (-0.65, 0.65):
                where = (i * 0.6 * s, j * long * s, r - (high + 0.03) * s)
                parts.append(Part("sphere", (r,), where, role, solid=True))
    return replace(item, kind=INVENTED, half_width=s, parts=tuple(parts), palette=draw_colours(rng))


def _lump(
    rng: Rng, size: tuple[float, float, float], at: tuple[float, float, float], role: Role, mass: float
) -> Part:
    """Return an ellipsoid, or sometimes a block of about its volume."""
    if rng.random() < 0.8:
        return Part("ellipsoid", size, at, role, mass=mass, solid=True)
    x, y, z = size
    return Part("box", (0.85 * x, 0.85 * y, z), at, role, mass=mass, solid=True)


def _role(rng: Rng) -> Role:
    roles: tuple[Role, ...] = ("main", "second", "light", "dark")
    return roles[int(rng.choice(4, p=(0.35, 0.35, 0.2, 0.1)))]


def _housing_role(rng: Rng) -> Role:
    """Draw a role that leaves the main colour to the cap."""
    roles: tuple[Role, ...] = ("second", "light", "dark")
    return roles[int(rng.choice(3, p=(0.35, 0.5, 0.15)))]


def _invent_box(rng: Rng, item: BoxItem) -> BoxItem:
    """Return a box whose handle is a bar of some section on two posts."""
    half_length = float(rng.uniform(0.055, 0.085))
    x = -HANDLE_AT * half_length
    grip = float(rng.uniform(0.036, 0.050))
    reach, apart = float(rng.uniform(0.026, 0.044)), float(rng.uniform(0.55, 0.95))
    thick = float(rng.uniform(0.006, 0.011))
    role = _role(rng)
    posts = tuple(
        Part("capsule", (0.005,), role="dark", fromto=(x, y, 0.0, x, y, grip), mass=0.03)
        for y in (-apart * reach, apart * reach)
    )
    if rng.random() < 0.5:
        bar = Part(
            "capsule" if rng.random() < 0.6 else "cylinder",
            (thick,),
            role=role,
            fromto=(x, -reach, grip, x, reach, grip),
            mass=0.09,
            solid=True,
        )
    else:
        size = (thick, reach, float(rng.uniform(0.006, 0.012)))
        bar = Part("box", size, (x, 0.0, grip), role, mass=0.09, solid=True)
    return replace(
        item,
        kind=INVENTED,
        half_length=half_length,
        half_width=float(rng.uniform(0.065, 0.105)),
        height=_size(rng, "open_box", "height"),
        grip_height=grip,
        handle=(*posts, bar),
        palette=draw_colours(rng),
    )


def _invent_button(rng: Rng, item: ButtonItem) -> ButtonItem:
    """Return a button on a block, a cross of two blocks, or a block on a plinth."""
    height = _size(rng, "press_button", "height")
    wide, deep = rng.uniform(0.040, 0.060, 2)
    half = height / 2
    role = _housing_role(rng)
    plan = rng.random()
    housing: tuple[Part, ...]
    if plan < 0.5:
        housing = (Part("box", (wide, deep, half), (0.0, 0.0, half), role, mass=1.0, solid=True),)
    elif plan < 0.75:
        inset = float(rng.uniform(0.010, 0.016))
        housing = tuple(
            Part("box", size, (0.0, 0.0, half), role, mass=0.5, solid=True)
            for size in ((wide, deep - inset, half), (wide - inset, deep, half))
        )
    else:
        plinth = 0.3 * half
        upper = Part("box", (0.8 * wide, 0.8 * deep, half), (0.0, 0.0, half), role, mass=0.6, solid=True)
        lower = Part(
            "box", (wide, deep, plinth), (0.0, 0.0, plinth), _housing_role(rng), mass=0.4, solid=True
        )
        housing = (upper, lower)
    return replace(
        item,
        kind=INVENTED,
        radius=_size(rng, "press_button", "radius"),
        height=height,
        housing=housing,
        palette=draw_colours(rng),
    )


def _invent_thing(rng: Rng, item: PlaceItem) -> PlaceItem:
    """Return a brick, a drum, or one with something smaller on top of it."""
    s = _size(rng, "pick_place", "half_width")
    h = float(rng.uniform(0.018, 0.034))
    low = h * float(rng.uniform(0.35, 0.75)) if rng.random() < 0.6 else h
    at = (0.0, 0.0, low - h)
    if rng.random() < 0.5:
        deep = s * float(rng.uniform(0.8, 1.3))
        parts = [Part("box", (s, deep, low), at, mass=0.7, solid=True)]
        band = Part("box", (s + 0.0006, deep + 0.0006, low * float(rng.uniform(0.15, 0.5))), at, _role(rng))
    else:
        parts = [Part("cylinder", (s, low), at, mass=0.7, solid=True)]
        band = Part("cylinder", (s + 0.0006, low * float(rng.uniform(0.15, 0.5))), at, _role(rng))
    if rng.random() < 0.6:
        parts.append(band)
    if low < h:
        r, top, role = s * float(rng.uniform(0.4, 0.85)), (0.0, 0.0, low), _role(rng)
        if rng.random() < 0.5:
            parts.append(Part("box", (r, r, h - low), top, role, mass=0.3, solid=True))
        else:
            parts.append(Part("cylinder", (r, h - low), top, role, mass=0.3, solid=True))
    return replace(
        item, kind=INVENTED, half_width=s, half_height=h, parts=tuple(parts), palette=draw_colours(rng)
    )


def _invent_tissues(rng: Rng, item: TissueItem) -> TissueItem:
    """Return a flat box, longer than high, with or without rounded edges, stripes in other places."""
    half_length, half_width = float(rng.uniform(0.040, 0.056)), float(rng.uniform(0.056, 0.074))
    height = float(rng.uniform(0.042, 0.076))
    parts = box_parts("rounded" if rng.random() < 0.4 else "flat", half_length, half_width, height, 0.0)
    if rng.random() < 0.5:
        middle, thick = float(rng.uniform(0.25, 0.8)) * height, float(rng.uniform(0.03, 0.12)) * height
        stripe = (half_length + 0.0008, half_width + 0.0008, thick)
        parts = (*parts, Part("box", stripe, (0.0, 0.0, middle), _role(rng)))
    return replace(
        item,
        kind=INVENTED,
        half_length=half_length,
        half_width=half_width,
        height=height,
        tissue=_size(rng, "pull_tissue", "tissue"),
        tissue_width=float(rng.uniform(0.024, 0.036)),
        parts=parts,
        palette=draw_colours(rng),
    )


_INVENT: dict[str, Any] = {
    "pick_toy": _invent_toy,
    "open_box": _invent_box,
    "press_button": _invent_button,
    "pick_place": _invent_thing,
    "pull_tissue": _invent_tissues,
}
