"""Critics as the analysis asks them: rows of the recorded ticks and chunks in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bora_cli.analysis.recordings import Recordings
from bora_cli.checkpoint import Trained
from bora_cli.errors import CheckpointError
from bora_cli.models.critic import ChunkCritic
from bora_cli.models.decoupled import DecoupledCritic
from bora_cli.models.policy import Actor
from bora_cli.models.vlm import Backbone
from bora_cli.train.tokens import encode
from bora_cli.types import F32, U8, ActionSpec

Rows = NDArray[np.int64]
BATCH = 256


class Scorer(Protocol):
    """A critic with the normalisers of its policy and the data it judges; physical numbers in, values out."""

    @property
    def spec(self) -> ActionSpec:
        """What the chunks mean."""

    def q(self, rows: Rows, chunks: F32, mask: F32) -> tuple[F32, F32]:
        """Return the action value averaged over the executed ticks, and its spread over the ensemble, [n] each.

        rows: int64 [n], ticks of the recordings.  chunks: float32 [n, H, A].  mask: float32 [n, H].
        """

    def v(self, rows: Rows) -> F32:
        """Return the state value at the first tick of a chunk, [n]."""

    def glance(self, rows: Rows, images: U8, chunks: F32, mask: F32) -> tuple[F32, F32]:
        """Return V and Q, [n] each, as if the images of these ticks had been others.

        images: uint8 [n, C, h, w, 3], cameras in the order of the policy.  The rest as in `q`.
        """


@dataclass(frozen=True)
class TokenScorer:
    """The chunk critic, which looks at tokens; see `Scorer`."""

    critic: ChunkCritic
    spec: ActionSpec
    actor: Actor
    recordings: Recordings
    backbone: Backbone

    def q(self, rows: Rows, chunks: F32, mask: F32) -> tuple[F32, F32]:
        q, spread = np.empty((2, len(chunks)), np.float32)
        for i in _batches(len(chunks)):
            q[i], spread[i] = self._q(self.recordings.seen(rows[i]), rows[i], chunks[i], mask[i])
        return q, spread

    def v(self, rows: Rows) -> F32:
        v = np.empty(len(rows), np.float32)
        for i in _batches(len(rows)):
            v[i] = self._v(self.recordings.seen(rows[i]), rows[i])
        return v

    def glance(self, rows: Rows, images: U8, chunks: F32, mask: F32) -> tuple[F32, F32]:
        owner = (np.searchsorted(self.recordings.first, rows, "right") - 1).tolist()
        prompt = {i: self.recordings.episodes[i].prompt for i in set(owner)}
        z = torch.from_numpy(encode(self.backbone, images, [prompt[i] for i in owner]))
        return self._v(z, rows), self._q(z, rows, chunks, mask)[0]

    @torch.no_grad()
    def _q(self, z: Tensor, rows: Rows, chunks: F32, mask: F32) -> tuple[F32, F32]:
        s = self.actor.state.normalize(self.recordings.state(rows))
        a, m = self.actor.action.normalize(torch.from_numpy(chunks)), torch.from_numpy(mask)
        q = (self.critic.q(z.float(), s, a) * m).sum(-1) / m.sum(-1).clamp(min=1)
        return q.mean(0).numpy(), q.std(0, correction=0).numpy()

    @torch.no_grad()
    def _v(self, z: Tensor, rows: Rows) -> F32:
        s = self.actor.state.normalize(self.recordings.state(rows))
        value: F32 = self.critic.v(z.float(), s)[:, 0].numpy()
        return value


@dataclass(frozen=True)
class PixelScorer:
    """The decoupled critic, which looks at pixels; see `Scorer`."""

    critic: DecoupledCritic
    spec: ActionSpec
    actor: Actor
    recordings: Recordings

    def q(self, rows: Rows, chunks: F32, mask: F32) -> tuple[F32, F32]:
        q, spread = np.empty((2, len(chunks)), np.float32)
        for i in _batches(len(chunks)):
            q[i], spread[i] = self._q(self.recordings.seen(rows[i]), rows[i], chunks[i])
        return q, spread

    def v(self, rows: Rows) -> F32:
        v = np.empty(len(rows), np.float32)
        for i in _batches(len(rows)):
            v[i] = self._v(self.recordings.seen(rows[i]), rows[i])
        return v

    def glance(self, rows: Rows, images: U8, chunks: F32, mask: F32) -> tuple[F32, F32]:
        pixels = torch.from_numpy(images)
        v, q = np.empty((2, len(rows)), np.float32)
        for i in _batches(len(rows)):
            v[i], q[i] = self._v(pixels[i], rows[i]), self._q(pixels[i], rows[i], chunks[i])[0]
        return v, q

    @torch.no_grad()
    def _q(self, images: Tensor, rows: Rows, chunks: F32) -> tuple[F32, F32]:
        a = self.actor.action.normalize(torch.from_numpy(chunks))
        q = self.critic.q(images, self.actor.state.normalize(self.recordings.state(rows)), a)
        return q.mean(0).numpy(), q.std(0, correction=0).numpy()

    @torch.no_grad()
    def _v(self, images: Tensor, rows: Rows) -> F32:
        s = self.actor.state.normalize(self.recordings.state(rows))
        value: F32 = self.critic.v(images, s).numpy()
        return value


def scorer_of(trained: Trained, backbone: Backbone, recordings: Recordings) -> Scorer:
    """Return the critic of a checkpoint, ready to judge the ticks that were loaded for it (`load_recordings`).

    backbone: the checkpoint's.  Raises CheckpointError for a checkpoint without a critic.
    """
    spec = trained.spec.action
    if trained.critic is not None:
        return TokenScorer(trained.critic.eval(), spec, trained.actor, recordings, backbone)
    if trained.decoupled is None:
        raise CheckpointError("There is no critic to ask.", "Train one with `bora train bora`.")
    return PixelScorer(trained.decoupled.eval(), spec, trained.actor, recordings)


def _batches(n: int) -> list[slice]:
    return [slice(i, i + BATCH) for i in range(0, n, BATCH)]
