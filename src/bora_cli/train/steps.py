"""One gradient step, and whether a loss goes where losses should."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import nn

from bora_cli.errors import TrainingDiverged

WORSE = 20.0
"""A loss this many times its beginning (or 1, if that is more) is no noise; an untrained expert's is about 1."""
MEAN_OF = 20
"""Updates that are averaged before two losses are compared."""


def adamw(module: nn.Module, rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW in its fused form, which is several times faster on networks of this size."""
    return torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=weight_decay, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def step(
    loss: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    clip: float,
    stage: str,
    update: int,
) -> None:
    """Take one clipped gradient step; raises TrainingDiverged, before it, if loss or gradient are not finite."""
    if not bool(torch.isfinite(loss)):
        raise TrainingDiverged(
            f"The {stage} loss became {loss.item()} at update {update}.",
            "Check the data with `bora data check`, or lower the learning rate.",
        )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(module.parameters(), clip)
    if not bool(torch.isfinite(norm)):
        raise TrainingDiverged(
            f"The gradient of the {stage} loss ({loss.item():.3g}) became {norm.item()} at update {update}.",
            "Check the data with `bora data check`, or lower the learning rate.",
        )
    optimizer.step()


class Watch:
    """Compares the recent losses of a phase with those it began with (where it is continued, began anew)."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.first: float | None = None
        self._recent: deque[float] = deque(maxlen=MEAN_OF)

    def see(self, loss: float, update: int) -> None:
        """Take note of a loss; raises TrainingDiverged where the mean of the last ones is far above the beginning."""
        self._recent.append(loss)
        if len(self._recent) < MEAN_OF:
            return
        mean = math.fsum(self._recent) / MEAN_OF
        if self.first is None:
            self.first = mean
        elif mean > WORSE * max(1.0, self.first):
            raise TrainingDiverged(
                f"The {self.stage} loss grew from {self.first:.3g} to {mean:.3g} by update {update} (means of"
                f" {MEAN_OF} updates); expected at most {WORSE:g} times its beginning.",
                "Lower the learning rate, or look for outliers in the data with `bora data stats`.",
            )
