"""BORA-Offline, top to bottom: critic, advantages, gate, surrogate, actor.

The actor never sees the gradient of Q.  It is improved by a clipped likelihood ratio on *dataset* actions,
weighted with advantages, while behaviour cloning holds it on the data.  The gradient runs through the one to
three evaluations of the consistency expert and, where the tokens carry a graph, on into the backbone.

Source: BORA (arXiv 2605.30226), offline phase.  Not disclosed there and chosen here: expectile, clip range,
GAE lambda, policy spread, refresh of the old policy.  Where we differ on purpose, the docstring says "Ours".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.cp import CPConfig, bc_loss
from bora_cli.algos.targets import (
    chunk_targets,
    expectile_loss,
    gae,
    masked_mean,
    normalise_advantage,
    window_mean,
)
from bora_cli.errors import ConfigError
from bora_cli.models.consistency import ConsistencyExpert


class Critic(Protocol):
    """What the losses need of a critic: z [B, N, W], s [B, S], a [B, H, A] -> q [K, B, H] and v [B, H]."""

    def q(self, z: Tensor, s: Tensor, a: Tensor) -> Tensor: ...
    def v(self, z: Tensor, s: Tensor, a: Tensor | None = None) -> Tensor: ...


class OfflineConfig(BaseModel):
    """BORA-Offline; the defaults are the `sim` preset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # critic
    gamma: float = Field(default=0.97, gt=0, le=1, description="discount per tick")
    tau: float = Field(default=0.7, gt=0, lt=1, description="expectile of the value")
    lambda_return: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="lambda-return inside the chunk; 0 = one-step shifted bootstrap (paper)",
    )
    value_range: tuple[float, float] | None = Field(
        default=None, description="clip critic targets to this range"
    )
    polyak: float = Field(default=0.01, gt=0, le=1, description="rate of the target critic")
    critic_updates: int = Field(default=1000, ge=0, description="gradient steps of the critic")
    critic_batch: int = Field(default=64, gt=0, description="windows per critic update")
    critic_lr: float = Field(default=3e-4, gt=0, description="critic learning rate")

    context: Literal["step", "prefix", "full"] = Field(
        default="prefix", description="what q_i sees of the chunk: step = a_i (paper), prefix = a_0..a_i"
    )
    ensemble: int = Field(default=4, gt=0, description="independent q networks; 1 = the paper's single q")

    critic: Literal["iql", "ranked"] = Field(
        default="iql",
        description="iql = shifted bootstrap and expectile (paper); ranked = cross-fitted targets, and executed"
        " chunks above disturbed ones (see `ranking`)",
    )
    lambda_rank: float = Field(default=4.0, ge=0, description="weight of the ranking (ranked)")
    rank_margin: float = Field(
        default=0.1, ge=0, description="margin of the largest disturbance, units of value (ranked)"
    )
    rank_softness: float = Field(
        default=0.05, gt=0, description="softness of the margin, units of value (ranked)"
    )

    # advantages
    advantage: Literal["v_gae", "q_minus_v", "given", "constant"] = Field(
        default="v_gae",
        description="v_gae = cross-fitted V over real time; q_minus_v = chunk critic (paper); given = those the"
        " windows carry; constant = 1 everywhere, the control that shows what the critic adds",
    )
    shuffle: bool = Field(
        default=False, description="give every tick the advantage of another episode's, a control"
    )
    flip: bool = Field(default=False, description="follow the opposite of the advantages, a control")
    gae_lambda: float = Field(default=0.9, ge=0, le=1, description="GAE lambda per tick (q_minus_v)")
    adv_clip: float = Field(default=2.0, gt=0, description="normalised advantages are clipped to +- this")
    center: bool = Field(
        default=False, description="subtract the mean advantage before dividing by its spread"
    )
    gate: Literal["window", "batch", "off"] = Field(
        default="window",
        description="window = surrogate only where the window's mean advantage exceeds the margin;"
        " batch = no actor step at all unless the batch mean does (paper); off = always",
    )
    gate_margin: float = Field(default=0.0, description="margin of the gate, in units of value")

    # actor
    lambda_bc: float = Field(default=1.0, ge=0, description="weight of behaviour cloning")
    gate_bc: bool = Field(
        default=True,
        description="do not clone windows that the gate rejects either; they count as 0 in the mean over all"
        " windows, so cloning weakens with the gate's rate (off: the data are cloned whole)",
    )
    warm_up: Literal["all", "gated"] = Field(
        default="all",
        description="what behaviour cloning sees before the critic is followed: all = every window (paper, CP Base);"
        " gated = those that the gate lets through",
    )
    lambda_ppo: float = Field(default=1.0, ge=0, description="weight of the clipped surrogate")
    ppo_clip: float = Field(default=0.2, gt=0, description="clip range of the likelihood ratio")
    sigma_pi: float = Field(
        default=0.2, gt=0, description="spread of the policy around its sample, normalised units"
    )
    ratio: Literal["mean", "sum"] = Field(
        default="mean", description="log ratio averaged over action dimensions, or their plain sum"
    )
    old_every: int = Field(default=50, gt=0, description="updates between snapshots of the old policy")
    steps: int = Field(default=1, ge=1, le=3, description="evaluations of the expert per sample")
    grad_steps: int = Field(
        default=1, ge=1, le=3, description="how many of the last evaluations keep the graph"
    )
    updates: int = Field(default=800, ge=0, description="actor updates after the behaviour-cloning warm-up")
    batch: int = Field(default=96, gt=0, description="windows per update")
    lr: float = Field(default=5e-4, gt=0, description="peak actor learning rate, cosine decay to zero")
    backbone_lr: float = Field(
        default=1e-4, gt=0, description="peak learning rate of the backbone's part that is trained, if any"
    )

    @classmethod
    def preset(cls, name: Literal["sim", "paper"]) -> Self:
        """Return the settings for the simulator, or the published numbers completed by the defaults."""
        if name == "sim":
            return cls()
        return cls(
            gamma=0.99,
            lambda_return=0.0,
            polyak=0.005,
            critic_lr=1e-4,
            critic_updates=70_000,
            context="step",
            advantage="q_minus_v",
            gate="batch",
            lambda_ppo=0.01,
            old_every=100,
            steps=2,
            updates=30_000,
            batch=64,
            lr=5e-5,
            backbone_lr=1e-5,
        )


