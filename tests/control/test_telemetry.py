"""Records of a control loop: looking on costs it nothing, whatever becomes of the file."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_fakes import FakeRig, run, ticks

from bora_cli.control import telemetry as module
from bora_cli.control.arbiter import Event, Phase
from bora_cli.control.loop import Tick
from bora_cli.control.telemetry import ROOM, Telemetry


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_are_rare_unless_they_are_urgent(tmp_path: Path) -> None:
    now = [0.0]
    told = Telemetry(tmp_path / "live", every_s=0.2, clock=lambda: now[0])
    for tick in range(30):
        now[0] = 0.1 * tick
        told.say({"tick": tick}, urgent=tick == 7)
    told.close()
    seen = [record["tick"] for record in lines(tmp_path / "live")]
    assert 7 in seen
    assert 10 <= len(seen) <= 16
    assert seen == sorted(seen)
    assert all(record["pid"] == os.getpid() for record in lines(tmp_path / "live"))


def test_numbers_that_are_none_are_null(tmp_path: Path) -> None:
    told = Telemetry(tmp_path / "live")
    before = time.time()
    told.say({"v": float("nan"), "q": -np.inf, "lam": 1 / 3, "phase": "human", "over": True})
    told.close()
    (record,) = lines(tmp_path / "live")
    assert before - 0.01 <= record["t"] <= time.time() + 0.01  # whoever reads it tells how old it is
    assert (record["v"], record["q"], record["lam"]) == (None, None, 0.333333)
    assert (record["phase"], record["over"]) == ("human", True)


def test_a_file_that_nobody_takes_never_makes_the_loop_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe without a reader: whoever opens it waits for ever."""
    monkeypatch.setattr(module, "FAREWELL_S", 0.01)
    os.mkfifo(tmp_path / "live")
    told = Telemetry(tmp_path / "live")
    rig = FakeRig(max_ticks=200)
    episode = run(rig, on_tick=lambda tick: told.say({"tick": tick.number}, urgent=True))
    assert len(episode) == 200
    assert told.dropped >= 200 - ROOM - 2
    told.close()  # gives up on what it could not write


def test_a_place_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    told = Telemetry(tmp_path / "nowhere" / "live")
    assert told.say({"tick": 0})
    told.close()
    assert told.dropped == 1


def test_the_file_stays_small_for_all_who_write_it(tmp_path: Path) -> None:
    path = tmp_path / "live"
    tellers = [Telemetry(path, every_s=0.0, largest=2000) for _ in range(2)]
    for tick in range(40):
        for number, told in enumerate(tellers):
            told.say({"tick": tick, "teller": number}, urgent=True)
    for told in tellers:
        told.close()
    assert path.stat().st_size <= 2400
    assert path.with_name("live.1").stat().st_size <= 2400
    assert {record["teller"] for record in lines(path) + lines(path.with_name("live.1"))} == {0, 1}


def test_the_loop_tells_every_tick_and_is_not_changed_by_it() -> None:
    told: list[Tick] = []
    seen = run(FakeRig(succeeds_at=20), wanted=ticks((5, 9)), on_tick=told.append)
    alone = run(FakeRig(succeeds_at=20), wanted=ticks((5, 9)))
    for name in ("state", "action", "proposed", "human", "controller", "phase", "reward"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(alone, name))
    assert [tick.number for tick in told] == list(range(20))
    assert [tick.phase for tick in told] == [Phase(p) for p in seen.phase]
    assert [tick.controller for tick in told] == list(seen.controller)
    events = [(tick.number, tick.event) for tick in told if tick.event is not Event.NOTHING]
    assert events[0] == (5, Event.ENGAGE)
    assert (told[-1].over, told[-1].success) == (True, True)
    assert not any(tick.over or tick.success for tick in told[:-1])
