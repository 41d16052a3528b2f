"""Keys through a real terminal: decoding, and the terminal as it was afterwards."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import NoDevice
from bora_cli.input.keys import ESCAPE_WAIT_S, KeyDecoder, TerminalKeys


def decoded(*pieces: bytes) -> list[str]:
    decoder = KeyDecoder()
    keys = [key for piece in pieces for key in decoder.feed(piece, 0.0)]
    return keys + decoder.idle(ESCAPE_WAIT_S)


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"w", ["w"]),
        (b"\x1b[A", ["up"]),
        (b"\x1bOD", ["left"]),
        (b"\x1b[5~\x1b[6~", ["page up", "page down"]),
        (b"\x1b[1;5C", ["right"]),
        (b"\x1b[3;2~", ["delete"]),
        (b" \r\n\t\x7f\x08", ["space", "enter", "enter", "tab", "backspace", "backspace"]),
        (b"\x1b", ["escape"]),
        (b"\x1b\x1b", ["escape", "escape"]),
        (b"\x1b\x1b[A", ["escape", "up"]),
        (b"\x1b[15~a", ["a"]),
        (b"\x1bxa", ["a"]),
        (b"\x03", ["ctrl-c"]),
        ("äw€".encode(), ["w"]),
        (b"\x1b[200~", []),
        (b"\x1b[" + b"1" * 40 + b"w", ["1"] * 10 + ["w"]),
        (b"\x1b[1\x00w", ["w"]),
        (b"\x00\x01\x80\xff", []),
    ],
)
def test_bytes_become_keys(data: bytes, keys: list[str]) -> None:
    assert decoded(data) == keys


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_it_does_not_matter_how_the_bytes_are_cut(data: bytes, cuts: list[int]) -> None:
    marks = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    assert decoded(*(data[a:b] for a, b in pairwise(marks))) == decoded(data)


def test_an_arrow_that_comes_in_two_reads_is_no_escape() -> None:
    decoder = KeyDecoder()
    assert decoder.feed(b"\x1b", 0.0) == []
    assert decoder.idle(ESCAPE_WAIT_S / 2) == []
    assert decoder.feed(b"[B", ESCAPE_WAIT_S / 2) == ["down"]
    assert decoder.idle(1.0) == []


@pytest.fixture
def terminal() -> Iterator[tuple[int, Any]]:
    """A pseudo terminal: the person's end as a descriptor, the program's end as a stream."""
    person, program = pty.openpty()
    with os.fdopen(program, "rb", buffering=0) as stream:
        yield person, stream
    os.close(person)


def test_keys_arrive_one_by_one_and_without_waiting(terminal: tuple[int, Any]) -> None:
    person, stream = terminal
    with TerminalKeys(stream, clock=lambda: 5.0) as keys:
        assert keys.poll() == []
        os.write(person, b"w\x1b[Ds")
        pressed = keys.poll()
    assert [(p.key, p.t) for p in pressed] == [("w", 5.0), ("left", 5.0), ("s", 5.0)]


def test_echo_is_off_meanwhile_and_everything_is_restored(terminal: tuple[int, Any]) -> None:
    person, stream = terminal
    before = termios.tcgetattr(person)
    during: list[Any] = []

    def fail() -> None:
        with TerminalKeys(stream):
            during.extend(termios.tcgetattr(person))
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert not during[3] & (termios.ECHO | termios.ICANON)
    assert during[3] & termios.ISIG
    assert during[6][termios.VSUSP] == b"\x00"
    assert termios.tcgetattr(person) == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_terminal_that_is_closed_is_gone(terminal: tuple[int, Any]) -> None:
    person, program = pty.openpty()
    with os.fdopen(program, "rb", buffering=0) as stream, TerminalKeys(stream) as keys:
        os.close(person)
        assert keys.poll() == []
        assert keys.gone
        assert keys.poll() == []


def test_no_terminal_is_said_so() -> None:
    with (
        open(os.devnull) as stream,
        pytest.raises(NoDevice, match=r"no terminal.*ssh -t"),
        TerminalKeys(stream),
    ):
        pass
    assert NoDevice("x").exit_code == 4


PROGRAM = """
import sys, time
from bora_cli.input.keys import TerminalKeys
try:
    with TerminalKeys() as keys:
        sys.stdout.write("ready\\n"); sys.stdout.flush()
        while not any(p.key == "q" for p in keys.poll()):
            time.sleep(0.01)
finally:
    sys.stdout.write("let go\\n"); sys.stdout.flush()
"""
LEAK = PROGRAM.replace("with TerminalKeys() as keys:", "if keys := TerminalKeys().__enter__():")


@pytest.mark.parametrize(
    ("program", "end", "code"),
    [
        (PROGRAM, "q", 0),
        (LEAK, "q", 0),
        (PROGRAM, signal.SIGTERM, 143),
        (LEAK, signal.SIGTERM, 143),
        (PROGRAM, signal.SIGINT, -signal.SIGINT),
    ],
    ids=["key", "key, context never left", "SIGTERM", "SIGTERM, context never left", "Ctrl-C"],
)
def test_a_process_that_ends_restores_its_terminal(program: str, end: Any, code: int) -> None:
    person, terminal = pty.openpty()
    before = termios.tcgetattr(person)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert termios.tcgetattr(person) != before
        if isinstance(end, str):
            os.write(person, end.encode())
        else:
            process.send_signal(end)
        assert process.stdout.read() == b"let go\n"
        assert process.wait(10) == code
    assert termios.tcgetattr(person) == before
    os.close(terminal)
    os.close(person)
