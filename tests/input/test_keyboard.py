"""One press, one step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.input.device import FINGERS, GRIP, RELEASE, TAKE_OVER
from bora_cli.input.keyboard import HELP, MAX_AGE_S, MOTIONS, Keyboard


def pressed(*keys: str, board: Keyboard | None = None, t: float = 1.0, now: float = 1.05) -> np.ndarray:
    board = board or Keyboard()
    for key in keys:
        assert board.press(key, t)
    sample = board.read(now)
    assert sample is not None
    return sample.twist


@pytest.mark.parametrize(
    ("key", "twist"),
    [
        ("w", [1, 0, 0, 0, 0, 0]),
        ("left", [0, 1, 0, 0, 0, 0]),
        ("page down", [0, 0, -1, 0, 0, 0]),
        ("o", [0, 0, 0, 1, 0, 0]),
        ("k", [0, 0, 0, 0, 1, 0]),
        ("l", [0, 0, 0, 0, 0, -1]),
    ],
)
def test_one_press_is_one_step(key: str, twist: list[float]) -> None:
    np.testing.assert_array_equal(pressed(key), twist)


def test_a_press_counts_once() -> None:
    board = Keyboard()
    board.press("w", 1.0)
    assert board.read(1.05) is not None
    assert board.read(1.06) is None


def test_a_new_episode_forgets_what_was_pressed() -> None:
    board = Keyboard()
    board.press("w", 1.0)
    board.begin()
    assert board.read(1.0) is None


def test_repeats_within_a_tick_are_not_saved_up() -> None:
    board = Keyboard()
    np.testing.assert_array_equal(pressed("w", "w", "w", "up", board=board), [1, 0, 0, 0, 0, 0])
    assert board.read(1.1) is None


def test_opposite_keys_cancel_and_two_keys_add() -> None:
    np.testing.assert_array_equal(pressed("w", "s", "a"), [0, 1, 0, 0, 0, 0])


@given(st.floats(0, 10), st.floats(0, 10))
def test_presses_expire(t: float, now: float) -> None:
    board = Keyboard()
    board.press("w", t)
    assert (board.read(now) is not None) == (0 <= now - t <= MAX_AGE_S)


@given(st.lists(st.sampled_from([*MOTIONS, "-", "=", "space", "g", "t", "1", "?"]), max_size=30))
def test_any_keys_give_a_twist_in_range(keys: list[str]) -> None:
    board = Keyboard(["open"])
    for key in keys:
        board.press(key, 0.0)
    sample = board.read(0.0)
    if sample is not None:
        assert (np.abs(sample.twist) <= 1.0).all()


def test_steps_have_three_sizes() -> None:
    board = Keyboard()
    sizes = []
    for key in ("-", "-", "-", "=", "=", "="):
        board.press(key, 0.0)
        sizes.append(board.step)
    assert sizes == [0.5, 0.25, 0.25, 0.5, 1.0, 1.0]
    board.press("-", 0.0)
    assert pressed("s", board=board)[0] == -0.5


def test_keys_that_ask_for_something() -> None:
    board = Keyboard(["open", "point"], {"b": RELEASE, "w": TAKE_OVER})
    for key in ("space", "g", "w", "2", "space", "b"):
        board.press(key, 0.0)
    sample = board.read(0.1)
    assert sample is not None
    assert sample.pressed == (GRIP, FINGERS, TAKE_OVER, "posture point", RELEASE)
    assert not sample.moving
    assert not board.press("3", 0.0)
    assert board.press("t", 0.0)


def test_the_help_names_every_motion_key() -> None:
    words = " ".join(keys for keys, _ in HELP).replace(",", " ").split()
    for key in MOTIONS:
        assert key in words or key in ("up", "down", "left", "right", "page up", "page down")
