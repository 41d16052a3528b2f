"""A critic that knows the motion: executed chunks rank above disturbed copies of themselves.

Recorded data show one chunk per state, and that chunk nearly follows from the state.  A critic fitted to them may
explain every return by the state alone, and then values any motion the same.  So in successful episodes the executed
chunk a is compared with a copy a' that is disturbed smoothly, a little or a lot, in some or all dimensions, and has to
be worth more by a margin mu that grows with the disturbance:

    L_rank = < kappa softplus((mu - <q_k(z, a) - q_k(z, a')>_m) / kappa) >     over members k and successful windows

What a copy is worth is not known.  That it is worth less is assumed; it holds where the recorded motion works and
leaves little room.  Bad chunks that are far from smooth noise (another state's, one played backwards, an opened hand)
are not trained on, so tests can ask about them.

Source: graded negatives as in RankQ (arXiv 2605.11151).  Ours: disturbance, margin, and only successes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bora_cli.algos.batch import Batch
from bora_cli.algos.bora_offline import Critic, OfflineConfig, own_targets
from bora_cli.algos.targets import masked_mean, window_mean

SMALLEST, LARGEST = 0.05, 0.65
"""Range of the size of a disturbance, normalised units; the actions' standard deviation is 0.5."""
LEAST_SHARE = 0.2
"""Smallest expected share of the dimensions that a copy disturbs."""


def disturb(a: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Return disturbed copies of chunks, float [B, H, A], and the size of each disturbance, float [B].

    a: float [B, H, A], normalised.  A disturbance is an offset, a drift and white noise in random proportion, in a
    random subset of the dimensions; its size, SMALLEST to LARGEST, is about the spread of the three together.
    """
    n, ticks, dims = a.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=a.device, dtype=a.dtype)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=a.device, dtype=a.dtype)

    way = torch.linspace(-1, 1, ticks, device=a.device, dtype=a.dtype)[:, None]
    kinds = torch.stack(
        [normal(n, 1, dims).expand(-1, ticks, -1), normal(n, 1, dims) * way, normal(n, ticks, dims)]
    )
    share = uniform(3, n, 1, 1)
    noise = (kinds * share / share.norm(dim=0)).sum(0)
    touched = uniform(n, 1, dims) < LEAST_SHARE + (1 - LEAST_SHARE) * uniform(n, 1, 1)
    size = SMALLEST + (LARGEST - SMALLEST) * uniform(n)
    return a + size[:, None, None] * noise * touched, size


def ranking_loss(
    critic: Critic, batch: Batch, config: OfflineConfig, generator: torch.Generator | None = None
) -> tuple[Tensor, float]:
    """Return L_rank of a batch and in which share of its successful windows the executed chunk is worth more.

    Needs `batch.success`; a batch without a successful window gives 0 and 0.5.  Gradient: into the critic only, the
    tokens are detached.
    """
    good = batch.rows(torch.nonzero(batch.need("success")).squeeze(1))
    if not len(good):
        return batch.a.new_zeros(()), 0.5
    bad, size = disturb(good.a, generator)
    z, s = good.z.detach(), good.s.detach()
    above = critic.q(z, s, good.a) - critic.q(z, s, bad)
    gap = torch.stack([window_mean(member, good.mask) for member in above])
    margin, kappa = config.rank_margin * size / LARGEST, config.rank_softness
    loss = kappa * nn.functional.softplus((margin - gap) / kappa).mean()
    return loss, float((gap.detach().mean(0) > 0).float().mean())


def ranked_critic_loss(
    critic: Critic, batch: Batch, config: OfflineConfig, generator: torch.Generator | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Return L_Q + L_V + lambda_rank L_rank of one batch and diagnostics.

    L_V = <(v_i - sg y_i)^2>, y the lambda-return of v itself inside the chunk (`own_targets`), so that v is the value
    of what was done.  L_Q = sum_k <(q_k,i - sg v_i - A_i)^2>, A the advantages over real time of cross-fitted values
    (`algos.value`), `batch.adv`, float [B, H]: q_i - v_i learns what those say of an action, and v nothing of q.
    Gradient: into the critic only.
    """
    z, s = batch.z.detach(), batch.s.detach()
    q, v = critic.q(z, s, batch.a), critic.v(z, s, batch.a)
    followed, y = own_targets(critic, batch, v, config), v.detach() + batch.need("adv")
    loss_q = torch.stack([masked_mean((member - y) ** 2, batch.mask) for member in q]).sum()
    loss_v = masked_mean((v - followed) ** 2, batch.mask)
    loss_rank, won = ranking_loss(critic, batch, config, generator)
    with torch.no_grad():
        columns = {"q": q.mean(0), "v": v, "target": y, "ensemble_std": q.std(0, correction=0)}
        info = {name: float(masked_mean(x, batch.mask)) for name, x in columns.items()}
    info |= {"loss_q": float(loss_q.detach()), "loss_v": float(loss_v.detach())}
    info |= {"loss_rank": float(loss_rank.detach()), "ranked_right": won}
    return loss_q + loss_v + config.lambda_rank * loss_rank, info
