"""What goes into the ring comes out of it, in order, however the pieces fall."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bora_cli.data.ring import Ring


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring.create(64)
    yield made
    made.close()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=30), seed=st.integers(0, 99)
)
def test_bytes_come_out_in_order(ring: Ring, steps: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    waiting = b""
    for give, take in steps:
        part = rng.bytes(give)
        done = ring.write(memoryview(part))
        assert done == min(give, 64 - len(waiting))
        waiting += part[:done]
        assert ring.read(take) == waiting[:take]
        waiting = waiting[take:]
    assert ring.read(1000) == waiting
    assert ring.read(1) == b""


def test_another_handle_sees_the_same(ring: Ring) -> None:
    other = Ring.attach(ring.name)
    ring.write(memoryview(b"hello"))
    assert other.read(10) == b"hello"
    assert ring.write(memoryview(bytes(100))) == 64
    other.close()
