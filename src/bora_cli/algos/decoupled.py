"""The decoupled baseline: a critic that looks at its own pixels and gives a chunk one number.

L_Q = sum_k (Q_k(o, s, A) - y)^2,  y = sum_{i < e} gamma^i r_i + gamma^e (1 - d) V(o', s');
L_V = |tau - 1[u < 0]| u^2,  u = min_k Q~_k(o, s, A) - V(o, s)  (IQL);  advantage of every tick: mean_k Q_k - V.
Value alone: L_V = (y - V)^2;  advantage y - V: what happened against what was expected, whatever was done.
The actor's loss is BORA's (`bora_offline.actor_loss`) with these advantages.

Source: BORA (arXiv 2605.30226) compares with a critic trained apart from the VLM and does not describe it; the form
is that of image-based critics such as SERL's (Luo et al. 2024) with the chunk returns of Q-chunking (Li et al. 2025)
and the losses of IQL (Kostrikov et al. 2021, eq. 5 and 6).  The value-only variant is ours: the extreme of a critic
that judges pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.targets import expectile_loss
from bora_cli.models.decoupled import DecoupledCritic


@dataclass(frozen=True)
class PixelBatch:
    """B windows of H ticks, with images in the place of tokens.

    pixels, pixels_next: uint8 [B, C, h, w, 3], at the first tick and at the next decision.  s, s_next: float
    [B, S]; a: float [B, H, A], normalised.  mask, r, d, has_next: as in `Batch`.
    """

    pixels: Tensor
    s: Tensor
    a: Tensor
    mask: Tensor
    r: Tensor
    d: Tensor
    has_next: Tensor
    pixels_next: Tensor
    s_next: Tensor


def chunk_return(r: Tensor, d: Tensor, mask: Tensor, has_next: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return the rewards of the executed ticks, discounted, and the discount of what follows, float [B] each.

    The discount is gamma^e, or 0 where the window terminates or nothing follows.  r, d, mask: float [B, H].
    """
    powers = gamma ** torch.arange(r.shape[1], dtype=r.dtype, device=r.device)
    collected = (torch.where(mask > 0, r, 0.0) * powers).sum(1)
    ended = (torch.where(mask > 0, d, 0.0).amax(1) > 0) | ~has_next
    return collected, torch.where(ended, 0.0, gamma ** mask.sum(1))


def decoupled_loss(
    critic: DecoupledCritic, target: DecoupledCritic, batch: PixelBatch, config: OfflineConfig
) -> tuple[Tensor, dict[str, float]]:
    """Return L_Q + L_V of one batch and diagnostics.

    target: Polyak copy; its smallest Q is the Q in L_V, and its V bootstraps.  Gradient: into `critic` only.
    """
    collected, discount = chunk_return(batch.r, batch.d, batch.mask, batch.has_next, config.gamma)
    with torch.no_grad():
        y = collected + discount * target.v(batch.pixels_next, batch.s_next)
    seen = critic.embed(batch.pixels, batch.s)
    v = critic.v_embedded(seen)
    if critic.config.sees == "nothing":
        loss = ((y - v) ** 2).mean()
        return loss, {
            "loss_v": float(loss.detach()),
            "v": float(v.detach().mean()),
            "target": float(y.mean()),
        }
    with torch.no_grad():
        q_low = target.q(batch.pixels, batch.s, batch.a).amin(0)
    q = critic.q_embedded(seen, batch.a)
    loss_q = ((q - y) ** 2).mean(1).sum()
    loss_v = expectile_loss(q_low - v, config.tau).mean()
    return loss_q + loss_v, {
        "loss_q": float(loss_q.detach()),
        "loss_v": float(loss_v.detach()),
        "q": float(q.detach().mean()),
        "v": float(v.detach().mean()),
        "target": float(y.mean()),
        "q_above_v": float((q_low > v.detach()).float().mean()),
    }


@torch.no_grad()
def decoupled_advantages(critic: DecoupledCritic, batch: PixelBatch, gamma: float) -> Tensor:
    """Return one advantage per window, given to all its executed ticks, float [B, H]; 0 outside the mask."""
    seen = critic.embed(batch.pixels, batch.s)
    v = critic.v_embedded(seen)
    if critic.config.sees == "action":
        advantage = critic.q_embedded(seen, batch.a).mean(0) - v
    else:
        collected, discount = chunk_return(batch.r, batch.d, batch.mask, batch.has_next, gamma)
        advantage = collected + discount * critic.v(batch.pixels_next, batch.s_next) - v
    return advantage[:, None] * batch.mask
