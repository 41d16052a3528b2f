"""Tokens with a graph: the trainable part of the backbone learns through the actor's losses, and from nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from bora_cli.algos.batch import Batch
from bora_cli.models.adapt import Adaptation, adapt, restore, trained_state
from bora_cli.models.vlm import Backbone
from bora_cli.train import parallel
from bora_cli.train.buffer import Buffer
from bora_cli.train.steps import set_rate
from bora_cli.train.tokens import draw_views, encode, show
from bora_cli.types import U8


class Encoder(nn.Module):
    """The backbone as a function of images and prompts with a graph; what several processes train together."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: U8, prompts: Sequence[str]) -> Tensor:
        return self.backbone.encode(images, prompts, grad=True)


class LiveTokens:
    """Computes the tokens of drawn windows afresh and takes the backbone's steps.

    pixels: uint8 [M, C, h, w, 3], images of all ticks.  prompts: M instructions.  rate: peak learning rate.
    share: how several processes train the backbone together.  reload: returns the backbone as it was, for `fsdp`.
    cut: whether the weights are in pieces.
    """

    def __init__(
        self,
        backbone: Backbone,
        how: Adaptation,
        pixels: U8,
        prompts: Sequence[str],
        rate: float,
        seed: int,
        share: parallel.Kind = "ddp",
        reload: Callable[[], Backbone] | None = None,
    ) -> None:
        self.backbone, self.how, self.reload = backbone, how, reload
        self.pixels, self.prompts, self.rate = pixels, prompts, rate
        adapt(backbone, how, seed)
        self.cut = share == "fsdp" and parallel.size() > 1
        self.encoder = parallel.shared_out(Encoder(backbone), backbone.model, share)
        self.parameters = [p for p in backbone.model.parameters() if p.requires_grad]
        # no weight decay: it would pull at rows of the embedding that are not trained
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0)

    def images(self, rows: Tensor, rng: np.random.Generator) -> tuple[U8, list[str]]:
        """Return views of this process's images, uint8 [b, C, h, w, 3], and their prompts; rows: int64 [B], ticks."""
        views = draw_views((len(rows), *self.pixels.shape[1:]), rng)
        own = parallel.own_rows(len(rows))
        images = show(self.pixels[rows[own].numpy()], views.of(own))
        return images, [self.prompts[i] for i in rows[own].tolist()]

    def put_into(self, batch: Batch, seen: tuple[U8, list[str]]) -> Batch:
        """Return a batch whose z carries a graph into the backbone; seen: what `images` returned for its first ticks.

        z_next and everything that a critic reads of other ticks stay as they were.
        """
        return replace(batch, z=parallel.together(self.encoder(*seen)))

    def step(self, share: float, clip: float) -> None:
        """Take a clipped step with the gradients that are there, at `share` of the peak rate, and forget them."""
        set_rate(self.optimizer, share * self.rate)
        if self.cut:
            parallel.average(list(parallel.hooked(self.backbone.model)))
        parallel.clip(self.parameters, clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def put_together(self) -> None:
        """End the training: where weights are in pieces, give every process a whole backbone again."""
        if self.cut and self.reload is not None:
            pieces = trained_state(self.backbone, self.how)
            self.backbone = self.reload()
            restore(self.backbone, self.how, {k: parallel.whole(v) for k, v in pieces.items()})
            self.cut = False

    def encoded(self, buffer: Buffer) -> Buffer:
        """Return a buffer with the tokens that the backbone gives now, clean views only."""
        parts = np.array_split(np.arange(len(self.pixels)), parallel.size())
        own = parts[parallel.rank()]
        mine = encode(self.backbone, self.pixels[own], [self.prompts[i] for i in own])
        found = parallel.exchanged({parallel.rank(): mine})
        tokens = torch.from_numpy(np.concatenate([found[i] for i in range(parallel.size())]))
        return replace(buffer, tokens=tokens[None])
