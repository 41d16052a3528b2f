"""Bring the simulator back to ticks of a recorded episode, by executing the recorded actions again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bora_cli.errors import DataError
from bora_cli.evaluate.collect import simulation
from bora_cli.evaluate.replay import NEEDED, TOLERANCE
from bora_cli.sim.part_masks import part_masks
from bora_cli.sim.tasks import TASKS
from bora_cli.types import F32, U8, Episode


@dataclass(frozen=True)
class Recorded:
    """What it takes to bring the simulator back.

    world: arguments of `simulation`.  actions: float32 [T, A] executed.  state: float32 [T, S], seen before each.
    """

    world: dict[str, Any]
    scene_seed: int
    actions: F32
    state: F32


def recorded(episode: Episode) -> Recorded:
    """Return what brings an episode back.  Raises DataError for one that was not simulated here."""
    meta = episode.meta
    missing = [name for name in NEEDED if name not in meta]
    if missing:
        raise DataError(
            f"An episode does not say its {', '.join(missing)}; only a state of the simulator can be put back.",
            "Ask this of episodes of `bora collect` or `bora eval --record`, not of a real robot's.",
        )
    if meta["task"] not in TASKS:
        raise DataError(
            f"An episode is of the environment {meta['task']}; only a state of our simulator can be put back.",
            f"Ask this of episodes of our tasks: {', '.join(TASKS)}.",
        )
    names = ("task", "setting", "gap", "image_size", "profile", "profile_hash")
    world = {"image_size": 64} | {name: meta[name] for name in names if name in meta}
    return Recorded(world, int(meta["scene_seed"]), episode.action, episode.state)


def advance(sim: Any, item: Recorded, start: int, stop: int) -> None:
    """Execute the recorded actions from tick `start`, where the simulator stands, to tick `stop`.

    Raises DataError if the state is not the recorded one then.
    """
    for action in item.actions[start:stop]:
        sim.step(action)
    off = float(np.abs(sim.observe(images=False).state - item.state[stop]).max())
    if off > TOLERANCE:
        raise DataError(
            f"Scene {item.scene_seed} is not the recorded one at tick {stop}: a state number is off by {off:.3g},"
            f" expected at most {TOLERANCE:g}.",
            "Record the episodes again with this version.",
        )


def seen_parts(item: tuple[Recorded, tuple[int, ...]]) -> U8:
    """Return the masks of the images of some ticks, uint8 [n, C, size, size], see `part_masks`.

    ticks: in rising order.
    """
    again, ticks = item
    sim = simulation(**again.world)
    sim.prepare(again.scene_seed)
    found, at = [], 0
    for tick in ticks:
        advance(sim, again, at, tick)
        found.append(part_masks(sim, int(again.world["image_size"])))
        at = tick
    return np.stack(found)
