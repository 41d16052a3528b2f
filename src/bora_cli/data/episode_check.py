"""What can be wrong inside one episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bora_cli.data.rows import EpisodeRow
from bora_cli.data.schema import CLOCKS, RESIDUAL, SCALARS, VECTORS, Identity
from bora_cli.data.stats import exact_stats
from bora_cli.data.tables import column_array, data_table
from bora_cli.types import Controller, Decision, Episode

Columns = dict[str, NDArray[Any]]
_RESTORE = "Restore the data file from a copy."
_RECORD = "Leave the episode out of training, and repair what recorded it."
_AGAIN = "`bora data repair` computes it again from what was recorded."
_CLOSE = 1e-6
_PHASES = 5
"""Phases of the arbiter: autonomous, taking, human, returning, held."""
_TOLERANCE = 1e-4
"""Tolerated excess over a limit in half ranges, and tolerated error of a time in periods."""


class Problem(NamedTuple):
    """One thing wrong with an episode, as in `check.Finding`."""

    severity: Literal["error", "warning"]
    message: str
    remedy: str


def tick_problems(
    columns: Columns, row: EpisodeRow, identity: Identity, tasks: dict[str, int] | None
) -> Iterator[Problem]:
    """Yield what is wrong with the low-dimensional columns of an episode; tasks: None if nobody knows them."""
    ticks = len(columns["action"])
    if ticks != row.length or ticks == 0:
        yield Problem("error", f"It has {ticks} ticks on disk; its row says {row.length}.", _RESTORE)
        return
    misshapen = list(_shapes(columns, identity))
    if misshapen:
        yield from misshapen
        return
    yield from _numbering(columns, row, tasks)
    yield from _times(columns, identity)
    yield from _values(columns)
    yield from _limits(columns, identity)
    yield from _ending(columns, row)
    yield from _clocks(columns)


def derived_problem(
    columns: Columns, row: EpisodeRow, identity: Identity, decisions: list[Decision]
) -> Problem | None:
    """Return the first column that does not follow from what was recorded, None where all do."""
    fields: dict[str, Any] = {field: columns[name] for name, field in VECTORS.items()}
    fields |= {field: columns[name] for name, (_, field) in SCALARS.items()}
    episode = Episode(
        **fields, images={}, success=row.success, prompt=row.prompt, meta={}, decisions=decisions
    )
    plain = dataclasses.replace(identity, cameras=(), video="")
    fresh = data_table(episode, plain, row.index, row.first_index, 0)
    residual = [name for name in identity.added if name == RESIDUAL]
    for name in ("intervention", "next.done", "next.success", "decision_id", "inner_index", *residual):
        right, found = column_array(fresh[name]), columns[name]
        differs = ~np.isclose(found, right, rtol=0, atol=0, equal_nan=True)
        wrong = np.flatnonzero(differs.reshape(len(right), -1).any(axis=1))
        if len(wrong):
            t = wrong[0]
            message = f"{name} is {columns[name][t]} at tick {t}; expected {right[t]}."
            return Problem("error", message, _AGAIN)
    return None


def row_problem(values: dict[str, Any], columns: Columns, row: EpisodeRow) -> Problem | None:
    """Return what the row of an episode says wrongly about its ticks, None where nothing.

    values: the row's file, name -> value.
    """
    counts = np.bincount(columns["controller"], minlength=len(Controller)).tolist()
    if list(row.controller_ticks) != counts:
        message = f"Its row counts {list(row.controller_ticks)} ticks per controller; found {counts}."
        return Problem("error", message, _AGAIN)
    wrong = wrong_statistics(values, columns)
    return Problem("error", f"Its row is wrong about {', '.join(wrong)}.", _AGAIN) if wrong else None


def wrong_statistics(values: dict[str, Any], columns: Columns) -> list[str]:
    """Return the columns whose statistics in a row are missing or differ from those of the ticks."""
    wrong = []
    for name, ticks in columns.items():
        right = exact_stats(ticks).to_json()
        for key in ("min", "max", "mean", "std", "count"):
            said = values.get(f"stats/{name}/{key}")
            if not isinstance(said, list) or None in said or len(said) != len(right[key]):
                wrong.append(name)
                break
            if not np.allclose(said, right[key], rtol=_CLOSE, atol=_CLOSE):
                wrong.append(name)
                break
    return wrong


def _shapes(columns: Columns, identity: Identity) -> Iterator[Problem]:
    for name, feature in identity.features.items():
        if name not in columns:
            continue
        width = columns[name].shape[1] if columns[name].ndim == 2 else 1
        if [width] != feature["shape"] or columns[name].dtype != feature["dtype"]:
            yield Problem(
                "error",
                f"Column {name} is {columns[name].dtype} with {width} numbers per tick;"
                f" expected {feature['dtype']} with {feature['shape'][0]}.",
                _RESTORE,
            )


def _numbering(columns: Columns, row: EpisodeRow, tasks: dict[str, int] | None) -> Iterator[Problem]:
    ticks = np.arange(row.length)
    expected = {
        "episode_index": ticks * 0 + row.index,
        "frame_index": ticks,
        "index": ticks + row.first_index,
    }
    if tasks is not None and row.prompt not in tasks:
        yield Problem("error", f"Instruction {row.prompt!r} is not in the table of tasks.", _RESTORE)
    elif tasks is not None:
        expected["task_index"] = ticks * 0 + tasks[row.prompt]
    for name, values in expected.items():
        wrong = np.flatnonzero(columns[name] != values)
        if len(wrong):
            t = wrong[0]
            yield Problem(
                "error", f"{name} is {columns[name][t]} at tick {t}; expected {values[t]}.", _RESTORE
            )
            return  # the others follow from it


def _times(columns: Columns, identity: Identity) -> Iterator[Problem]:
    times = columns["timestamp"].astype(np.float64)
    period = 1 / identity.fps
    if not abs(times[0]) < _tolerance(times[:0], period):
        yield Problem("error", f"Time starts at {times[0]:g} s; expected 0 s.", _AGAIN)
        return
    late = np.flatnonzero(~(np.abs(np.diff(times) - period) < _tolerance(times, period)))
    if len(late):
        t = late[0]
        yield Problem(
            "error",
            f"Time goes from {times[t]:g} s to {times[t + 1]:g} s at tick {t + 1};"
            f" expected steps of {period:g} s.",
            _RESTORE,
        )


def _tolerance(times: NDArray[np.float64], period: float) -> float:
    return period * _TOLERANCE + 4 * float(np.spacing(np.float32(np.abs(times).max(initial=0.0))))


def _values(columns: Columns) -> Iterator[Problem]:
    for name in ("observation.state", "action", "action.proposed", "next.reward"):
        bad = ~np.isfinite(columns[name])
        if bad.any():
            t = int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])
            count = int(bad.sum())
            yield Problem("error", f"{name} has {count} NaN or infinite numbers, first at tick {t}.", _RECORD)
    human = columns["action.human"]
    if np.isinf(human).any():
        yield Problem("error", "action.human has infinite numbers.", _RECORD)
    controller = columns["controller"]
    unknown = sorted(set(controller.tolist()) - {int(c) for c in Controller})
    if unknown:
        yield Problem(
            "error", f"Controllers {unknown} are unknown; expected 0 to {max(Controller)}.", _RECORD
        )
    if (phase := columns["phase"]).max() >= _PHASES:
        t = int(np.argmax(phase >= _PHASES))
        yield Problem("error", f"phase is {phase[t]} at tick {t}; expected 0 to {_PHASES - 1}.", _RECORD)
    missing = np.isnan(human)
    partly = missing.any(axis=1) & ~missing.all(axis=1) & (controller != Controller.HELD)
    if partly.any():
        t = int(np.argmax(partly))
        yield Problem(
            "error",
            f"action.human has {int(missing[t].sum())} NaN at tick {t}; expected all or none.",
            _RECORD,
        )
    silent = np.isin(controller, [Controller.HUMAN, Controller.DEMO]) & np.isnan(human).all(axis=1)
    if silent.any():
        t = int(np.flatnonzero(silent)[0])
        yield Problem(
            "warning",
            f"{int(silent.sum())} ticks driven by a person have no human command, first at tick {t}.",
            "Record the person's command beside the executed action.",
        )


def _limits(columns: Columns, identity: Identity) -> Iterator[Problem]:
    spec = identity.spec
    action = columns["action"]
    if action.shape[1:] != spec.low.shape:
        return
    slack = _TOLERANCE * spec.half_range
    outside = (action < spec.low - slack) | (action > spec.high + slack)
    if outside.any():
        t, d = (int(i[0]) for i in np.nonzero(outside))
        yield Problem(
            "error",
            f"{int(outside.any(axis=1).sum())} ticks have actions outside the limits, first tick {t}:"
            f" {spec.names[d]} is {action[t, d]:g} {spec.units[d]};"
            f" expected {spec.low[d]:g} to {spec.high[d]:g}.",
            _RECORD,
        )


def _clocks(columns: Columns) -> Iterator[Problem]:
    for name in CLOCKS:
        if name not in columns:
            continue
        missing = columns[name] < 0
        back = np.flatnonzero(np.diff(columns[name][~missing]) < 0)
        if missing.any() and not missing.all():
            t = int(np.argmax(missing))
            message = f"{int(missing.sum())} ticks have no {name}, first tick {t}; expected all or none."
            yield Problem("warning", message, "Look at a clock at every tick.")
        elif len(back):
            t = int(back[0])
            message = f"{name} goes back from {columns[name][t]} to {columns[name][t + 1]} at tick {t + 1}."
            yield Problem("warning", message, "Somebody set the computer's clock; do not measure with it.")


def _ending(columns: Columns, row: EpisodeRow) -> Iterator[Problem]:
    flags = [(t, name) for name in ("terminated", "truncated") for t in np.flatnonzero(columns[name])]
    if len(flags) != 1 or flags[0][0] != row.length - 1:
        found = ", ".join(f"{name} at tick {t}" for t, name in flags) or "no ending"
        yield Problem(
            "error",
            f"Found {found}; expected exactly one of terminated and truncated, at tick {row.length - 1}.",
            _RECORD,
        )
    if row.success and not columns["terminated"][-1]:
        yield Problem("warning", "It counts as a success but was not terminated.", _RECORD)
