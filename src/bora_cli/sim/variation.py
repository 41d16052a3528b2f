"""What varies between scenes, in one table: kinds and sizes of the standard and of the unseen setting, and hues.

The unseen setting takes both from outside the standard setting at once: an object *kind* that the standard
setting never shows and a *size* outside its range.  Everything else (pose, physics, hue, light, table, camera)
is drawn from the same distributions, from streams of their own, so that both settings agree in them for equal
scene seeds.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bora_cli.errors import ConfigError
from bora_cli.sim.parts import Palette, Rgb

SETTINGS = ("standard", "unseen")
Interval = tuple[float, float]
Intervals = tuple[Interval, ...]


@dataclass(frozen=True)
class TaskVariation:
    """Kinds and ranges of one task; every dict is keyed by setting.

    sizes: name -> setting -> intervals, in the unit named in the comment beside the entry.
    """

    kinds: dict[str, tuple[str, ...]]
    sizes: dict[str, dict[str, Intervals]]


HUES: dict[str, Intervals] = {
    "seen": ((0.0, 0.27), (0.41, 0.71), (0.86, 1.0)),
    "held_out": ((0.29, 0.39), (0.73, 0.84)),
    "any": ((0.0, 1.0),),
}
"""Hue of an object's main colour, 0..1: everything but green and violet, against green and violet."""

COLOURS: tuple[tuple[str, float], ...] = (
    ("red", 0.035),
    ("orange", 0.105),
    ("yellow", 0.19),
    ("lime", 0.28),
    ("green", 0.40),
    ("turquoise", 0.53),
    ("blue", 0.72),
    ("violet", 0.85),
    ("pink", 0.955),
    ("red", 1.0),
)
"""Names of hues, each up to its upper limit."""
HELD_OUT_COLOURS = ("green", "violet")
"""Names that only held-out hues have."""
HUES_APART = 0.12
"""Least distance of the main hues of two objects between which a colour word decides."""

TABLE: dict[str, TaskVariation] = {
    "pick_toy": TaskVariation(
        kinds={"standard": ("bear", "cat", "mouse", "pig"), "unseen": ("rabbit", "dachshund", "duck")},
        sizes={"scale": {"standard": ((0.90, 1.15),), "unseen": ((0.68, 0.82), (1.25, 1.40))}},  # x 26 mm
    ),
    "open_box": TaskVariation(
        kinds={"standard": ("bar", "block"), "unseen": ("knob", "tab")},
        sizes={
            "height": {"standard": ((0.035, 0.060),), "unseen": ((0.070, 0.095),)},  # m
            # the opening: half of its length away from the hinge, and of its width along it, m
            "half_length": {"standard": ((0.06, 0.08),), "unseen": ((0.050, 0.054), (0.086, 0.092))},
            "half_width": {"standard": ((0.07, 0.10),), "unseen": ((0.056, 0.064), (0.106, 0.114))},
        },
    ),
    "press_button": TaskVariation(
        kinds={"standard": ("square", "rounded"), "unseen": ("drum", "hexagon")},
        sizes={
            "radius": {"standard": ((0.020, 0.030),), "unseen": ((0.013, 0.017),)},  # cap, m
            "height": {"standard": ((0.020, 0.045),), "unseen": ((0.050, 0.070),)},  # housing, m
        },
    ),
    "pick_place": TaskVariation(
        kinds={"standard": ("block", "cylinder"), "unseen": ("prism", "egg", "corner", "bowl")},
        sizes={
            "half_width": {"standard": ((0.017, 0.024),), "unseen": ((0.0140, 0.0150), (0.0255, 0.0270))}
        },  # m
    ),
    "pull_tissue": TaskVariation(
        kinds={"standard": ("flat", "rounded"), "unseen": ("cube", "upright", "slanted")},
        sizes={"tissue": {"standard": ((0.033, 0.039),), "unseen": ((0.043, 0.047),)}},  # half-height, m
    ),
}


def require_setting(setting: str) -> None:
    """Raise ConfigError unless the setting exists."""
    if setting not in SETTINGS:
        raise ConfigError(
            f"Unknown setting '{setting}'; expected {' or '.join(SETTINGS)}.", "Change --setting."
        )


def pick(intervals: Intervals, u: float) -> float:
    """Return the point at fraction u in [0, 1) of the total length of the intervals."""
    left = u * sum(high - low for low, high in intervals)
    for low, high in intervals:
        if left <= high - low:
            return low + left
        left -= high - low
    return intervals[-1][1]


def draw_size(rng: np.random.Generator, task: str, name: str, setting: str) -> float:
    """Draw a size of a task; one random number whatever the setting."""
    return pick(TABLE[task].sizes[name][setting], float(rng.random()))


def draw_kind(rng: np.random.Generator, task: str, setting: str) -> str:
    """Draw an object kind of a task; one random number whatever the setting."""
    kinds = TABLE[task].kinds[setting]
    return kinds[int(rng.random() * len(kinds))]


def draw_palette(rng: np.random.Generator, hues: str) -> Palette:
    """Draw the colours of an object: a strong main colour and a paler neighbour of it for the second role."""
    return _paint(rng, pick(HUES[hues], float(rng.random())))


def draw_palettes(rng: np.random.Generator, hues: str) -> tuple[Palette, Palette]:
    """Draw the colours of two objects whose main colours differ in name and by at least `HUES_APART`."""
    hue = pick(HUES[hues], float(rng.random()))
    first = _paint(rng, hue)
    return first, _paint(rng, pick(_hues_besides(hue, hues), float(rng.random())))


def name_colour(rgb: Rgb) -> str:
    """Return the name of a colour, RGB in 0..1, by its hue."""
    return _name_hue(colorsys.rgb_to_hsv(*rgb)[0])


def _name_hue(hue: float) -> str:
    return next(name for name, upper in COLOURS if hue <= upper)


def _hues_besides(hue: float, hues: str) -> Intervals:
    """Return those of an entry of `HUES` that are called otherwise than this one and lie apart from it."""
    uppers = [upper for _, upper in COLOURS]
    edges = {(hue + d) % 1.0 for d in (-HUES_APART, HUES_APART)} | {0.0, *uppers}
    edges |= {edge for interval in HUES[hues] for edge in interval}
    found = []
    for low, high in pairwise(sorted(edges)):
        middle = 0.5 * (low + high)
        apart = abs((middle - hue + 0.5) % 1.0 - 0.5) > HUES_APART
        inside = any(a <= middle <= b for a, b in HUES[hues])
        if inside and apart and _name_hue(middle) != _name_hue(hue):
            found.append((low, high))
    return tuple(found)


def _paint(rng: np.random.Generator, hue: float) -> Palette:
    saturation, value = float(rng.uniform(0.55, 0.82)), float(rng.uniform(0.72, 0.94))
    second = colour(hue, 0.40 * saturation, 0.5 * (1.0 + value))
    return Palette(main=colour(hue, saturation, value), second=second)


def colour(hue: float, saturation: float, value: float) -> Rgb:
    """Return RGB in 0..1 of hue, saturation and value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (red, green, blue)
