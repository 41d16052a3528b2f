"""Streaming statistics agree with exact ones, however the rows are cut into pieces."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.data.stats import (
    QUANTILES,
    FeatureStats,
    RunningStats,
    exact_stats,
    image_histogram,
    image_stats,
)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
    offset=st.floats(-100, 100),
)
def test_pieces_give_the_statistics_of_the_whole(
    seed: int, sizes: list[int], scale: float, offset: float
) -> None:
    rng = np.random.default_rng(seed)
    pieces = [(rng.standard_t(2, (n, 3)) * scale + offset).astype(np.float32) for n in sizes]
    running = RunningStats(3)
    for piece in pieces:
        running.update(piece)
    found, exact = running.result(), exact_stats(np.concatenate(pieces))
    assert found.count.tolist() == exact.count.tolist()
    spread = exact.max - exact.min
    for name in ("mean", "std", "min", "max"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=1e-6, abs=1e-6 * spread.max())


def test_quantiles_of_many_numbers_are_close() -> None:
    values = np.random.default_rng(0).normal(size=(20_000, 2)) * [1.0, 30.0]
    running = RunningStats(2)
    for piece in np.array_split(values, 50):
        running.update(piece)
    exact = exact_stats(values)
    assert running.result().quantiles / exact.std == pytest.approx(exact.quantiles / exact.std, abs=0.02)


def test_missing_numbers_are_left_out() -> None:
    values = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.inf]], np.float32)
    for found in (exact_stats(values), _streamed(values)):
        assert found.count.tolist() == [2, 1, 0]
        assert found.mean.tolist() == [2.0, 5.0, 0.0]
        assert found.max.tolist() == [3.0, 5.0, 0.0]
        assert np.isfinite(found.quantiles).all()


def test_a_constant_column_has_no_spread() -> None:
    found = _streamed(np.full((7, 1), 0.3))
    assert found.std == pytest.approx([0])
    assert found.quantiles == pytest.approx(np.full((len(QUANTILES), 1), 0.3))


def test_image_statistics_are_those_of_the_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (10, 24, 24, 3), np.uint8)
    images[..., 2] //= 4
    found, exact = image_stats(image_histogram(images)), exact_stats(images.reshape(-1, 3) / 255)
    assert found.mean == pytest.approx(exact.mean)
    assert found.std == pytest.approx(exact.std)
    assert found.max == pytest.approx(exact.max)
    assert found.quantiles == pytest.approx(exact.quantiles, abs=1.5 / 255)


def test_long_episodes_are_thinned_evenly() -> None:
    images = np.repeat(np.arange(200, dtype=np.uint8), 12).reshape(200, 2, 2, 3)
    seen = np.flatnonzero(image_histogram(images)[0])
    assert len(seen) <= 32
    assert set(np.diff(seen)) == {7}


def test_json_has_the_names_that_lerobot_reads() -> None:
    found = json.loads(json.dumps(exact_stats(np.arange(10.0)).to_json()))
    assert list(found) == ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"]
    assert (found["count"], found["mean"], found["q50"]) == ([10], [4.5], [4.5])


def _streamed(values: np.ndarray) -> FeatureStats:
    running = RunningStats(values.shape[1])
    running.update(values)
    return running.result()
