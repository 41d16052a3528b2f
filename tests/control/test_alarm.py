"""An alarm rings after so many ticks in a row below what successes showed, and never for whoever drives himself."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from bora_cli.control.alarm import Alarm, Bell

ALARM = Alarm((0.1, 0.2, 0.3, 0.4), 0.15, 3, 0.05, 0.6, 1.2)


@given(st.lists(st.tuples(st.floats(-1, 1), st.booleans()), max_size=40))
def test_it_rings_where_a_plain_count_says_so(heard: list[tuple[float, bool]]) -> None:
    bell, low = Bell(ALARM), []
    for tick, (v, driven) in enumerate(heard):
        expected = ALARM.reference[min(tick, 3)]
        low.append(expected - v > 0.15 and not driven)
        rings = bell.hear(v, driven)
        assert rings == bell.rings == (len(low) >= 3 and all(low[-3:]))


def test_an_episode_begins_afresh() -> None:
    bell = Bell(ALARM)
    assert [bell.hear(-1.0) for _ in range(4)] == [False, False, True, True]
    bell.begin()
    assert not bell.rings
    assert math.isnan(bell.short)
    bell.hear(0.0)
    assert bell.short == 0.1  # the first tick again


def test_a_value_that_is_none_calls_nobody() -> None:
    bell = Bell(ALARM)
    assert not any(bell.hear(math.nan) for _ in range(9))


def test_alarms_are_told_apart() -> None:
    assert ALARM.hash == Alarm((0.1, 0.2, 0.3, 0.4), 0.15, 3, 0.05, 0.6, 1.2).hash
    assert ALARM.hash != Alarm((0.1, 0.2, 0.3, 0.4), 0.16, 3, 0.05, 0.6, 1.2).hash
