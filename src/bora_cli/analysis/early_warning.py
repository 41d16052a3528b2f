"""Could V have called for help?  How many failures an alarm on V finds, and how long before they end.

The alarm compares V with what successes showed at the same tick (their median; after the last success its last value)
and rings where V stays below that by a margin for `WAIT` ticks in a row.  The reference of an episode comes from the
other half of the episodes, so no episode is judged by itself.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import polars as pl

from bora_cli.analysis.bootstrap import F64, interval
from bora_cli.analysis.critic_summary import EarlyWarning, WarningPoint
from bora_cli.analysis.traces import check_traces
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import wilson

WAIT = 3
"""Ticks in a row below the margin before the alarm rings."""
FALSE_ALARMS = 0.05
"""Share of the successes that the alarm may interrupt needlessly."""
LEAST = 4
"""Successes, and failures, that are needed."""


def early_warning(
    traces: pl.DataFrame,
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
    false_alarms: float = FALSE_ALARMS,
) -> EarlyWarning:
    """Return the alarm that rings in at most this share of the successes, and the curve of all margins.

    lead: median over the failures that were found of the ticks between the alarm and their end; its interval is a
    bootstrap over those failures at this margin.  detected, false_alarms: with Wilson intervals.
    Raises DataError with fewer than LEAST successes or failures.
    """
    check_traces(traces)
    scores, success = _scores(traces)
    if min(success.sum(), (~success).sum()) < LEAST:
        raise DataError(
            f"{int(success.sum())} successes and {int((~success).sum())} failures are too few for an alarm curve;"
            f" expected {LEAST} of each.",
            "Analyse more episodes.",
        )
    peaks = np.array([s.max() for s in scores])
    margins = np.unique(peaks)[::-1]
    curve = tuple(_point(scores, peaks, success, float(m)) for m in margins)
    allowed = [p for p in curve if p.false_alarms <= false_alarms]
    chosen = max(allowed, key=lambda p: (p.detected, -p.false_alarms))
    leads = _leads(scores, success, chosen.margin)
    found, failures = len(leads), int((~success).sum())
    lead_lo = lead_hi = float("nan")
    if found:
        lead_lo, lead_hi = _around_median(leads, rng, resamples)
    lo, hi = wilson(found, failures)
    disturbed_lo, disturbed_hi = wilson(int((peaks[success] > chosen.margin).sum()), int(success.sum()))
    return EarlyWarning(
        margin=chosen.margin,
        false_alarms=chosen.false_alarms,
        detected=chosen.detected,
        detected_lo=lo,
        detected_hi=hi,
        lead=chosen.lead,
        lead_lo=lead_lo if np.isfinite(lead_lo) else None,
        lead_hi=lead_hi if np.isfinite(lead_hi) else None,
        successes=int(success.sum()),
        failures=failures,
        curve=tuple(_bounded(p, scores, success, rng, resamples) for p in _thinned(curve)),
        false_alarms_lo=disturbed_lo,
        false_alarms_hi=disturbed_hi,
    )


def _scores(traces: pl.DataFrame) -> tuple[list[F64], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return per episode how far V was below the successes' for WAIT ticks in a row, [T] each, and the outcomes."""
    curves, outcome = [], []
    for part in traces.select("episode", "v", "success").partition_by("episode", maintain_order=True):
        curves.append(part["v"].to_numpy().astype(np.float64))
        outcome.append(bool(part["success"][0]))
    success = np.array(outcome, bool)
    half = np.zeros(len(curves), int)
    for value in (True, False):  # each half gets its share of both outcomes
        half[success == value] = np.arange((success == value).sum()) % 2
    longest = max(map(len, curves))
    normal = [  # for either half what the other one shows
        reference([c for j, c in enumerate(curves) if success[j] and half[j] != h], longest) for h in (0, 1)
    ]
    scores = []
    for h, v in zip(half, curves, strict=True):
        below = normal[h][: len(v)] - v
        padded = np.concatenate([np.full(WAIT - 1, -np.inf), below])
        scores.append(np.lib.stride_tricks.sliding_window_view(padded, WAIT).min(1))
    return scores, success


def reference(successes: list[F64], ticks: int) -> F64:
    """Return the median V of the successes that still run at each tick, held after the longest, [ticks]."""
    if not successes:
        return np.full(ticks, -np.inf)
    longest = max(len(c) for c in successes)
    table = np.full((len(successes), longest), np.nan)
    for row, c in zip(table, successes, strict=True):
        row[: len(c)] = c
    middle = np.nanmedian(table, axis=0)
    return np.asarray(middle[np.minimum(np.arange(ticks), longest - 1)], np.float64)


def _point(
    scores: list[F64], peaks: F64, success: np.ndarray[tuple[int], np.dtype[np.bool_]], margin: float
) -> WarningPoint:
    leads = _leads(scores, success, margin)
    return WarningPoint(
        margin,
        float((peaks[success] > margin).mean()),
        len(leads) / int((~success).sum()),
        float(np.median(leads)) if len(leads) else None,
    )


def _bounded(
    point: WarningPoint,
    scores: list[F64],
    success: np.ndarray[tuple[int], np.dtype[np.bool_]],
    rng: np.random.Generator,
    resamples: int,
) -> WarningPoint:
    """Return a point of the curve with its 95 % intervals: of the share found, and of the median lead time."""
    leads = _leads(scores, success, point.margin)
    lo, hi = wilson(len(leads), int((~success).sum()))
    lead_lo, lead_hi = _around_median(leads, deepcopy(rng), resamples) if len(leads) else (None, None)
    return replace(point, detected_lo=lo, detected_hi=hi, lead_lo=lead_lo, lead_hi=lead_hi)


def _around_median(leads: F64, rng: np.random.Generator, resamples: int) -> tuple[float, float]:
    return interval(np.median(leads[rng.integers(len(leads), size=(resamples, len(leads)))], axis=1))


def _leads(scores: list[F64], success: np.ndarray[tuple[int], np.dtype[np.bool_]], margin: float) -> F64:
    """Return ticks from the alarm to the end of every failure that it found."""
    failures = [s for s, good in zip(scores, success, strict=True) if not good]
    return np.array(
        [len(s) - 1 - int((s > margin).argmax()) for s in failures if (s > margin).any()], np.float64
    )


def _thinned(curve: tuple[WarningPoint, ...], most: int = 41) -> tuple[WarningPoint, ...]:
    if len(curve) <= most:
        return curve
    return tuple(curve[i] for i in np.unique(np.linspace(0, len(curve) - 1, most).round().astype(int)))
