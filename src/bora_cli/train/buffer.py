"""Recorded episodes as learning sees them: windows of ticks with tokens, ready to be drawn in batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.data.dataset import Dataset
from bora_cli.data.windows import Relabel, Windows, build_windows, raw_rewards
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.models.normalize import Normalizer
from bora_cli.models.vlm import Backbone
from bora_cli.train.tokens import COPIES, dataset_tokens
from bora_cli.types import ActionSpec, Episode

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Buffer:
    """All ticks of some episodes, and the windows into them.

    tokens: float16 [C, M, N, W], C views of each of M ticks, view 0 clean.  state: float32 [M, S], physical.
    first: int64 [E + 1], row of each episode's first tick.  episodes: without images.
    windows: n windows; start, following: int64 [n], rows of their first tick and of the next decision.
    """

    tokens: Tensor
    state: Tensor
    first: NDArray[np.int64]
    episodes: list[Episode]
    windows: Windows

    def __len__(self) -> int:
        return len(self.windows.t)

    @property
    def start(self) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self.first[self.windows.episode] + self.windows.t
        return rows

    @property
    def following(self) -> NDArray[np.int64]:
        last = len(self.state) - 1
        rows: NDArray[np.int64] = np.minimum(self.first[self.windows.episode] + self.windows.t_next, last)
        return rows


class Sampler:
    """Draws batches from a buffer in normalised units.

    per_tick: optional float [M], a number per tick (an advantage) that becomes Batch.adv.  per_window: float
    [n, H], the same for every tick of every window.
    """

    def __init__(
        self,
        buffer: Buffer,
        state: Normalizer,
        action: Normalizer,
        per_tick: Tensor | None = None,
        per_window: Tensor | None = None,
    ) -> None:
        w = buffer.windows
        self.tokens = buffer.tokens
        self.start, self.following = torch.from_numpy(buffer.start), torch.from_numpy(buffer.following)
        self.state = state.normalize(buffer.state)
        self.action = action.normalize(torch.from_numpy(w.action))
        self.columns = {
            "mask": torch.from_numpy(w.mask),
            "r": torch.from_numpy(w.reward),
            "d": torch.from_numpy(w.terminated),
            "has_next": torch.from_numpy(w.has_next),
            "mc_return": torch.from_numpy(w.mc_return),
            "controller": torch.from_numpy(w.controller),
            "demo": torch.from_numpy(w.demo),
            "success": torch.from_numpy(w.success),
        }
        ticks = (self.start[:, None] + torch.arange(w.action.shape[1])).clamp(max=len(buffer.state) - 1)
        if per_tick is not None:
            per_window = per_tick[ticks]
        if per_window is not None:
            self.columns["adv"] = per_window * self.columns["mask"]

    def __len__(self) -> int:
        return len(self.start)

    def rows(self, index: NDArray[np.int64], rng: np.random.Generator | None = None) -> Batch:
        """Return the windows at `index` [b]; with `rng`, each sees a random view of its images."""
        at = torch.from_numpy(index)
        view = torch.zeros(len(at), dtype=torch.long)
        if rng is not None:
            view = torch.from_numpy(rng.integers(0, self.tokens.shape[0], len(at)))
        start, following = self.start[at], self.following[at]
        picked: dict[str, Any] = {k: v[at] for k, v in self.columns.items()}
        return Batch(
            z=self.tokens[view, start].float(),
            s=self.state[start],
            a=self.action[at],
            z_next=self.tokens[view, following].float(),
            s_next=self.state[following],
            **picked,
        )


def load_buffer(
    paths: Sequence[Path],
    backbone: Backbone,
    *,
    horizon: int,
    gamma: float,
    relabel: Relabel = raw_rewards,
    copies: int = COPIES,
    progress: Progress | None = None,
) -> Buffer:
    """Return the windows (one per tick) of some datasets with their tokens.

    Raises DataError if there is nothing to learn from, SchemaMismatch if the datasets are of different robots.
    """
    datasets = [Dataset.open(p) for p in paths]
    episodes = episodes_of(datasets)
    tokens = np.concatenate(
        [dataset_tokens(d, backbone, copies, progress) for d in datasets if len(d)], axis=1
    )
    windows = build_windows(episodes, horizon=horizon, stride=1, gamma=gamma, relabel=relabel)
    if not len(windows):
        raise DataError(
            f"No tick of {', '.join(map(str, paths))} can be learned from: every episode was cut off at once.",
            "Collect longer episodes.",
        )
    return Buffer(
        tokens=torch.from_numpy(tokens),
        state=torch.from_numpy(np.concatenate([e.state for e in episodes])),
        first=np.concatenate([[0], np.cumsum([len(e) for e in episodes])]).astype(np.int64),
        episodes=episodes,
        windows=windows,
    )


def episodes_of(datasets: Sequence[Dataset]) -> list[Episode]:
    """Return all episodes without images; raises DataError if there are none, SchemaMismatch for different robots."""
    for other in datasets[1:]:
        first = datasets[0]
        both = f"{first.root} and {other.root}"
        require_same_robot(first.spec, first.state_names, 1 / first.fps, other, both)
    episodes = [e for d in datasets for e in d.episodes(images=False)]
    if not episodes:
        names = ", ".join(str(d.root) for d in datasets)
        raise DataError(f"No episodes in {names}.", "Collect some with `bora collect`.")
    return episodes


def require_same_robot(spec: ActionSpec, states: Sequence[str], dt: float, data: Dataset, what: str) -> None:
    """Raise SchemaMismatch unless actions, states and ticks of a dataset mean what is expected.

    dt: seconds per tick.  what: the two things compared, for the message.
    """
    spec.require_same(data.spec, what)
    if tuple(states) != data.state_names:
        differing = ", ".join(sorted(set(states) ^ set(data.state_names))) or "their order"
        raise SchemaMismatch(
            f"{what}: states differ in {differing}.", "Use data and checkpoint of one robot."
        )
    if not math.isclose(dt * data.fps, 1.0, rel_tol=1e-6):
        raise SchemaMismatch(
            f"{what}: {1 / dt:g} against {data.fps:g} ticks per second.", "Use data recorded at one rate."
        )
