"""The alarm that runs beside a robot finds what the analysis found, from values that are known at decisions only."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bora_cli.analysis.alarm import fit_alarm, held
from bora_cli.analysis.early_warning import WAIT
from bora_cli.analysis.traces import EpisodeTrace, build_traces
from bora_cli.control.alarm import Bell
from bora_cli.errors import DataError

EVERY = 4


def traces(n: int = 20, helped: int = 0, fall: float = 0.5) -> pl.DataFrame:
    """Half successes whose V rises, half failures whose V falls from tick 20 on; some with a person's share."""
    noise = np.random.default_rng(1)
    made = []
    for i in range(n + helped):
        good = i % 2 == 0
        v = np.linspace(0, 0.5, 40) + 0.01 * noise.standard_normal(40)
        v[20:] -= 0.0 if good else fall
        controller = np.full(40, 1 if i >= n else 0, np.uint8)
        made.append(EpisodeTrace(v=v if i < n else v - 9, success=good, controller=controller))
    return build_traces(made)


def rung(table: pl.DataFrame, bell: Bell) -> list[int | None]:
    """Return when the bell rings first in each episode."""
    found: list[int | None] = []
    for part in held(table, EVERY).partition_by("episode", maintain_order=True):
        bell.begin()
        rings = [bell.hear(v) for v in part["v"]]
        found.append(rings.index(True) if any(rings) else None)
    return found


def test_values_are_held_between_decisions() -> None:
    table = traces()
    for before, after in zip(
        table.partition_by("episode"), held(table, EVERY).partition_by("episode"), strict=True
    ):
        v = before["v"].to_numpy()
        np.testing.assert_array_equal(after["v"].to_numpy(), v[np.arange(40) // EVERY * EVERY])


def test_the_bell_rings_in_failures_when_they_show_and_not_in_successes() -> None:
    alarm = fit_alarm(traces(helped=6), every=EVERY, dt=0.1)
    assert (alarm.wait, alarm.false_alarms, alarm.detected) == (WAIT, 0.0, 1.0)
    assert alarm.lead_s == pytest.approx(1.7)
    assert len(alarm.reference) == 40
    first = rung(traces(), Bell(alarm))
    assert all(tick is None for tick in first[::2])
    assert set(first[1::2]) == {22}  # the third tick in a row after the fall


def test_who_may_be_disturbed_more_often_is_called_earlier() -> None:
    faint = traces(fall=0.01)
    margins = [fit_alarm(faint, every=EVERY, dt=0.1, false_alarms=s).margin for s in (0.0, 0.05, 0.5, 1.0)]
    assert margins == sorted(margins, reverse=True)
    assert margins[0] > margins[-1]


def test_nothing_is_promised_from_too_little() -> None:
    with pytest.raises(DataError, match="3 successes and 3 failures are too few for an alarm curve"):
        fit_alarm(traces(6), every=EVERY, dt=0.1)
