"""Cross-fitted state values: the default source of offline advantages.

A value regressed on the returns of the very episodes it then judges remembers their outcomes, and its
advantages say little about actions.  So the episodes are split into folds, one value is fitted without each
fold, and every window is judged by the value that has not seen its episode (cross-fitting, Chernozhukov et
al. 2018). Ours; the papers use q - v of the chunk critic (`bora_offline.advantages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from bora_cli.algos.targets import discounted_return, realtime_gae
from bora_cli.errors import DataError
from bora_cli.models.critic import StateValue


class ValueFitConfig(BaseModel):
    """Regression of the state value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folds: int = Field(
        default=4, ge=1, description="episode folds; 1 = judge the training episodes themselves"
    )
    updates: int = Field(default=200, ge=0, description="gradient steps per fold")
    batch: int = Field(default=256, gt=0, description="ticks per update")
    lr: float = Field(default=1e-3, gt=0, description="peak learning rate, cosine decay to zero")
    weight_decay: float = Field(default=1e-3, ge=0, description="AdamW weight decay")
    gamma: float = Field(default=0.97, gt=0, le=1, description="discount per tick")
    lam: float = Field(default=0.9, ge=0, le=1, description="GAE lambda per tick")


def assign_folds(episode: NDArray[np.integer], folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the fold of every row, int [n]; rows of one episode share a fold.

    episode: int [n], episode of each row.  The sizes of the folds differ by at most one episode.  Raises
    DataError if there are fewer episodes than folds.
    """
    ids, position = np.unique(episode, return_inverse=True)
    if len(ids) < folds:
        raise DataError(
            f"Cannot split {len(ids)} episodes into {folds} folds; expected at least one episode per fold.",
            "Collect more episodes or use fewer folds.",
        )
    of_episode = rng.permutation(np.arange(len(ids)) % folds)
    return np.asarray(of_episode[position], np.int64)


def value_loss(
    value: StateValue, z: Tensor, s: Tensor, returns: Tensor, dropped: torch.Generator | None = None
) -> Tensor:
    """Return the mean squared error of V on discounted returns, scalar.

    z: float [B, N, W].  s: float [B, S].  returns: float [B], see `Returns.target`.  dropped: draws the hidden units
    that are left out; a hundred episodes are remembered otherwise, and a value that remembers says little of others.
    """
    return ((value(z, s, dropped) - returns) ** 2).mean()


def out_of_fold(predictions: Sequence[Tensor] | Tensor, fold: NDArray[np.int64]) -> Tensor:
    """Return each row's prediction by the value that did not see its episode, float [n].

    predictions: one float [n] per fold; number k was fitted without fold k.  fold: int [n].
    """
    stacked = torch.stack(list(predictions))
    return stacked.gather(0, torch.as_tensor(fold, device=stacked.device)[None]).squeeze(0)


def explained(values: Tensor, returns: Tensor) -> float:
    """Return the share of the variance of returns that values explain, R^2: 0 for their mean, 1 where it is all.

    values, returns: float [n].  Out of fold it is below 0 where the values would better have said the mean.
    1 where the returns do not vary: there is nothing to explain.
    """
    spread = float(((returns - returns.mean()) ** 2).mean()) if len(returns) else 0.0
    return 1.0 - float(((returns - values) ** 2).mean()) / spread if spread > 0 else 1.0


@dataclass(frozen=True)
class Returns:
    """What followed each of M ticks, and what is still open.

    collected: float [M], discounted rewards.  discount: float [M], of the value of row `end`; 0 in an episode that
    terminated.  Of a truncated one the last observation is all that is known of what would have come, so its
    value stands for that; behind the last tick itself nothing is known.  end: int64 [M], row of the last tick of
    the same episode.
    """

    collected: Tensor
    discount: Tensor
    end: Tensor

    @property
    def known(self) -> NDArray[np.bool_]:
        """Rows that can be learned from, bool [M]."""
        return ((self.discount == 0) | (self.end != torch.arange(len(self.end)))).numpy()

    def target(self, rows: Tensor, value: StateValue, z: Tensor, s: Tensor) -> Tensor:
        """Return collected + discount V(end) of some rows, float [B], without gradient.

        rows: int64 [B].  z: float [M, N, W].  s: float [M, S].
        """
        target, discount = self.collected[rows].clone(), self.discount[rows]
        still_open = discount > 0
        if bool(still_open.any()):
            end = self.end[rows[still_open]]
            with torch.no_grad():
                target[still_open] += discount[still_open] * value(z[end].float(), s[end])
        return target


def episode_returns(rewards: Sequence[Tensor], terminated: Sequence[bool], *, gamma: float) -> Returns:
    """Return the discounted returns of several episodes end to end, M = sum T ticks.

    rewards: one float [T] per episode.  terminated: per episode; False means truncated.
    """
    collected, discount, end, stop = [], [], [], 0
    for r, ended in zip(rewards, terminated, strict=True):
        to_go = torch.arange(len(r) - 1, -1, -1, device=r.device)
        stop += len(r)
        known = r if ended else torch.cat([r[:-1], r.new_zeros(1)])
        collected.append(discounted_return(known, gamma=gamma))
        discount.append(torch.zeros_like(r) if ended else (gamma**to_go).to(r.dtype))
        end.append(torch.full_like(to_go, stop - 1))
    return Returns(torch.cat(collected), torch.cat(discount), torch.cat(end))


def episode_advantages(
    values: Tensor, rewards: Sequence[Tensor], terminated: Sequence[bool], *, gamma: float, lam: float
) -> Tensor:
    """Return real-time GAE of several episodes end to end, float [sum T].

    values: float [sum T].  rewards: one float [T] per episode.  terminated: per episode; False means
    truncated.
    """
    parts = torch.split(values, [len(r) for r in rewards])
    return torch.cat(
        [
            realtime_gae(v, r, t, gamma=gamma, lam=lam)
            for v, r, t in zip(parts, rewards, terminated, strict=True)
        ]
    )


def outcome_advantages(rewards: Sequence[Tensor]) -> Tensor:
    """Return how much more reward every tick's episode got than the episodes did on average, float [sum T].

    rewards: one float [T] per episode; undiscounted, so that long successes are successes.  What is left of the
    advantages without a value (REINFORCE with a constant baseline, Williams 1992).
    """
    total = torch.stack([r.sum() for r in rewards])
    return (total - total.mean()).repeat_interleave(torch.tensor([len(r) for r in rewards]))