# ---------------------------------------------------------------------------------------------- critic


@torch.no_grad()
def own_targets(
    critic: Critic, batch: Batch, v: Tensor, config: OfflineConfig, v_next: Tensor | None = None
) -> Tensor:
    """Return the targets y_i that a critic's own V gives its chunks, float [B, H], see `chunk_targets`.

    v: float [B, H], the critic's V of the batch.  v_next: float [B], value of the next decision's first tick; the
    critic's own V if None.
    """
    if v_next is None:
        v_next = critic.v(batch.z_next, batch.s_next)[:, 0]
    return chunk_targets(
        r=batch.r,
        d=batch.d,
        mask=batch.mask,
        has_next=batch.has_next,
        v=v.detach(),
        v_next=v_next,
        gamma=config.gamma,
        lambda_return=config.lambda_return,
    )


def critic_loss(
    critic: Critic, target: Critic, batch: Batch, config: OfflineConfig, v_next: Tensor | None = None
) -> tuple[Tensor, dict[str, float]]:
    """Return L_Q + L_V of one batch and diagnostics.

    L_Q = sum_k <(q_k,i - sg y_i)^2>,  y_i = r_i + gamma (1 - d_i) v_{i+1}  (shifted bootstrap, see
    `chunk_targets`); L_V = <|tau - 1[u < 0]| u^2>,  u = sg q_i - v_i  (IQL).
    target: Polyak copy; its smallest q is the q in L_V.  Ours: minimum over K, lambda-return; paper: one q,
    no copy.  v_next: float [B], value of the next decision's first tick; the critic's own V if None.
    Gradient: into `critic` only, the tokens are detached.
    """
    z, s = batch.z.detach(), batch.s.detach()
    v = critic.v(z, s, batch.a)
    with torch.no_grad():
        y = own_targets(critic, batch, v, config, v_next)
        clipped = y if config.value_range is None else y.clamp(*config.value_range)
        q_low = target.q(z, s, batch.a).amin(0)
    q = critic.q(z, s, batch.a)
    loss_q = torch.stack([masked_mean((member - clipped) ** 2, batch.mask) for member in q]).sum()
    loss_v = masked_mean(expectile_loss(q_low - v, config.tau), batch.mask)
    with torch.no_grad():
        mean = {
            name: float(masked_mean(x, batch.mask))
            for name, x in {
                "q": q.mean(0),
                "v": v,
                "target": y,
                "ensemble_std": q.std(0, correction=0),
                "q_above_v": (q_low > v).to(v.dtype),
                "target_clipped": (y != clipped).to(v.dtype),
            }.items()
        }
    return loss_q + loss_v, {"loss_q": float(loss_q.detach()), "loss_v": float(loss_v.detach()), **mean}


# ------------------------------------------------------------------------------------------ advantages


@torch.no_grad()
def advantages(batch: Batch, config: OfflineConfig, critic: Critic | None = None) -> Tensor:
    """Return raw advantages of the dataset actions, float [B, H], 0 outside the mask.

    q_minus_v (paper): delta_i = q_i - v_i with the ensemble mean, summed by `gae` along the chunk.
    v_gae (ours, default): `batch.adv`, cross-fitted V over real time (see `value`).  given: `batch.adv` too.
    Controls.  constant: 1, so that the surrogate becomes plain regression of the sample.  shuffle: `batch.adv`,
    which whoever made the batch took from elsewhere (`batch.elsewhere`).  flip: all of it with the other sign.
    Raises DataError if the batch lacks `adv` where it is needed.
    """
    if config.advantage == "constant":
        return batch.mask.clone()
    if config.shuffle or config.advantage != "q_minus_v":
        adv = batch.need("adv") * batch.mask
    elif critic is None:
        raise ConfigError(
            "Advantage q_minus_v was asked for without a critic.", "Train the chunk critic first."
        )
    else:
        delta = critic.q(batch.z, batch.s, batch.a).mean(0) - critic.v(batch.z, batch.s, batch.a)
        adv = gae(delta, batch.d, batch.mask, gamma=config.gamma, lam=config.gae_lambda)
    return -adv if config.flip else adv


