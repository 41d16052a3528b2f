"""Laws of the way from deflection to twist."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError, DeviceError
from bora_cli.input.mapping import Shaping, clean, response, shape, turned, wakes, zero_offset

anything = st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=6, max_size=6)
numbers = st.lists(st.floats(-2, 2), min_size=6, max_size=6)
shapings = st.tuples(st.floats(0, 0.3), st.floats(0, 0.3), st.floats(0, 1)).map(
    lambda v: Shaping(max(v[:2]), min(v[:2]), v[2])
)


@given(anything, st.booleans(), shapings)
def test_whatever_comes_in_a_twist_comes_out(raw: list[float], moving: bool, shaping: Shaping) -> None:
    twist, awake = shape(raw, moving, shaping)
    assert twist.shape == (6,)
    assert np.isfinite(twist).all()
    assert (np.abs(twist) <= 1.0).all()
    assert awake or not twist.any()


def test_three_numbers_are_rest() -> None:
    assert shape([1.0, 1.0, 1.0], True, Shaping()) == (pytest.approx(np.zeros(6)), False)


@given(numbers, st.booleans(), shapings)
def test_left_is_the_opposite_of_right(raw: list[float], moving: bool, shaping: Shaping) -> None:
    there, _ = shape(raw, moving, shaping)
    back, _ = shape([-x for x in raw], moving, shaping)
    np.testing.assert_array_equal(there, -back)


@given(numbers, shapings)
def test_the_direction_is_kept(raw: list[float], shaping: Shaping) -> None:
    twist, awake = shape(raw, True, shaping)
    if awake:
        wanted = clean(raw)
        assert np.allclose(twist * np.abs(wanted).max(), wanted * np.abs(twist).max(), atol=1e-12)


@given(st.floats(0, 1), st.floats(0, 1), shapings)
def test_more_deflection_is_never_slower(a: float, b: float, shaping: Shaping) -> None:
    low, high = sorted((a, b))
    assert response(low, shaping) <= response(high, shaping) + 1e-12
    assert response(1.0, shaping) == pytest.approx(1.0)
    assert response(shaping.leave, shaping) == 0.0


@given(st.lists(st.floats(0, 0.3), max_size=50), shapings)
def test_noise_inside_the_band_does_not_make_it_flicker(noise: list[float], shaping: Shaping) -> None:
    """Between `leave` and `enter` nothing changes; so it takes a real motion to change it back."""
    for start in (False, True):
        awake = start
        for value in noise:
            before, awake = awake, wakes(awake, value, shaping)
            if shaping.leave < value <= shaping.enter:
                assert awake == before


@given(st.lists(numbers, min_size=1, max_size=20))
def test_a_resting_device_with_an_offset_rests(samples: list[list[float]]) -> None:
    drift = np.clip(np.array(samples), -0.1, 0.1)
    offset = zero_offset(drift)
    assert shape(offset, False, Shaping(), offset) == (pytest.approx(np.zeros(6)), False)


def test_full_deflection_is_full_speed_and_a_hair_is_none() -> None:
    assert shape([1.43, 0, 0, 0, 0, 0], False, Shaping())[0][0] == pytest.approx(1.0)
    assert shape([0.07, 0, 0, 0, 0, 0], False, Shaping()) == (pytest.approx(np.zeros(6)), False)
    assert shape([0.07, 0, 0, 0, 0, 0], True, Shaping())[1]


def test_a_pushed_cap_is_no_zero_offset() -> None:
    with pytest.raises(DeviceError, match=r"0\.40 on its z axis; expected at most 0\.15.*hand off"):
        zero_offset(np.tile([0, 0, 0.4, 0, 0, 0], (5, 1)))
    np.testing.assert_array_equal(zero_offset(np.empty((0, 6))), np.zeros(6))


@given(numbers, st.floats(-4, 4))
def test_turning_keeps_lengths_and_undoes_itself(raw: list[float], yaw: float) -> None:
    twist = np.array(raw)
    there = turned(twist, yaw)
    assert np.linalg.norm(there[:3]) == pytest.approx(np.linalg.norm(twist[:3]), abs=1e-9)
    np.testing.assert_allclose(turned(there, -yaw), twist, atol=1e-9)


def test_forward_becomes_left_after_a_quarter_turn() -> None:
    np.testing.assert_allclose(
        turned(np.array([1.0, 0, 0, 0, 0, 0]), np.pi / 2), [0, 1, 0, 0, 0, 0], atol=1e-12
    )


@pytest.mark.parametrize("values", [(0.1, 0.2, 0.5), (1.0, 0.1, 0.5), (0.1, 0.05, 1.5), (0.1, -0.1, 0.5)])
def test_impossible_shapings_are_refused(values: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="expected 0 <= leave <= enter < 1"):
        Shaping(*values)


def test_the_dead_band_of_a_profile() -> None:
    shaping = Shaping.with_dead_band(0.05)
    assert (shaping.enter, shaping.leave) == (pytest.approx(0.08), 0.05)
