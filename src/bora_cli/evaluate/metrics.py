"""Numbers about evaluated episodes: success with its uncertainty, paired differences, human share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bora_cli.errors import DataError
from bora_cli.types import Bool, Controller

Z95 = 1.959963984540054


@dataclass(frozen=True)
class Result:
    """The outcome of one evaluated episode; `seed` is the training seed, `scene_seed` fixes the scene."""

    method: str
    setting: str
    gap: str
    seed: int
    scene_seed: int
    success: bool
    ticks: int = 0
    human_ticks: int = 0
    takeovers: int = 0


@dataclass(frozen=True)
class SuccessRow:
    """One cell of a success table: k of n episodes, the rate and its 95 % Wilson interval."""

    method: str
    setting: str
    gap: str
    k: int
    n: int
    seeds: int
    rate: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Difference:
    """A difference of success rates over n pairs with its 95 % interval."""

    value: float
    lo: float
    hi: float
    n: int


def wilson(k: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of k successes in n episodes; (0, 1) when n is 0.

    Source: Wilson 1927; the bounds solve |p - k/n| = z sqrt(p (1 - p) / n) for p.
    Raises DataError unless 0 <= k <= n.
    """
    if not 0 <= k <= n:
        raise DataError(
            f"{k} successes in {n} episodes are impossible; expected 0 <= k <= n.", "Count them again."
        )
    if n == 0:
        return 0.0, 1.0
    p, zz = k / n, z * z / n
    middle = (p + zz / 2) / (1 + zz)
    half = z * np.sqrt(p * (1 - p) / n + zz / (4 * n)) / (1 + zz)
    return (0.0 if k == 0 else float(middle - half)), (1.0 if k == n else float(middle + half))


def newcombe(k1: int, n1: int, k2: int, n2: int) -> Difference:
    """Return the difference k1/n1 - k2/n2 of two independent rates with its interval; n is the smaller count.

    Source: Newcombe 1998, method 10: the distances to the Wilson bounds of both rates add in squares.
    """
    if not n1 or not n2:
        raise DataError("A difference needs at least one episode on each side.", "Evaluate both methods.")
    (l1, u1), (l2, u2), p1, p2 = wilson(k1, n1), wilson(k2, n2), k1 / n1, k2 / n2
    return Difference(
        p1 - p2,
        p1 - p2 - float(np.hypot(p1 - l1, u2 - p2)),
        p1 - p2 + float(np.hypot(u1 - p1, p2 - l2)),
        min(n1, n2),
    )


def success_rows(results: Iterable[Result]) -> list[SuccessRow]:
    """Pool results over seeds into one row per (method, setting, gap), in order of first appearance."""
    cells: dict[tuple[str, str, str], list[Result]] = {}
    for r in results:
        cells.setdefault((r.method, r.setting, r.gap), []).append(r)
    rows = []
    for key, group in cells.items():
        k, n = sum(r.success for r in group), len(group)
        rows.append(SuccessRow(*key, k, n, len({r.seed for r in group}), k / n, *wilson(k, n)))
    return rows


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    *,
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    resamples: int = 2000,
) -> Difference:
    """Return mean(a - b) over episodes on the same scenes, with a 95 % percentile bootstrap interval.

    a, b: [n] success (or any number) of two methods, row i on the same scene.  groups: [n] training seed of
    each row; with two or more groups the bootstrap draws groups first and then rows within them.  Where every
    pair has the same difference the bootstrap knows no spread.  Of n pairs none is then unlike the others, so that
    of successes up to Wilson's upper bound of 0 in n may be: the interval reaches that far to both sides.  Of other
    numbers it is the single value.
    Raises DataError for unequal lengths, no rows, or NaN.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not x.size:
        raise DataError(
            f"Paired results need equal, non-empty lengths; got {x.shape} and {y.shape}.",
            "Evaluate both methods on the same scene seeds.",
        )
    d = x - y
    if not np.isfinite(d).all():
        raise DataError("Paired results contain NaN.", "Leave out the episodes that were not finished.")
    value = float(d.mean())
    if np.ptp(d) == 0:
        if np.isin(x, (0, 1)).all() and np.isin(y, (0, 1)).all():
            unlike = wilson(0, d.size)[1]
            return Difference(value, max(-1.0, value - unlike), min(1.0, value + unlike), d.size)
        return Difference(value, value, value, d.size)
    ids = np.zeros(d.size, int) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if ids.shape != d.shape:
        raise DataError(
            f"{ids.size} group labels for {d.size} pairs; expected one each.", "Give one seed per row."
        )
    members = [d[ids == g] for g in range(ids.max() + 1)]
    means = np.empty(resamples)
    for i in range(resamples):
        drawn = [members[g] for g in rng.integers(len(members), size=len(members))]
        means[i] = np.concatenate([m[rng.integers(m.size, size=m.size)] for m in drawn]).mean()
    lo, hi = np.percentile(means, [2.5, 97.5])
    return Difference(value, float(lo), float(hi), d.size)


def intervened(controller: NDArray[np.uint8]) -> Bool:
    """Return bool [T]: the ticks in which a person had a share in the action.  controller: uint8 [T]."""
    return np.isin(controller, [Controller.HUMAN, Controller.BLENDED, Controller.ASSIST])


def takeovers(controller: NDArray[np.uint8]) -> int:
    """Count the uninterrupted stretches of one episode in which a person had a share.

    controller: uint8 [T].
    """
    mask = intervened(controller).astype(np.int8)
    return int((np.diff(mask, prepend=np.int8(0)) == 1).sum())


def human_share(controllers: Sequence[NDArray[np.uint8]]) -> float:
    """Return the share of all ticks in which a person had a share; 0 without any tick.

    controllers: one uint8 [T] per episode; ticks are pooled, so that long episodes weigh more.
    """
    total = sum(c.size for c in controllers)
    return sum(int(intervened(c).sum()) for c in controllers) / total if total else 0.0


def takeovers_per_episode(controllers: Sequence[NDArray[np.uint8]]) -> float:
    """Return the mean number of takeovers; 0 without episodes."""
    return sum(takeovers(c) for c in controllers) / len(controllers) if controllers else 0.0
