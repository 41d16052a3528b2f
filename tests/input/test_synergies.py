"""Directions of a hand: learned, stored, read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError, DataError
from bora_cli.input.synergies import Synergies, fit_synergies, load_synergies

NAMES = tuple("abcde")


def made_up(count: int, seed: int = 0) -> np.ndarray:
    """Postures [200, 5] in a plane of `count` dimensions."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(200, count)) @ rng.normal(size=(count, 5)) + rng.normal(size=5)


@given(st.integers(0, 1000), st.integers(1, 5))
def test_lifting_a_projection_twice_is_lifting_it_once(seed: int, count: int) -> None:
    fitted = fit_synergies(made_up(5, seed), NAMES, count)
    posture = np.random.default_rng(seed).normal(size=5)
    once = fitted.lift(fitted.project(posture))
    np.testing.assert_allclose(fitted.lift(fitted.project(once)), once, atol=1e-9)


def test_as_many_directions_as_the_hand_moved_in() -> None:
    postures = made_up(2)
    fitted = fit_synergies(postures, NAMES)
    assert fitted.directions.shape == (2, 5)
    assert fitted.explained == pytest.approx(1.0)
    assert (np.diff(fitted.spread) <= 0).all()
    for posture in postures[:5]:
        np.testing.assert_allclose(fitted.lift(fitted.project(posture)), posture, atol=1e-9)


def test_the_spread_is_a_standard_deviation() -> None:
    postures = made_up(1)
    fitted = fit_synergies(postures, NAMES)
    along = (postures - fitted.mean) @ fitted.directions[0]
    assert fitted.spread[0] == pytest.approx(along.std())


def test_the_sign_does_not_depend_on_the_order_of_the_data() -> None:
    postures = made_up(3)
    np.testing.assert_allclose(
        fit_synergies(postures, NAMES).directions, fit_synergies(postures[::-1], NAMES).directions, atol=1e-9
    )


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    fitted = fit_synergies(made_up(3), NAMES, 2, source="a test")
    file = tmp_path / "hand.json"
    file.write_text(json.dumps(fitted.to_json()))
    read = load_synergies(file)
    assert (read.names, read.source, read.explained) == (NAMES, "a test", fitted.explained)
    np.testing.assert_array_equal(read.directions, fitted.directions)


def test_nothing_to_learn_from() -> None:
    with pytest.raises(DataError, match="does not move in 3 postures"):
        fit_synergies(np.ones((3, 5)), NAMES)
    with pytest.raises(DataError, match=r"shape \(3, 4\); expected finite numbers in \(N, 5\)"):
        fit_synergies(np.ones((3, 4)), NAMES)
    with pytest.raises(DataError, match="finite"):
        fit_synergies(np.full((3, 5), np.nan), NAMES)
    with pytest.raises(ConfigError, match="7 synergies were asked for; expected 1 to 6"):
        fit_synergies(made_up(2), NAMES, 7)


GOOD = fit_synergies(made_up(2), NAMES).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "something else"}, "no file of synergies"),
        ({"mean": [0.0]}, r"mean \(1,\).*expected \(5,\)"),
        ({"mean": [float("nan")] * 5}, "not finite"),
        ({"spread": [1.0, -1.0]}, "positive spread"),
        ({"directions": [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]}, "not orthonormal"),
        ({"directions": "up"}, "cannot be read"),
        ({"joints": 3}, "cannot be read"),
        ({"explained": None}, "cannot be read"),
    ],
)
def test_spoiled_files_are_refused(change: dict[str, object], message: str, tmp_path: Path) -> None:
    file = tmp_path / "hand.json"
    file.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(ConfigError, match=message):
        load_synergies(file)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file.*bora hand fit"):
        load_synergies(tmp_path / "missing.json")
    (tmp_path / "hand.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_synergies(tmp_path / "hand.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigError, match="no file of synergies"):
        load_synergies(tmp_path / "list.json")
    with pytest.raises(ConfigError, match="not orthonormal"):
        Synergies(NAMES, np.zeros(5), np.zeros((1, 5)), np.ones(1), 1.0)
