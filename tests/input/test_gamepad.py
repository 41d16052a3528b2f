"""Sticks, triggers and buttons as SDL numbers them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError, NoDevice
from bora_cli.input.device import FINGERS, GRIP, RELEASE, TAKE_OVER
from bora_cli.input.gamepad import (
    LEFT_SHOULDER,
    LEFT_TRIGGER,
    LEFT_X,
    LEFT_Y,
    RIGHT_SHOULDER,
    RIGHT_TRIGGER,
    RIGHT_X,
    RIGHT_Y,
    Gamepad,
    choose_gamepad,
    open_gamepad,
)


class FakePad:
    name = "a pad"

    def __init__(self) -> None:
        self.axes, self.buttons = [0] * 6, set[int]()
        self.there, self.open = True, True

    def attached(self) -> bool:
        return self.there

    def get_axis(self, axis: int) -> int:
        assert self.there
        return self.axes[axis]

    def get_button(self, button: int) -> bool:
        return button in self.buttons

    def quit(self) -> None:
        self.open = False


def pad_and_device() -> tuple[FakePad, Gamepad]:
    pad = FakePad()
    device = Gamepad(pad, lambda: None)
    device.begin()
    return pad, device


@pytest.mark.parametrize(
    ("axis", "value", "index", "sign"),
    [
        (LEFT_Y, -32768, 0, 1),
        (LEFT_X, -32768, 1, 1),
        (RIGHT_TRIGGER, 32767, 2, 1),
        (LEFT_TRIGGER, 32767, 2, -1),
        (RIGHT_Y, -32768, 4, 1),
        (RIGHT_X, -32768, 5, 1),
        (RIGHT_X, 32767, 5, -1),
    ],
    ids=["away", "left", "up", "down", "tilt away", "counterclockwise", "clockwise"],
)
def test_sticks_and_triggers(axis: int, value: int, index: int, sign: int) -> None:
    pad, device = pad_and_device()
    pad.axes[axis] = value
    sample = device.read(7.0)
    assert sample is not None
    expected = np.zeros(6)
    expected[index] = sign
    np.testing.assert_allclose(sample.twist, expected)
    assert sample.t == 7.0


@pytest.mark.parametrize(("button", "sign"), [(RIGHT_SHOULDER, 1), (LEFT_SHOULDER, -1)])
def test_shoulders_roll(button: int, sign: int) -> None:
    pad, device = pad_and_device()
    pad.buttons = {button}
    sample = device.read(0.0)
    assert sample is not None
    np.testing.assert_allclose(sample.twist, [0, 0, 0, sign, 0, 0])


def test_a_stick_that_rests_off_its_centre_adds_nothing_to_the_other() -> None:
    pad, device = pad_and_device()
    pad.axes[RIGHT_X] = 2500
    assert device.read(0.0) is None
    pad.axes[LEFT_Y] = -32768
    sample = device.read(0.0)
    assert sample is not None
    np.testing.assert_allclose(sample.twist, [1, 0, 0, 0, 0, 0])


@given(st.lists(st.integers(-32768, 32767), min_size=6, max_size=6), st.sets(st.integers(0, 15)))
def test_any_state_gives_a_twist_in_range(axes: list[int], buttons: set[int]) -> None:
    pad, device = pad_and_device()
    pad.axes, pad.buttons = axes, buttons
    sample = device.read(0.0)
    if sample is not None:
        assert (np.abs(sample.twist) <= 1.0).all()


def test_buttons_ask_once_and_not_for_what_was_held_before() -> None:
    pad, device = pad_and_device()
    pad.buttons = {0, 1, 2, 3}
    sample = device.read(0.0)
    assert sample is not None
    assert sample.pressed == (GRIP, FINGERS, TAKE_OVER, RELEASE)
    assert device.read(0.1) is None
    held = FakePad()
    held.buttons = {0}
    assert Gamepad(held, lambda: None).read(0.0) is None
    pad.buttons = set()
    device.read(0.2)
    pad.buttons = {0}
    device.begin()
    assert device.read(0.3) is None


def test_unplugged_is_for_good() -> None:
    pad, device = pad_and_device()
    pad.axes[LEFT_Y], pad.there = -32768, False
    assert device.read(0.0) is None
    assert device.trouble == "unplugged or out of reach"
    pad.there = True
    assert device.read(0.1) is None
    device.close()
    assert not pad.open


def sdl(*names: str) -> Any:
    return SimpleNamespace(
        get_count=lambda: len(names),
        is_controller=lambda n: names[n] != "a wheel",
        Controller=lambda n: SimpleNamespace(name=names[n]),
    )


def test_which_gamepad() -> None:
    assert choose_gamepad(None, sdl("a wheel", "red"), print).name == "gamepad red"
    assert choose_gamepad(1, sdl("red", "blue"), print).name == "gamepad blue"
    for number, names, message in (
        (None, (), r"No gamepad is connected\. Plug one in, or give --device keyboard"),
        (
            None,
            ("red", "blue"),
            r"2 gamepads are connected: 0 \(red\), 1 \(blue\)\. Say which: --device gamepad:0",
        ),
        (3, ("red",), r"no gamepad 3; connected are: 0 \(red\)"),
    ):
        with pytest.raises(NoDevice, match=message):
            choose_gamepad(number, sdl(*names), print)


def test_without_pygame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    for name in ("SDL_VIDEODRIVER", "SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "PYGAME_HIDE_SUPPORT_PROMPT"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match=r"pygame cannot be imported.*pip install 'bora-cli\[gamepad\]'"):
        open_gamepad()
