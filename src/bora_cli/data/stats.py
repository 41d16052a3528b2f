"""Mean, spread, range and quantiles of columns, exact for arrays in memory or streaming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
MAX_IMAGES = 32
"""Images of one camera and episode that enter the statistics, spread evenly over the episode."""
_BINS = 4096
_LEVELS = 256


@dataclass(frozen=True)
class FeatureStats:
    """Statistics of n rows of D numbers; NaN entries are left out, dimension by dimension.

    mean, std, min, max: float64 [D] in the unit of the column, 0 for a dimension without any number.
    quantiles: float64 [5, D], rows in the order of QUANTILES.  count: int64 [D], numbers seen.
    std is the population value and may be 0; whoever divides by it chooses the floor.
    """

    mean: F64
    std: F64
    min: F64
    max: F64
    quantiles: F64
    count: I64

    def to_json(self, shape: tuple[int, ...] | None = None) -> dict[str, Any]:
        """Return LeRobot's layout: lists of `shape` (default [D]), quantiles as q01 .. q99, one count."""
        out = {k: getattr(self, k).reshape(shape or (-1,)).tolist() for k in ("min", "max", "mean", "std")}
        out["count"] = [int(self.count.max(initial=0))]
        for q, row in zip(QUANTILES, self.quantiles, strict=True):
            out[f"q{round(100 * q):02d}"] = row.reshape(shape or (-1,)).tolist()
        return out


def exact_stats(values: NDArray[Any]) -> FeatureStats:
    """Return the statistics of rows in memory; values: [n, D] or [n] numbers or bools."""
    rows = _as_rows(values)
    known = np.isfinite(rows)
    count = known.sum(0)
    seen = count > 0
    dim = rows.shape[1]
    mean, std, low, high = (np.zeros(dim) for _ in range(4))
    quantiles = np.zeros((len(QUANTILES), dim))
    whole = np.flatnonzero(seen & (count == len(rows)))
    groups = [(whole, rows[:, whole])] if len(whole) else []
    groups += [
        (np.array([d]), rows[known[:, d], d : d + 1]) for d in np.flatnonzero(seen & (count < len(rows)))
    ]
    for d, columns in groups:
        mean[d], std[d], low[d], high[d] = columns.mean(0), columns.std(0), columns.min(0), columns.max(0)
        quantiles[:, d] = np.quantile(columns, QUANTILES, axis=0)
    return FeatureStats(mean, std, low, high, quantiles, count)


class RunningStats:
    """Statistics of rows that arrive in pieces.

    Mean and spread follow Chan, Golub and LeVeque (1979), eq. 2.1.  Quantiles come from a histogram of 4096
    bins per dimension whose range doubles when a value falls outside, merging bins in pairs; they are
    accurate to about 1/1000 of the range of the data.
    """

    def __init__(self, dim: int) -> None:
        self.count = np.zeros(dim, np.int64)
        self.mean = np.zeros(dim)
        self.moment2 = np.zeros(dim)
        self.min = np.full(dim, np.inf)
        self.max = np.full(dim, -np.inf)
        self._start = np.zeros(dim)
        self._width = np.zeros(dim)
        self._bins = np.zeros((dim, _BINS), np.int64)

    def update(self, values: NDArray[Any]) -> None:
        """Add rows; values: [n, D], or [n] where D = 1.  NaN and infinite entries are left out."""
        rows = _as_rows(values)
        known = np.isfinite(rows)
        for d in range(rows.shape[1]):
            column = rows[:, d] if known[:, d].all() else rows[known[:, d], d]
            if len(column):
                self._add(d, column)

    def result(self) -> FeatureStats:
        """Return the statistics of everything added so far."""
        seen = self.count > 0
        quantiles = np.zeros((len(QUANTILES), len(self.count)))
        for d in np.flatnonzero(seen):
            centres = self._start[d] + (np.arange(_BINS) + 0.5) * self._width[d] / _BINS
            quantiles[:, d] = np.clip(_from_counts(centres, self._bins[d]), self.min[d], self.max[d])
        return FeatureStats(
            mean=self.mean.copy(),
            std=np.sqrt(self.moment2 / np.maximum(self.count, 1)),
            min=np.where(seen, self.min, 0.0),
            max=np.where(seen, self.max, 0.0),
            quantiles=quantiles,
            count=self.count.copy(),
        )

    def _add(self, d: int, column: F64) -> None:
        n, m = self.count[d], len(column)
        mean = column.mean()
        delta = mean - self.mean[d]
        self.moment2[d] += ((column - mean) ** 2).sum() + delta**2 * n * m / (n + m)
        self.mean[d] += delta * m / (n + m)
        low, high = column.min(), column.max()
        self.min[d], self.max[d] = min(self.min[d], low), max(self.max[d], high)
        if n == 0:
            self._start[d] = low
            self._width[d] = max(high - low, 1e-6 * abs(low), 1e-9)
        self._widen(d, low, high)
        place = ((column - self._start[d]) * (_BINS / self._width[d])).astype(np.int64)
        self._bins[d] += np.bincount(np.minimum(place, _BINS - 1), minlength=_BINS)
        self.count[d] = n + m

    def _widen(self, d: int, low: float, high: float) -> None:
        while low < self._start[d] or high > self._start[d] + self._width[d]:
            pairs = self._bins[d].reshape(-1, 2).sum(1)
            self._bins[d] = 0
            if low < self._start[d]:
                self._start[d] -= self._width[d]
                self._bins[d, _BINS // 2 :] = pairs
            else:
                self._bins[d, : _BINS // 2] = pairs
            self._width[d] *= 2


def image_histogram(images: NDArray[np.uint8]) -> I64:
    """Count intensities per channel over at most MAX_IMAGES images.

    images: uint8 [T, H, W, 3].  Returns int64 [3, 256]; histograms of several episodes may be added.
    """
    some = images[:: -(-len(images) // MAX_IMAGES)]
    return np.stack([np.bincount(some[..., c].ravel(), minlength=_LEVELS) for c in range(3)])


def image_stats(histogram: I64) -> FeatureStats:
    """Return the statistics of intensities scaled to 0 .. 1 (D = 3 channels) from their histogram [3, 256].

    count is the number of pixels per channel.
    """
    levels = np.arange(_LEVELS) / (_LEVELS - 1)
    count = histogram.sum(1)
    weight = histogram / np.maximum(count, 1)[:, None]
    mean = weight @ levels
    std = np.sqrt((weight * (levels - mean[:, None]) ** 2).sum(1))
    low, high, quantiles = np.zeros(3), np.zeros(3), np.zeros((len(QUANTILES), 3))
    for c in np.flatnonzero(count):
        present = np.flatnonzero(histogram[c])
        low[c], high[c] = levels[present[0]], levels[present[-1]]
        quantiles[:, c] = _from_counts(levels, histogram[c])
    return FeatureStats(mean, std, low, high, quantiles, count)


def _as_rows(values: NDArray[Any]) -> F64:
    with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN like any other
        rows = np.asarray(values, np.float64)
    return rows[:, None] if rows.ndim == 1 else rows


def _from_counts(values: F64, counts: I64) -> F64:
    """Return for each of QUANTILES the first value at which so many of the counts are reached."""
    total = np.cumsum(counts)
    places = np.searchsorted(total, np.asarray(QUANTILES) * total[-1], side="left")
    return values[np.minimum(places, len(values) - 1)]
