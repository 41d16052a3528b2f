"""Returns, targets and advantages: the arithmetic of the papers without any network.

Shapes: B windows, H ticks of a chunk, T ticks of an episode.  A mask is 1 on ticks that count and never 1
after a 0; `data.windows` makes them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bora_cli.errors import DataError


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Average over the valid ticks of each window, then over windows: float [B, H] -> scalar.

    A short window weighs as much as a long one (BORA's 1 / |M_t|).
    """
    return window_mean(x, mask).mean()


def window_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Average over the valid ticks of each window: float [B, H] -> [B]; 0 where no tick is valid."""
    return torch.where(mask > 0, x * mask, torch.zeros_like(x)).sum(1) / mask.sum(1).clamp(min=1.0)


def chunk_targets(
    *,
    r: Tensor,
    d: Tensor,
    mask: Tensor,
    has_next: Tensor,
    v: Tensor,
    v_next: Tensor,
    gamma: float,
    lambda_return: float = 0.0,
) -> Tensor:
    """Return per-tick critic targets y, float [B, H]; entries outside the mask are 0.

    y_i = r_i + gamma (1 - d_i) [(1 - l) v_{i+1} + l y_{i+1}],  where behind the last valid tick both v_{i+1}
    and y_{i+1} are the value v_next of the next decision.

    r, d, mask: float [B, H].  has_next: bool [B].  v: float [B, H], values of the ticks of this chunk.
    v_next: float [B], value of the next decision's first tick; not looked at where the window terminates or
    has no successor. Where a chunk stops before its end without a next decision (the last observation of a
    truncated episode lies inside the chunk), the value of the following tick of the same chunk is used.
    Source: BORA, shifted bootstrap (lambda_return = 0).  Ours: partial execution and the lambda-return.
    Raises DataError if a window has no terminal tick, no next decision and no tick left to bootstrap from.
    """
    horizon = r.shape[1]
    last = (mask.sum(1) - 1).long().clamp(min=0)
    ended = d.gather(1, last[:, None]).squeeze(1) > 0
    if bool(((last == horizon - 1) & ~has_next & ~ended & (mask.sum(1) > 0)).any()):
        raise DataError(
            "A window neither terminates nor has a next decision; expected its last tick to be masked.",
            "Mask the last tick of truncated episodes when windows are built.",
        )
    tick_after = v.gather(1, (last + 1).clamp(max=horizon - 1)[:, None])[:, 0]
    beyond = torch.where(has_next & ~ended, v_next, tick_after)
    y = torch.zeros_like(r)
    following = beyond
    for i in range(horizon - 1, -1, -1):
        is_last = last == i
        inside = v[:, i + 1] if i + 1 < horizon else beyond
        one_step = torch.where(is_last, beyond, inside)
        many_step = torch.where(is_last, beyond, following)
        ahead = (1 - lambda_return) * one_step + lambda_return * many_step
        target = r[:, i] + torch.where(d[:, i] > 0, 0.0, gamma * ahead)
        y[:, i] = torch.where(mask[:, i] > 0, target, 0.0)
        following = y[:, i]
    return y


def expectile_loss(u: Tensor, tau: float) -> Tensor:
    """Return the asymmetric squared error |tau - 1[u < 0]| u^2 that fits a value to an upper expectile.

    u: target minus prediction, value units, any shape.  tau in (0, 1); 0.5 is half the squared error.
    Source: Kostrikov et al. 2021 (IQL), eq. 5.  Not reduced.
    """
    return torch.where(u < 0, 1 - tau, tau) * u**2


def gae(delta: Tensor, d: Tensor, mask: Tensor, *, gamma: float, lam: float) -> Tensor:
    """Return chunk advantages A_i = delta_i + gamma lam (1 - d_i) A_{i+1}, float [B, H]; 0 outside the mask.

    delta: float [B, H], q_i - v_i (BORA) or a TD residual.  Source: Schulman et al. 2016, eq. 16, within a
    chunk.
    """
    adv = torch.zeros_like(delta)
    ahead = torch.zeros_like(delta[:, 0])
    for i in range(delta.shape[1] - 1, -1, -1):
        value = delta[:, i] + gamma * lam * torch.where(d[:, i] > 0, 0.0, ahead)
        ahead = torch.where(mask[:, i] > 0, value, 0.0)
        adv[:, i] = ahead
    return adv


def realtime_gae(values: Tensor, reward: Tensor, terminated: bool, *, gamma: float, lam: float) -> Tensor:
    """Return advantages of one episode over real time, float [T].

    values: float [T], V of every tick's observation.  reward: float [T].  terminated: whether the last tick
    ended the episode; if it was truncated instead, its successor was never observed, so its advantage is 0
    and does not enter the others.
    Unlike `gae` on q - v this uses no action-value estimate: delta_t = r_t + gamma V_{t+1} - V_t.
    """
    following = torch.cat([values[1:], values.new_zeros(1)])
    delta = reward + gamma * following - values
    if not terminated:
        delta[-1] = 0.0
    adv = torch.zeros_like(delta)
    ahead = delta.new_zeros(())
    for t in range(len(delta) - 1, -1, -1):
        ahead = delta[t] + gamma * lam * ahead
        adv[t] = ahead
    return adv


def discounted_return(reward: Tensor, *, gamma: float) -> Tensor:
    """Return the discounted sum of the rewards from each tick to the end of the episode, float [T]."""
    out = torch.zeros_like(reward)
    ahead = reward.new_zeros(())
    for t in range(len(reward) - 1, -1, -1):
        ahead = reward[t] + gamma * ahead
        out[t] = ahead
    return out


def normalise_advantage(adv: Tensor, mask: Tensor, *, clip: float = 2.0, center: bool = False) -> Tensor:
    """Return advantages divided by their standard deviation over valid ticks, clipped to +-clip; 0 elsewhere.

    adv, mask: float [B, H].  The mean stays by default, so that the sign still says better or worse than the
    value.
    """
    valid = adv[mask > 0]
    if valid.numel() == 0:
        return torch.zeros_like(adv)
    shift = valid.mean() if center else valid.new_zeros(())
    scaled = ((adv - shift) / (valid.std(correction=0) + 1e-6)).clamp(-clip, clip)
    return torch.where(mask > 0, scaled, 0.0)
