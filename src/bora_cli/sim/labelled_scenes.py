"""Rendered scenes whose labels are free, to pre-train a backbone without demonstrations or physics.

Every scene holds one to three objects; in each state the instruction names one of them, and all labels are about
that one.  The arm is placed by inverse kinematics, near any of the objects or anywhere, the hand is more or less
closed, toys and the like lie on the table, in the bin or in the hand, lids and caps are somewhere in their
travel, and the scene camera is shifted by up to a few centimetres.  Held-out kinds, hues and sizes never occur.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bora_cli.seeds import stream
from bora_cli.sim.arm_hand import ArmKinematics
from bora_cli.sim.labelled_language import ANSWERS, VOCABULARY, ask, say
from bora_cli.sim.labelled_objects import draw_colours, draw_object
from bora_cli.sim.labelled_states import CAMERAS, Composition, LabelledScene
from bora_cli.sim.labels import LABEL_NAMES, label
from bora_cli.sim.render import Renderer
from bora_cli.sim.scene import Appearance, draw_appearance
from bora_cli.sim.tasks import TASKS
from bora_cli.sim.tasks.pick_place import Bin, draw_bin_palette
from bora_cli.sim.variation import name_colour
from bora_cli.types import F32, U8, Bool

__all__ = ["ANSWERS", "LABEL_NAMES", "VOCABULARY", "LabelledScenes", "compose", "labelled_scenes"]

IMAGE_SIZE = 64
STATE_DIM = 33
INVENTED_SHARE = 0.7
SINGLE_SHARE, MIXED_SHARE = 0.7, 0.15
"""Shares of scenes with one object and with objects of different tasks; the others hold several of one."""
PAIR_SHARE = 0.6
"""How often a task between two objects has two in a scene that would hold one."""
ROOM = {"pick_toy": 0.07, "press_button": 0.08, "open_box": 0.13, "pick_place": 0.05, "pull_tissue": 0.10}
"""Radius of the table area that an object keeps for itself, m."""
BIN_ROOM = 0.10
SPREAD = ("open_box", "pull_tissue")
"""Tasks of which no more than two objects find room."""

Rng = np.random.Generator


@dataclass(frozen=True)
class LabelledScenes:
    """n rendered states with their labels, and one question each.

    images: camera -> uint8 [n, 64, 64, 3].  state: float32 [n, 33], as `Simulation` gives it.  prompt: n
    instructions.  labels: float32 [n, L] of order 1, 0 where label_mask, bool [n, L], is False.  label_names:
    L.  question: n questions; answer: n words of `ANSWERS`.
    """

    images: dict[str, U8]
    state: F32
    prompt: list[str]
    labels: F32
    label_mask: Bool
    label_names: list[str]
    question: list[str]
    answer: list[str]


def labelled_scenes(seed: int, scenes: int, states_per_scene: int, renderer: Renderer) -> LabelledScenes:
    """Render `scenes` scenes in `states_per_scene` states each; rows are ordered by scene.

    The same arguments give the same arrays.
    """
    n = scenes * states_per_scene
    images: dict[str, U8] = {c: np.empty((n, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8) for c in CAMERAS}
    state = np.empty((n, STATE_DIM), np.float32)
    labels = np.zeros((n, len(LABEL_NAMES)), np.float32)
    mask = np.zeros((n, len(LABEL_NAMES)), bool)
    column = {name: i for i, name in enumerate(LABEL_NAMES)}
    prompts, questions, answers = [], [], []
    kinematics = ArmKinematics()
    for i in range(scenes):
        rng = stream("labelled", seed, i)
        scene = LabelledScene(compose(rng), kinematics)
        for row in range(i * states_per_scene, (i + 1) * states_per_scene):
            scene.draw(rng)
            for camera, image in renderer.images(scene.model, scene.data, CAMERAS, IMAGE_SIZE).items():
                images[camera][row] = image
            state[row] = scene.proprioception()
            for name, value in label(scene.situation()).items():
                labels[row, column[name]], mask[row, column[name]] = value, True
            seen = scene.seen()
            prompts.append(say(rng, seen, scene.target))
            question, answer = ask(rng, seen, scene.target, scene.tool_position(), scene.hand_open)
            questions.append(question)
            answers.append(answer)
    return LabelledScenes(images, state, prompts, labels, mask, list(LABEL_NAMES), questions, answers)


def compose(rng: Rng) -> Composition:
    """Draw what stands on the table, where, and how it is lit."""
    tasks = list(TASKS)
    share = rng.random()
    if share < SINGLE_SHARE:
        chosen = [tasks[int(rng.integers(len(tasks)))]]
        if TASKS[chosen[0]].crowded and rng.random() < PAIR_SHARE:
            chosen *= 2
    elif share < SINGLE_SHARE + MIXED_SHARE:
        chosen = [tasks[int(i)] for i in rng.permutation(len(tasks))[: int(rng.integers(2, 4))]]
    else:
        task = tasks[int(rng.integers(len(tasks)))]
        chosen = [task] * (2 if task in SPREAD else int(rng.integers(2, 4)))
    invented = bool(rng.random() < INVENTED_SHARE)
    goal = _draw_bin(rng) if "pick_place" in chosen else None
    objects: list[tuple[str, Any]] = []
    for task in chosen:
        item = _place(rng, task, draw_object(rng, task, invented=invented), objects, len(chosen) > 1, goal)
        if item is not None:
            objects.append((task, item))
    return Composition(tuple(objects), _draw_look(rng), goal)


def _draw_bin(rng: Rng) -> Bin:
    """Draw a bin somewhat further around than the task's, of any dark to middle grey."""
    x, y = float(rng.uniform(0.40, 0.54)), float(rng.uniform(-0.24, -0.15))
    return Bin(x, y, draw_bin_palette(rng, "seen"))


def _place(
    rng: Rng, task: str, item: Any, others: list[tuple[str, Any]], crowded: bool, goal: Bin | None
) -> Any | None:
    """Return the item where it has room and, among its kind, a colour name of its own; None if nowhere."""
    reach_x, reach_y = ((0.37, 0.61), (-0.22, 0.22)) if crowded else ((0.40, 0.58), (-0.17, 0.17))
    taken = {name_colour(other.palette.main) for kind, other in others if kind == task}
    for _ in range(100):
        x, y = float(rng.uniform(*reach_x)), float(rng.uniform(*reach_y))
        if any(math.hypot(x - o.x, y - o.y) < ROOM[task] + ROOM[kind] for kind, o in others):
            continue
        if goal is not None and math.hypot(x - goal.x, y - goal.y) < ROOM[task] + BIN_ROOM:
            continue
        if name_colour(item.palette.main) not in taken:
            return replace(item, x=x, y=y)
        item = replace(item, palette=draw_colours(rng))
    return None


def _draw_look(rng: Rng) -> Appearance:
    """Draw an appearance, somewhat wider than that of the tasks; the camera is moved in every state anew."""
    look = draw_appearance(rng)
    x, y, z = (float(v) for v in np.array(look.light) + rng.uniform(-0.2, 0.2, 3))
    brightness = look.brightness * float(rng.uniform(0.85, 1.1))
    return replace(look, light=(x, y, z), brightness=brightness, camera_jitter=(0.0, 0.0, 0.0))
