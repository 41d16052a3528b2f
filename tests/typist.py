"""Somebody at a pseudo terminal, for commands that are typed at."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping

PATIENCE_S = 300.0


class Typist:
    """A `bora` command at a pseudo terminal, and who types there and reads what it writes.

    text: what was written since the last key.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] = os.environ) -> None:
        self.person, self.program = pty.openpty()
        self.before = termios.tcgetattr(self.person)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bora_cli", *arguments],
            stdin=self.program,
            stderr=self.program,
            stdout=subprocess.PIPE,
            env={**environment, "TERM": "dumb", "COLUMNS": "200"},
        )
        self.text = ""

    def wait_for(self, words: str) -> None:
        """Read until the words appear."""
        end = time.monotonic() + PATIENCE_S
        while words not in self.text:
            assert time.monotonic() < end, f"never saw {words!r} in {self.text!r}"
            if select.select([self.person], [], [], 0.2)[0]:
                self.text += os.read(self.person, 4096).decode(errors="replace")

    def type(self, keys: str) -> None:
        """Press keys; what was written before is forgotten."""
        self.text = ""
        os.write(self.person, keys.encode())

    def ended(self) -> tuple[int, str]:
        """Wait for the command's end; return its exit code and what it printed."""
        stdout, _ = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, stdout.decode()

    def restored(self) -> bool:
        """Tell whether the terminal is as it was found."""
        return termios.tcgetattr(self.person) == self.before

    def close(self) -> None:
        """Kill what still runs, and leave."""
        self.process.kill()
        self.process.communicate()
        os.close(self.program)
        os.close(self.person)
