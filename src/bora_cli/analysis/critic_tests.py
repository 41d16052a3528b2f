"""Does Q look at the action?  Bad chunks, the action-swap test and the action-sensitivity ratio.

A critic may score the picture alone ("this looks like success") and ignore what the robot is about to do.
The swap test keeps the state and replaces the executed chunk by a bad one: a critic that listens to the
action prefers the executed chunk, one that does not gets exactly one half.

Chunks are float32 [n, H, A] in the physical units of their `ActionSpec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bora_cli.analysis.bootstrap import Estimate, drawn_interval, ratio_estimate
from bora_cli.analysis.critic_summary import SwapScore
from bora_cli.errors import DataError
from bora_cli.types import F32, ActionSpec, Bool

NOISE_LEVELS = (0.1, 0.3, 1.0)
"""Sizes of the noise, in units of each dimension's standard deviation over all chunks."""

TRANSLATION = ("dx", "dy", "dz")


def other_state(chunks: F32, episodes: ArrayLike, *, rng: np.random.Generator) -> F32:
    """Give every row the chunk executed in another episode, drawn uniformly.

    episodes: int [n].  Raises DataError with fewer than two episodes.
    """
    ids = np.asarray(episodes)
    _, group, size = np.unique(ids, return_inverse=True, return_counts=True)
    if size.size < 2:
        raise DataError("A chunk from another state needs two or more episodes.", "Analyse more episodes.")
    order = np.argsort(group, kind="stable")
    first = np.cumsum(size) - size
    pick = rng.integers(ids.size - size[group])
    pick += np.where(pick >= first[group], size[group], 0)
    return chunks[order[pick]]


def noisy(chunks: F32, sigma: float, spec: ActionSpec, *, rng: np.random.Generator) -> F32:
    """Add Gaussian noise of `sigma` times each dimension's standard deviation over all chunks, then clip."""
    noise = rng.standard_normal(chunks.shape).astype(np.float32)
    return spec.clip(chunks + sigma * chunks.std((0, 1)) * noise)


def time_reversed(chunks: F32) -> F32:
    """Play every chunk backwards."""
    return np.ascontiguousarray(chunks[:, ::-1])


def flipped_translation(chunks: F32, spec: ActionSpec) -> F32:
    """Turn every translation around: dx, dy, dz change sign, then clip.

    Raises DataError for an action without these names.
    """
    dims = [spec.names.index(name) for name in TRANSLATION if name in spec.names]
    if not dims:
        raise DataError(
            f"No translation to flip among the actions {', '.join(spec.names)}; expected dx, dy or dz.",
            "Leave this test out for this robot.",
        )
    bad = chunks.copy()
    bad[..., dims] *= -1
    return spec.clip(bad)


def open_hand(chunks: F32, spec: ActionSpec, posture: F32 | None = None) -> F32:
    """Replace the hand's targets by an open hand.

    posture: float32 [hand dimensions]; the lower limits (fingers straight) if None.
    """
    bad = chunks.copy()
    bad[..., spec.slice("hand")] = spec.low[spec.slice("hand")] if posture is None else posture
    return bad


def frozen_hand(chunks: F32, spec: ActionSpec) -> F32:
    """Hold the hand at the first tick's targets for the whole chunk."""
    bad = chunks.copy()
    bad[..., spec.slice("hand")] = chunks[:, :1, spec.slice("hand")]
    return bad


def bad_chunks(
    chunks: F32, episodes: ArrayLike, spec: ActionSpec, *, rng: np.random.Generator
) -> dict[str, F32]:
    """Return one set of bad chunks [n, H, A] per kind.

    Kinds: other_state, noise_0.1, noise_0.3, noise_1, reversed, flipped_xyz, open_hand, frozen_hand; those
    that need an action group or name the robot lacks are left out.
    """
    bad = {"other_state": other_state(chunks, episodes, rng=rng)}
    bad |= {f"noise_{sigma:g}": noisy(chunks, sigma, spec, rng=rng) for sigma in NOISE_LEVELS}
    bad["reversed"] = time_reversed(chunks)
    if any(name in spec.names for name in TRANSLATION):
        bad["flipped_xyz"] = flipped_translation(chunks, spec)
    if "hand" in spec.groups:
        bad |= {"open_hand": open_hand(chunks, spec), "frozen_hand": frozen_hand(chunks, spec)}
    return bad


