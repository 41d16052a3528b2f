"""Diffusion policy: behaviour cloning of action chunks by a denoising network, on the tokens CP Base sees.

L = E_{t, e} <|v - v_theta(x_t, t, z, s)|^2> over the executed ticks, with e ~ N(0, 1), t uniform on 1..T,
x_t = sqrt(k_t) a + sqrt(1 - k_t) e  and  v = sqrt(k_t) e - sqrt(1 - k_t) a.
Source: Ho et al. 2020 (DDPM), eq. 14, in the variable v of Salimans and Ho 2022: as x_t is given, it is DDPM's
squared error of the noise times 1 / k_t.  As a policy, Chi et al. 2023 (Diffusion Policy), eq. 5.
The policy that BORA starts from has a diffusion head, sampled in ten DDIM steps.  Ours: no guidance, so no dropout of
the condition; network, optimiser, number of updates and augmentation are those of CP Base, so that the heads can be
compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.cp import CPConfig
from bora_cli.algos.targets import masked_mean
from bora_cli.models.diffusion import DiffusionExpert


def diffusion_loss(
    expert: DiffusionExpert,
    averaged: DiffusionExpert,
    batch: Batch,
    config: CPConfig,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the squared error of v, averaged over action dimensions, valid ticks and windows.

    averaged: the averaged expert, which this loss does not need.  config: `draws`, `token_noise`; w_ct is not used.
    """
    k = config.draws
    clean, mask = batch.a.repeat(k, 1, 1), batch.mask.repeat(k, 1)
    jitter = config.token_noise * _normal(batch.z.shape, batch.z, generator)
    noise = _normal(clean.shape, clean, generator)
    t = torch.randint(1, expert.config.levels + 1, (len(clean),), generator=generator, device=clean.device)
    kept = expert.kept[t][:, None, None]
    x = kept.sqrt() * clean + (1 - kept).sqrt() * noise

    condition = expert.embed(batch.z, batch.s, jitter).repeat(k, 1)
    v = kept.sqrt() * noise - (1 - kept).sqrt() * clean
    error = ((expert.predict_v(x, t, condition) - v) ** 2).mean(-1)
    loss = masked_mean(error, mask)
    with torch.no_grad():
        high = (t > expert.config.levels // 2).to(error.dtype)[:, None]
        low_noise = masked_mean(error * (1 - high), mask) / (1 - high).mean().clamp(min=1e-6)
        high_noise = masked_mean(error * high, mask) / high.mean().clamp(min=1e-6)
    return loss, {"error_low_noise": float(low_noise), "error_high_noise": float(high_noise)}


def _normal(shape: torch.Size, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
