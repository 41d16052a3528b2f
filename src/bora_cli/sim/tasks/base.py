"""What a task offers to the scene, the simulation and the scripted operator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bora_cli.seeds import stream
from bora_cli.sim.arm_hand import FINGERS
from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Palette

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Streams:
    """Independent generators of one scene, one per purpose.

    hue: the entry of `HUES` from which objects take their colours.
    """

    shape: np.random.Generator
    layout: np.random.Generator
    physics: np.random.Generator
    appearance: np.random.Generator
    hue: str = "seen"


def draw_streams(scene_seed: int, hue: str = "seen", prefix: str = "") -> Streams:
    """Return the generators of a scene seed; prefix: tells those of another object in the scene apart."""
    shape, layout, physics, appearance = (
        stream(prefix + name, scene_seed) for name in ("shape", "layout", "physics", "appearance")
    )
    return Streams(shape, layout, physics, appearance, hue)


class Item(Protocol):
    """The drawn description of a task's object: a frozen dataclass, everything needed to build it."""

    @property
    def kind(self) -> str: ...
    @property
    def palette(self) -> Palette: ...


@dataclass(frozen=True)
class Phase:
    """One leg of a motion plan of the tool.

    name: hover, descend, grasp, lift, carry, lower, release, arc, press or retreat.  goal: [3] m, world;
    where `live`, it follows the target while that moves.  yaw: rad.  posture: name of the hand posture.
    tolerance: m between measured tool and goal.  dwell: s to stay at least.  speed: bound on the translation
    per tick in units of the action limit.
    """

    name: str
    goal: tuple[float, float, float]
    yaw: float
    posture: str
    tolerance: float
    dwell: float = 0.0
    live: bool = False
    speed: float = 1.0


class Task(Protocol):
    """A task of the suite: stateless, all state is in the MuJoCo data."""

    name: str
    max_ticks: int
    hold_ticks: int
    """Ticks for which the condition has to hold before it counts as success."""
    wordings: tuple[str, ...]
    """Instructions; those of a task with two objects have blanks: {colour}, {noun}, {side}."""
    crowded: bool
    """Whether there is a second object, so that the hand has to cross the table high."""

    @property
    def substep(self) -> Callable[[mujoco.MjModel, mujoco.MjData], Callable[[], None]] | None:
        """What makes, once per tick, the function to be called after every step of the physics; None for nothing."""
        ...

    def instructions(self, item: Any) -> tuple[str, ...]:
        """Return the sentences of which each one says what to do in this scene."""
        ...

    def draw(self, streams: Streams, setting: str) -> Any:
        """Return the drawn item of one scene."""
        ...

    def add_to(self, spec: Any, item: Any) -> None:
        """Add the item to a MjSpec, with a site `target` at the point where the hand acts."""
        ...

    def progress(self, model: mujoco.MjModel, data: mujoco.MjData, start: F64) -> float:
        """Return how much of the condition is fulfilled; 1 or more fulfils it, a motionless scene gives 0.

        start: position of the site `target` after settling, [3] m.
        """
        ...

    def lost(self, data: mujoco.MjData) -> bool:
        """Return whether the task can no longer be fulfilled."""
        ...

    def yaw(self, model: mujoco.MjModel, data: mujoco.MjData) -> float:
        """Return the yaw in rad, folded to +-pi/2, at which the hand should act."""
        ...

    def decoy(self, data: mujoco.MjData) -> tuple[F64, float] | None:
        """Return position [3] m and yaw of the object that the instruction does not mean, if there is one."""
        ...

    def plan(self, item: Any, target: F64, yaw: float, progress: float) -> tuple[Phase, ...]:
        """Return the expert's phases from the target's present pose.

        target: [3] m, the site `target`.  yaw: rad.  progress: as returned by `progress`.
        """
        ...


def fold(yaw: float) -> float:
    """Return the angle folded to +-pi/2: a grasp does not care about half turns."""
    return (yaw + np.pi / 2) % np.pi - np.pi / 2


def fill(
    wordings: Sequence[str], words: Mapping[str, str], deciding: Collection[str] | None
) -> tuple[str, ...]:
    """Return the wordings whose blanks the words can fill, filled.

    words: blank -> word.  deciding: blanks of which a wording needs at least one to be unambiguous; None if
    every wording is.
    """
    filled = []
    for wording in wordings:
        blanks = {name for _, name, _, _ in Formatter().parse(wording) if name}
        if blanks <= set(words) and (deciding is None or blanks & set(deciding)):
            filled.append(wording.format(**words))
    return tuple(filled)


def hand_touches(data: mujoco.MjData, body: str) -> bool:
    """Return whether a part of the hand touches a body."""
    model = data.model
    bodies = model.geom_bodyid[data.contact.geom]
    last = max(model.body(f"{name}_distal").id for name in FINGERS)
    of_robot = ((bodies > 0) & (bodies <= last)).any(axis=1)
    return bool((of_robot & (bodies == model.body(body).id).any(axis=1)).any())
