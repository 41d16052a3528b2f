"""Keys of a terminal, one by one, as they are pressed; and the terminal as it was, however this ends.

A terminal tells when a key goes down, or is repeated, never when it goes up.  What arrives are bytes: a letter, or an
escape sequence for a key without one.  A lone escape byte is the Escape key only once nothing follows it for a while.
"""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

from bora_cli.errors import NoDevice

ESCAPE = 0x1B
ESCAPE_WAIT_S = 0.05
"""Seconds after which an escape byte that nothing followed was the Escape key."""
LONGEST = 32
"""Bytes after which an escape sequence that does not end is given up."""
TERMINATED = 128 + signal.SIGTERM

_PLAIN = {0x0D: "enter", 0x0A: "enter", 0x09: "tab", 0x7F: "backspace", 0x08: "backspace", 0x20: "space"}
_LETTERS = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end", "M": "enter"}
_NUMBERS = {"1": "home", "2": "insert", "3": "delete", "4": "end", "5": "page up", "6": "page down"}


@dataclass(frozen=True)
class KeyPress:
    """A key that went down, or was repeated.  t: monotonic seconds at which it was read."""

    key: str
    t: float


class KeyDecoder:
    """Turns the bytes of a terminal into names of keys; what it does not know it drops whole.

    Bytes may come in pieces of any size: the keys are the same.
    """

    def __init__(self) -> None:
        self._held = b""
        self._since = 0.0

    def feed(self, data: bytes, now: float) -> list[str]:
        """Return the keys that are complete after `data`; now: monotonic seconds at which it was read."""
        keys: list[str] = []
        for byte in data:
            if byte == ESCAPE:
                if self._held == b"\x1b":
                    keys.append("escape")
                self._held, self._since = b"\x1b", now
            elif self._held:
                self._held += bytes([byte])
                keys += self._sequence()
            else:
                keys += self._single(byte)
        return keys

    def idle(self, now: float) -> list[str]:
        """Return the Escape key if an escape byte has been alone for long enough; drops what never ended."""
        if not self._held or now - self._since < ESCAPE_WAIT_S:
            return []
        held, self._held = self._held, b""
        return ["escape"] if held == b"\x1b" else []

    def _single(self, byte: int) -> list[str]:
        if byte in _PLAIN:
            return [_PLAIN[byte]]
        if byte == 0x03:  # arrives only where the terminal does not make a signal of it
            return ["ctrl-c"]
        return [chr(byte)] if 0x21 <= byte <= 0x7E else []

    def _sequence(self) -> list[str]:
        """Return the key of the sequence held, if it is complete."""
        held, last = self._held, self._held[-1]
        if len(held) == 2 and last in b"[O":
            return []
        if held[1] not in b"[O":  # Alt and a key
            self._held = b""
            return []
        if 0x40 <= last <= 0x7E:
            self._held = b""
            return _named(held[2:].decode("ascii", "replace"))
        if len(held) >= LONGEST or not 0x20 <= last <= 0x3F:
            self._held = b""
        return []


def _named(body: str) -> list[str]:
    """Return the key of what stands between the introduction and the end of a sequence, e.g. "A" or "5~"."""
    if body.endswith("~"):
        name = _NUMBERS.get(body[:-1].partition(";")[0])
    else:
        name = _LETTERS.get(body[-1])
    return [name] if name else []


class TerminalKeys:
    """The keys of a terminal while the context is entered.

    Echo and line editing are off meanwhile; Ctrl-C still interrupts.  The terminal is restored when the context is
    left, also through an exception, when the process exits without leaving it, and on SIGTERM, which becomes
    `SystemExit` so that whoever holds a robot or a dataset lets go of it properly.
    stream: by default standard input.  Entering raises NoDevice where there is no terminal.
    """

    def __init__(self, stream: Any = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._decoder = KeyDecoder()
        self._fd = -1
        self._before: list[Any] | None = None
        self._handler: Any = None
        self.gone = False

    def __enter__(self) -> Self:
        import termios

        stream = sys.stdin if self._stream is None else self._stream
        try:
            self._fd = stream.fileno()
            self._before = termios.tcgetattr(self._fd)
        except (OSError, ValueError, AttributeError, termios.error) as error:
            raise NoDevice(
                "Standard input is no terminal, so no key can be read; expected one to type in.",
                "Start it in a terminal: not in a pipe, and with `ssh -t` over ssh.",
            ) from error
        atexit.register(self._restore)
        with suppress(ValueError):  # only the main thread may set handlers; elsewhere the others must do
            self._handler = signal.signal(signal.SIGTERM, _terminated)
        raw = termios.tcgetattr(self._fd)
        raw[3] &= ~(termios.ECHO | termios.ICANON)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 0, 0
        for special in ("VSUSP", "VDSUSP", "VLNEXT", "VSTOP", "VSTART", "VQUIT"):
            if hasattr(termios, special):  # Ctrl-Z and the like would leave a robot with nobody at the keys
                raw[6][getattr(termios, special)] = b"\x00"
        termios.tcsetattr(self._fd, termios.TCSADRAIN, raw)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def poll(self) -> list[KeyPress]:
        """Return the keys pressed since the last call; never waits.  `gone` tells that the terminal is."""
        now, keys = self._clock(), []
        while not self.gone and select.select([self._fd], [], [], 0.0)[0]:
            try:
                data = os.read(self._fd, 1024)
            except OSError:  # the terminal was closed
                data = b""
            if not data:
                self.gone = True
                break
            keys += self._decoder.feed(data, now)
        return [KeyPress(key, now) for key in (*keys, *self._decoder.idle(now))]

    def _restore(self) -> None:
        import termios

        if self._before is None:
            return
        with suppress(termios.error, OSError):  # it may be gone
            termios.tcsetattr(self._fd, termios.TCSAFLUSH, self._before)
        self._before = None
        atexit.unregister(self._restore)
        with suppress(ValueError):
            if self._handler is not None:
                signal.signal(signal.SIGTERM, self._handler)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)
