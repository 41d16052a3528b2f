"""Tokens with a graph: the trainable part of the backbone learns through the actor's losses, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from bora_cli.algos.batch import Batch
from bora_cli.models.adapt import Adaptation, adapt
from bora_cli.models.vlm import Backbone
from bora_cli.train.buffer import Buffer
from bora_cli.train.clone import set_rate
from bora_cli.train.tokens import augment, encode
from bora_cli.types import U8


class LiveTokens:
    """Computes the tokens of drawn windows afresh and takes the backbone's steps.

    pixels: uint8 [M, C, h, w, 3], images of all ticks.  prompts: M instructions.  rate: peak learning rate.
    """

    def __init__(
        self, backbone: Backbone, how: Adaptation, pixels: U8, prompts: Sequence[str], rate: float, seed: int
    ) -> None:
        self.backbone, self.pixels, self.prompts, self.rate = backbone, pixels, prompts, rate
        self.parameters = list(adapt(backbone, how, seed).values())
        # no weight decay: it would pull at rows of the embedding that are not trained
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0)

    def put_into(self, batch: Batch, rows: Tensor, rng: np.random.Generator) -> Batch:
        """Return a batch whose z carries a graph into the backbone; rows: int64 [B], its first ticks.

        z_next and everything that a critic reads of other ticks stay as they were.
        """
        images = augment(self.pixels[rows.numpy()], rng)
        z = self.backbone.encode(images, [self.prompts[i] for i in rows.tolist()], grad=True)
        return replace(batch, z=z)

    def step(self, share: float, clip: float) -> None:
        """Take a clipped step with the gradients that are there, at `share` of the peak rate, and forget them."""
        set_rate(self.optimizer, share * self.rate)
        nn.utils.clip_grad_norm_(self.parameters, clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def encoded(self, buffer: Buffer) -> Buffer:
        """Return a buffer with the tokens that the backbone gives now, clean views only."""
        tokens = torch.from_numpy(encode(self.backbone, self.pixels, list(self.prompts)))
        return replace(buffer, tokens=tokens[None])
