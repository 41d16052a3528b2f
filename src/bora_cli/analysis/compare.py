"""Which of two systems is better?  Paired differences on the same scenes, and whether they exceed noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.analysis.bootstrap import F64, Estimate, interval, ratio_estimate
from bora_cli.analysis.compare_sources import Condition, Trial, conditions
from bora_cli.analysis.wording import points
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import Difference, paired_difference, wilson

LEVEL = 0.05
"""A difference counts as larger than noise where its interval leaves out zero and the sign test falls below this."""

Key = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """One system under one condition: k of n successes with the Wilson interval.

    ticks: mean length of its successes, in ticks.  human_share: ticks in which a person had a share, of all.
    """

    system: str
    condition: Condition
    k: int
    n: int
    lo: float
    hi: float
    ticks: Estimate | None
    human_share: Estimate | None
    takeovers: float | None


@dataclass(frozen=True)
class Pair:
    """A system against another on n common scenes.

    success: difference of rates.  won, lost: scenes where only the one, only the other succeeded.  p: two-sided
    exact sign test on those.  larger: the difference is larger than noise.  needed: about how many scenes would
    show a difference of this size, None where it is shown, zero, or a matter of training seeds.  ticks:
    difference of lengths where both succeeded.  human_share: difference of the human shares of all ticks.
    """

    system: str
    against: str
    condition: Condition
    n: int
    seeds: int
    success: Difference
    won: int
    lost: int
    p: float
    larger: bool
    needed: int | None
    ticks: Difference | None
    human_share: Difference | None


@dataclass(frozen=True)
class Comparison:
    """All systems, all differences against one of them, and what a reader should know."""

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    against: str
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; NaN becomes null."""
        return _finite(asdict(self) | {"sentences": [sentence(p) for p in self.pairs]})


def sign_test(won: int, lost: int) -> float:
    """Return the two-sided exact probability of a split at least this uneven if both sides were equally likely.

    Source: McNemar's test in its exact form.  1 where nothing differs.
    """
    n = won + lost
    tail = sum(math.comb(n, i) for i in range(min(won, lost) + 1))
    return min(1.0, 2 * tail / 2**n)


def compare(trials: Sequence[Trial], *, rng: np.random.Generator, against: str = "") -> Comparison:
    """Compare every system with one of them, on the scenes that both met.

    against: name of that system; "" is the first.
    Raises DataError for an unknown name, and where a system has no scene in common with it under any condition.
    """
    systems = list(dict.fromkeys(t.system for t in trials))
    against = against or systems[0]
    if against not in systems:
        raise DataError(
            f"There is no system '{against}' among {', '.join(systems)}.", "Change --against to one of them."
        )
    table: dict[tuple[str, Condition], dict[Key, Trial]] = {}
    for t in trials:
        group = table.setdefault((t.system, t.condition), {})
        if (t.seed, t.scene) in group:
            raise DataError(
                f"{t.system} ran scene {t.scene} twice ({t.condition}).", "Give each evaluation once."
            )
        group[t.seed, t.scene] = t
    for system in systems:
        if system != against:
            _require_pairs(system, against, table)
    rows, pairs, warnings = [], [], []
    for condition in conditions(trials):
        base = table.get((against, condition), {})
        for system in systems:
            mine = table.get((system, condition))
            if mine is None:
                continue
            rows.append(_row(system, condition, list(mine.values()), rng))
            if system == against or not base:
                continue
            common = sorted(mine.keys() & base.keys())
            dropped = len(mine.keys() | base.keys()) - len(common)
            if dropped:
                warnings.append(
                    f"{system} and {against} share {len(common)} scenes; {dropped} others are left out"
                    f" of their difference ({condition})."
                )
            pairs.append(_pair([mine[k] for k in common], [base[k] for k in common], rng))
    looked = len(pairs)
    if looked > 4:
        warnings.append(
            f"{looked} differences were looked at; of twenty without any cause, one exceeds its noise by chance."
        )
    return Comparison(tuple(rows), tuple(pairs), against, tuple(warnings))


def sentence(pair: Pair) -> str:
    """Say what a difference is and whether it is larger than noise."""
    d = pair.success
    text = (
        f"{pair.system} against {pair.against}: {points(d.value)} points"
        f" [{points(d.lo)}, {points(d.hi)}], {pair.won} scenes won and {pair.lost} lost of {pair.n}: "
    )
    if pair.larger:
        text += f"larger than noise (p = {pair.p:.2g})."
    elif pair.won + pair.lost == 0:
        text += "the same outcome on every scene."
    else:
        more = f"; a difference of this size would show in about {pair.needed} scenes" if pair.needed else ""
        text += f"not larger than noise (p = {pair.p:.2g}){more}."
    t, h = pair.ticks, pair.human_share
    if t is not None and (t.lo > 0 or t.hi < 0):
        text += f" Where both succeed it takes {t.value:+.1f} ticks [{t.lo:+.1f}, {t.hi:+.1f}]."
    if h is not None:
        told = "" if h.lo > 0 or h.hi < 0 else ", not larger than noise"
        text += f" Human share {points(h.value)} points [{points(h.lo)}, {points(h.hi)}]{told}."
    return text


