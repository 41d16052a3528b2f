"""A gamepad as a device, through SDL's game controller interface, which names the sticks of all makes alike.

    left stick        x, y: away and nearer, left and right
    triggers          z: right up, left down
    right stick       pitch, yaw
    shoulder buttons  roll: right clockwise
    A, B, X, Y        grip, fingers, take over, hand back

SDL says how the sticks stand now, not when it heard of it.  A wireless pad that is out of reach stands as it last did
until the system removes it, which takes seconds: use one with a cable, or another device, for a real robot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from bora_cli.errors import ConfigError, NoDevice
from bora_cli.input.device import F64, FINGERS, GRIP, RELEASE, STILL, TAKE_OVER, DeviceSample, Frame
from bora_cli.input.mapping import Shaping, clean, shape

FULL = 32767.0
LEFT_X, LEFT_Y, RIGHT_X, RIGHT_Y, LEFT_TRIGGER, RIGHT_TRIGGER = range(6)
"""SDL's numbers of the axes; sticks are positive to the right and towards the person."""
LEFT_SHOULDER, RIGHT_SHOULDER = 9, 10
BUTTONS = {0: GRIP, 1: FINGERS, 2: TAKE_OVER, 3: RELEASE}
"""SDL's numbers of A, B, X and Y, and what they ask for."""
GROUPS = ((0, 1), (2,), (3,), (4, 5))
"""Axes of the twist that are one control, with a dead band of its own: stick, triggers, shoulders, stick."""
STICKS = Shaping(enter=0.16, leave=0.1, curve=0.5)
"""Sticks rest further off their centre than a cap does."""


class Pad(Protocol):
    """A game controller as `pygame._sdl2.controller` gives it; axes -32768 .. 32767, triggers from 0."""

    name: str

    def attached(self) -> bool: ...
    def get_axis(self, axis: int) -> int: ...
    def get_button(self, button: int) -> bool: ...
    def quit(self) -> None: ...


class Gamepad:
    """A pad that is asked once per tick.  pump: lets SDL fetch what is new."""

    frame: Frame = "view"

    def __init__(self, pad: Pad, pump: Callable[[], object], shaping: Shaping = STICKS) -> None:
        self.name = f"gamepad {pad.name}"
        self.trouble = ""
        self._pad, self._pump, self._shaping = pad, pump, shaping
        self._held: set[int] = set(BUTTONS)  # what is held down at the start was not pressed for us
        self._moving = [False] * len(GROUPS)

    def begin(self) -> None:
        """Forget which buttons were pressed."""
        self._buttons()

    def read(self, now: float) -> DeviceSample | None:
        """Return how the sticks stand, shaped; None at rest and once it is unplugged."""
        pressed = self._buttons()
        if self.trouble:
            return None
        raw = self._raw()
        twist = STILL.copy()
        for number, group in enumerate(GROUPS):
            own = STILL.copy()
            own[list(group)] = raw[list(group)]
            shaped, self._moving[number] = shape(own, self._moving[number], self._shaping)
            twist = twist + shaped
        return DeviceSample(now, twist, pressed) if pressed or twist.any() else None

    def close(self) -> None:
        """Let the pad go."""
        self._pad.quit()

    def _buttons(self) -> tuple[str, ...]:
        """Ask SDL for news; return what the buttons ask for that went down since the last call."""
        if self.trouble:
            return ()
        self._pump()
        if not self._pad.attached():
            self.trouble = "unplugged or out of reach"
            return ()
        down = {number for number in BUTTONS if self._pad.get_button(number)}
        pressed = tuple(BUTTONS[number] for number in sorted(down - self._held))
        self._held = down
        return pressed

    def _raw(self) -> F64:
        """Return the deflection [6] in ROS axes."""
        axis = [max(-1.0, self._pad.get_axis(number) / FULL) for number in range(6)]
        roll = float(self._pad.get_button(RIGHT_SHOULDER)) - float(self._pad.get_button(LEFT_SHOULDER))
        up = axis[RIGHT_TRIGGER] - axis[LEFT_TRIGGER]
        return clean(np.array([-axis[LEFT_Y], -axis[LEFT_X], up, roll, -axis[RIGHT_Y], -axis[RIGHT_X]]))


def open_gamepad(number: int | None = None) -> Gamepad:
    """Open a gamepad; number: from 0, None for the only one.

    Raises ConfigError where pygame is not installed, NoDevice if it is not there or not the only one.
    """
    import os

    # SDL wants a display for its events, and stays silent in the background, unless it is told otherwise.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_JOYSTICK_ALLOW_BACKGROUND_EVENTS", "1")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        import pygame
        from pygame._sdl2 import controller
    except ImportError as error:
        raise ConfigError(
            f"pygame cannot be imported ({error}).", "Run `pip install 'bora-cli[gamepad]'`."
        ) from error
    pygame.display.init()  # `pygame.init` would start sound as well
    controller.init()
    pygame.event.pump()
    return choose_gamepad(number, controller, pygame.event.pump)


def choose_gamepad(number: int | None, controller: Any, pump: Callable[[], object]) -> Gamepad:
    """Return a gamepad of `pygame._sdl2.controller`; raises NoDevice as `open_gamepad` does."""
    there = [n for n in range(controller.get_count()) if controller.is_controller(n)]
    names = ", ".join(f"{n} ({controller.Controller(n).name})" for n in there) or "none"
    if number is not None and number not in there:
        raise NoDevice(f"There is no gamepad {number}; connected are: {names}.", "Give one of these numbers.")
    if not there:
        raise NoDevice("No gamepad is connected.", "Plug one in, or give --device keyboard.")
    if number is None and len(there) > 1:
        raise NoDevice(
            f"{len(there)} gamepads are connected: {names}.", f"Say which: --device gamepad:{there[0]}"
        )
    return Gamepad(controller.Controller(there[0] if number is None else number), pump)
