"""Schedules start, end and stay where they should."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.algos.schedules import cosine, linear


@given(u=st.integers(-5, 10_000), start=st.floats(-2, 2), end=st.floats(-2, 2), over=st.integers(0, 500))
def test_linear_stays_between_its_ends(u: int, start: float, end: float, over: int) -> None:
    value = linear(u, start, end, over)
    assert min(start, end) - 1e-9 <= value <= max(start, end) + 1e-9
    if over > 0 and u <= 0:
        assert value == start
    if u >= over:
        assert value == pytest.approx(end)


def test_cosine_warms_up_peaks_and_falls() -> None:
    values = [cosine(u, 1.0, total=100, warmup=10, floor=0.1) for u in range(101)]
    assert values[:2] == pytest.approx([0.1, 0.2])
    assert max(values) == pytest.approx(1.0)
    assert values[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(values[10:]))
