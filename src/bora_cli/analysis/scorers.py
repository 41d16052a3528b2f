"""Critics as the analysis asks them: rows of the recorded ticks and chunks in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bora_cli.checkpoint import Trained
from bora_cli.errors import CheckpointError
from bora_cli.models.critic import ChunkCritic
from bora_cli.models.decoupled import DecoupledCritic
from bora_cli.models.policy import Actor
from bora_cli.train.buffer import Buffer
from bora_cli.train.decoupled import load_pixels
from bora_cli.types import F32, U8, ActionSpec

Rows = NDArray[np.int64]
BATCH = 1024


class Scorer(Protocol):
    """A critic with the normalisers of its policy and the data it judges; physical numbers in, values out."""

    @property
    def spec(self) -> ActionSpec:
        """What the chunks mean."""

    def q(self, rows: Rows, chunks: F32, mask: F32) -> tuple[F32, F32]:
        """Return the action value averaged over the executed ticks, and its spread over the ensemble, [n] each.

        rows: int64 [n], ticks of the buffer.  chunks: float32 [n, H, A].  mask: float32 [n, H].
        """

    def v(self, rows: Rows) -> F32:
        """Return the state value at the first tick of a chunk, [n]."""


@dataclass(frozen=True)
class TokenScorer:
    """The chunk critic, which looks at tokens; see `Scorer`."""

    critic: ChunkCritic
    spec: ActionSpec
    actor: Actor
    buffer: Buffer

    @torch.no_grad()
    def q(self, rows: Rows, chunks: F32, mask: F32) -> tuple[F32, F32]:
        means, spreads = [], []
        for i in range(0, len(chunks), BATCH):
            part = slice(i, i + BATCH)
            s = self.actor.state.normalize(self.buffer.state[rows[part]])
            a = self.actor.action.normalize(torch.from_numpy(chunks[part]))
            m = torch.from_numpy(mask[part])
            z = self.buffer.tokens[0][rows[part]].float()
            q = (self.critic.q(z, s, a) * m).sum(-1) / m.sum(-1).clamp(min=1)
            means.append(q.mean(0).numpy())
            spreads.append(q.std(0, correction=0).numpy())
        return np.concatenate(means), np.concatenate(spreads)

    @torch.no_grad()
    def v(self, rows: Rows) -> F32:
        parts = []
        for i in range(0, len(rows), BATCH):
            part = rows[i : i + BATCH]
            s = self.actor.state.normalize(self.buffer.state[part])
            parts.append(self.critic.v(self.buffer.tokens[0][part].float(), s)[:, 0].numpy())
        return np.concatenate(parts)


@dataclass(frozen=True)
class PixelScorer:
    """The decoupled critic, which looks at pixels uint8 [M, C, h, w, 3] of the same ticks; see `Scorer`."""

    critic: DecoupledCritic
    spec: ActionSpec
    actor: Actor
    buffer: Buffer
    pixels: U8

    @torch.no_grad()
    def q(self, rows: Rows, chunks: F32, mask: F32) -> tuple[F32, F32]:
        means, spreads = [], []
        for i in range(0, len(chunks), BATCH):
            part = rows[i : i + BATCH]
            a = self.actor.action.normalize(torch.from_numpy(chunks[i : i + BATCH]))
            q = self.critic.q(torch.from_numpy(self.pixels[part]), self._state(part), a)
            means.append(q.mean(0).numpy())
            spreads.append(q.std(0, correction=0).numpy())
        return np.concatenate(means), np.concatenate(spreads)

    @torch.no_grad()
    def v(self, rows: Rows) -> F32:
        parts = (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))
        return np.concatenate(
            [self.critic.v(torch.from_numpy(self.pixels[p]), self._state(p)).numpy() for p in parts]
        )

    def _state(self, rows: Rows) -> Tensor:
        return self.actor.state.normalize(self.buffer.state[rows])


def scorer_of(trained: Trained, buffer: Buffer, data: Sequence[Path]) -> Scorer:
    """Return the critic of a checkpoint, ready to judge the ticks of `buffer`, which was read from `data`."""
    spec = trained.spec.action
    if trained.critic is not None:
        return TokenScorer(trained.critic.eval(), spec, trained.actor, buffer)
    if trained.decoupled is None:
        raise CheckpointError("There is no critic to ask.", "Train one with `bora train bora`.")
    pixels = load_pixels(data, trained.spec.cameras)
    return PixelScorer(trained.decoupled.eval(), spec, trained.actor, buffer, pixels)
