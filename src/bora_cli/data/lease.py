"""Who plays a role in a directory that several computers may share, told by a file whose number goes up.

`files.locked` asks the operating system, which knows its own processes only.  A lease is a file that its holder keeps
changing; whoever finds one looks whether it changes.  No clocks are compared, so they need not agree, and a holder
that died anywhere is found out: at once if it was on this computer, after `PATIENCE_S` if it was on another one.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from bora_cli.errors import ConfigError

BEAT_S = 2.0
"""Seconds between two changes of a lease."""
PATIENCE_S = 30.0
"""Seconds without a change after which the holder on another computer is taken for dead."""
POLL_S = 0.5
SIZE = 400
"""Bytes of a lease; it is written in place, so that a holder that lost it can do no harm."""


class Lease:
    """The only one in a role, while the context is entered.

    path: the file of the role.  role: its name, for people.  sleep: waits so many seconds.
    Entering raises ConfigError if somebody else holds it, after looking at it for `patience` seconds where that
    is somebody on another computer.
    """

    def __init__(
        self,
        path: Path,
        role: str,
        *,
        patience: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.path, self.role = path, role
        self._patience, self._sleep = patience, sleep
        self._descriptor = -1
        self._beat = 0
        self._leave = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        while not self._take():
            self._require_stale()
        self._leave.clear()
        self._thread = threading.Thread(target=self._keep, name=f"lease of the {self.role}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leave.set()
        if self._thread is not None:
            self._thread.join()
        if self._mine:
            with suppress(OSError):
                self.path.unlink()
        os.close(self._descriptor)
        self._descriptor = -1

    def check(self) -> None:
        """Raise ConfigError if somebody else has taken the role meanwhile; call it before writing anything."""
        if not self._mine:
            who = _name(_read(self.path))
            raise ConfigError(
                f"This process is no longer the {self.role} of {self.path.parent}: {who} has taken over.",
                "It was silent for too long, or the file was removed; start it again once the other has ended.",
            )

    @property
    def _mine(self) -> bool:
        """Whether the file at the path is the one that was made here."""
        try:
            there, here = self.path.stat(), os.fstat(self._descriptor)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def _take(self) -> bool:
        """Make the file if nobody has it; returns whether it is ours now."""
        try:
            self._descriptor = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        self._token = secrets.token_hex(8)
        self._write()
        return True

    def _write(self) -> None:
        self._beat += 1
        about = {"host": host(), "pid": os.getpid(), "token": self._token, "beat": self._beat}
        os.pwrite(self._descriptor, json.dumps(about).ljust(SIZE - 1).encode()[: SIZE - 1] + b"\n", 0)
        os.fsync(self._descriptor)

    def _keep(self) -> None:
        while not self._leave.wait(BEAT_S):
            with suppress(
                OSError
            ):  # a full disk, a lost share: whoever finds this lease unchanged may take it
                self._write()

    def _require_stale(self) -> None:
        """Remove the lease that is there if its holder is dead; raise ConfigError if not."""
        found = _read(self.path)
        if found is None:
            return
        if not _ended_here(found) and self._lives(found):
            raise ConfigError(
                f"{self.path.parent} has its {self.role} already: {_name(found)}.",
                "Wait until it has finished, or choose another --out.",
            )
        self._remove(found)

    def _lives(self, found: str) -> bool:
        """Whether the holder is a process of this computer, or changes its lease while we look at it."""
        if _facts(found).get("host") == host():
            return True
        waited = 0.0
        while waited < self._patience:
            self._sleep(POLL_S)
            waited += POLL_S
            now = _read(self.path)
            if now != found:
                return now is not None  # else it was given back
        return False

    def _remove(self, stale: str) -> None:
        """Remove a lease that was found stale, unless somebody else has taken its place at this moment."""
        aside = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}")
        with suppress(FileNotFoundError):  # somebody else was faster
            os.rename(self.path, aside)
            if _read(aside) == stale:
                aside.unlink()
                return
            with suppress(OSError):
                os.link(aside, self.path)  # it was a new one: give it back, unless there is one again
            aside.unlink()


def host() -> str:
    """Return what tells the processes of this computer, since it was started and in this container, from others."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _read(path: Path) -> str | None:
    """Return the content of a lease, None if there is no such file."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return None


def _facts(content: str | None) -> dict[str, Any]:
    try:
        facts = json.loads(content or "{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _ended_here(content: str) -> bool:
    """Whether the holder was a process of this computer that has ended."""
    facts = _facts(content)
    return facts.get("host") == host() and not _runs(int(facts.get("pid", 0)))


def _name(content: str | None) -> str:
    facts = _facts(content)
    if not facts:
        return "somebody"
    return f"process {facts.get('pid')} on {str(facts.get('host')).partition(' ')[0]}"