def differs(good: F32, bad: F32, spec: ActionSpec, threshold: float = 0.01) -> Bool:
    """Return bool [n]: rows whose bad chunk really is another one.

    True where the mean absolute difference over ticks exceeds `threshold` command units in some dimension;
    an open hand told to open is not a bad chunk and should not count.
    """
    gap = np.abs(good - bad).mean(1) / np.maximum(spec.half_range, 1e-9)
    return gap.max(-1) > threshold


def swap_test(
    q_good: ArrayLike,
    q_bad: Mapping[str, ArrayLike],
    episodes: ArrayLike,
    *,
    rng: np.random.Generator,
    valid: Mapping[str, Bool] | None = None,
    tie: float = 1e-6,
    resamples: int = 1000,
) -> list[SwapScore]:
    """Measure how often the critic prefers the executed chunk over each kind of bad chunk in the same state.

    q_good: [n] of the executed chunks; q_bad: kind -> [n]; episodes: [n].  valid: kind -> rows to count
    (`differs`), all if absent.  Scores closer than `tie` count half, so that rounding is not taken for
    preference.  effect: mean of q_good - q_bad in standard deviations of q_good, its interval from the same draws
    of episodes; None where q_good does not vary.  Raises DataError for unequal lengths, NaN, or a kind without a row
    to count.
    """
    good, ids = np.asarray(q_good, np.float64), np.asarray(episodes)
    _need_finite("executed", good, ids.size)
    spread = float(good.std())
    scores = []
    for kind, given in q_bad.items():
        q = np.asarray(given, np.float64)
        _need_finite(kind, q, good.size)
        rows = (
            np.ones(good.size, bool) if valid is None or kind not in valid else np.asarray(valid[kind], bool)
        )
        if not rows.any():
            raise DataError(
                f"No chunk of kind '{kind}' differs from the executed one.",
                "Leave this kind out of the test.",
            )
        gap = (good - q)[rows]
        wins = np.where(np.abs(gap) <= tie, 0.5, gap > 0)
        _, group = np.unique(ids[rows], return_inverse=True)
        counts = np.bincount(group).astype(np.float64)
        again = deepcopy(rng)
        rate, _ = ratio_estimate(
            np.bincount(group, wins).astype(np.float64), counts, rng=rng, resamples=resamples
        )
        score = SwapScore(kind, int(rows.sum()), float(wins.mean()), rate.lo, rate.hi, None)
        if spread > tie:
            moved, _ = ratio_estimate(
                np.bincount(group, gap / spread).astype(np.float64), counts, rng=again, resamples=resamples
            )
            score = replace(score, effect=moved.value, effect_lo=moved.lo, effect_hi=moved.hi)
        scores.append(score)
    return scores


def _need_finite(name: str, q: NDArray[np.float64], n: int) -> None:
    if q.shape != (n,) or not n:
        raise DataError(
            f"The scores of the '{name}' chunks have shape {q.shape}; expected ({n},) and at least one row.",
            "Score the same rows for every kind.",
        )
    if not np.isfinite(q).all():
        raise DataError(
            f"{int((~np.isfinite(q)).sum())} of {n} scores of the '{name}' chunks are not finite.",
            "Check the critic's training for divergence.",
        )


def action_sensitivity(q: ArrayLike, episodes: ArrayLike, *, rng: np.random.Generator) -> Estimate:
    """Return which share of the variance of Q comes from the action, 0 (ignored) to 1 (the state is ignored).

    q: [states, actions], the same number of candidate chunks for every state.  episodes: [states].
    ratio = E_s Var_a q / (Var_s E_a q + E_s Var_a q); 0 for a constant critic.
    Raises DataError with fewer than two states or actions, or NaN.
    """
    x, ids = np.asarray(q, np.float64), np.asarray(episodes)
    if x.ndim != 2 or min(x.shape) < 2 or not np.isfinite(x).all():
        raise DataError(
            f"Action sensitivity needs finite scores of two or more states and actions; got shape {x.shape}.",
            "Score several candidate chunks in several states.",
        )

    def ratio(i: NDArray[np.intp]) -> float:
        within, between = float(x[i].var(1).mean()), float(x[i].mean(1).var())
        return within / (within + between) if within + between > 0 else 0.0

    lo, hi = drawn_interval(ratio, ids, rng=rng)
    return Estimate(ratio(np.arange(len(x))), lo, hi, len(np.unique(ids)))
