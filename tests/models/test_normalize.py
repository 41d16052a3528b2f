"""Normalisers are exact inverses and refuse nonsense."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.errors import DataError
from bora_cli.models.normalize import Normalizer


@given(seed=st.integers(0, 10_000), rows=st.integers(2, 20), dims=st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_there_and_back_is_the_identity(seed: int, rows: int, dims: int) -> None:
    x = torch.randn(rows, dims, generator=torch.Generator().manual_seed(seed)) * 3 + 1
    n = Normalizer.fit(x, std=0.5)
    torch.testing.assert_close(n.denormalize(n.normalize(x)), x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(n.normalize(n.denormalize(x)), x, atol=1e-5, rtol=1e-5)


def test_fitted_data_has_the_asked_spread() -> None:
    x = torch.randn(500, 3) * torch.tensor([0.1, 1.0, 7.0]) + 4
    y = Normalizer.fit(x, std=0.5).normalize(x)
    torch.testing.assert_close(y.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std(0, correction=0), torch.full((3,), 0.5), atol=1e-4, rtol=0)


def test_a_dimension_that_never_moved_stays_tame() -> None:
    x = torch.zeros(10, 2)
    n = Normalizer.fit(x, floor=torch.tensor([0.1, 0.01]))
    torch.testing.assert_close(n.normalize(torch.tensor([[0.1, 0.1]])), torch.tensor([[1.0, 10.0]]))


def test_statistics_travel_with_the_weights() -> None:
    n = Normalizer.fit(torch.randn(10, 4))
    other = Normalizer.identity(4)
    other.load_state_dict(n.state_dict())
    assert torch.equal(other.mean, n.mean)
    assert torch.equal(other.scale, n.scale)


def test_messages() -> None:
    with pytest.raises(DataError, match="Cannot normalise 0 samples"):
        Normalizer.fit(torch.zeros(0, 3))
    with pytest.raises(DataError, match="all finite"):
        Normalizer.fit(torch.tensor([[float("nan")]]))
    with pytest.raises(DataError, match="positive scales"):
        Normalizer(torch.zeros(2), torch.zeros(2))
