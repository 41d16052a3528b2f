"""A keyboard as a device: one press is one step of fixed size, wherever the presses come from.

Terminals do not say when a key goes up, so nothing is integrated while a key is "held": a repeat counts as a press,
and presses beyond one per axis and tick are dropped, not saved up.  When the hand leaves the key the robot stops with
the next tick.  A foot pedal is a keyboard with one key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bora_cli.input.device import FINGERS, GRIP, STILL, TAKE_OVER, DeviceSample, Frame

MAX_AGE_S = 0.25
"""Seconds after which a press that nobody read is forgotten."""
STEP_SIZES = (0.25, 0.5, 1.0)
"""Share of the largest step that a press makes."""

MOTIONS: dict[str, tuple[int, float]] = {
    "w": (0, 1.0),
    "up": (0, 1.0),
    "s": (0, -1.0),
    "down": (0, -1.0),
    "a": (1, 1.0),
    "left": (1, 1.0),
    "d": (1, -1.0),
    "right": (1, -1.0),
    "r": (2, 1.0),
    "page up": (2, 1.0),
    "f": (2, -1.0),
    "page down": (2, -1.0),
    "o": (3, 1.0),
    "u": (3, -1.0),
    "k": (4, 1.0),
    "i": (4, -1.0),
    "j": (5, 1.0),
    "l": (5, -1.0),
}
"""Key -> axis of the twist and its sign."""
HELP = (
    ("w s a d, arrows", "away, nearer, left, right"),
    ("r f, page keys", "up, down"),
    ("u o  i k  j l", "roll, pitch, yaw"),
    ("space", "close or open the hand"),
    ("g", "the same keys move the fingers, and back"),
    ("1 2 3 ...", "postures of the hand"),
    ("- =", "smaller, larger steps"),
)
"""Keys and what they do, for people."""


class Keyboard:
    """Presses become samples.

    postures: named postures of the hand, on the keys 1, 2, 3 ...  pedals: further keys and what they ask for.
    """

    name = "keyboard"
    frame: Frame = "view"
    trouble = ""

    def __init__(self, postures: Sequence[str] = (), pedals: Mapping[str, str] | None = None) -> None:
        self._asks = {"space": GRIP, "g": FINGERS, "t": TAKE_OVER}
        self._asks |= {str(n): f"posture {name}" for n, name in enumerate(postures[:9], 1)}
        self._asks |= pedals or {}
        self._pressed: list[tuple[str, float]] = []
        self._size = len(STEP_SIZES) - 1

    @property
    def step(self) -> float:
        """Share of the largest step that a press makes."""
        return STEP_SIZES[self._size]

    def press(self, key: str, t: float) -> bool:
        """Take a key that went down at `t` monotonic seconds; returns whether it means anything here."""
        if key in ("-", "="):
            self._size = min(max(self._size + (1 if key == "=" else -1), 0), len(STEP_SIZES) - 1)
            return True
        if key not in self._asks and key not in MOTIONS:
            return False
        self._pressed.append((key, t))
        return True

    def read(self, now: float) -> DeviceSample | None:
        """Return what was pressed since the last call and is still young, or None."""
        young = [(key, t) for key, t in self._pressed if 0.0 <= now - t <= MAX_AGE_S]
        self._pressed = []
        if not young:
            return None
        twist = STILL.copy()
        for axis, sign in {MOTIONS[key] for key, _ in young if key not in self._asks}:
            twist[axis] += sign * self.step  # opposite keys cancel
        asked = dict.fromkeys(self._asks[key] for key, _ in young if key in self._asks)
        return DeviceSample(max(t for _, t in young), np.clip(twist, -1.0, 1.0), tuple(asked))

    def begin(self) -> None:
        """Forget what was pressed."""
        self._pressed = []

    def close(self) -> None:
        """There is nothing to let go of."""
