"""Advantage-weighted regression: clone everything, and what went better than usual more.

L = E <w_i l_i>,  w_i = exp(A_i / beta),  with l_i the cloning error of tick i (`bc_loss`).  It is the projection of
the best policy within a distance of the data's, pi*(a|s) ~ mu(a|s) exp(A(s, a) / beta), onto policies one can sample.
Source: Peng et al. 2019 (AWR), eq. 10, for the weights; Kostrikov et al. 2021 (IQL), eq. 7, where A = q - v of the
chunk critic.  Ours: A over real time from cross-fitted values by default (`advantages`), one weight per tick,
and A in units of its standard deviation over the batch, so that beta needs no tuning per task.
Unlike BORA's surrogate it never pushes away from an action, and has no old policy to hold on to.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.cp import CPConfig, bc_loss
from bora_cli.algos.targets import masked_mean, normalise_advantage
from bora_cli.models.consistency import ConsistencyExpert


class AWRConfig(BaseModel):
    """Weights of advantage-weighted regression."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    beta: float = Field(default=1.0, gt=0, description="temperature, in standard deviations of the advantage")
    clip: float = Field(default=3.0, gt=0, description="the exponent is clipped to +- this")


def awr_weights(adv: Tensor, mask: Tensor, config: AWRConfig) -> Tensor:
    """Return exp(clip(A / (std A) / beta)), float [B, H]; 0 outside the mask.  adv, mask: float [B, H]."""
    exponent = normalise_advantage(adv, mask, clip=config.clip * config.beta) / config.beta
    return exponent.exp() * mask


def awr_loss(
    expert: ConsistencyExpert,
    teacher: ConsistencyExpert,
    batch: Batch,
    adv: Tensor,
    cp: CPConfig,
    config: AWRConfig,
    *,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted cloning loss and diagnostics.

    adv: raw advantages, float [B, H], see `bora_offline.advantages`; no gradient flows through them.
    Logged: ess, the effective share of the ticks, (sum w)^2 / (n sum w^2); w_clipped, the share at the clip.
    """
    weight = awr_weights(adv.detach(), batch.mask, config)
    loss, info = bc_loss(expert, teacher, batch, cp, generator=generator, tick_weight=weight)
    w = weight[batch.mask > 0]
    clipped = ((w.log().abs() - config.clip).abs() < 1e-4).to(w.dtype)
    return loss, {
        **info,
        "ess": float(w.sum() ** 2 / (w.numel() * (w**2).sum()).clamp(min=1e-12)),
        "w_clipped": float(clipped.mean()),
        "w_mean": float(masked_mean(weight, batch.mask)),
    }
