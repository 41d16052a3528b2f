"""The diffusion head: the same network as the consistency expert, trained to predict noise and sampled by DDIM.

Forward process (Ho et al. 2020, DDPM, eq. 4): x_t = sqrt(k_t) x_0 + sqrt(1 - k_t) e, where k_t is the share of
the variance that is kept, falling from k_0 = 1 along the cosine of Nichol and Dhariwal 2021, eq. 17.  A sample
goes down evenly spaced levels without fresh noise (Song et al. 2021, DDIM, eq. 12 with sigma = 0), so it is a
function of its first noise, as a sample of the consistency expert is.

The network's output is v = sqrt(k_t) e - sqrt(1 - k_t) x_0 (Salimans and Ho 2022, section 4), from which noise and
clean chunk follow without dividing by a small number.  Ours; a network that puts out the noise itself has to learn
to copy its input first, and where little is left of x_0 its errors are multiplied: with a few hundred updates
samples were several times wider than the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from bora_cli.errors import ConfigError
from bora_cli.models.nn import Block, Context, Sizes, noise_features

DDIM_STEPS = 10
"""Evaluations per chunk, as in the policy that the paper starts from; the consistency expert needs one."""


class DiffusionConfig(BaseModel):
    """Sizes and noise levels of the diffusion head."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: Sizes
    width: int = Field(default=256, gt=0, description="hidden width")
    blocks: int = Field(default=2, ge=0, description="residual blocks")
    levels: int = Field(default=100, ge=2, description="noise levels T that are trained on")


class DiffusionExpert(nn.Module):
    """Predictor of v, and so of the noise, in normalised action chunks, conditioned on tokens and state.

    Shapes: x, noise float [B, H, A]; t int64 [B] in 1..T; z float [B, N, W]; s float [B, S]; all normalised.
    Context, blocks and widths are those of `ConsistencyExpert`, so that the two differ in what they learn alone.
    """

    kept: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        sizes, width = config.sizes, config.width
        chunk = sizes.horizon * sizes.action_dim
        self.register_buffer("kept", cosine_schedule(config.levels), persistent=False)
        self.context = Context(sizes)
        self.condition = nn.Sequential(
            nn.Linear(self.context.width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.noise = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2 * width))
        self.enter = nn.Linear(chunk, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(config.blocks)))
        last = nn.Linear(width, chunk)
        nn.init.zeros_(last.weight)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), last)

    def embed(self, z: Tensor, s: Tensor, token_noise: Tensor | None = None) -> Tensor:
        """Return the part that does not depend on the noisy chunk, float [B, width]; see `ConsistencyExpert`."""
        embedded: Tensor = self.condition(self.context(z, s, token_noise))
        return embedded

    def predict_v(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Return the estimate of v at level t, float [B, H, A]; condition = embed(z, s)."""
        kept = self.kept[t]
        gain, shift = self.noise(noise_features(((1 - kept) / kept).sqrt(), 64)).chunk(2, dim=-1)
        hidden = self.enter(x.flatten(1)) * (1 + gain) + shift + condition
        estimate: Tensor = self.leave(self.blocks(hidden)).view_as(x)
        return estimate

    def sample(self, z: Tensor, s: Tensor, noise: Tensor, steps: int = DDIM_STEPS) -> Tensor:
        """Return chunks float [B, H, A] drawn by `steps` evaluations; deterministic given the noise.

        noise: standard normal, [B, H, A] or [n, B, H, A], of which the first is used.
        """
        first = noise[0] if noise.ndim == 4 else noise
        condition = self.embed(z, s)

        def predict(x: Tensor, t: int) -> Tensor:
            v = self.predict_v(x, torch.full((len(x),), t, device=x.device), condition)
            return self.kept[t].sqrt() * v + (1 - self.kept[t]).sqrt() * x

        return ddim(predict, first, self.kept, steps)


def cosine_schedule(levels: int) -> Tensor:
    """Return the kept share of the variance k_0 = 1 > k_1 > ... > k_T > 0, float32 [T + 1].

    k_t = f(t) / f(0), f(t) = cos^2((t / T + 0.008) / 1.008 * pi / 2), where a level may lose at most 0.999 of the
    one before (Nichol and Dhariwal 2021, eq. 17 and the text below it).
    """
    t = torch.arange(levels + 1, dtype=torch.float64) / levels
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    lost = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1, dtype=torch.float64), (1 - lost).cumprod(0)]).float()


def ddim(predict: Callable[[Tensor, int], Tensor], noise: Tensor, kept: Tensor, steps: int) -> Tensor:
    """Return what noise becomes on its way down `steps` evenly spaced levels, of the shape of the noise.

    At every level: e = predict(x, t);  x_0 = (x - sqrt(1 - k_t) e) / sqrt(k_t);
    x <- sqrt(k_next) x_0 + sqrt(1 - k_next) e, ending at level 0, where x is x_0.
    The levels are 1, 1 + T/n, 1 + 2 T/n ..., so the top one is T/n below T, where almost nothing of x_0 is left and
    an error of e would be enlarged without bound.  Raises ConfigError unless 2 <= steps <= T.
    """
    levels = len(kept) - 1
    if not 2 <= steps <= levels:
        raise ConfigError(
            f"Sampling in {steps} DDIM steps; expected 2 to {levels}, the levels trained on.",
            f"Use {DDIM_STEPS}.",
        )
    visited = [1 + k * (levels // steps) for k in reversed(range(steps))]
    x = noise
    for t, below in zip(visited, [*visited[1:], 0], strict=True):
        e = predict(x, t)
        clean = (x - (1 - kept[t]).sqrt() * e) / kept[t].sqrt()
        x = kept[below].sqrt() * clean + (1 - kept[below]).sqrt() * e
    return x
