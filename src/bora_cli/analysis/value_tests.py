"""Does V foresee the outcome?  AUROC over time, separation, monotonicity, late drop, calibration.

Every function takes a trace table (`bora_cli.analysis.traces`) and raises DataError where the table cannot
answer, for instance when all episodes succeeded.  Intervals are 95 % bootstrap intervals over episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from bora_cli.analysis.bootstrap import (
    F64,
    Estimate,
    drawn_interval,
    episode_counts,
    interval,
    ratio_estimate,
    row_blocks,
)
from bora_cli.analysis.critic_summary import AurocPoint, EffectPoint
from bora_cli.analysis.traces import check_traces, outcomes
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import wilson

Align = Literal["start", "end"]


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the probability that a positive scores above a negative; ties count half.

    scores: [n], finite.  positive: bool [n].
    Raises DataError if one class is missing or a score is NaN.
    """
    s, y = np.asarray(scores, np.float64), np.asarray(positive, bool)
    if np.isnan(s).any():
        raise DataError(
            "AUROC got NaN among the scores.", "Leave those rows out, or find where the NaN comes from."
        )
    above, below = s[y], np.sort(s[~y])
    if not above.size or not below.size:
        raise _one_class(int(y.sum()), y.size)
    twice = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(twice.sum() / (2 * above.size * below.size))


def _one_class(successes: int, episodes: int) -> DataError:
    what = "succeeded" if successes else "failed"
    return DataError(
        f"All {episodes} episodes {what}; telling success from failure needs some of both.",
        "Analyse more episodes, or those of a policy that succeeds only sometimes.",
    )


