"""A pacing clock, told the time by a fake one."""

from __future__ import annotations

import numpy as np
import pytest

from bora_cli.control.pace import Pacer
from bora_cli.errors import ConfigError
from robot_fakes import FakeClock


def pacer(clock: FakeClock, dt: float = 0.1) -> Pacer:
    made = Pacer(dt, now=clock, sleep=clock.sleep)
    made.start()
    return made


def test_work_of_any_length_does_not_shift_the_ticks() -> None:
    clock = FakeClock(0.0)
    ticking, began = pacer(clock), []
    for work in (0.03, 0.0, 0.099, 0.05):
        clock.t += work
        assert ticking.wait() == pytest.approx(0.0, abs=1e-9)
        began.append(clock.t)
    assert began == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_a_late_tick_does_not_make_the_next_one_late() -> None:
    clock = FakeClock(0.0)
    ticking = pacer(clock)
    clock.t = 0.13
    assert ticking.wait() == pytest.approx(0.03)
    assert ticking.wait() == pytest.approx(0.0, abs=1e-9)
    assert clock.t == pytest.approx(0.2)


def test_periods_that_were_missed_are_left_out() -> None:
    clock = FakeClock(0.0)
    ticking = pacer(clock)
    clock.t = 0.57
    assert ticking.wait() == pytest.approx(0.47)
    ticking.wait()
    assert clock.t == pytest.approx(0.6)
    assert ticking.punctuality.missed == 4


def test_percentiles_are_those_of_the_lateness() -> None:
    clock = FakeClock(0.0)
    ticking = pacer(clock)
    late = np.linspace(0, 0.05, 101)
    for tick, extra in enumerate(late, 1):
        clock.t = tick * 0.1 + extra
        ticking.wait()
    found = ticking.punctuality
    assert (found.ticks, found.missed) == (101, 0)
    assert (found.p50_ms, found.p99_ms, found.max_ms) == pytest.approx((25.0, 49.5, 50.0))


def test_a_period_needs_a_length() -> None:
    with pytest.raises(ConfigError, match=r"Ticks of 0.0 s; expected a positive number"):
        Pacer(0.0)
    assert Pacer(0.1).punctuality.ticks == 0
