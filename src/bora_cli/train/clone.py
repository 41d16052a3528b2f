"""Behaviour cloning on cached tokens: CP Base and the warm-up of others, diffusion and advantage-weighted cloning."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bora_cli.algos.cp import CPConfig, bc_loss
from bora_cli.algos.schedules import cosine
from bora_cli.errors import TrainingDiverged
from bora_cli.models.consistency import ConsistencyExpert
from bora_cli.models.diffusion import DiffusionExpert
from bora_cli.models.nn import polyak_update
from bora_cli.train.buffer import Sampler
from bora_cli.train.tracker import Tracker

Progress = Callable[[str, int, int], None]
LOG_EVERY = 20
Expert = TypeVar("Expert", ConsistencyExpert, DiffusionExpert)
CloningLoss = Callable[..., tuple[torch.Tensor, dict[str, float]]]


def clone(
    expert: Expert,
    sampler: Sampler,
    config: CPConfig,
    *,
    rows: NDArray[np.int64],
    rng: np.random.Generator,
    generator: torch.Generator,
    tracker: Tracker,
    progress: Progress | None = None,
    stage: str = "clone",
    loss_of: CloningLoss | None = None,
) -> Expert:
    """Train an expert on the windows `rows` [m] and return its averaged weights.

    loss_of: what to minimise, called like `bc_loss`, which it is if None.
    Raises TrainingDiverged as soon as a loss is not finite.
    """
    averaged: Any = deepcopy(expert)
    of_batch: CloningLoss = bc_loss if loss_of is None else loss_of
    optimizer = adamw(expert, config.lr, config.weight_decay)
    for update in range(config.updates):
        set_rate(optimizer, cosine(update, config.lr, config.updates))
        batch = sampler.rows(rows[rng.integers(0, len(rows), config.batch)], rng)
        loss, parts = of_batch(expert, averaged, batch, config, generator=generator)
        step(loss, optimizer, expert, config.grad_clip, stage, update)
        polyak_update(averaged, expert, 1 - min(config.ema, (1 + update) / (10 + update)))
        if (update + 1) % LOG_EVERY == 0:
            tracker.log(stage, update + 1, {"loss": float(loss.detach()), **parts})
            if progress is not None:
                progress(stage, update + 1, config.updates)
    cloned: Expert = averaged
    return cloned


def adamw(module: nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW in its fused form, which is several times faster on networks of this size."""
    return torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=weight_decay, fused=True)


def step(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    clip: float,
    stage: str,
    update: int,
) -> None:
    """Take one clipped gradient step; raises TrainingDiverged if the loss is not finite."""
    if not bool(torch.isfinite(loss)):
        raise TrainingDiverged(
            f"The {stage} loss became {loss.item()} at update {update}.",
            "Check the data with `bora data check`, or lower the learning rate.",
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), clip)
    optimizer.step()


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate
