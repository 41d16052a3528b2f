"""Labels of a scene state: what a policy's eyes should be able to tell, as numbers of order 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.sim.parts import Rgb
from bora_cli.sim.tasks.pick_toy import UNIT

F64 = NDArray[np.float64]

ORIGIN = (0.48, 0.0, 0.05)
"""Where positions are counted from, m."""
FAR_M, FINE_M = 0.1, 0.05
"""Lengths that become 1 in the coarse and in the zoomed positions, m."""

LABEL_NAMES: tuple[str, ...] = (
    *(f"target_{axis}" for axis in "xyz"),
    *(f"relative_{axis}" for axis in "xyz"),
    *(f"zoomed_{axis}" for axis in "xyz"),
    "scene_u",
    "scene_v",
    "wrist_u",
    "wrist_v",
    "yaw_sine",
    "yaw_cosine",
    "turn_sine",
    "turn_cosine",
    "red",
    "green",
    "blue",
    "is_toy",
    "is_box",
    "is_button",
    "is_object",
    "is_tissue",
    "kind_bear",
    "kind_cat",
    "kind_mouse",
    "kind_pig",
    "handle_is_bar",
    "housing_is_square",
    "object_is_block",
    "tissues_are_flat",
    "half_width",
    "height",
    "lid_angle",
    "press_travel",
    "lifted",
    "in_bin",
    "out_of_box",
    "bin_x",
    "bin_y",
    "bin_dx",
    "bin_dy",
    "is_left",
    "in_hand",
    "touching",
    "near",
    "above",
)
"""relative: target minus tool; zoomed: the same, clipped.  u, v: image coordinates, -1..1, v upwards.
yaw, turn: sine and cosine of twice the target's yaw in the world and relative to the hand (twice, because
half turns do not matter to a grasp).  bin_x, bin_y: where the bin is; bin_dx, bin_dy: seen from the tool.
is_left: whether the target is the left one of two of its kind."""

_FLAG_OF_TASK = {
    "pick_toy": "is_toy",
    "open_box": "is_box",
    "press_button": "is_button",
    "pick_place": "is_object",
    "pull_tissue": "is_tissue",
}


@dataclass(frozen=True)
class View:
    """Pose of a camera: position [3] m, rotation [3, 3] (right, up, back), tangent of half its view."""

    position: F64
    rotation: F64
    half: float


@dataclass(frozen=True)
class Situation:
    """What labels are computed from; world frame, m and rad.

    target: point where the hand acts, [3].  rest_height: of the target point of what can be lifted.  yaw,
    tool_yaw: of the object and of the hand.  travel: lid angle in rad or cap travel in m.  in_hand, done:
    None where it could be said either way.  side: left or right, None unless it is one of two.  goal: of the
    bin, [2], None where there is none.  views: camera name -> pose.
    """

    task: str
    item: Any
    target: F64
    rest_height: float
    yaw: float
    tool: F64
    tool_yaw: float
    travel: float
    touching: bool
    in_hand: bool | None
    done: bool | None
    side: str | None
    goal: F64 | None
    views: dict[str, View]


def label(now: Situation) -> dict[str, float]:
    """Return the labels that apply, name -> value."""
    values: dict[str, float] = {}
    relative = now.target - now.tool
    for i, axis in enumerate("xyz"):
        values[f"target_{axis}"] = (now.target[i] - ORIGIN[i]) / FAR_M
        values[f"relative_{axis}"] = relative[i] / FAR_M
        values[f"zoomed_{axis}"] = float(np.clip(relative[i] / FINE_M, -1.0, 1.0))
    for camera, view in now.views.items():
        point = image_point(view, now.target)
        if point is not None:
            values[f"{camera}_u"], values[f"{camera}_v"] = point
    for name, flag in _FLAG_OF_TASK.items():
        values[flag] = float(name == now.task)
    values |= _colour(now.item.palette.main)
    values["touching"] = float(now.touching)
    values["near"] = float(np.linalg.norm(relative) < 0.04)
    values["above"] = float(np.hypot(relative[0], relative[1]) < 0.03)
    if now.goal is not None:
        for i, axis in enumerate("xy"):
            values[f"bin_{axis}"] = (now.goal[i] - ORIGIN[i]) / FAR_M
            values[f"bin_d{axis}"] = (now.goal[i] - now.tool[i]) / FAR_M
    if now.side is not None:
        values["is_left"] = float(now.side == "left")
    if now.task != "press_button" and now.item.kind != "cylinder":  # these look the same from all sides
        values["yaw_sine"], values["yaw_cosine"] = math.sin(2 * now.yaw), math.cos(2 * now.yaw)
        turn = now.yaw - now.tool_yaw
        values["turn_sine"], values["turn_cosine"] = math.sin(2 * turn), math.cos(2 * turn)
    if now.task != "press_button" and now.in_hand is not None:
        values["in_hand"] = float(now.in_hand)
    return values | _OF_TASK[now.task](now)


def image_point(view: View, point: F64) -> tuple[float, float] | None:
    """Return where a world point [3] appears, -1..1 to the right and upwards; None if outside the image."""
    x, y, z = view.rotation.T @ (point - view.position)
    if z >= 0.0:
        return None
    u, v = x / (-z * view.half), y / (-z * view.half)
    return (float(u), float(v)) if max(abs(u), abs(v)) < 1.0 else None


def _colour(rgb: Rgb) -> dict[str, float]:
    return {name: 2.0 * c - 1.0 for name, c in zip(("red", "green", "blue"), rgb, strict=True)}


def _toy(now: Situation) -> dict[str, float]:
    kinds = {f"kind_{kind}": float(kind == now.item.kind) for kind in ("bear", "cat", "mouse", "pig")}
    return {
        "half_width": (now.item.half_width - UNIT) / 0.005,
        "lifted": (now.target[2] - now.rest_height) / FAR_M,
        **(kinds if any(kinds.values()) else {}),
    }


def _box(now: Situation) -> dict[str, float]:
    values = {
        "half_width": (now.item.half_width - 0.085) / 0.015,
        "height": (now.item.height - 0.047) / 0.012,
        "lid_angle": now.travel,
    }
    return values | _if_known(now.item.kind, "handle_is_bar", "bar", "block")


def _button(now: Situation) -> dict[str, float]:
    values = {
        "half_width": (now.item.radius - 0.025) / 0.005,
        "height": (now.item.height - 0.033) / 0.012,
        "press_travel": now.travel / 0.010,
    }
    return values | _if_known(now.item.kind, "housing_is_square", "square", "rounded")


def _thing(now: Situation) -> dict[str, float]:
    values = {
        "half_width": (now.item.half_width - 0.0205) / 0.0035,
        "height": (now.item.half_height - 0.027) / 0.005,
        "lifted": (now.target[2] - now.rest_height) / FAR_M,
    }
    if now.done is not None:
        values["in_bin"] = float(now.done)
    return values | _if_known(now.item.kind, "object_is_block", "block", "cylinder")


def _tissue(now: Situation) -> dict[str, float]:
    values = {
        "half_width": (now.item.half_width - 0.065) / 0.006,
        "height": (now.item.height - 0.060) / 0.011,
        "lifted": (now.target[2] - now.rest_height) / FAR_M,
    }
    if now.done is not None:
        values["out_of_box"] = float(now.done)
    return values | _if_known(now.item.kind, "tissues_are_flat", "flat", "rounded")


def _if_known(kind: str, name: str, yes: str, no: str) -> dict[str, float]:
    return {name: float(kind == yes)} if kind in (yes, no) else {}


_OF_TASK = {
    "pick_toy": _toy,
    "open_box": _box,
    "press_button": _button,
    "pick_place": _thing,
    "pull_tissue": _tissue,
}
