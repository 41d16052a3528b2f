"""Devices by name on the command line, and in `bora doctor`."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from bora_cli.cli import doctor
from bora_cli.cli.app import build
from bora_cli.cli.devices import opened
from bora_cli.errors import MissingSystemLibrary, NoDevice
from bora_cli.input import spacemouse_open
from bora_cli.input.keyboard import Keyboard
from bora_cli.input.spacemouse_open import Found
from bora_cli.profiles import load_profile


def test_doctor_tells_which_spacemice_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    mice = [
        Found("SpaceMouseCompact", "/dev/hidraw3", True, None, None),
        Found("SpaceMousePro", "/dev/hidraw4", False, None, None),
    ]
    monkeypatch.setattr(spacemouse_open, "find_spacemice", lambda: (mice, []))
    lines = [(check.state, check.detail) for check in doctor._devices()]
    assert lines[0] == ("ok", "SpaceMouseCompact at /dev/hidraw3")
    assert lines[1][0] == "note"
    assert "may not be opened: see the udev rule in docs/operators.md" in lines[1][1]


def test_doctor_does_not_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacemouse_open, "find_spacemice", lambda: ([], []))
    assert [(c.state, c.detail) for c in doctor._devices()] == [
        ("note", "none connected; the keyboard drives as well")
    ]

    def missing() -> None:
        raise MissingSystemLibrary("No hidapi.", "Install it.")

    monkeypatch.setattr(spacemouse_open, "find_spacemice", missing)
    assert [(c.state, c.detail) for c in doctor._devices()] == [("note", "No hidapi. Install it.")]


def test_teleop_without_the_device_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacemouse_open, "find_spacemice", lambda: ([], []))
    result = CliRunner().invoke(build(), ["teleop", "--task", "press_button", "--device", "spacemouse"])
    assert isinstance(result.exception, NoDevice)
    assert result.exception.hint == "Plug one in, or give --device keyboard."


def test_devices_that_were_opened_are_closed_if_the_next_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    first = SimpleNamespace(name="first", close=lambda: closed.append("first"))

    def open_one(where: str, **options: object) -> object:
        if where == "a":
            return first
        raise NoDevice("no b")

    monkeypatch.setattr(spacemouse_open, "open_spacemouse", open_one)
    names = ["keyboard", "spacemouse:a", "spacemouse:b"]
    with pytest.raises(NoDevice, match="no b"), opened(names, Keyboard(), load_profile("sim")):
        pass
    assert closed == ["first"]


def test_the_keyboard_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    mouse, keyboard = SimpleNamespace(name="mouse", close=lambda: None), Keyboard()
    monkeypatch.setattr(spacemouse_open, "open_spacemouse", lambda where, **options: mouse)
    with opened(["spacemouse"], keyboard, load_profile("sim")) as devices:
        assert devices == (mouse, keyboard)
    with opened(["keyboard"], keyboard, load_profile("sim")) as devices:
        assert devices == (keyboard,)
