"""The action expert: a consistency model that turns noise into an action chunk in one to three evaluations.

Parametrisation of Song et al. 2023 (Consistency models), appendix C, over the noise ladder of Karras et al.
2022: f(x, sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, sigma), so that f(x, sigma_min) = x
exactly.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from bora_cli.errors import ConfigError
from bora_cli.models.nn import Block, Context, Sizes, noise_features


class ConsistencyConfig(BaseModel):
    """Sizes and noise ladder of the expert."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sizes: Sizes
    width: int = Field(default=256, gt=0, description="hidden width")
    blocks: int = Field(default=2, ge=0, description="residual blocks")
    sigma_min: float = Field(
        default=0.01, gt=0, description="noise level at which the expert is the identity"
    )
    sigma_max: float = Field(default=10.0, gt=0, description="noise level at which sampling starts")
    rho: float = Field(default=7.0, gt=0, description="how strongly the ladder is concentrated at low noise")
    levels: int = Field(default=18, ge=2, description="rungs J of the noise ladder")
    sigma_data: float = Field(default=0.5, gt=0, description="standard deviation of normalised actions")


class ConsistencyExpert(nn.Module):
    """Denoiser of normalised action chunks, conditioned on tokens and state.

    Shapes: x, noise float [B, H, A]; sigma float [B]; z float [B, N, W]; s float [B, S]; all normalised.
    """

    ladder: Tensor

    def __init__(self, config: ConsistencyConfig) -> None:
        super().__init__()
        if config.sigma_max <= config.sigma_min:
            raise ConfigError(
                f"Noise ladder from {config.sigma_max} to {config.sigma_min}; expected a larger sigma_max.",
                "Raise sigma_max or lower sigma_min.",
            )
        self.config = config
        sizes, width = config.sizes, config.width
        chunk = sizes.horizon * sizes.action_dim
        self.register_buffer("ladder", noise_ladder(config), persistent=False)
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
        """Return the part of the computation that does not depend on the noisy chunk, float [B, width].

        Give it to `denoise_embedded` when the same observations are denoised several times.
        token_noise: float [B, N, W], added to the standardised tokens (augmentation).
        """
        embedded: Tensor = self.condition(self.context(z, s, token_noise))
        return embedded

    def denoise(self, x: Tensor, sigma: Tensor, z: Tensor, s: Tensor) -> Tensor:
        """Return the estimate of the clean chunk, float [B, H, A], from a chunk with noise of level sigma."""
        return self.denoise_embedded(x, sigma, self.embed(z, s))

    def denoise_embedded(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
        """As `denoise`, with condition = embed(z, s)."""
        c_skip, c_out, c_in = (c[:, None, None] for c in scalings(sigma, self.config))
        gain, shift = self.noise(noise_features(sigma, 64)).chunk(2, dim=-1)
        hidden = self.enter((c_in * x).flatten(1)) * (1 + gain) + shift + condition
        return c_skip * x + c_out * self.leave(self.blocks(hidden)).view_as(x)

    def sample(
        self, z: Tensor, s: Tensor, noise: Tensor, steps: int = 1, grad_steps: int | None = None
    ) -> Tensor:
        """Return chunks float [B, H, A] drawn by `steps` evaluations; deterministic given the noise.

        noise: standard normal, [B, H, A] for one step, [steps, B, H, A] in general.  grad_steps: how many of
        the last evaluations keep the graph; default 1.  With steps = 1 that is the full gradient.
        Raises ConfigError if steps is not 1, 2 or 3 or the noise does not match it.
        """
        if noise.ndim == 3:
            noise = noise[None]
        if not 1 <= steps <= 3 or noise.shape[0] != steps:
            raise ConfigError(
                f"Sampling in {steps} steps with noise {list(noise.shape)}; expected 1 to 3 steps and noise"
                f" [steps, B, H, A].",
                "Draw one noise chunk per step.",
            )
        keep = 1 if grad_steps is None else grad_steps
        condition = self.embed(z, s)
        x = self.config.sigma_max * noise[0]
        chunk = x
        for i, sigma in enumerate(self.chain(steps)):
            if i > 0:
                x = chunk + (sigma**2 - self.config.sigma_min**2) ** 0.5 * noise[i]
            level = torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device)
            with nullcontext() if i >= steps - keep else torch.no_grad():
                chunk = self.denoise_embedded(x, level, condition)
        return chunk

    def chain(self, steps: int) -> list[float]:
        """Return the noise levels visited in 1 to 3 steps: the top, half way and two thirds down the ladder.

        The middle of the ladder is about sigma_data: there the first guess, an average of modes, is pulled
        to one.
        """
        rungs = [0, self.config.levels // 2, 2 * self.config.levels // 3]
        return [float(self.ladder[i]) for i in rungs[:steps]]


def noise_ladder(config: ConsistencyConfig) -> Tensor:
    """Return sigma_0 = sigma_max > ... > sigma_{J-1} = sigma_min, float [J] (Karras et al. 2022, eq. 5)."""
    return sigma_at(torch.linspace(0.0, 1.0, config.levels, dtype=torch.float64), config).float()


def sigma_at(fraction: Tensor, config: ConsistencyConfig) -> Tensor:
    """Return the noise level at a fraction in [0, 1] of the way down the ladder."""
    top, bottom = config.sigma_max ** (1 / config.rho), config.sigma_min ** (1 / config.rho)
    return (top + fraction * (bottom - top)) ** config.rho


def scalings(sigma: Tensor, config: ConsistencyConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Return c_skip, c_out, c_in at noise levels sigma [B]; at sigma_min they are 1, 0 and irrelevant."""
    data, excess = config.sigma_data, sigma - config.sigma_min
    norm = (sigma**2 + data**2).sqrt()
    return data**2 / (excess**2 + data**2), data * excess / norm, 1 / norm
