"""What `test_desk` does with a window: in a process of its own, because Tk ends the one that loses its display."""

from __future__ import annotations

import sys
import time

import numpy as np

from bora_cli.cli.desk import PICTURE, WindowDesk
from bora_cli.evaluate.teleoperate import Scene

GUIDE = (("enter", "begin"), ("w", "away"), ("q", "stop"))


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (PICTURE, PICTURE, 3), np.uint8)


def picture() -> None:
    """A picture arrives as it is, and a later one replaces it."""
    image = noise()
    with WindowDesk(GUIDE) as desk:
        desk.show(Scene({"scene": image, "wrist": image[::-1].copy()}, ("words",)))
        assert desk.pressed() == []
        photo = desk._photos[1]
        assert (photo.width(), photo.height()) == (PICTURE, PICTURE)
        assert photo.get(5, 7) == tuple(image[::-1][7, 5])
        desk.show(Scene({"scene": image, "wrist": image}, ("words",)))
        assert desk._photos[1].get(5, 7) == tuple(image[7, 5])


def keys() -> None:
    """Keys have the names that those of a terminal have, and stamps."""
    with WindowDesk(GUIDE) as desk:
        desk.pressed()
        before = time.monotonic()
        for name in ("w", "Up", "Prior", "Return", "space", "1", "minus", "Shift_L", "Escape"):
            desk._root.event_generate(f"<KeyPress-{name}>", when="tail")
        pressed = desk.pressed()
    named = [p.key for p in pressed]
    assert named == ["w", "up", "page up", "enter", "space", "1", "-", "escape"], named
    assert all(before <= p.t <= time.monotonic() for p in pressed)


def closed() -> None:
    """Closing the window is noticed and harms nothing."""
    with WindowDesk(GUIDE) as desk:
        desk._closed()
        assert desk.gone
        desk.show(Scene({"scene": noise()}, ()))
        assert desk.pressed() == []


if __name__ == "__main__":
    globals()[sys.argv[1]]()
