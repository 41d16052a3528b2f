"""An alarm on V finds what V shows, in time, and nothing where V shows nothing."""

import made_up
import numpy as np
import polars as pl
import pytest

from bora_cli.analysis import trace_figures
from bora_cli.analysis.early_warning import FALSE_ALARMS, early_warning
from bora_cli.analysis.style import png
from bora_cli.analysis.traces import EpisodeTrace, build_traces
from bora_cli.errors import DataError


def rng():
    return np.random.default_rng(0)


def episodes(falls: bool, n: int = 20, ticks: int = 40) -> pl.DataFrame:
    """Half successes whose V rises, half failures whose V falls from tick 20 on (or rises too)."""
    noise = np.random.default_rng(1)
    made = []
    for i in range(n):
        good = i % 2 == 0
        v = np.linspace(0, 0.5, ticks) + 0.01 * noise.standard_normal(ticks)
        if not good and falls:
            v[20:] -= 0.5
        made.append(EpisodeTrace(v=v, success=good, controller=np.zeros(ticks, np.uint8)))
    return build_traces(made)


def test_a_fall_is_found_when_it_happens():
    w = early_warning(episodes(falls=True), rng=rng())
    assert (w.detected, w.false_alarms) == (1.0, 0.0)
    assert w.lead == pytest.approx(40 - 1 - 22)  # the third tick in a row below
    assert w.lead_lo <= w.lead <= w.lead_hi
    assert w.detected_lo < 1


def test_a_blind_critic_finds_no_more_than_it_disturbs():
    w = early_warning(episodes(falls=False, n=200), rng=rng())
    assert w.false_alarms <= FALSE_ALARMS
    assert w.detected < 0.25
    assert w.false_alarms_lo < w.false_alarms < w.false_alarms_hi


def test_the_curve_is_one_of_trade_offs():
    w = early_warning(made_up.traces(60, takeovers=False), rng=rng())
    by_margin = sorted(w.curve, key=lambda p: p.margin)
    false, found = ([getattr(p, name) for p in by_margin] for name in ("false_alarms", "detected"))
    assert false == sorted(false, reverse=True)
    assert found == sorted(found, reverse=True)
    assert w.false_alarms <= FALSE_ALARMS
    assert len(w.curve) <= 41
    for p in w.curve:
        assert p.detected_lo is not None and p.detected_hi is not None  # noqa: PT018
        assert p.detected_lo <= p.detected <= p.detected_hi
        if p.lead is not None:
            assert p.lead_lo is not None and p.lead_hi is not None  # noqa: PT018
            assert p.lead_lo <= p.lead <= p.lead_hi
    assert png(trace_figures.warning_curve(w)).startswith(b"\x89PNG")


def test_a_handful_of_episodes_is_refused():
    with pytest.raises(DataError, match="3 successes and 3 failures are too few"):
        early_warning(episodes(True, n=6), rng=rng())
