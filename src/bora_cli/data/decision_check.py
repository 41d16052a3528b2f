"""What can be wrong with the decision log of an episode."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bora_cli.data.episode_check import Problem
from bora_cli.data.rows import EpisodeRow
from bora_cli.data.tables import decision_schema, decisions_from_table

if TYPE_CHECKING:
    import pyarrow as pa

_RESTORE = "Restore the decision log from a copy."
_RECORD = "Leave the episode out of training, and repair what recorded it."
_CLOSED = ("horizon", "takeover", "release", "terminated", "truncated")


def log_problem(log: pa.Table, index: int, actions: int) -> Problem | None:
    """Return why a table is not the decision log of episode `index`, None if it is.  actions: A of a chunk."""
    for field in decision_schema():
        if field.name not in log.column_names:
            return Problem("error", f"The decision log has no column '{field.name}'.", _RESTORE)
        column = log[field.name]
        if column.type != field.type:
            message = f"Column {field.name} of the decision log is {column.type}; expected {field.type}."
            return Problem("error", message, _RESTORE)
        if column.null_count:
            return Problem("error", f"Column {field.name} of the decision log holds nulls.", _RESTORE)
    for name, right in (
        ("episode_index", [index] * log.num_rows),
        ("decision_id", list(range(log.num_rows))),
    ):
        found = log[name].to_pylist()
        if found != right:
            message = f"{name} of the decision log is {found[:8]}; expected {right[:8]}."
            return Problem("error", message, _RESTORE)
    try:
        decisions_from_table(log, actions)
    except (ValueError, TypeError, OverflowError) as error:
        return Problem("error", f"The decision log cannot be read: {error}.", _RESTORE)
    return None


def decision_problems(log: pa.Table, row: EpisodeRow) -> Iterator[Problem]:
    """Yield what is wrong with the values of a log that has no `log_problem`."""
    if log.num_rows != row.decisions:
        message = f"It has {log.num_rows} decisions on disk; its row says {row.decisions}."
        yield Problem("error", message, _RESTORE)
        return
    numbers = ("t_start", "planned", "executed", "horizon", "lam")
    starts, planned, executed, horizon, lam = (np.asarray(log[name].to_pylist()) for name in numbers)
    if (starts < 0).any() or (starts >= row.length).any() or (np.diff(starts) < 0).any():
        yield Problem(
            "error",
            f"Decisions start at ticks {starts.tolist()}; expected rising ticks below {row.length}.",
            _RECORD,
        )
    elif len(bad := np.flatnonzero((planned < 1) | (planned > horizon))):
        yield Problem(
            "error",
            f"Decision {bad[0]} plans {planned[bad[0]]} ticks; expected 1 to {horizon[bad[0]]}.",
            _RECORD,
        )
    elif len(bad := np.flatnonzero((executed < 0) | (executed > np.minimum(planned, row.length - starts)))):
        k = bad[0]
        most = min(planned[k], row.length - starts[k])
        yield Problem("error", f"Decision {k} executed {executed[k]} ticks; expected 0 to {most}.", _RECORD)
    unknown = sorted(set(log["closed"].to_pylist()) - set(_CLOSED))
    if unknown:
        yield Problem(
            "error", f"Decisions closed with {unknown[0]!r}; expected one of {', '.join(_CLOSED)}.", _RECORD
        )
    if not np.isfinite(lam).all():
        yield Problem("error", "The decision log has NaN or infinite numbers in 'lam'.", _RECORD)
    for name in ("base", "residual", "final", "tokens"):
        values = log[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if not np.isfinite(values).all():
            yield Problem("error", f"The decision log has NaN or infinite numbers in '{name}'.", _RECORD)
