"""Behaviour cloning on cached tokens: CP Base and the warm-up of others, diffusion and advantage-weighted cloning."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from bora_cli.algos.cp import CPConfig, bc_loss
from bora_cli.algos.diffusion import diffusion_loss
from bora_cli.algos.schedules import cosine
from bora_cli.models.consistency import ConsistencyExpert
from bora_cli.models.diffusion import DiffusionExpert
from bora_cli.models.nn import polyak_update
from bora_cli.train.buffer import Sampler
from bora_cli.train.run import Phase, Run
from bora_cli.train.steps import adamw, set_rate

Expert = TypeVar("Expert", ConsistencyExpert, DiffusionExpert)
CloningLoss = Callable[..., tuple[torch.Tensor, dict[str, float]]]
STAGE = "clone"
HELD_OUT_ROWS = 512
HELD_OUT_TIMES = 20
"""How often a phase looks at held-out episodes."""


def clone(
    expert: Expert,
    sampler: Sampler,
    config: CPConfig,
    *,
    rows: NDArray[np.int64],
    run: Run,
    loss_of: CloningLoss | None = None,
    keep_best: bool = False,
) -> Expert:
    """Train an expert on the windows `rows` [m] and return its averaged weights.

    loss_of: what to minimise, called like `bc_loss`, which it is if None.  keep_best: leave a checkpoint of the
    weights that imitate held-out episodes best; what is returned are the last ones in any case.
    Raises TrainingDiverged as `Phase.step` does.
    """
    averaged: Any = deepcopy(expert)
    of_batch: CloningLoss = bc_loss if loss_of is None else loss_of
    optimizer = adamw(expert, config.lr, config.weight_decay)
    rng, generator = run.rng("clone"), run.generator("clone")
    modules = {"expert": expert, "averaged": averaged}
    phase = Phase(run, STAGE, config.updates, modules, optimizer, rng, generator, policy=averaged)
    for update in phase:
        set_rate(optimizer, cosine(update, config.lr, config.updates))
        with phase.loading():
            batch = sampler.rows(rows[rng.integers(0, len(rows), config.batch)], rng)
        loss, parts = of_batch(expert, averaged, batch, config, generator=generator)
        phase.step(loss, expert, config.grad_clip)
        polyak_update(averaged, expert, 1 - min(config.ema, (1 + update) / (10 + update)))
        phase.report({"loss": float(loss.detach()), **parts})
        look_at_held_out(phase, averaged, config, keep_best)
    cloned: Expert = averaged
    return cloned


def look_at_held_out(phase: Phase, expert: Any, config: CPConfig, keep_best: bool = False) -> None:
    """Log, `HELD_OUT_TIMES` times in a phase, how well an expert imitates held-out episodes, as `bc_val`."""
    run, done = phase.run, phase.update + 1
    if run.held_out is None or (done % max(1, phase.total // HELD_OUT_TIMES) and done != phase.total):
        return
    loss = held_out_loss(expert, run.held_out, config)
    run.tracker.log(f"{phase.name} held out", done, {"bc_val": loss})
    if keep_best and run.folder is not None and loss < run.folder.kept("best").get("bc_val", math.inf):
        run.folder.keep_policy("best", expert, {"phase": phase.name, "update": done, "bc_val": loss})


@torch.no_grad()
def held_out_loss(expert: Any, held_out: Sampler, config: CPConfig) -> float:
    """Return the cloning loss on (at most 512) held-out windows, always the same, with the same noise every time."""
    n = len(held_out)
    rows = np.unique(np.linspace(0, n - 1, min(n, HELD_OUT_ROWS)).astype(np.int64))
    of_batch: CloningLoss = diffusion_loss if isinstance(expert, DiffusionExpert) else bc_loss
    generator = torch.Generator().manual_seed(0)
    return float(of_batch(expert, expert, held_out.rows(rows), config, generator=generator)[0])
