"""Where a person sits who drives: a terminal with one line of status, or a window with the camera images.

The window is tkinter: it comes with Python, knows keys, and shows arrays without another library.  MuJoCo's own viewer
would show the scene from any side, but not what the wrist camera sees, keeps most keys for itself, and needs OpenGL on
the display; a person should drive with what the policy will have.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

from bora_cli.errors import MissingSystemLibrary, NoDevice
from bora_cli.evaluate.teleoperate import Scene
from bora_cli.input.keys import KeyPress, TerminalKeys
from bora_cli.types import U8

PICTURE = 384
"""Side of a camera image in the window, px."""
STATUS_S = 0.25
"""Seconds between two status lines in a terminal."""
SHORTEST_PROMPT = 12
"""Characters of the prompt that stay in a line that is too long."""
TELL = "Run it on a desktop or with `ssh -X`, or give --window none to drive from the terminal."
_KEYSYMS = {
    "Up": "up",
    "Down": "down",
    "Left": "left",
    "Right": "right",
    "Prior": "page up",
    "Next": "page down",
    "Return": "enter",
    "KP_Enter": "enter",
    "BackSpace": "backspace",
    "Delete": "delete",
    "Escape": "escape",
    "space": "space",
    "minus": "-",
    "equal": "=",
}


class TerminalDesk:
    """A terminal: the keys, and one line that is written over and over; a file as stderr gets a line now and then."""

    picture_size = 0

    def __init__(self, guide: Sequence[tuple[str, str]], quiet: bool = False) -> None:
        self._keys = TerminalKeys()
        self._guide, self._quiet = guide, quiet
        self._live = sys.stderr.isatty()
        self._shown, self._line = 0.0, ""

    def __enter__(self) -> Self:
        self._keys.__enter__()
        if not self._quiet:
            width = max(len(keys) for keys, _ in self._guide)
            sys.stderr.write("".join(f"  {keys:{width}}  {what}\n" for keys, what in self._guide))
        return self

    def __exit__(self, *error: object) -> None:
        if self._live and not self._quiet:
            with suppress(OSError):
                sys.stderr.write("\n")
        self._keys.__exit__(*error)

    @property
    def gone(self) -> bool:
        """Whether the terminal was closed."""
        return self._keys.gone

    def pressed(self) -> list[KeyPress]:
        """Return the keys pressed since the last call."""
        return self._keys.poll()

    def show(self, scene: Scene) -> None:
        """Write the lines of a scene as one, a few times per second."""
        now = time.monotonic()
        line = one_line(scene.lines, _columns() - 1) if self._live else "  ".join(scene.lines)
        wait = STATUS_S if self._live else 20 * STATUS_S
        if self._quiet or line == self._line or now - self._shown < wait:
            return
        self._shown, self._line = now, line
        sys.stderr.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()


class EmptyDesk:
    """A desk where nobody sits: every episode begins by itself, and only devices without keys are heard."""

    picture_size = 0
    gone = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to give back."""

    def pressed(self) -> list[KeyPress]:
        """Return the one key that begins an episode, and means nothing while one runs."""
        return [KeyPress("enter", time.monotonic())]

    def show(self, scene: Scene) -> None:
        """Show nothing: nobody looks."""


class SharedDesk:
    """A desk whose keys can be pressed at `bora console` too.  elsewhere: `bora_cli.input.key_file.KeyFile`."""

    def __init__(self, desk: Any, elsewhere: Any) -> None:
        self._desk, self._elsewhere = desk, elsewhere

    def __getattr__(self, name: str) -> Any:
        return getattr(self._desk, name)

    def pressed(self) -> list[KeyPress]:
        """Return the keys pressed here and elsewhere since the last call."""
        return [*self._elsewhere.poll(), *self._desk.pressed()]


def one_line(lines: Sequence[str], width: int) -> str:
    """Return the lines of a scene as one of at most `width` characters; the prompt, which is first, gives way first."""
    prompt, rest = lines[0], "  ".join(lines[1:])
    room = max(SHORTEST_PROMPT, width - len(rest) - 2)
    if len(prompt) > room:
        prompt = f'{prompt[: room - 4]}..."'
    return "  ".join(part for part in (prompt, rest) if part)[:width]


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


