"""A role in a shared directory: one holder, found out when it dies, whichever computer it was on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bora_cli.data import lease as module
from bora_cli.data.lease import PATIENCE_S, Lease, host
from bora_cli.errors import ConfigError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".actor.lease"


class Looking:
    """Counts the seconds that somebody looked, and does something meanwhile."""

    def __init__(self, meanwhile: Callable[[float], None] = lambda seconds: None) -> None:
        self.seconds, self.meanwhile = 0.0, meanwhile

    def __call__(self, seconds: float) -> None:
        self.seconds += seconds
        self.meanwhile(self.seconds)


def held_by(path: Path, host: str, pid: int, beat: int = 1) -> None:
    path.write_text(json.dumps({"host": host, "pid": pid, "token": "x", "beat": beat}))


def test_one_holds_it_and_gives_it_back(path: Path) -> None:
    with Lease(path, "actor") as mine:
        mine.check()
        with (
            pytest.raises(ConfigError, match=rf"has its actor already: process {os.getpid()} on "),
            Lease(path, "actor"),
        ):
            pass
        assert path.is_file()
    assert not path.exists()
    with Lease(path, "actor"):
        pass


def test_it_keeps_changing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.001)
    with Lease(path, "actor"):
        seen = {path.read_text() for _ in range(20_000)}
    assert len(seen) > 1
    assert len({json.loads(content)["token"] for content in seen}) == 1


def test_a_holder_of_this_computer_that_died_is_replaced_at_once(path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held_by(path, host(), gone.pid)
    look = Looking()
    with Lease(path, "actor", sleep=look):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert look.seconds == 0


def test_a_holder_elsewhere_is_dead_once_it_changes_nothing(path: Path) -> None:
    held_by(path, "elsewhere", os.getpid())
    look = Looking()
    with Lease(path, "actor", sleep=look) as mine:
        mine.check()
    assert look.seconds == PATIENCE_S
    assert list(path.parent.iterdir()) == []


def test_a_holder_elsewhere_that_lives_is_left_alone(path: Path) -> None:
    held_by(path, "elsewhere boot", 4)
    look = Looking(lambda seconds: held_by(path, "elsewhere boot", 4, beat=2) if seconds > 3 else None)
    with pytest.raises(ConfigError, match="process 4 on elsewhere") as told, Lease(path, "actor", sleep=look):
        pass
    assert look.seconds < 5
    assert told.value.hint == "Wait until it has finished, or choose another --out."
    assert json.loads(path.read_text())["pid"] == 4


def test_one_that_is_given_back_meanwhile_is_free(path: Path) -> None:
    held_by(path, "elsewhere", 4)
    with Lease(path, "actor", sleep=Looking(lambda seconds: path.unlink(missing_ok=True))) as mine:
        mine.check()


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00" * 50])
def test_a_torn_lease_is_nobodys_for_ever(path: Path, content: str) -> None:
    path.write_text(content)
    with Lease(path, "actor", sleep=Looking()) as mine:
        mine.check()


def test_who_lost_it_notices_and_does_no_harm(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped for long, and goes on: another one has its role."""
    monkeypatch.setattr(module, "BEAT_S", 0.001)
    with Lease(path, "learner") as slow:
        path.unlink()
        held_by(path, "elsewhere", 9)
        with pytest.raises(
            ConfigError, match=r"no longer the learner .* process 9 on elsewhere has taken over"
        ):
            slow.check()
        path.write_text(path.read_text())
    assert json.loads(path.read_text())["pid"] == 9  # neither overwritten nor removed


def test_of_two_who_find_it_stale_one_gets_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one finds a fresh lease in the place of the stale one when it comes to remove that."""
    held_by(path, "elsewhere", 4)
    real, faster = os.rename, Lease(path, "actor", sleep=Looking())

    def rename(source: Any, target: Any) -> None:
        monkeypatch.setattr(os, "rename", real)
        faster.__enter__()
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(ConfigError, match="has its actor already"), Lease(path, "actor", sleep=Looking()):
        pass
    faster.check()
    faster.__exit__()
    assert list(path.parent.iterdir()) == []