def open_gate(adv: Tensor, mask: Tensor, config: OfflineConfig) -> Tensor:
    """Return which windows the surrogate may use, float [B] of 0 and 1, from raw advantages [B, H].

    Only windows whose actions were better than the policy's value on average are followed, and cloned.
    Paper: one decision for the whole batch.  Ours: one per window.
    """
    mean = window_mean(adv, mask)
    if config.gate == "off":
        return torch.ones_like(mean)
    if config.gate == "batch":
        return torch.full_like(mean, float(mean.mean() > config.gate_margin))
    return (mean > config.gate_margin).to(mean.dtype)


# ----------------------------------------------------------------------------------------------- actor


@dataclass(frozen=True)
class ActorLoss:
    """Loss of one actor update; `skip` says that the batch gate was closed and no step is to be taken."""

    loss: Tensor
    skip: bool
    info: dict[str, float]


def actor_loss(
    expert: ConsistencyExpert,
    old: ConsistencyExpert,
    teacher: ConsistencyExpert,
    batch: Batch,
    adv: Tensor,
    *,
    config: OfflineConfig,
    cp: CPConfig,
    generator: torch.Generator | None = None,
) -> ActorLoss:
    """Return lambda_ppo L_PPO + lambda_bc L_BC of one batch.

    The policy at a tick is a Gaussian of spread sigma_pi around the expert's sample.  Expert and old expert
    sample from the same noise; otherwise their ratio would measure the noise.
    old: the expert as it was up to `old_every` updates ago.  teacher: averaged expert for the consistency
    term. adv: raw advantages, float [B, H], see `advantages`.
    Ours: with `gate_bc` closed windows are not cloned either.  Both losses average over all windows, closed ones
    counting 0, so that cloning weakens with the share that is open; without it L_BC is that of all windows.
    """
    chi = open_gate(adv, batch.mask, config)
    weight = normalise_advantage(adv, batch.mask, clip=config.adv_clip, center=config.center)
    noise = torch.randn(
        (config.steps, *batch.a.shape), generator=generator, dtype=batch.a.dtype, device=batch.a.device
    )
    mu = expert.sample(batch.z, batch.s, noise, config.steps, config.grad_steps)
    with torch.no_grad():
        mu_old = old.sample(batch.z, batch.s, noise, config.steps)
    log_ratio = gaussian_log_ratio(batch.a, mu, mu_old, config)
    ratio = log_ratio.exp()
    ppo = (chi * window_mean(surrogate(ratio, weight, config.ppo_clip), batch.mask)).mean()
    cloned = replace(batch, mask=batch.mask * chi[:, None]) if config.gate_bc else batch
    bc, info = bc_loss(expert, teacher, cloned, cp, generator=generator)
    skip = config.gate == "batch" and not bool(chi.any())
    with torch.no_grad():
        used = batch.mask * chi[:, None] > 0
        clipped = (ratio - 1).abs() > config.ppo_clip
        info |= {
            "bc": float(bc.detach()),
            "ppo": float(ppo.detach()),
            "gate_rate": float(chi.mean()),
            "adv_positive": float(masked_mean((adv > 0).to(adv.dtype), batch.mask)),
            "clip_fraction": float(clipped[used].float().mean()) if bool(used.any()) else 0.0,
            "ratio_p99": float(ratio[used].quantile(0.99)) if bool(used.any()) else 1.0,
            "kl_old": float(masked_mean(ratio - 1 - log_ratio, batch.mask)),
        }
    return ActorLoss(config.lambda_ppo * ppo + config.lambda_bc * bc, skip, info)


def gaussian_log_ratio(a: Tensor, mu: Tensor, mu_old: Tensor, config: OfflineConfig) -> Tensor:
    """Return log pi(a_i) - log pi_old(a_i) per tick, float [B, H], clamped to +-2.

    Ours: divided by the number of action dimensions; the plain sum over 18 of them saturates after one
    update.
    """
    squares = ((a - mu_old) ** 2 - (a - mu) ** 2).sum(-1)
    if config.ratio == "mean":
        squares = squares / a.shape[-1]
    return (squares / (2 * config.sigma_pi**2)).clamp(-2.0, 2.0)


def surrogate(ratio: Tensor, adv: Tensor, clip: float) -> Tensor:
    """Return -min(rho A, clip(rho, 1 - eps, 1 + eps) A), any shape (PPO, Schulman et al. 2017, eq. 7)."""
    return -torch.minimum(ratio * adv, ratio.clamp(1 - clip, 1 + clip) * adv)
