"""Tokens with a graph: the trainable part of the backbone learns through the actor's losses, and from nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from bora_cli.algos.batch import Batch
from bora_cli.models.adapt import (
    Adaptation,
    adapt,
    in_bf16,
    recompute_activations,
    restore,
    trained_state,
)
from bora_cli.models.vlm import Backbone
from bora_cli.train import parallel
from bora_cli.train.buffer import Buffer
from bora_cli.train.steps import set_rate
from bora_cli.train.tokens import draw_views, encode, show
from bora_cli.types import U8

log = logging.getLogger(__name__)
TRIED = 32
"""Most rows of the batch on which float32 and bfloat16 are timed."""
DRIFT_ROWS = 64
"""Ticks on which tokens before and after training are compared."""


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
    With `how.bf16` it times both precisions once and warns where bfloat16 is the slower one.
    Raises ConfigError as `adapt` and `in_bf16` do.
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
        if how.recompute:
            recompute_activations(backbone)
        self.cut = share == "fsdp" and parallel.size() > 1
        self.encoder = parallel.shared_out(Encoder(backbone), backbone.model, share)
        self.parameters = [p for p in backbone.model.parameters() if p.requires_grad]
        # no weight decay: it would pull at rows of the embedding that are not trained
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=0.0)
        if how.bf16 and parallel.size() == 1:
            slow, fast = self._seconds(False), self._seconds(True)
            if fast > slow:
                log.warning(
                    "bf16 makes training slower on this machine: %.2f s there and back, %.2f s in float32.",
                    fast,
                    slow,
                )

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
        with in_bf16(self.backbone.model.device, self.how.bf16):
            z = self.encoder(*seen)
        return replace(batch, z=parallel.together(z.cpu()))

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
            pieces, device = trained_state(self.backbone, self.how), self.backbone.model.device
            self.backbone = self.reload()
            restore(self.backbone, self.how, {k: parallel.whole(v).cpu() for k, v in pieces.items()})
            self.backbone.to(device)
            self.cut = False

    def _seconds(self, bf16: bool) -> float:
        """Return the shortest of three passes there and back, s; the gradients are forgotten."""
        device, n = self.backbone.model.device, min(TRIED, len(self.prompts))
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            with in_bf16(device, bf16):
                z = self.backbone.encode(self.pixels[:n], self.prompts[:n], grad=True)
            z.square().sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - started)
        self.optimizer.zero_grad(set_to_none=True)
        return min(taken)

    def drift(self, before: Tensor) -> float:
        """Return 1 minus the mean cosine between tokens of some ticks now and before training, [M, N, W]."""
        rows = np.unique(np.linspace(0, len(before) - 1, min(len(before), DRIFT_ROWS)).astype(np.int64))
        now = encode(self.backbone, self.pixels[rows], [self.prompts[i] for i in rows])
        cosine = nn.functional.cosine_similarity(
            torch.from_numpy(now).float(), before[torch.from_numpy(rows)].float(), dim=-1
        )
        return 1.0 - float(cosine.mean())

    def encoded(self, buffer: Buffer) -> Buffer:
        """Return a buffer with the tokens that the backbone gives now, clean views only."""
        parts = np.array_split(np.arange(len(self.pixels)), parallel.size())
        own = parts[parallel.rank()]
        mine = encode(self.backbone, self.pixels[own], [self.prompts[i] for i in own])
        found = parallel.exchanged({parallel.rank(): mine})
        tokens = torch.from_numpy(np.concatenate([found[i] for i in range(parallel.size())]))
        return replace(buffer, tokens=tokens[None])
