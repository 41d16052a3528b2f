"""Execute the recorded actions of an episode again and compare what happens with what was recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bora_cli.control.loop import Applied
from bora_cli.data.dataset import Dataset
from bora_cli.errors import DataError
from bora_cli.sim.gaps import parse_gap
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.tasks import TASKS
from bora_cli.types import F32, U8, Episode, Observation

Progress = Callable[[str, int, int], None]
TOLERANCE = 1e-3
"""Largest difference of any state number (m or rad) that still counts as a repetition."""
NEEDED = ("task", "setting", "gap", "scene_seed")


@dataclass(frozen=True)
class Replay:
    """What happened when an episode was executed again.

    repeats: same length, same outcome and all states within TOLERANCE.  difference: largest difference of a
    state number, m or rad, and worst_state its name.  frames: pictures for a film, uint8 [size, size, 3].
    """

    episode: int
    ticks: int
    recorded_ticks: int
    success: bool
    recorded_success: bool
    difference: float
    worst_state: str
    worst_tick: int
    fps: float
    frames: list[U8] = field(default_factory=list)

    @property
    def repeats(self) -> bool:
        same = self.ticks == self.recorded_ticks and self.success == self.recorded_success
        return same and self.difference <= TOLERANCE

    def to_json(self) -> dict[str, Any]:
        names = ("episode", "ticks", "recorded_ticks", "success", "recorded_success", "difference")
        numbers = {name: getattr(self, name) for name in names}
        worst = {"worst_state": self.worst_state, "worst_tick": self.worst_tick}
        return {
            "repeats": self.repeats,
            **numbers,
            **(worst if self.difference > 0 else dict.fromkeys(worst)),
        }


def replay(
    root: Path, index: int, *, film: bool = False, size: int = 320, progress: Progress | None = None
) -> Replay:
    """Re-execute the `action` column of episode `index` in a fresh simulation of its scene.

    The recorded actions are the executed ones, so the limits and the gap act on them as they did then.
    An operator who gave up ended the episode early: then only the ticks that were recorded are executed.
    film: also collect a picture per tick, `size` px.
    Raises DataError if the dataset is not simulated or has no such episode.
    """
    dataset = Dataset.open(root)
    if not 0 <= index < len(dataset):
        raise DataError(
            f"{root} has no episode {index}; expected 0 to {len(dataset) - 1}.", "Change --episode."
        )
    episode = dataset.episode(index, images=False)
    sim = _simulation(episode, root, index)
    try:
        sim.prepare(int(episode.meta["scene_seed"]))
        return execute(
            sim, episode, index, state_names=dataset.state_names, film=film, size=size, progress=progress
        )
    finally:
        sim.close()


class Filmable(Protocol):
    """A rig that can be filmed."""

    @property
    def dt(self) -> float: ...
    def step(self, action: F32) -> Applied: ...
    def observe(self, images: bool = True) -> Observation: ...
    def frame(self, camera: str = "scene", size: int = 320) -> U8: ...


def execute(
    rig: Filmable,
    episode: Episode,
    index: int,
    *,
    state_names: Sequence[str],
    film: bool = False,
    size: int = 320,
    progress: Progress | None = None,
) -> Replay:
    """Execute the recorded actions of an episode on a rig that was prepared for it, and compare."""
    states, frames, success = [], [], False
    for tick, action in enumerate(episode.action):
        states.append(rig.observe(images=False).state)
        if film:
            frames.append(rig.frame(size=size))
        result = rig.step(action)
        success = result.success
        if progress is not None:
            progress("replay", tick + 1, len(episode))
        if result.terminated:
            break
    if film:
        frames.append(rig.frame(size=size))
    gap = np.abs(np.stack(states) - episode.state[: len(states)])
    worst_tick, worst_column = np.unravel_index(int(gap.argmax()), gap.shape)
    return Replay(
        episode=index,
        ticks=len(states),
        recorded_ticks=len(episode),
        success=success,
        recorded_success=episode.success,
        difference=float(gap.max()),
        worst_state=state_names[int(worst_column)],
        worst_tick=int(worst_tick),
        fps=1.0 / rig.dt,
        frames=frames,
    )


def _simulation(episode: Episode, root: Path, index: int) -> Simulation:
    missing = [name for name in NEEDED if name not in episode.meta]
    if missing:
        raise DataError(
            f"Episode {index} of {root} does not say its {', '.join(missing)};"
            " only simulated episodes can be replayed.",
            "Choose a dataset made by `bora collect` or `bora online`, or name the environment with --env.",
        )
    meta = episode.meta
    if meta["task"] not in TASKS:
        raise DataError(
            f"Episode {index} of {root} is of the environment {meta['task']}, which is not among our tasks.",
            "Name its profile with --env.",
        )
    return Simulation(meta["task"], setting=meta["setting"], gap=parse_gap(str(meta["gap"])))
