"""Small blocks shared by the networks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class Sizes(BaseModel):
    """Shapes that all networks of one policy agree on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_tokens: int = Field(gt=0, description="tokens N exported by the backbone")
    token_width: int = Field(gt=0, description="width W of a token")
    state_dim: int = Field(gt=0, description="proprioception S")
    action_dim: int = Field(gt=0, description="action A")
    horizon: int = Field(gt=0, description="ticks H predicted at once")


class Context(nn.Module):
    """Tokens and state as one vector: standardised tokens, flattened, next to the state.

    In: z float [B, N, W], s float [B, S], optional noise [B, N, W] for the standardised tokens.
    Out: float [B, N * W + S].
    Every token is layer-normalised, then each of its features is standardised with statistics of the
    training data (see `fit_contexts`): what differs between two images is a small part of a token, and would
    be learned slowly.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.width = sizes.n_tokens * sizes.token_width + sizes.state_dim
        self.register_buffer("mean", torch.zeros(sizes.n_tokens, sizes.token_width))
        self.register_buffer("scale", torch.ones(sizes.n_tokens, sizes.token_width))

    def forward(self, z: Tensor, s: Tensor, noise: Tensor | None = None) -> Tensor:
        tokens = (nn.functional.layer_norm(z, z.shape[-1:]) - self.mean) / self.scale
        if noise is not None:
            tokens = tokens + noise
        return torch.cat([tokens.flatten(1), s], dim=-1)


@torch.no_grad()
def fit_contexts(module: nn.Module, z: Tensor, floor: float = 0.05) -> None:
    """Set the token statistics of every `Context` inside a module, in place.

    z: float [n, N, W], tokens of the training data.  floor: smallest standard deviation believed in;
    layer-normalised tokens have root mean square 1.
    """
    normed = nn.functional.layer_norm(z.float(), z.shape[-1:])
    for part in module.modules():
        if isinstance(part, Context):
            part.mean.copy_(normed.mean(0))
            part.scale.copy_(normed.std(0, correction=0).clamp(min=floor))


class Trunk(nn.Module):
    """Hidden layers that leave units out at random while they learn; float [B, I] -> [B, W].

    With some ten or a hundred episodes a network remembers each of them; one that never sees all of itself does so less
    (Srivastava et al. 2014).  dropout: share of the units of every layer that is left out, where `dropped`, the
    generator that draws them, is given; nothing is left out without it.
    """

    def __init__(self, inputs: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(n, width), nn.LayerNorm(width), nn.ReLU())
            for n in [inputs, *[width] * (layers - 1)]
        )

    def forward(self, x: Tensor, dropped: torch.Generator | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x)
            if dropped is not None and self.dropout > 0:
                kept = torch.rand(x.shape, generator=dropped, device=x.device) >= self.dropout
                x = x * kept / (1 - self.dropout)
        return x


class Block(nn.Module):
    """A pre-normalised residual block, x + W2 silu(W1 norm(x)), whose second layer starts small."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        nn.init.normal_(self.outer.weight, std=0.1 / math.sqrt(width))
        nn.init.zeros_(self.outer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(nn.functional.silu(self.inner(self.norm(x))))


class MemberLinear(nn.Module):
    """K independent linear layers evaluated at once.

    In: float [K, ..., inputs].  Out: float [K, ..., outputs].  Orthogonal initialisation times `gain`.
    """

    def __init__(self, members: int, inputs: int, outputs: int, gain: float = math.sqrt(2.0)) -> None:
        super().__init__()
        weights = [nn.init.orthogonal_(torch.empty(outputs, inputs), gain=gain).T for _ in range(members)]
        self.weight = nn.Parameter(torch.stack(weights))
        self.bias = nn.Parameter(torch.zeros(members, 1, outputs))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(1, -2)
        return torch.baddbmm(self.bias, rows, self.weight).unflatten(1, x.shape[1:-1])


def noise_features(sigma: Tensor, width: int) -> Tensor:
    """Return sinusoidal features of 1000 * log(sigma) / 4, float [B, width]; sigma float [B].

    Source of the transform: Karras et al. 2022, table 1 (c_noise), times 1000 as in the consistency-model
    code.
    """
    half = width // 2
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half, device=sigma.device) / half)
    angles = (250.0 * sigma.log())[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@torch.no_grad()
def polyak_update(target: nn.Module, source: nn.Module, rate: float) -> None:
    """Move every weight of `target` by `rate` of the way to `source`; buffers are copied. In place."""
    for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
        mine.lerp_(theirs, rate)
    for a, b in zip(target.buffers(), source.buffers(), strict=True):
        a.copy_(b)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients flow through a module to its inputs but not into its weights."""
    flags = [p.requires_grad for p in module.parameters()]
    module.requires_grad_(False)
    try:
        yield
    finally:
        for p, flag in zip(module.parameters(), flags, strict=True):
            p.requires_grad_(flag)
