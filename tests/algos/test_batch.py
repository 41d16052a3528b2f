"""Batches and how they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.algos.batch import Batch, concat, draw, draw_mixed, elsewhere
from bora_cli.errors import DataError


def make(n: int, **extra: torch.Tensor) -> Batch:
    z, s, a, flat = torch.randn(n, 2, 4), torch.randn(n, 3), torch.randn(n, 5, 2), torch.ones(n, 5)
    return Batch(z, s, a, flat, flat, flat, z, s, torch.ones(n, dtype=torch.bool), **extra)


@given(batch=st.integers(2, 200), seed=st.integers(0, 100))
def test_s1_halves_are_exact(batch: int, seed: int) -> None:
    offline, online = draw_mixed(np.random.default_rng(seed), 17, 5, batch)
    assert (len(offline), len(online)) == (batch // 2, batch - batch // 2)
    assert offline.max() < 17
    assert online.max() < 5


def test_s3_every_window_is_equally_likely() -> None:
    """Chi-square against uniform with 9 degrees of freedom; 21.7 is its 99 % quantile."""
    counts = np.bincount(draw(np.random.default_rng(0), 10, 10_000), minlength=10)
    assert ((counts - 1000) ** 2 / 1000).sum() < 21.7


def test_rows_and_concat() -> None:
    first, second = make(4, adv=torch.ones(4, 5), demo=torch.ones(4)), make(3, adv=torch.zeros(3, 5))
    both = concat(first, second)
    assert len(both) == 7
    assert both.demo is None
    picked = both.rows(np.array([5, 0]))
    assert torch.equal(picked.a, torch.stack([second.a[1], first.a[0]]))
    assert picked.need("adv")[:, 0].tolist() == [0.0, 1.0]


def test_messages() -> None:
    with pytest.raises(DataError, match="has no 'a_base'"):
        make(2).need("a_base")
    with pytest.raises(DataError, match="empty buffer"):
        draw(np.random.default_rng(0), 0, 4)


def test_elsewhere_is_a_permutation_that_keeps_neighbours() -> None:
    """Every number is used once; nearly all rows keep their neighbour; hardly any row keeps its own."""
    episode = np.repeat(np.arange(12), 25)
    rows = elsewhere(episode, np.random.default_rng(0))
    assert sorted(rows) == list(range(300))
    assert (np.diff(rows) == 1).mean() > 0.95
    assert (rows == np.arange(300)).mean() < 0.2
    assert not np.array_equal(rows, elsewhere(episode, np.random.default_rng(1)))
    assert sorted(elsewhere(np.zeros(5, int), np.random.default_rng(0))) == list(range(5))
