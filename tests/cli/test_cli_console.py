"""`bora console`: what a run is doing now, from its files alone, also while they are being written."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from bora_cli.analysis.live import FORGOTTEN_SECONDS, TAIL, last_words, read_live
from bora_cli.cli import console
from bora_cli.cli.app import main
from bora_cli.control.telemetry import LIVE, Telemetry
from bora_cli.input.key_file import KEYS

ROOT = Path(__file__).parents[2]
RECORD: dict[str, Any] = {
    "round": 1,
    "number": 3,
    "of": 10,
    "tick": 17,
    "phase": "human",
    "drives": "human",
    "reason": "asked",
    "v": 0.1234,
    "q": None,
    "lam": 0.5,
    "hz": 9.98,
    "over": False,
    "success": False,
    "alarm": True,
    "expected": 0.4,
    "late_ms": 31.0,
    "late_ticks": 2,
    "device_age_s": 0.3,
    "trouble": "spacemouse: unplugged",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has begun and has no episode yet."""
    (tmp_path / "job.json").write_text(
        json.dumps({"task": "pick_toy", "gap": "bias@1.0", "rounds": 2, "episodes": 10})
    )
    return tmp_path


def tell(run: Path, *records: dict[str, Any], pid: int = 1, age: float = 0.1) -> None:
    with open(run / LIVE, "a") as file:
        for record in records:
            file.write(json.dumps({"t": time.time() - age, "pid": pid, "dropped": 0, **record}) + "\n")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as leaving:
        main(["console", *words])
    output = capsys.readouterr()
    assert not leaving.value.code, output.err
    return output.out


def test_everything_that_is_known_is_shown(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(run, RECORD)
    text = call(capsys, str(run), "--once")
    for words in (
        "pick_toy, gap bias@1.0",
        "0 of 20, 0 successes",
        "episode 3 of 10, tick 17 of round 1",
        "human (human), asked",
        "V 0.123  Q -  expected 0.4",
        "lambda 0.5",
        "9.98 ticks/s, last tick 31 ms late, 2 late so far",
        "last heard 0.3 s ago",
        "spacemouse: unplugged",
        "the critic foresees failure",
    ):
        assert words in text


def test_before_anything_happened(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nobody has told anything yet" in call(capsys, str(run), "--once")
    assert json.loads(call(capsys, str(run), "--json"))["now"] is None


def test_a_run_that_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    text = call(capsys, str(ROOT / "datasets" / "example_online"), "--once")
    assert "20 of 20" in text
    assert "the run has ended" in text
    assert [line.split()[0] for line in text.splitlines()] == ["run", "episodes", "person", "state", "policy"]


def test_no_run_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["console", str(tmp_path / "nowhere")])
    assert leaving.value.code == 3
    assert "There is nothing at" in capsys.readouterr().err


def test_the_newest_word_of_every_process(run: Path) -> None:
    tell(run, {"tick": 1}, {"tick": 2}, pid=1, age=2.0)
    tell(run, {"tick": 9}, pid=2, age=1.0)
    tell(run, {"tick": 5}, pid=3, age=FORGOTTEN_SECONDS + 9)
    with open(run / LIVE, "a") as file:
        file.write('{"t": 1, "tick"')  # still being written
    words = last_words(run, time.time())
    assert [(w["pid"], w["tick"]) for w in words] == [(2, 9), (1, 2)]
    assert 1.0 <= words[0]["age"] < 2.0 + 60
    assert last_words(run / "nowhere", time.time()) == []


def test_only_the_end_of_a_long_file_is_read(run: Path) -> None:
    tell(run, *({"tick": i, "filler": "x" * 100} for i in range(3 * TAIL // 150)), pid=4)
    (word,) = last_words(run, time.time())
    assert word["tick"] == 3 * TAIL // 150 - 1


class Terminal:
    """A terminal at which somebody presses keys, and which counts its bells."""

    def __init__(self) -> None:
        self.keys = [["y"], ["w", "t"], []]
        self.bells = 0

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to give back."""

    def poll(self) -> list[Any]:
        class Press:
            def __init__(self, key: str) -> None:
                self.key = key

        return [Press(key) for key in (self.keys.pop(0) if self.keys else [])]


def test_it_looks_again_and_again_rings_once_and_sends_keys(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal, looks = Terminal(), []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            tell(run, RECORD, RECORD, pid=os.getpid())
        if len(looks) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("bora_cli.input.keys.TerminalKeys", lambda: terminal)
    monkeypatch.setattr(console.time, "sleep", sleep)
    monkeypatch.setattr(console.Ui, "bell", lambda self: setattr(terminal, "bells", terminal.bells + 1))
    text = call(capsys, str(run))
    assert 4 <= 1 / looks[0] <= 5
    assert terminal.bells == 1
    assert (run / KEYS).read_text() == "y\nt\n"  # no key that would move the robot
    assert "the critic foresees failure" in text
    assert "n failure" in text


def test_what_a_control_loop_tells_is_what_is_shown(run: Path) -> None:
    told = Telemetry(run / LIVE)
    told.say(RECORD)
    told.close()
    (word,) = last_words(run, time.time())
    shown = console.lines_of({**EMPTY, "now": word})
    assert any("human (human), asked" in line.text for line in shown)


EMPTY: dict[str, Any] = {
    "task": "pick_toy",
    "gap": "none",
    "episodes": 0,
    "wanted": 0,
    "successes": 0,
    "takeovers": 0,
    "human_share": None,
    "training": None,
    "done": False,
    "warnings": [],
}


def test_an_ended_run_says_what_became_of_its_policy_and_nothing_of_now() -> None:
    ended = {**EMPTY, "done": True, "now": RECORD, "warnings": ["The last 5 episodes failed."]}
    for released, says in (([], "unchanged, no round's was released"), ([1, 2], "released after round 2")):
        lines = console.lines_of({**ended, "released": released}, keys=True)
        assert [(line.label, line.text) for line in lines[-2:]] == [
            ("state", "the run has ended"),
            ("policy", says),
        ]
        assert {line.label for line in lines} == {"run", "episodes", "person", "state", "policy"}


def test_whoever_records_is_not_held_up_by_who_looks_on(
    run: Path, toy_demos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking takes no lock: an append that found one taken would end the recording."""
    shutil.copytree(toy_demos, run / "episodes")
    monkeypatch.setattr("bora_cli.data.files.fcntl.flock", lambda *_: pytest.fail("a lock was asked for"))
    assert console.totals(read_live(run))["episodes"] == 8
