"""ResFiT: a residual on a frozen policy, learned by off-policy TD3 from demonstrations and online episodes.

A control for the online phase with reinforcement alone: nobody's corrections are copied, no critic is inherited.  With
E executed ticks per decision, executed actions a (float [B, E, A]), b = base chunk and pi = residual:

    y  = sum_{i<e} gamma^i r_i + gamma^e (1 - d) min_{k in M} q_k'(x', b' + lam [pi'(x', b') + noise])
    L_q  = sum_k <(q_k(x, a) - y)^2>                                              M: a random pair
    L_pi = - <mean_k q_k(x, b + lam pi(x, b))> / <|q|> + lambda_2 <|pi|^2>        every `delay`-th update

Source: Ankile et al. 2025 (ResFiT, arXiv 2509.19301): n-step targets, the minimum over a random subset of an ensemble
(REDQ), its mean for the actor, layer norm in the critic, half of every batch from demonstrations, delayed actor, UTD 4.
We differ: a residual per decision instead of per tick (tokens exist at decisions only), so n is the e ticks executed;
the episodes are those of the rounds, with a person's takeovers as the only exploration, instead of noise on the robot;
rewards are the recorded ones; the size of the residual is penalised, without which it exploited the critic.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.bora_offline import Critic
from bora_cli.models.nn import frozen
from bora_cli.models.residual import ResidualActor, compose


class ResFiTConfig(BaseModel):
    """Residual TD3."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    utd: float = Field(default=4.0, gt=0, description="critic updates per online decision so far")
    least: int = Field(default=200, ge=0, description="critic updates per round at least")
    most: int = Field(default=3000, ge=0, description="critic updates per round at most")
    alone: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the updates before the actor's first; a critic that knows nothing yet sends the residual"
        " to its bound, from which it hardly comes back",
    )
    batch: int = Field(default=128, gt=1, description="windows per update, half of them online")
    delay: int = Field(default=4, gt=0, description="critic updates per actor update")
    critic_lr: float = Field(default=3e-4, gt=0, description="critic learning rate")
    lr: float = Field(default=1e-4, gt=0, description="actor learning rate")
    ensemble: int = Field(default=10, gt=1, description="independent q networks")
    polyak: float = Field(default=0.01, gt=0, le=1, description="rate of the target networks")
    noise: float = Field(default=0.1, ge=0, description="spread of the target's noise, command units")
    noise_clip: float = Field(default=0.3, ge=0, description="and its largest size")
    lambda_l2: float = Field(default=1.0, ge=0, description="weight of the squared residual")
    reach: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="share of the residual that is added (lambda), from the first update on",
    )

    def updates(self, decisions: int) -> int:
        """Return the critic updates of a round.  decisions: online windows so far."""
        return min(self.most, max(self.least, round(self.utd * decisions)))


def executed_return(batch: Batch, gamma: float) -> tuple[Tensor, Tensor]:
    """Return sum_{i<e} gamma^i r_i and the factor gamma^e (1 - d) of what follows, float [B] each."""
    power = gamma ** torch.arange(batch.r.shape[1], dtype=batch.r.dtype, device=batch.r.device)
    total = (power * torch.where(batch.mask > 0, batch.r, 0.0)).sum(1)
    ended = (batch.d * batch.mask).amax(1)
    return total, gamma ** batch.mask.sum(1) * (1 - ended)


def critic_loss(
    critic: Critic,
    target: Critic,
    residual: ResidualActor,
    batch: Batch,
    base_next: Tensor,
    unit: Tensor,
    *,
    gamma: float,
    config: ResFiTConfig,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return L_q of one batch; gradient reaches the critic only.

    residual: the target actor.  base_next: float [B, H, A], base chunk at the next decision, normalised.  unit: float
    [A], one command unit in normalised action units.  The critic sees the first E ticks of a chunk, E as in `batch`.
    """
    ticks = batch.a.shape[1]
    with torch.no_grad():
        total, ahead = executed_return(batch, gamma)
        following = residual(batch.z_next, batch.s_next, base_next)
        spread = torch.randn(following.shape, generator=generator, dtype=following.dtype)
        following = following + (config.noise * spread).clamp(-config.noise_clip, config.noise_clip)
        a_next = compose(base_next, following, config.reach, unit)[:, :ticks]
        q_next = value(target, batch.z_next, batch.s_next, a_next)
        pair = torch.randperm(len(q_next), generator=generator)[:2]
        y = total + torch.where(ahead > 0, ahead * q_next[pair].amin(0), 0.0)
    q = value(critic, batch.z, batch.s, batch.a)
    loss = ((q - y) ** 2).mean(1).sum()
    return loss, {"loss_q": float(loss.detach()), "q": float(q.mean().detach()), "target": float(y.mean())}


def actor_loss(
    residual: ResidualActor,
    critic: Critic,
    batch: Batch,
    base: Tensor,
    unit: Tensor,
    *,
    config: ResFiTConfig,
) -> tuple[Tensor, dict[str, float]]:
    """Return L_pi of one batch; gradient reaches the residual only.  base: float [B, H, A], normalised."""
    ticks = batch.a.shape[1]
    res = residual(batch.z, batch.s, base)
    final = compose(base, res, config.reach, unit)[:, :ticks]
    with frozen(critic) if isinstance(critic, torch.nn.Module) else torch.enable_grad():
        q = value(critic, batch.z, batch.s, final)
    size = (res[:, :ticks] ** 2).mean()
    loss = -q.mean() / (q.detach().abs().mean() + 1e-3) + config.lambda_l2 * size
    rms = float(size.detach().sqrt())
    return loss, {
        "loss_actor": float(loss.detach()),
        "residual_rms": rms,
        "q_final": float(q.mean().detach()),
    }


def value(critic: Critic, z: Tensor, s: Tensor, a: Tensor) -> Tensor:
    """Return the value of a whole chunk, float [K, B]: that of its first tick, which sees all of it."""
    return critic.q(z, s, a)[:, :, 0]
