"""CP Base: behaviour cloning of action chunks with a consistency expert.

L_BC = L_DSM + w_CT L_CT.  Denoising alone, sampled in one step, gives the conditional mean of the data; the
consistency term ties neighbouring noise levels together and keeps separate modes apart.
Sources: denoising with boundary scalings as in ConRFT (Chen et al. 2025); consistency training Song et al.
2023, eq. 10, with the pseudo-Huber metric of Song and Dhariwal 2023, eq. 8.  Ours: per-tick masks and
metric, and both terms divided by the number of action dimensions, so that their scale matches the
surrogate's.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.targets import masked_mean
from bora_cli.models.consistency import ConsistencyExpert


class CPConfig(BaseModel):
    """Behaviour cloning of the expert."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    updates: int = Field(default=1600, ge=0, description="gradient steps of the behaviour-cloning warm-up")
    batch: int = Field(default=96, gt=0, description="windows per update")
    lr: float = Field(default=1e-3, gt=0, description="peak learning rate, cosine decay to zero")
    weight_decay: float = Field(default=1e-4, ge=0, description="AdamW weight decay")
    grad_clip: float = Field(default=1.0, gt=0, description="largest gradient norm")
    w_ct: float = Field(default=1.0, ge=0, description="weight of the consistency term; 0 = denoising only")
    draws: int = Field(default=2, gt=0, description="noise draws per window and update")
    token_noise: float = Field(
        default=0.03, ge=0, description="standard deviation of noise on standardised tokens"
    )
    ema: float = Field(
        default=0.98, ge=0, lt=1, description="decay of the averaged expert, the consistency teacher"
    )


def bc_loss(
    expert: ConsistencyExpert,
    teacher: ConsistencyExpert,
    batch: Batch,
    config: CPConfig,
    *,
    generator: torch.Generator | None = None,
    dim_mask: Tensor | None = None,
    tick_weight: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return L_BC on the executed actions and its parts; gradient reaches the expert only.

    teacher: averaged copy of the expert.  dim_mask: float [A], 0 on padded action dimensions.  tick_weight: float
    [B, H], factors on the errors of ticks (`awr`); 1 if None.
    """
    ladder, k = expert.config, config.draws
    target = batch.a.repeat(k, 1, 1)
    mask = batch.mask.repeat(k, 1)
    dims = torch.ones_like(target[0, 0]) if dim_mask is None else dim_mask
    jitter = config.token_noise * _normal(batch.z.shape, batch.z, generator)
    condition = expert.embed(batch.z, batch.s, jitter).repeat(k, 1)
    noise = _normal(target.shape, target, generator)

    rung = torch.randint(ladder.levels - 1, (len(target),), generator=generator, device=target.device)
    sigma, below = expert.ladder[rung], expert.ladder[rung + 1]

    # one evaluation serves both terms: the denoised chunk is also the student of the consistency pair
    student = expert.denoise_embedded(_add(target, noise, sigma), sigma, condition)
    data = ladder.sigma_data
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    error = (dims * (student - target) ** 2).sum(-1) / dims.sum()
    factor = None if tick_weight is None else tick_weight.repeat(k, 1)
    dsm = masked_mean(_scaled(weight[:, None] * error, factor), mask)
    if config.w_ct == 0:
        return dsm, {"dsm": float(dsm.detach()), "ct": 0.0}

    with torch.no_grad():
        condition = teacher.embed(batch.z, batch.s, jitter).repeat(k, 1)
        goal = teacher.denoise_embedded(_add(target, noise, below), below, condition)
    metric = pseudo_huber(dims * (student - goal)) / dims.sum()
    ct = masked_mean(_scaled(metric / (sigma - below)[:, None], factor), mask)
    return dsm + config.w_ct * ct, {"dsm": float(dsm.detach()), "ct": float(ct.detach())}


def pseudo_huber(x: Tensor) -> Tensor:
    """Return sqrt(|x|^2 + c^2) - c over the last axis, c = 0.00054 sqrt(A): float [..., A] -> [...]."""
    c = 0.00054 * x.shape[-1] ** 0.5
    return ((x**2).sum(-1) + c**2).sqrt() - c


def _scaled(x: Tensor, factor: Tensor | None) -> Tensor:
    return x if factor is None else x * factor


def _add(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    return clean + sigma[:, None, None] * noise


def _normal(shape: torch.Size, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)
