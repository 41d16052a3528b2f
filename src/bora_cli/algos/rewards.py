"""Rewards for learning from interventions: a view on the recorded rewards, never a change of them.

A policy that has to be rescued gets a penalty on its own last tick before the takeover, and a smaller bonus
goes to the tick that completes the rescue.  BORA (arXiv 2605.30226) names both rewards without their values
and lists the penalty on the blended takeover tick; here it goes to the policy's tick before (`site="pre"`),
because a penalty on the correction would punish the person.  `site="onset"` is the paper's listing.  numpy
only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bora_cli.data.windows import RewardView
from bora_cli.errors import ConfigError, SchemaMismatch
from bora_cli.types import F32, Bool, Episode, content_hash

SPREAD_DECAY = 0.5
"""Ratio of the penalties of neighbouring ticks, going back from the takeover."""


@dataclass(frozen=True)
class InterventionRewards:
    """How takeovers change the rewards that are learned from; call it with an episode.

    penalty: added once per takeover, negative.  bonus: added once per recovered takeover, not negative.
    penalty + bonus must be negative: failing and being rescued must never pay, at any discount.
    site: "pre" puts the penalty on the policy's last ticks before the takeover, "onset" on the first tick of
    the takeover itself.
    spread: over how many policy ticks before the takeover it is distributed (people react late), site "pre"
    only. recovery_ticks: ticks without a new takeover after which a takeover counts as recovered.
    bootstrap: "continue" lets values see the rescued future; "cut" makes the tick before a takeover
    terminal, so that values predict the unaided policy.  free_help: whether negative rewards of the person's own
    ticks count 0, so that a correction that takes long does not look worse than one that is quick.
    """

    penalty: float = -0.5
    bonus: float = 0.25
    site: Literal["pre", "onset"] = "pre"
    spread: int = 1
    recovery_ticks: int = 8
    bootstrap: Literal["continue", "cut"] = "continue"
    free_help: bool = False

    def __post_init__(self) -> None:
        if self.penalty > 0 or self.bonus < 0 or self.penalty + self.bonus >= 0:
            raise ConfigError(
                f"Intervention penalty {self.penalty} and recovery bonus {self.bonus} sum to"
                f" {self.penalty + self.bonus:g}; expected penalty <= 0 <= bonus and a negative sum.",
                "Make the penalty larger than the bonus, or being rescued becomes profitable.",
            )
        if self.spread < 1 or self.recovery_ticks < 1:
            raise ConfigError(
                f"Penalty spread is {self.spread} and recovery_ticks {self.recovery_ticks};"
                " expected at least 1.",
                "Choose positive numbers of ticks.",
            )
        if self.site not in ("pre", "onset") or self.bootstrap not in ("continue", "cut"):
            raise ConfigError(
                f"Penalty site {self.site!r} and bootstrap {self.bootstrap!r}; expected site 'pre' or 'onset'"
                " and bootstrap 'continue' or 'cut'.",
                "Correct the spelling.",
            )

    @property
    def hash(self) -> str:
        """Identify these settings; stored beside whatever was trained with them."""
        return content_hash({k: v for k, v in asdict(self).items() if k != "free_help" or v})

    def __call__(self, episode: Episode) -> RewardView:
        """Return the rewards to learn from; the episode is not changed."""
        reward = relabel(episode.reward, episode.intervened, episode.success, self)
        terminated = episode.terminated.copy()
        if self.bootstrap == "cut":
            starts, _ = takeovers(episode.intervened)
            terminated[starts[starts > 0] - 1] = True
        return RewardView(reward, terminated)


def takeovers(intervened: Bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first and last tick (inclusive) of every takeover, int64 [k] each.  intervened: bool [T]."""
    edges = np.diff(np.r_[False, intervened, False].astype(np.int8))
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1


def recovered(intervened: Bool, success: bool, recovery_ticks: int) -> Bool:
    """Return for every takeover whether the correction worked, bool [k].

    It did if the policy then drove `recovery_ticks` ticks without a new takeover, or if it was the last
    takeover of a successful episode.  intervened: bool [T].
    """
    starts, ends = takeovers(intervened)
    alone = np.append(starts[1:], len(intervened)) - ends - 1
    good = alone >= recovery_ticks
    if len(good):
        good[-1] |= success
    return good


def relabel(reward: F32, intervened: Bool, success: bool, config: InterventionRewards) -> F32:
    """Return rewards with the penalty and the bonus of every takeover added.

    reward: float32 [T], recorded.  intervened: bool [T].  A takeover at tick 0 has no policy tick to blame
    and gets no penalty; a spread that would reach past the previous takeover is shortened, its sum stays the
    penalty. Raises SchemaMismatch if the lengths differ.
    """
    if reward.shape != intervened.shape:
        raise SchemaMismatch(
            f"{len(reward)} rewards for {len(intervened)} intervention flags; expected one of each per tick.",
            "Pass the columns of one episode.",
        )
    out = reward.astype(np.float64)
    if config.free_help:
        out[intervened] = np.maximum(out[intervened], 0.0)
    starts, ends = takeovers(intervened)
    free_from = np.r_[0, ends[:-1] + 1] if len(ends) else ends
    for start, free in zip(starts, free_from, strict=True):
        if start == 0:
            continue
        if config.site == "onset":
            out[start] += config.penalty
            continue
        ticks = np.arange(max(free, start - config.spread), start)
        weight = SPREAD_DECAY ** (start - 1.0 - ticks)
        out[ticks] += config.penalty * weight / weight.sum()
    out[ends[recovered(intervened, success, config.recovery_ticks)]] += config.bonus
    return out.astype(np.float32)
