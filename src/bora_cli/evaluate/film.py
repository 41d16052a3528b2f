"""Film a policy: the pictures of unaided episodes, for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bora_cli.control.loop import roll_out
from bora_cli.evaluate.collect import simulation
from bora_cli.evaluate.evaluate import EvalJob, acting_policy
from bora_cli.seeds import stream
from bora_cli.types import F32, U8

Progress = Callable[[str, int, int], None]


class _Filmed:
    """A simulation that takes a picture before every step."""

    def __init__(self, sim: Any, size: int) -> None:
        self._sim = sim
        self._size = size
        self.frames: list[U8] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sim, name)

    def step(self, action: F32) -> Any:
        if not self.frames:
            self.frames.append(self._sim.frame(size=self._size))
        result = self._sim.step(action)
        self.frames.append(self._sim.frame(size=self._size))
        return result


def film(
    job: EvalJob, scene_seeds: Sequence[int], progress: Progress | None = None, *, size: int = 240
) -> list[U8]:
    """Return the pictures of these episodes one after the other, each uint8 [size, size, 3].

    The episodes are those of the evaluation: same scenes, same noise.
    """
    frames: list[U8] = []
    for i, scene_seed in enumerate(scene_seeds):
        sim = simulation(job.task, job.setting, job.gap, job.image_size, job.profile, job.profile_hash)
        filmed = _Filmed(sim, size)
        policy = acting_policy(job.checkpoint, job.checkpoint_hash)
        policy.lam = policy.own_lam if job.lam is None else job.lam
        roll_out(
            filmed, policy, scene_seed=scene_seed, rng=stream("policy", scene_seed), meta={}, images=False
        )
        frames += filmed.frames
        if progress is not None:
            progress("film", i + 1, len(scene_seeds))
    return [np.asarray(f) for f in frames]
