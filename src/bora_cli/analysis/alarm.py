"""Make the alarm that runs beside a robot from an analysis of recorded episodes (`bora analyze`)."""

from __future__ import annotations

import numpy as np
import polars as pl

from bora_cli.analysis.early_warning import FALSE_ALARMS, WAIT, early_warning, reference
from bora_cli.analysis.traces import autonomous
from bora_cli.control.alarm import Alarm


def fit_alarm(traces: pl.DataFrame, *, every: int, dt: float, false_alarms: float = FALSE_ALARMS) -> Alarm:
    """Return the alarm with the margin that rings in at most this share of the successes.

    every: ticks between two decisions; beside a robot V is known at decisions only and held between them, so it is made
    from values that are held too.  dt: seconds per tick.  Episodes with a person's share are left out.
    Raises DataError with too few successes or failures to tell.
    """
    seen = held(autonomous(traces), every)
    warning = early_warning(seen, rng=np.random.default_rng(0), false_alarms=false_alarms)
    curves = [
        part["v"].to_numpy().astype(np.float64)
        for part in seen.filter(pl.col("success")).partition_by("episode", maintain_order=True)
    ]
    return Alarm(
        reference=tuple(float(f"{v:.6g}") for v in reference(curves, max(len(c) for c in curves))),
        margin=warning.margin,
        wait=WAIT,
        false_alarms=warning.false_alarms,
        detected=warning.detected,
        lead_s=None if warning.lead is None else warning.lead * dt,
    )


def held(traces: pl.DataFrame, every: int) -> pl.DataFrame:
    """Return traces in which V keeps the value of the last tick that is a multiple of `every`."""
    first = pl.col("tick") - pl.col("tick") % every
    return traces.with_columns(v=pl.col("v").gather(first).over("episode"))
