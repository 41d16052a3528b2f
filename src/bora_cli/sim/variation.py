"""What varies between scenes, in one table: kinds, sizes and hues of the standard and of the unseen setting.

The unseen setting takes all three from outside the standard setting at once: an object *kind* that the
standard setting never shows, a *size* outside its range and a *hue* from the held-out bands.  Everything else
(pose, physics, light, table, camera) is drawn from the same distributions, from streams of their own, so that
both settings agree in them for equal scene seeds.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

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
    "standard": ((0.0, 0.27), (0.41, 0.71), (0.86, 1.0)),
    "unseen": ((0.29, 0.39), (0.73, 0.84)),
}
"""Hue of an object's main colour, 0..1: everything but green and violet, against green and violet."""

TABLE: dict[str, TaskVariation] = {
    "pick_toy": TaskVariation(
        kinds={"standard": ("bear", "cat", "mouse", "pig"), "unseen": ("rabbit", "dachshund", "duck")},
        sizes={"scale": {"standard": ((0.90, 1.15),), "unseen": ((0.68, 0.82), (1.25, 1.40))}},  # x 26 mm
    ),
    "open_box": TaskVariation(
        kinds={"standard": ("bar", "block"), "unseen": ("knob", "tab")},
        sizes={"height": {"standard": ((0.035, 0.060),), "unseen": ((0.070, 0.095),)}},  # m
    ),
    "press_button": TaskVariation(
        kinds={"standard": ("square", "rounded"), "unseen": ("drum", "hexagon")},
        sizes={
            "radius": {"standard": ((0.020, 0.030),), "unseen": ((0.013, 0.017),)},  # cap, m
            "height": {"standard": ((0.020, 0.045),), "unseen": ((0.050, 0.070),)},  # housing, m
        },
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


def draw_palette(rng: np.random.Generator, setting: str) -> Palette:
    """Draw the colours of an object: a strong main colour and a paler neighbour of it for the second role."""
    hue = pick(HUES[setting], float(rng.random()))
    saturation, value = float(rng.uniform(0.55, 0.82)), float(rng.uniform(0.72, 0.94))
    second = colour(hue, 0.40 * saturation, 0.5 * (1.0 + value))
    return Palette(main=colour(hue, saturation, value), second=second)


def colour(hue: float, saturation: float, value: float) -> Rgb:
    """Return RGB in 0..1 of hue, saturation and value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return (red, green, blue)
