"""BORA-Online, top to bottom: evidence, critic, residual actor.

The base policy is frozen.  A residual is learned from episodes in which a person took over now and then:
A_final = A_base + lambda * A_residual.  Losses read cached tokens and base chunks; no backbone is involved.

Source: BORA (arXiv 2605.30226), online phase.  Ours: a constant vector that is fitted before the network, the pull of
autonomous ticks and the evidence rules; with some twenty episodes they decide whether the base gets better or worse.
Residuals are in command units (1 = half the action range of a dimension).
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from bora_cli.algos.batch import Batch
from bora_cli.algos.bora_offline import Critic, OfflineConfig, critic_loss
from bora_cli.algos.schedules import linear
from bora_cli.algos.targets import masked_mean, window_mean
from bora_cli.models.nn import frozen
from bora_cli.models.residual import ResidualActor, compose
from bora_cli.types import Controller

HUMAN = (Controller.HUMAN, Controller.BLENDED, Controller.ASSIST)


class OnlineConfig(BaseModel):
    """BORA-Online; the defaults are the `sim` preset."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_takeovers: int = Field(
        default=4, ge=1, description="no update (lambda stays 0) with fewer takeovers in all episodes"
    )
    stack: bool = Field(
        default=False,
        description="keep the residual in use in the base of the next one (paper); else every round fits afresh",
    )
    updates: int = Field(default=400, ge=0, description="gradient steps of the residual per round")
    batch: int = Field(default=96, gt=0, description="windows per update")
    lr: float = Field(
        default=3e-3, gt=0, description="peak learning rate of the constant part, cosine decay to a twentieth"
    )
    net_lr: float = Field(
        default=3e-4,
        gt=0,
        description="the same of the network, which gets as many updates, after the constant",
    )

    lambda_start: float = Field(
        default=0.2, ge=0, le=1, description="share of the residual at the first update"
    )
    lambda_end: float = Field(
        default=1.0, ge=0, le=1, description="share of the residual from lambda_over on"
    )
    lambda_over: int = Field(default=200, ge=0, description="updates over which lambda rises")
    bc_start: float = Field(default=2.0, ge=0, description="weight of the corrections at the first update")
    bc_end: float = Field(default=1.0, ge=0, description="weight of the corrections from bc_over on")
    bc_over: int = Field(default=240, ge=0, description="updates over which that weight falls")

    stay_success: float = Field(
        default=0.3, ge=0, description="weight of repeating what was executed on unaided successes"
    )
    stay_other: float = Field(
        default=0.05,
        ge=0,
        description="weight of repeating what was executed on all other autonomous windows",
    )
    w_net: float = Field(
        default=0.5,
        ge=0,
        description="penalty on what the network adds to the constant where nobody corrected: on autonomous windows"
        " and on demonstrations",
    )
    lambda_anchor: float = Field(
        default=0.03, ge=0, description="keeps autonomous windows near the previous residual"
    )
    lambda_l2: float = Field(default=2e-4, ge=0, description="weight of the squared residual")
    lambda_improve: float = Field(default=0.35, ge=0, description="weight of the improvement hinge")
    margin: float = Field(default=0.0, description="margin of the hinge, units of value")
    smooth: float = Field(default=0.0, ge=0, description="width of a softplus hinge; 0 = the plain hinge")
    lambda_q: float = Field(default=0.0, ge=0, description="weight of pushing q of the final chunk up")

    update_critic: bool = Field(
        default=True,
        description="train the inherited critic on the mixed batch; without, the terms that ask it get it as it was",
    )
    bootstrap: Literal["iql", "td"] = Field(
        default="iql",
        description="value of what follows: iql = V of the next state; td = the smaller q of two members for what the"
        " policy in use would do there, which judges that policy instead of what was recorded",
    )
    critic_lr: float = Field(default=1e-4, gt=0, description="critic learning rate")
    lambda_inherit: float = Field(
        default=0.0, ge=0, description="keeps q on offline windows near the inherited one"
    )

    @classmethod
    def preset(cls, name: Literal["sim", "paper"]) -> Self:
        """Return the settings for the simulator, or the published numbers completed by the defaults."""
        if name == "sim":
            return cls()
        return cls(
            min_takeovers=1,
            stack=True,
            updates=7_500,
            batch=64,
            lr=1e-4,
            net_lr=1e-4,
            lambda_end=0.75,
            lambda_over=4_000,
            bc_over=10_000,
            stay_other=0.0,
            w_net=0.0,
            lambda_q=0.25,
        )

    def lam(self, update: int) -> float:
        """Return lambda at an update."""
        return linear(update, self.lambda_start, self.lambda_end, self.lambda_over)

    def bc_weight(self, update: int) -> float:
        """Return the weight of the corrections at an update."""
        return linear(update, self.bc_start, self.bc_end, self.bc_over)