def episode_means(
    traces: pl.DataFrame, *, bins: int = 10, align: Align = "start", width: int = 2
) -> tuple[F64, NDArray[np.bool_], F64]:
    """Average V per episode and time bin.

    align "start": `bins` equal bins of normalised time.  align "end": bin j holds the `width` ticks that
    end j * width ticks before the last one, ordered so that the last column is the end of the episode.
    Returns V float [E, bins] (NaN where an episode has no tick in a bin), success bool [E], and bin centres
    [bins] in normalised time (start) or ticks to the end, negative (end).  Raises DataError if the table is
    unsound or holds one outcome only.
    """
    check_traces(traces)
    episodes = outcomes(traces).sort("episode")
    success = episodes["success"].to_numpy()
    if success.all() or not success.any():
        raise _one_class(int(success.sum()), success.size)
    if align == "start":
        index = np.minimum((traces["t_norm"].to_numpy() * bins).astype(int), bins - 1)
        centres = (np.arange(bins, dtype=np.float64) + 0.5) / bins
    else:
        index = bins - 1 - traces["ticks_to_end"].to_numpy() // width
        centres = 0.5 - (np.arange(bins, dtype=np.float64)[::-1] + 0.5) * width
    _, row = np.unique(traces["episode"].to_numpy(), return_inverse=True)
    inside = index >= 0
    sums, counts = np.zeros((2, success.size, bins))
    np.add.at(sums, (row[inside], index[inside]), traces["v"].to_numpy()[inside])
    np.add.at(counts, (row[inside], index[inside]), 1)
    means: F64 = np.full_like(sums, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means, success, np.asarray(centres, np.float64)


def auroc_over_time(
    traces: pl.DataFrame,
    *,
    rng: np.random.Generator,
    bins: int = 10,
    align: Align = "start",
    width: int = 2,
    resamples: int = 1000,
) -> list[AurocPoint]:
    """Measure per time bin how well V ranks successes above failures; one score per episode and bin.

    The bootstrap draws successes and failures separately, the same draw for all bins.  A bin that holds
    fewer than two episodes of either outcome has no value (None).
    """
    means, success, centres = episode_means(traces, bins=bins, align=align, width=width)
    w_pos = episode_counts(int(success.sum()), resamples, rng)
    w_neg = episode_counts(int((~success).sum()), resamples, rng)
    points = []
    for t, column in zip(centres, means.T, strict=True):
        has_pos, has_neg = np.isfinite(column[success]), np.isfinite(column[~success])
        n = int(has_pos.sum() + has_neg.sum())
        if min(has_pos.sum(), has_neg.sum()) < 2:
            points.append(AurocPoint(float(t), n, None, None, None))
            continue
        pos, neg = column[success][has_pos], column[~success][has_neg]
        value, samples = drawn_auroc(pos, neg, w_pos[:, has_pos], w_neg[:, has_neg])
        points.append(AurocPoint(float(t), n, value, *interval(samples)))
    return points


def drawn_auroc(
    pos: F64, neg: F64, w_pos: NDArray[np.unsignedinteger], w_neg: NDArray[np.unsignedinteger]
) -> tuple[float, F64]:
    """Return the AUROC of scores [P] against [N], and of R draws of them.  w_pos, w_neg: [R, P] and [R, N], counts.

    The sum over pairs is one over positives of the weight of the negatives below (`below`, ties half).
    """
    order = np.argsort(neg)
    left, right = (np.searchsorted(neg[order], pos, side) for side in ("left", "right"))
    samples = np.empty(len(w_pos))
    for rows in row_blocks(len(w_pos), pos.size + neg.size):
        wp, wn = w_pos[rows].astype(np.float64), w_neg[rows][:, order].astype(np.float64)
        below = np.concatenate([np.zeros((len(wn), 1)), np.cumsum(wn, axis=1)], axis=1)
        wins = (wp * (below[:, left] + below[:, right])).sum(1) / 2
        with np.errstate(invalid="ignore"):
            samples[rows] = wins / (wp.sum(1) * wn.sum(1))
    return float((left + right).sum() / (2 * pos.size * neg.size)), samples


def first_above(points: list[AurocPoint], level: float = 0.8) -> float | None:
    """Return the time of the first bin whose AUROC exceeds the level, or None."""
    return next((p.t for p in points if p.value is not None and p.value > level), None)


@dataclass(frozen=True)
class Separation:
    """How far apart the mean values of successes and failures are.

    points: Cohen's d per bin of normalised time, None where undefined.  area: mean over time of the difference of the
    two mean curves, in value units, over all episodes.
    """

    points: tuple[EffectPoint, ...]
    area: Estimate


def separation(
    traces: pl.DataFrame, *, rng: np.random.Generator, bins: int = 10, resamples: int = 1000
) -> Separation:
    """Compare the two outcomes per bin of normalised time by Cohen's d with the pooled standard deviation.

    The bootstrap draws successes and failures separately.
    """
    means, success, centres = episode_means(traces, bins=bins)
    known = np.isfinite(means)
    n = [known[m].sum(0) for m in (success, ~success)]
    own = [np.ones((1, int(m.sum()))) for m in (success, ~success)]
    drawn = [episode_counts(int(m.sum()), resamples, rng) for m in (success, ~success)]
    value, gap = _effects(means, success, own)
    samples, gaps = np.empty((resamples, bins)), np.empty(resamples)
    for rows in row_blocks(resamples, success.size):
        samples[rows], gaps[rows] = _effects(means, success, [w[rows].astype(np.float64) for w in drawn])
    points = []
    for j, t in enumerate(centres):
        d = float(value[0, j])
        enough = min(n[0][j], n[1][j]) > 1 and np.isfinite(d)
        lo, hi = interval(samples[:, j]) if enough else (None, None)
        points.append(EffectPoint(float(t), int(n[0][j] + n[1][j]), d if enough else None, lo, hi))
    area = Estimate(float(gap[0]), *interval(gaps), success.size)
    return Separation(tuple(points), area)


def _effects(means: F64, success: NDArray[np.bool_], counts: list[F64]) -> tuple[F64, F64]:
    """Return Cohen's d [R, bins] and the mean gap of the curves [R], for R draws of successes and of failures."""
    known = np.isfinite(means)
    x = np.where(known, means, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        n, mean, squares = [], [], []
        for w, m in zip(counts, (success, ~success), strict=True):
            n.append(w @ known[m])
            mean.append((w @ x[m]) / n[-1])
            squares.append(np.maximum((w @ x[m] ** 2) - n[-1] * mean[-1] ** 2, 0.0))
        gap = mean[0] - mean[1]
        d = gap / np.sqrt((squares[0] + squares[1]) / (n[0] + n[1] - 2))
    there = np.isfinite(gap)
    total = np.where(there, gap, 0.0).sum(1) / np.maximum(there.sum(1), 1)
    return np.where(np.isfinite(d), d, np.nan), np.where(there.any(1), total, np.nan)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return the rank correlation of two sequences of equal length; 0 if one of them is constant."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def _ranks(x: ArrayLike) -> F64:
    _, inverse, counts = np.unique(np.asarray(x, np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + last - 1) / 2)[inverse]


def monotonicity(traces: pl.DataFrame, *, rng: np.random.Generator, resamples: int = 1000) -> Estimate:
    """Return the mean over successful episodes of Spearman's correlation between time and V.

    A critic that sees progress rises along a success: near 1.  Episodes shorter than three ticks are left
    out.  Raises DataError if no success is long enough.
    """
    check_traces(traces)
    rho = np.array([spearman(np.arange(v.size), v) for v in _curves(traces, success=True) if v.size >= 3])
    if not rho.size:
        raise DataError(
            "No successful episode of three or more ticks.", "Analyse episodes of a better policy."
        )
    return ratio_estimate(rho, np.ones_like(rho), rng=rng, resamples=resamples)[0]


def late_drop(traces: pl.DataFrame, *, threshold: float = 0.2, success: bool = False) -> Estimate:
    """Return the share of failures in whose last third V falls by more than `threshold` (Wilson interval).

    The fall is the largest drop from a tick to a later one within the last third.  success=True asks the
    same of the successes, as the comparison.  Raises DataError if there is no such episode.
    """
    check_traces(traces)
    curves = _curves(traces, success=success)
    if not curves:
        raise _one_class(0 if success else traces["episode"].n_unique(), traces["episode"].n_unique())
    falls = [float((np.maximum.accumulate(w) - w).max()) for v in curves for w in [v[2 * v.size // 3 :]]]
    k = sum(f > threshold for f in falls)
    return Estimate(k / len(falls), *wilson(k, len(falls)), len(falls))


def _curves(traces: pl.DataFrame, *, success: bool) -> list[F64]:
    chosen = traces.filter(pl.col("success") == success).select("episode", "v")
    return [g["v"].to_numpy().astype(np.float64) for g in chosen.partition_by("episode", maintain_order=True)]


@dataclass(frozen=True)
class Calibration:
    """How V compares with the return really collected.

    table: one row per bin of equal counts: n (ticks), v_mean, return_mean, lo, hi (interval of return_mean).
    ece: mean over ticks of |v_mean - return_mean| of their bin.  bias: mean of V minus return.
    slope, intercept: least squares of return on V.  intervals: of ece, slope and intercept.
    """

    table: pl.DataFrame
    ece: float
    bias: Estimate
    slope: float
    intercept: float
    intervals: dict[str, tuple[float, float]]


def calibration(
    traces: pl.DataFrame, *, rng: np.random.Generator, bins: int = 10, resamples: int = 1000
) -> Calibration:
    """Compare V with the Monte-Carlo return under the policy that acted.

    An expectile above one half makes V optimistic by design, so a positive bias alone is no defect.
    Raises DataError if no tick has a known return.
    """
    check_traces(traces)
    known = traces.filter(pl.col("mc_return").is_finite())
    if known.is_empty():
        raise DataError("No tick has a known return.", "Analyse with the returns of the recorded episodes.")
    v, g = (known[c].to_numpy().astype(np.float64) for c in ("v", "mc_return"))
    _, episode = np.unique(known["episode"].to_numpy(), return_inverse=True)
    index = _bins(v, bins)
    rows = []
    for j in np.unique(index):
        m = index == j
        sums = _per_episode(episode[m], g[m], episode.max() + 1)
        counts = _per_episode(episode[m], np.ones(m.sum()), episode.max() + 1)
        mean, _ = ratio_estimate(sums, counts, rng=rng, resamples=resamples)
        rows.append((int(m.sum()), float(v[m].mean()), mean.value, mean.lo, mean.hi))
    table = pl.DataFrame(rows, schema=["n", "v_mean", "return_mean", "lo", "hi"], orient="row")
    sums = _per_episode(episode, v - g, episode.max() + 1)
    counts = _per_episode(episode, np.ones(v.size), episode.max() + 1)
    bias, _ = ratio_estimate(sums, counts, rng=rng, resamples=resamples)
    alone = rng.spawn(3)
    intervals = {
        "ece": drawn_interval(lambda i: _ece(v[i], g[i], bins), episode, rng=alone[0]),
        "slope": drawn_interval(lambda i: _line(v[i], g[i])[0], episode, rng=alone[1]),
        "intercept": drawn_interval(lambda i: _line(v[i], g[i])[1], episode, rng=alone[2]),
    }
    return Calibration(table, _ece(v, g, bins), bias, *_line(v, g), intervals)


def _bins(v: F64, bins: int) -> NDArray[np.intp]:
    """Return the bin of each value, bins of equal counts."""
    edges = np.unique(np.quantile(v, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, v, "right")


def _ece(v: F64, g: F64, bins: int) -> float:
    off = np.abs(np.bincount(_bins(v, bins), v - g))
    return float(off.sum() / v.size)


def _line(v: F64, g: F64) -> tuple[float, float]:
    spread = ((v - v.mean()) ** 2).sum()
    slope = float(((v - v.mean()) * (g - g.mean())).sum() / spread) if spread > 0 else float("nan")
    return slope, float(g.mean() - slope * v.mean())


@dataclass(frozen=True)
class Spread:
    """How much the critics of an ensemble differ, and whether they differ where they are wrong.

    size: mean standard deviation over the ensemble, in standard deviations of Q.  error: Spearman's correlation over
    ticks of that spread with |Q - return|, None where no return is known.
    """

    size: Estimate
    error: Estimate | None


def ensemble_spread(traces: pl.DataFrame, *, rng: np.random.Generator) -> Spread | None:
    """Return the spread of the ensemble; None where a critic has no ensemble or Q does not vary."""
    check_traces(traces)
    known = traces.filter(pl.col("q").is_finite() & pl.col("q_std").is_finite())
    q, std = (known[c].to_numpy().astype(np.float64) for c in ("q", "q_std"))
    if not q.size or q.std() == 0 or not (std > 0).any():
        return None

    def size(i: NDArray[np.intp]) -> float:
        return float(std[i].mean() / q[i].std()) if q[i].std() > 0 else float("nan")

    episodes = known["episode"].to_numpy()
    n = len(np.unique(episodes))
    first, second = rng.spawn(2)
    everything = np.arange(q.size)
    whole = Estimate(size(everything), *drawn_interval(size, episodes, rng=first), n)
    judged = np.flatnonzero(known["mc_return"].is_finite().to_numpy())
    if judged.size < 3:
        return Spread(whole, None)
    error = np.abs(q - known["mc_return"].to_numpy())[judged]

    def related(i: NDArray[np.intp]) -> float:
        return spearman(std[judged][i], error[i])

    lo, hi = drawn_interval(related, episodes[judged], rng=second)
    return Spread(whole, Estimate(related(np.arange(judged.size)), lo, hi, n))


def _per_episode(episode: NDArray[np.intp], x: F64, episodes: int) -> F64:
    return np.bincount(episode, x, minlength=episodes).astype(np.float64)
