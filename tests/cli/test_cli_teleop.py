"""`bora teleop` in a terminal: typed keys, a recorded episode, and one clear error where nobody can sit."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bora_cli.cli.app import build
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, NoDevice
from typist import Typist

COMMAND = ["teleop", "--task", "press_button", "--image-size", "16", "--json"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "mine"


@pytest.fixture
def typist(out: Path) -> Iterator[Typist]:
    person = Typist(*COMMAND, "--window", "none", "--out", str(out))
    yield person
    person.close()


def test_a_person_in_a_terminal_records_an_episode(typist: Typist, out: Path) -> None:
    typist.wait_for("press enter to begin")
    typist.type("\r")
    typist.wait_for("/60 s")
    typist.type("\x1b[Aw ")
    typist.wait_for("hand to close")
    typist.type("n")
    typist.wait_for("failure,")
    typist.type("q")
    code, stdout = typist.ended()
    assert code == 0
    assert typist.restored()
    result = json.loads(stdout)
    assert (result["recorded"], result["successes"], result["devices"]) == (1, 0, ["keyboard"])
    episode = Dataset.open(out).episode(0)
    assert episode.human[:, :6].any()
    assert (episode.human[-1, 6:] != episode.human[0, 6:]).any()
    assert not check(out)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_session_that_is_ended_from_outside_restores_the_terminal(
    typist: Typist, out: Path, how: signal.Signals, code: int
) -> None:
    typist.wait_for("press enter to begin")
    typist.type("\r")
    typist.wait_for("/60 s")
    typist.process.send_signal(how)
    assert typist.ended()[0] == code
    assert typist.restored()
    assert len(Dataset.open(out)) == 0


@pytest.mark.parametrize("arguments", [("--task", "press_button"), ("--profile", "sim")])
def test_without_a_display_the_remedy_is_named(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    result = CliRunner().invoke(build(), ["teleop", *arguments])
    assert isinstance(result.exception, NoDevice)
    assert "There is no display for a window" in result.exception.message
    assert "give --window none" in result.exception.hint


def test_without_a_terminal_the_remedy_is_named() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "bora_cli", *COMMAND, "--window", "none"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 4
    assert result.stdout == ""
    assert "error: Standard input is no terminal" in result.stderr
    assert "hint: Start it in a terminal" in result.stderr


def test_arguments_that_make_no_sense() -> None:
    for arguments, message in (
        (["--device", "spacemose"], "'spacemose' is not a device"),
        (["--window", "gtk"], "'gtk' is not a window"),
    ):
        result = CliRunner().invoke(
            build(), ["teleop", "--task", "press_button", *arguments], env={"COLUMNS": "200"}
        )
        assert result.exit_code == 2
        assert message in result.output
    for arguments, message in (
        (["--pedal", "left"], "'left' is not one key"),
        (["--pedal", "q"], "--pedal q: the key 'q' means 'stop' already"),
        (["--pedal", "takeover=b"], "--pedal takeover=b: nobody takes over here"),
        (["--limit", "0"], "--limit 0 is not in the range 1 to 600"),
        (["--image-size", "8"], "--image-size 8 is not in the range 16 to 512"),
    ):
        result = CliRunner().invoke(build(), ["teleop", "--task", "press_button", *arguments])
        assert isinstance(result.exception, ConfigError)
        assert message in result.exception.message