class WindowDesk:
    """A window with the camera images side by side, the lines of the scene, and what the keys do."""

    picture_size = PICTURE

    def __init__(self, guide: Sequence[tuple[str, str]]) -> None:
        self._guide = guide
        self._pressed: list[KeyPress] = []
        self._photos: list[Any] = []
        self._labels: list[Any] = []
        self.gone = False

    def __enter__(self) -> Self:
        try:
            import tkinter as tk
        except ImportError as error:
            raise MissingSystemLibrary(
                f"This Python has no tkinter ({error}), so there is no window.",
                "Install python3-tk (Debian, Ubuntu) or tcl-tk, or give --window none.",
            ) from error
        try:
            self._root = tk.Tk()
        except tk.TclError as error:
            raise NoDevice(f"There is no display for a window ({error}).", TELL) from error
        self._tk = tk
        self._root.title("bora teleop")
        self._root.configure(background="#1d1f24")
        self._root.protocol("WM_DELETE_WINDOW", self._closed)
        self._root.bind("<KeyPress>", self._key)
        self._row = tk.Frame(self._root, background="#1d1f24")
        self._row.pack(padx=8, pady=8)
        self._text = tk.Label(
            self._root,
            justify="left",
            anchor="nw",
            height=5,
            font=("TkFixedFont", 11),
            wraplength=2 * PICTURE,
        )
        self._text.configure(background="#1d1f24", foreground="#f2f2f2")
        self._text.pack(fill="x", padx=12)
        self._add_guide()
        self._root.resizable(False, False)
        self._root.focus_force()
        return self

    def __exit__(self, *_: object) -> None:
        self.gone = True
        with suppress(self._tk.TclError):  # it was closed by hand
            self._root.destroy()
        self._photos, self._labels = [], []

    def pressed(self) -> list[KeyPress]:
        """Let the window do its work, and return the keys pressed since the last call."""
        if not self.gone:
            try:
                self._root.update()
            except self._tk.TclError:  # the display is gone
                self.gone = True
        keys, self._pressed = self._pressed, []
        return keys

    def show(self, scene: Scene) -> None:
        """Show the pictures and the lines."""
        if self.gone:
            return
        for number, picture in enumerate(scene.pictures.values()):
            if number == len(self._photos):
                self._photos.append(self._tk.PhotoImage(master=self._root))
                label = self._tk.Label(self._row, image=self._photos[number], borderwidth=0)
                label.grid(row=0, column=number, padx=2)
                self._labels.append(label)
            self._photos[number].configure(data=ppm(picture), format="PPM")
        self._text.configure(text="\n".join(scene.lines))

    def _add_guide(self) -> None:
        frame = self._tk.Frame(self._root, background="#1d1f24")
        frame.pack(fill="x", padx=12, pady=(0, 10))
        half = (len(self._guide) + 1) // 2
        for number, (keys, what) in enumerate(self._guide):
            row, column = number % half, 2 * (number // half)
            for offset, text, colour in ((0, keys, "#f0c674"), (1, what, "#c5c8c6")):
                label = self._tk.Label(frame, text=text, anchor="w", font=("TkDefaultFont", 10))
                label.configure(background="#1d1f24", foreground=colour)
                label.grid(row=row, column=column + offset, sticky="w", padx=(0, 16))

    def _key(self, event: Any) -> None:
        key = _KEYSYMS.get(event.keysym) or (event.char if event.char.isprintable() else "")
        if key:
            self._pressed.append(KeyPress(key, time.monotonic()))

    def _closed(self) -> None:
        self.gone = True


def ppm(image: U8) -> bytes:
    """Return an image [H, W, 3] in the one format that every Tk reads without help."""
    height, width, _ = image.shape
    return b"P6 %d %d 255\n" % (width, height) + image.tobytes()
