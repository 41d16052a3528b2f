"""What the phases of a training run share, and the loop over updates that each of them is.

A phase says what changes while it runs, its modules, optimisers and random numbers, and iterates over its updates:

    phase = Phase(run, "critic", updates, {"critic": critic, "target": target}, optimizer, rng)
    for update in phase:
        with phase.loading():
            batch = sampler.rows(...)
        phase.step(loss, critic, 1.0)
        phase.report({"loss": ...})

In exchange it is saved now and then, goes on where an interrupted run was saved, does nothing if it had finished, and
stops where its loss leaves the ground.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from bora_cli.models.nn import Sizes
from bora_cli.seeds import stream
from bora_cli.train import parallel
from bora_cli.train.buffer import Buffer, Sampler
from bora_cli.train.state import Optimizers, load_state, save_state
from bora_cli.train.steps import Watch, step
from bora_cli.train.tracker import Tracker

Progress = Callable[[str, int, int], None]
LOG_EVERY = 20
SAVE_EVERY_S = 30.0
SAVING_SHARE = 20.0
"""A save that took t seconds is followed by at least 20 t without one."""


def one_thread() -> None:
    """Let torch compute on one thread, unless OMP_NUM_THREADS says how many: see benchmarks/training.py."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


class Folder(Protocol):
    """Where a run keeps what it needs to go on, see `folder.RunFolder`."""

    def state_file(self, phase: str) -> Path: ...
    def keep_policy(self, name: str, expert: Any, facts: Mapping[str, Any]) -> None: ...
    def kept(self, name: str) -> dict[str, Any]: ...


@dataclass
class Profile:
    """How long the updates of a phase took, and how long they waited for their batch, in seconds."""

    update: list[float] = field(default_factory=list)
    loading: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Return the number of updates, and medians in milliseconds; the first update, which warms up, is left out."""
        whole, loading = self.update[1:] or self.update, self.loading[1:] or self.loading
        if not whole:
            return {"updates": 0}
        ms, waits = 1e3 * statistics.median(whole), 1e3 * statistics.median(loading)
        return {
            "updates": len(self.update),
            "ms": round(ms, 3),
            "loading_ms": round(waits, 3),
            "loading_share": round(waits / ms, 3) if ms else 0.0,
        }


@dataclass(frozen=True)
class Run:
    """What all phases of one training run share.

    folder: None keeps nothing.  held_out: windows that nothing is trained on.  profile: filled by the phases.
    """

    buffer: Buffer
    sampler: Sampler
    sizes: Sizes
    seed: int
    tracker: Tracker
    progress: Progress | None
    folder: Folder | None = None
    held_out: Sampler | None = None
    profile: dict[str, Profile] = field(default_factory=dict)

    def rng(self, name: str) -> np.random.Generator:
        """Return the numpy generator of a phase."""
        return stream(name, self.seed)

    def generator(self, name: str) -> torch.Generator:
        """Return the torch generator of a phase."""
        return torch.Generator().manual_seed(int(stream(f"torch {name}", self.seed).integers(2**62)))


class Phase:
    """A loop over updates that is saved, continued, watched and timed.

    modules: all weights that change.  optimizers: one, or several.  rng, generator: the random numbers that it draws.
    policy: the expert of which a run that stops leaves a checkpoint behind.
    """

    def __init__(
        self,
        run: Run,
        name: str,
        total: int,
        modules: Mapping[str, nn.Module],
        optimizers: Optimizers,
        rng: np.random.Generator,
        generator: torch.Generator | None = None,
        policy: Any = None,
    ) -> None:
        self.run, self.name, self.total, self.update = run, name, total, 0
        self.modules, self.optimizers, self.rng, self.policy = modules, optimizers, rng, policy
        self.generator = torch.Generator() if generator is None else generator
        self._watch = Watch(name)
        self._profile = run.profile.setdefault(name, Profile())
        self._loading = 0.0
        self._rest = SAVE_EVERY_S

    def __iter__(self) -> Iterator[int]:
        file = self.run.folder.state_file(self.name) if self.run.folder is not None else None
        job = {"phase": self.name, "updates": self.total}
        parts = (self.modules, self.optimizers, self.rng, self.generator, job)
        begin = load_state(file, *parts) if file is not None else 0
        saved = time.monotonic()
        for update in range(begin, self.total):
            self.update = update
            started, self._loading = time.monotonic(), 0.0
            yield update
            now = time.monotonic()
            self._profile.update.append(now - started)
            self._profile.loading.append(self._loading)
            last = update + 1 == self.total
            if file is not None and parallel.agree(last or now - saved >= self._rest):
                save_state(file, update + 1, *parts)
                if self.policy is not None and self.run.folder is not None:
                    facts = {"phase": self.name, "update": update + 1}
                    self.run.folder.keep_policy("last", self.policy, facts)
                saved = time.monotonic()
                self._rest = max(SAVE_EVERY_S, SAVING_SHARE * (saved - now))

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Count the time of this block as waiting for data."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._loading += time.monotonic() - started

    def step(self, loss: torch.Tensor, module: nn.Module, clip: float) -> None:
        """Take a clipped step of the first optimiser; raises TrainingDiverged as `step` and `Watch` do."""
        own = self.optimizers if not isinstance(self.optimizers, Sequence) else self.optimizers[0]
        step(loss, own, module, clip, self.name, self.update)
        self._watch.see(float(loss.detach()), self.update)

    def report(self, values: Mapping[str, float]) -> None:
        """Log and show an update, now and then."""
        done = self.update + 1
        if done % LOG_EVERY == 0 or done == self.total:
            self.run.tracker.log(self.name, done, values)
            if self.run.progress is not None:
                self.run.progress(self.name, done, self.total)
