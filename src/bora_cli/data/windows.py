"""Training windows: up to H consecutive ticks of one controller, cut out of recorded episodes.

A window starts at tick t and covers the e ticks t .. t+e-1 that were really executed; its successor is the
observation of tick t+e.  Three things end a window early, and none of them is ever bridged:

    the controller changes   the successor is the first tick of the next controller
    the episode terminates   no successor: the last step is terminal
    the log ends or breaks   the observation after the last tick is missing, so that tick only serves as the
                             successor of the ticks before it: mask 0, not counted in e

A break in the log (dropped frames, a reset) is declared in `Episode.meta["gaps"]`: the list of ticks i with
missing ticks between i-1 and i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError, DataError
from bora_cli.types import F32, U8, Bool, Controller, Episode

I32 = NDArray[np.int32]


class RewardView(NamedTuple):
    """Rewards to learn from in place of the recorded ones: reward float32 [T], terminated bool [T]."""

    reward: F32
    terminated: Bool


Relabel = Callable[[Episode], RewardView]


def raw_rewards(episode: Episode) -> RewardView:
    """Return the rewards as they were recorded."""
    return RewardView(episode.reward, episode.terminated)


@dataclass(frozen=True)
class Windows:
    """Columns over n windows of horizon H and action width A.

    episode, t: int32 [n], where the window starts.  e: int32 [n], executed ticks, 1 <= e <= H.
    t_next: int32 [n], the tick whose observation follows; has_next: bool [n], False after a terminal step
    (then t_next is a valid tick without meaning).
    action: float32 [n, H, A], executed, physical units, padded with the last executed action.
    mask: float32 [n, H], 1 for the e executed steps.  reward: float32 [n, H], relabelled, 0 where mask is 0.
    terminated: float32 [n, H].  controller: uint8 [n], `Controller`.  demo: bool [n], controller is DEMO.
    success: bool [n], of the whole episode.  mc_return: float32 [n, H], discounted sum of the relabelled
    rewards from that step to the end of the episode (or to the first terminal step), 0 where mask is 0.
    """

    episode: I32
    t: I32
    e: I32
    t_next: I32
    has_next: Bool
    action: F32
    mask: F32
    reward: F32
    terminated: F32
    controller: U8
    demo: Bool
    success: Bool
    mc_return: F32

    def __len__(self) -> int:
        return len(self.t)

    def take(self, which: NDArray[Any]) -> Self:
        """Return some windows.  which: indices int [m] or bool [n]."""
        return type(self)(**{f.name: getattr(self, f.name)[which] for f in fields(self)})


def build_windows(
    episodes: Iterable[Episode],
    *,
    horizon: int,
    stride: int = 1,
    relabel: Relabel = raw_rewards,
    gamma: float = 0.97,
) -> Windows:
    """Cut all windows out of episodes; images are not needed.

    horizon: H ticks.  stride: ticks between window starts, counted from the start of a controller's segment.
    relabel: episode -> rewards to learn from.  gamma: discount per tick of mc_return.
    Raises ConfigError for settings out of range, DataError if there is no episode.
    """
    if horizon < 1 or stride < 1:
        raise ConfigError(
            f"Horizon {horizon} and stride {stride}; expected both to be at least 1.",
            "Choose positive numbers.",
        )
    if not 0.0 <= gamma <= 1.0:
        raise ConfigError(f"Discount gamma is {gamma}; expected 0 to 1.", "Choose a value such as 0.97.")
    parts = []
    for i, episode in enumerate(episodes):
        view = relabel(episode)
        starts = _starts(episode, horizon, stride)
        parts.append(_episode_windows(i, episode, view, starts, gamma=gamma, horizon=horizon))
    if not parts:
        raise DataError(
            "There are no episodes to cut windows from.", "Collect or choose at least one episode."
        )
    return Windows(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Windows)})


def discounted_returns(reward: F32, terminated: Bool, gamma: float) -> F32:
    """Return the discounted sum of rewards from each tick to the end; a terminal tick ends the sum.

    reward: float32 [T].  terminated: bool [T].  Returns float32 [T].
    """
    out = np.zeros(len(reward), np.float64)
    following = 0.0
    for t in range(len(reward) - 1, -1, -1):
        following = float(reward[t]) + gamma * following * (not terminated[t])
        out[t] = following
    return out.astype(np.float32)


def segments(episode: Episode) -> tuple[I32, I32]:
    """Return starts and stops (exclusive) of the stretches with one controller and no gap, int32 [k] each.

    The last tick before a gap and the last tick of a truncated episode are left out: their successor is
    missing.  A stretch of nothing but such a tick disappears, and so does one in which nobody drove: a
    robot that holds for want of a command shows nothing to learn.
    """
    ticks = len(episode)
    gaps = _gaps(episode)
    change = np.zeros(ticks, np.bool_)
    change[0] = True
    change[1:] = episode.controller[1:] != episode.controller[:-1]
    change[gaps] = True
    starts = np.flatnonzero(change)
    stops = np.append(starts[1:], ticks)
    lost = np.isin(stops, gaps) | ((stops == ticks) & bool(episode.truncated[-1]))
    stops = stops - lost
    kept = (stops > starts) & (episode.controller[starts] != Controller.HELD)
    return starts[kept].astype(np.int32), stops[kept].astype(np.int32)


def _gaps(episode: Episode) -> NDArray[np.int64]:
    gaps = np.asarray(episode.meta.get("gaps", []), np.int64)
    if gaps.size and not ((gaps > 0) & (gaps < len(episode))).all():
        raise DataError(
            f"Episode.meta['gaps'] is {gaps.tolist()}; expected ticks from 1 to {len(episode) - 1}.",
            "Name the first tick after each gap.",
        )
    return gaps


def _starts(episode: Episode, horizon: int, stride: int) -> tuple[I32, I32]:
    """Return start tick and executed ticks of every window of an episode, int32 [n] each."""
    spans = list(zip(*segments(episode), strict=True))
    if not spans:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    starts = [np.arange(low, high, stride) for low, high in spans]
    lengths = [np.minimum(high - t, horizon) for t, (_, high) in zip(starts, spans, strict=True)]
    return np.concatenate(starts).astype(np.int32), np.concatenate(lengths).astype(np.int32)


def _episode_windows(
    index: int, episode: Episode, view: RewardView, starts: tuple[I32, I32], *, horizon: int, gamma: float
) -> Windows:
    t, planned = starts
    steps = np.arange(horizon, dtype=np.int32)
    ended = view.terminated[np.minimum(t[:, None] + steps, len(episode) - 1)] & (steps < planned[:, None])
    terminal = ended.any(axis=1).astype(np.bool_)
    e = np.where(terminal, ended.argmax(axis=1) + 1, planned).astype(np.int32)
    mask = (steps < e[:, None]).astype(np.float32)
    ticks = t[:, None] + np.minimum(steps, e[:, None] - 1)
    controller = episode.controller[t]
    n = len(t)
    returns = discounted_returns(view.reward, view.terminated, gamma)
    return Windows(
        episode=np.full(n, index, np.int32),
        t=t,
        e=e,
        t_next=np.minimum(t + e, len(episode) - 1),
        has_next=np.logical_not(terminal),
        action=episode.action[ticks],
        mask=mask,
        reward=view.reward[ticks] * mask,
        terminated=ended * mask,
        controller=controller,
        demo=controller == Controller.DEMO,
        success=np.full(n, bool(episode.success)),
        mc_return=returns[ticks] * mask,
    )