# -------------------------------------------------------------------------------------------- evidence


def enough_evidence(takeovers: int, config: OnlineConfig) -> bool:
    """Tell whether an update may happen at all.

    takeovers: in all episodes so far.  A single correction would otherwise become the law for every state.
    """
    return takeovers >= config.min_takeovers


def is_human(controller: Tensor) -> Tensor:
    """Return which windows a person drove, bool of the shape of `controller` (see `types.Controller`)."""
    return torch.isin(controller, torch.tensor([int(c) for c in HUMAN], device=controller.device))


def stay_factor(n_autonomous: int, n_human: int) -> float:
    """Return by how much the pull of autonomous windows is strengthened: max(1, N_auto / (3 N_human)).

    Counted in windows.  Corrections and autonomous windows enter the loss as two means, whatever their numbers.  Where
    corrections are rare that would let each of them weigh too much; this restores the balance.  1 if nobody
    corrected anything.
    """
    return max(1.0, n_autonomous / (3 * n_human)) if n_human else 1.0


# ---------------------------------------------------------------------------------------------- critic


def online_critic_loss(
    critic: Critic,
    target: Critic,
    inherited: Critic | None,
    batch: Batch,
    *,
    offline: OfflineConfig,
    config: OnlineConfig,
    next_chunk: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the offline critic loss on a mixed batch with relabelled rewards, plus the inheritance term.

    next_chunk: float [B, H, A], what the policy in use would do at the next decision, for the `td` bootstrap: the value
    of what follows is then the smaller q_0 of two random members of `target` instead of V.

    L_inh = <(q_k - sg q_k^inherited)^2> on windows that are demonstrations.  inherited: the critic as it
    came out of the offline phase, or None.  Rewards of takeovers are relabelled in `batch.r` (see `rewards`).
    """
    v_next = None
    if next_chunk is not None:
        with torch.no_grad():
            q_next = target.q(batch.z_next, batch.s_next, next_chunk)[:, :, 0]
            v_next = q_next[torch.randperm(len(q_next), generator=generator)[:2]].amin(0)
    loss, info = critic_loss(critic, target, batch, offline, v_next)
    if inherited is None or config.lambda_inherit == 0:
        return loss, info
    with torch.no_grad():
        before = inherited.q(batch.z, batch.s, batch.a)
    change = ((critic.q(batch.z.detach(), batch.s, batch.a) - before) ** 2).mean(0)
    demo = batch.need("demo").to(change.dtype)
    kept = (window_mean(change, batch.mask) * demo).sum() / demo.sum().clamp(min=1.0)
    return loss + config.lambda_inherit * kept, {**info, "inherit": float(kept.detach())}


# ------------------------------------------------------------------------------------------------ actor


def residual_loss(
    residual: ResidualActor,
    batch: Batch,
    unit: Tensor,
    *,
    lam: float,
    bc_weight: float,
    stay: float,
    config: OnlineConfig,
    critic: Critic | None = None,
    previous: ResidualActor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of the residual's constant part on one batch; gradient reaches the residual only.

    L = bc_weight [ corrections + stay * stayed ] + lambda_improve hinge
        + lambda_anchor anchor + lambda_l2 |A_res|^2 - lambda_q guidance

    - corrections: |A_final - A_executed|^2, mean over human windows.
    - stayed (ours): the same distance, mean over autonomous windows, weighted `stay_success` where the episode
      succeeded unaided and `stay_other` elsewhere.  Until a residual is released that pulls towards zero;
      afterwards, towards the residual under which those ticks went well.
    - hinge: max(0, q(base) + margin - q(final)), critic frozen, gradient through the final chunk only.  With
      margin 0 and a zero residual its gradient is exactly zero.
    - anchor: |lam (A_res - A_res in use)|^2 on autonomous windows; before the first release that one is 0.
    - guidance: mean q(final) / mean |q|, the second reading of the paper's lambda_Q.

    All squared distances are in command units, averaged over dimensions and valid ticks.

    batch: needs a_base, controller and unaided.  unit: float [A], one command unit in normalised action units.
    stay: `stay_factor` of the whole buffer.  critic: only needed with lambda_improve or lambda_q.  previous: the
    residual in use when the round began, None if there was none.
    """
    a_base, human = batch.need("a_base"), is_human(batch.need("controller"))
    res = residual(batch.z, batch.s, a_base)
    final = compose(a_base, res, lam, unit)
    error = window_mean((((final - batch.a) / unit) ** 2).mean(-1), batch.mask)
    size = window_mean((res**2).mean(-1), batch.mask)
    auto = ~human

    corrections = _mean_over(error, human)
    weight = torch.where(batch.need("unaided"), config.stay_success, config.stay_other)
    stayed = _mean_over(weight * error, auto)
    parts = {"corrections": bc_weight * corrections, "stay": bc_weight * stay * stayed}
    parts["l2"] = config.lambda_l2 * size.mean()
    if config.lambda_anchor > 0:
        with torch.no_grad():
            before = previous(batch.z, batch.s, a_base) if previous is not None else torch.zeros_like(res)
        moved = window_mean(((res - before) ** 2).mean(-1), batch.mask)
        parts["anchor"] = config.lambda_anchor * lam**2 * _mean_over(moved, auto)
    worse: Tensor | None = None
    if critic is not None and (config.lambda_improve > 0 or config.lambda_q > 0):
        terms, worse = _critic_terms(critic, batch, a_base, final, config)
        parts |= terms

    loss = torch.stack(list(parts.values())).sum()
    info = {name: float(value.detach()) for name, value in parts.items()}
    with torch.no_grad():
        info["residual_rms"] = float(size.mean().sqrt())
        info["saturated"] = float((res.abs() > 0.95 * residual.bound).float().mean())
        if worse is not None:
            info["hinge_active"] = float(masked_mean(worse.to(error.dtype), batch.mask))
    return loss, info


def network_loss(
    residual: ResidualActor,
    batch: Batch,
    unit: Tensor,
    *,
    lam: float,
    config: OnlineConfig,
    critic: Critic | None = None,
    demos: Batch | None = None,
    dropped: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the loss of the residual's network, whose constant part is there already and stays.

    L = bc_end corrections + w_net departure + lambda_improve hinge - lambda_q guidance

    - departure (ours): what the network adds to the constant, squared, mean over autonomous windows plus mean over
      demonstrations.  What is wrong everywhere is the constant's; the network may add what people corrected in states
      like theirs, and has to leave the others alone.
    - the other terms: as in `residual_loss`.

    lam: as the residual will be used.

    batch: needs a_base and controller.  demos: windows of demonstrations with the base's chunks there; none: left out.
    dropped: see `ResidualActor`.
    """
    a_base, human = batch.need("a_base"), is_human(batch.need("controller"))
    res = residual(batch.z, batch.s, a_base, dropped)
    final = compose(a_base, res, lam, unit)
    error = window_mean((((final - batch.a) / unit) ** 2).mean(-1), batch.mask)
    added = (res - residual.constant()) ** 2
    departure = _mean_over(window_mean(added.mean(-1), batch.mask), ~human)
    if demos is not None:
        there = residual.departure(demos.z, demos.s, demos.need("a_base"), dropped)
        departure = departure + masked_mean((there**2).mean(-1), demos.mask)
    parts = {"corrections": config.bc_end * _mean_over(error, human), "departure": config.w_net * departure}
    if critic is not None and (config.lambda_improve > 0 or config.lambda_q > 0):
        terms, _ = _critic_terms(critic, batch, a_base, final, config)
        parts |= terms
    loss = torch.stack(list(parts.values())).sum()
    return loss, {name: float(value.detach()) for name, value in parts.items()}


def _critic_terms(
    critic: Critic, batch: Batch, a_base: Tensor, final: Tensor, config: OnlineConfig
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the weighted hinge and guidance, and where the final chunk is worth less than the base, bool [B, H].

    The critic's weights receive no gradient.
    """
    with torch.no_grad():
        q_base = critic.q(batch.z, batch.s, a_base).mean(0)
    if isinstance(critic, nn.Module):
        with frozen(critic):
            q_final = critic.q(batch.z, batch.s, final).mean(0)
    else:
        q_final = critic.q(batch.z, batch.s, final).mean(0)
    terms: dict[str, Tensor] = {}
    if config.lambda_improve > 0:
        hinge = improvement_hinge(q_base, q_final, config.margin, config.smooth)
        terms["improve"] = config.lambda_improve * masked_mean(hinge, batch.mask)
    if config.lambda_q > 0:
        scale = masked_mean(q_base.abs(), batch.mask) + 1e-3
        terms["guidance"] = -config.lambda_q * masked_mean(q_final, batch.mask) / scale
    return terms, q_final.detach() < q_base + config.margin


def improvement_hinge(q_base: Tensor, q_final: Tensor, margin: float, smooth: float = 0.0) -> Tensor:
    """Return max(0, q_base + margin - q_final), or smooth * softplus(x / smooth) of the same x; any shape."""
    short = q_base.detach() + margin - q_final
    if smooth > 0:
        return smooth * nn.functional.softplus(short / smooth)
    return short.relu()


def _mean_over(x: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of x [B] over chosen windows, 0 if there are none."""
    picked = chosen.to(x.dtype)
    return (x * picked).sum() / picked.sum().clamp(min=1.0)