def _require_pairs(system: str, against: str, table: dict[tuple[str, Condition], dict[Key, Trial]]) -> None:
    """Raise DataError, naming what differs, unless the two share a scene under each condition they share."""
    mine, base = ({c: keys for (s, c), keys in table.items() if s == name} for name in (system, against))
    shared = [c for c in mine if c in base]
    if not shared:
        a, b = next(iter(mine)), next(iter(base))
        fields = ("task", "setting", "gap", "assisted", "profile")
        differing = [f for f in fields if getattr(a, f) != getattr(b, f)]
        told = ", ".join(f"{f} {getattr(a, f)!s} and {getattr(b, f)!s}" for f in differing)
        raise DataError(
            f"{system} and {against} ran under different conditions: {told}.",
            "Evaluate both with the same --task, --setting and --gap.",
        )
    for condition in shared:
        if not mine[condition].keys() & base[condition].keys():
            raise DataError(
                f"{system} and {against} have no scene in common ({condition}):"
                f" {_range(mine[condition])} and {_range(base[condition])}.",
                "Evaluate both with the same --seed and --episodes.",
            )


def _range(keys: dict[Key, Trial]) -> str:
    scenes = [scene for _, scene in keys]
    seeds = sorted({seed for seed, _ in keys})
    of = f" of training seed {', '.join(map(str, seeds))}" if seeds != [0] else ""
    return f"scenes {min(scenes)} to {max(scenes)}{of}"


def _row(system: str, condition: Condition, trials: list[Trial], rng: np.random.Generator) -> Row:
    k, n = sum(t.success for t in trials), len(trials)
    lengths = np.array([t.ticks for t in trials if t.success], float)
    helped = any(t.human_ticks for t in trials) or condition.assisted
    human = np.array([t.human_ticks for t in trials], float)
    every = np.array([t.ticks for t in trials], float)
    return Row(
        system,
        condition,
        k,
        n,
        *wilson(k, n),
        ticks=ratio_estimate(lengths, np.ones_like(lengths), rng=rng)[0] if k else None,
        human_share=ratio_estimate(human, every, rng=rng)[0] if helped else None,
        takeovers=sum(t.takeovers for t in trials) / n if helped else None,
    )


def _pair(mine: list[Trial], base: list[Trial], rng: np.random.Generator) -> Pair:
    a, b = (np.array([t.success for t in ts]) for ts in (mine, base))
    seeds = np.array([t.seed for t in mine])
    d = paired_difference(a, b, rng=rng, groups=seeds)
    won, lost = int((a & ~b).sum()), int((b & ~a).sum())
    p = sign_test(won, lost)
    larger = (d.lo > 0 or d.hi < 0) and p < LEVEL
    both = np.flatnonzero(a & b)
    ticks = None
    if both.size > 1:
        x, y = (np.array([ts[i].ticks for i in both], float) for ts in (mine, base))
        ticks = paired_difference(x, y, rng=rng, groups=seeds[both])
    return Pair(
        mine[0].system,
        base[0].system,
        mine[0].condition,
        len(mine),
        len(np.unique(seeds)),
        d,
        won,
        lost,
        p,
        larger,
        None if larger or np.ptp(seeds) else _needed(d, won, lost),
        ticks,
        _human_difference(mine, base, seeds, rng),
    )


def _needed(d: Difference, won: int, lost: int) -> int | None:
    """Return about how many scenes would show this difference, from the spread of the pairs; None if it is zero.

    n such that the 95 % interval of a mean difference d just leaves out zero nine times in ten:
    n = ((1.96 + 1.28) s / d)^2, s the standard deviation of one pair's difference.
    """
    if d.value == 0:
        return None
    variance = (won + lost) / d.n - d.value**2
    n = math.ceil((1.96 + 1.28) ** 2 * variance / d.value**2)
    digits = 10 ** max(0, len(str(n)) - 2)
    return math.ceil(n / digits) * digits if n > d.n else None


def _human_difference(
    mine: list[Trial], base: list[Trial], seeds: NDArray[np.int64], rng: np.random.Generator
) -> Difference | None:
    """Return the difference of human shares, whole scenes drawn (training seeds first, where there are several)."""
    if not any(t.human_ticks for t in (*mine, *base)):
        return None
    parts = np.array([[t.human_ticks for t in ts] for ts in (mine, base)], float)
    every = np.array([[t.ticks for t in ts] for ts in (mine, base)], float)
    w = grouped_counts(seeds, 1000, rng)
    samples = (w @ parts[0]) / (w @ every[0]) - (w @ parts[1]) / (w @ every[1])
    value = float(parts[0].sum() / every[0].sum() - parts[1].sum() / every[1].sum())
    return Difference(value, *interval(samples), len(mine))


def grouped_counts(groups: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> F64:
    """Draw groups with replacement, then as many rows within each; return how often each row came, [R, n]."""
    _, ids = np.unique(groups, return_inverse=True)
    members = [np.flatnonzero(ids == g) for g in range(ids.max() + 1)]
    w = np.zeros((resamples, ids.size))
    for i in range(resamples):
        for g in rng.integers(len(members), size=len(members)):
            w[i] += np.bincount(rng.choice(members[g], members[g].size), minlength=ids.size)
    return w


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
