"""Bootstrap over episodes: ticks of one episode are not independent, so whole episodes are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

CELLS = 2**20
"""Numbers of an array [resamples, episodes] that are computed at once, so that memory is bounded."""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval, from n episodes."""

    value: float
    lo: float
    hi: float
    n: int


def episode_counts(episodes: int, resamples: int, rng: np.random.Generator) -> NDArray[np.unsignedinteger]:
    """Draw as many episodes with replacement, `resamples` times; return how often each came, [R, E].

    The smallest type that can count so far; make floats of some rows at a time (`row_blocks`).
    """
    counts = np.empty((resamples, episodes), np.min_scalar_type(episodes))
    for rows in row_blocks(resamples, episodes):
        size = len(range(*rows.indices(resamples)))
        counts[rows] = rng.multinomial(episodes, np.full(episodes, 1 / episodes), size=size)
    return counts


def row_blocks(rows: int, width: int) -> list[slice]:
    """Return slices that cover `rows` rows of some width, each with at most CELLS numbers or one row."""
    step = max(1, CELLS // max(1, width))
    return [slice(i, i + step) for i in range(0, rows, step)]


def interval(samples: F64) -> tuple[float, float]:
    """Return the 2.5 and 97.5 percentiles of [R] without its NaN; NaN if nothing is left."""
    kept = samples[np.isfinite(samples)]
    if not kept.size:
        return float("nan"), float("nan")
    lo, hi = np.percentile(kept, [2.5, 97.5])
    return float(lo), float(hi)


def ratio_estimate(
    sums: F64, counts: F64, *, rng: np.random.Generator, resamples: int = 1000
) -> tuple[Estimate, F64]:
    """Return sum(sums) / sum(counts) with its interval, and the resampled ratios [R].

    sums, counts: [E] per episode, so that the ratio is a mean over ticks in which long episodes weigh more.
    """
    counted = episode_counts(sums.size, resamples, rng)
    samples = np.empty(resamples)
    for rows in row_blocks(resamples, sums.size):
        w = counted[rows].astype(np.float64)
        with np.errstate(invalid="ignore"):
            samples[rows] = (w @ sums) / (w @ counts)
    return Estimate(float(sums.sum() / counts.sum()), *interval(samples), int((counts > 0).sum())), samples


def drawn_interval(
    statistic: Callable[[NDArray[np.intp]], float],
    episodes: ArrayLike,
    *,
    rng: np.random.Generator,
    resamples: int = 200,
) -> tuple[float, float]:
    """Return the interval of any number that is computed from rows, by drawing whole episodes of them.

    statistic: indices of rows [m], repeated as their episode was drawn -> number.  episodes: [n], of each row.
    """
    _, group, size = np.unique(np.asarray(episodes), return_inverse=True, return_counts=True)
    rows = np.split(np.argsort(group, kind="stable"), np.cumsum(size)[:-1])
    draws = rng.integers(len(rows), size=(resamples, len(rows)))
    return interval(np.array([statistic(np.concatenate([rows[i] for i in draw])) for draw in draws]))
