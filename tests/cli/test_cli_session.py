"""`bora doctor --session` at the simulator, with a glove whose wearer does as he is told."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bora_cli.cli.app import build
from bora_cli.cli.session import _Asked
from bora_cli.errors import Unanswered
from bora_cli.input.udp import UdpSender
from bora_cli.profiles import find_profile

TOKEN = "a secret of sixteen or more"


class Wearer:
    """Somebody who pushes where the terminal says, over UDP, fifty times a second."""

    def __init__(self, port: int) -> None:
        self.axis: int | None = None
        self._sender = UdpSender("127.0.0.1", port, token=TOKEN.encode(), clock=time.monotonic)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        beat = 0
        while not self._stop.wait(0.02):
            beat += 1
            twist = [0.0] * 6
            if self.axis is not None and beat % 20 > 8:
                twist[self.axis] = 0.9
            self._sender.send(twist=twist, hand=[], buttons=0)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._sender.close()


@pytest.fixture
def port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def wearer(port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wearer]:
    somebody = Wearer(port)
    tell = _Asked.tell

    def heard(self: _Asked, text: str) -> None:
        words = ("away", "left", "up, ")
        somebody.axis = next((axis for axis, word in enumerate(words) if f" {word}" in text), None)
        tell(self, text)

    monkeypatch.setattr(_Asked, "tell", heard)
    yield somebody
    somebody.close()


def patient_profile(folder: Path) -> str:
    """Return a profile of the simulator for machines on which a tenth of a second means nothing."""
    text = find_profile("sim").read_text()
    text = re.sub(r'(?m)^watchdog = ".*"$', 'watchdog = "500 ms"', text)
    text = re.sub(r"(?m)^acknowledged_by = .*$", "", text)
    more = 'acknowledged_by = "a test"\nwatchdog_robot = "60 s"\nwatchdog_cameras = "60 s"'
    (folder / "sim.toml").write_text(text.replace("[limits]", f"[limits]\n{more}"))
    return str(folder / "sim.toml")


def session(folder: Path, *arguments: str, given: str = "") -> tuple[int, str, str]:
    command = ["doctor", "--session", patient_profile(folder), "--out", str(folder), "--json", *arguments]
    result = CliRunner().invoke(build(), command, input=given)
    return result.exit_code, result.stdout[result.stdout.index("{") :], result.stderr  # answers are echoed


def test_the_walk_is_written_down(
    tmp_path: Path, wearer: Wearer, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, less in (("REST_S", 0.2), ("STOP_STEPS", 3), ("LOOKS", 2)):
        monkeypatch.setattr(f"bora_cli.control.walk.{name}", less)
    (tmp_path / "token").write_text(TOKEN)
    where = ("--device", f"udp:{port}", "--udp-token-file", str(tmp_path / "token"))
    code, out, err = session(tmp_path, *where, given="y\n" * 6)
    document = json.loads(out)
    assert {step["name"]: step["state"] for step in document["steps"]} == {
        "limits": "ok",
        "robot": "ok",
        "emergency stop": "ok",
        "camera scene": "ok",
        "camera wrist": "ok",
        f"device udp 127.0.0.1:{port}": "ok",
        "stop": "ok",
    }, err
    assert (code, document["ok"], document["profile"]) == (0, True, "sim")
    folder = Path(document["folder"])
    assert json.loads((folder / "session.json").read_text())["profile_hash"] == document["profile_hash"]
    assert sorted(path.name for path in folder.glob("*.png")) == ["camera-scene.png", "camera-wrist.png"]
    assert "Press the emergency stop now" in err


def test_a_no_ends_with_exit_code_4_and_a_record(tmp_path: Path) -> None:
    code, out, _ = session(tmp_path, given="y\nn\ny\ny\n")
    document = json.loads(out)
    assert (code, document["ok"]) == (4, False)
    assert [step["state"] for step in document["steps"]] == [
        "ok", "ok", "fail", "ok", "ok", "skipped", "skipped",
    ]  # fmt: skip
    assert (Path(document["folder"]) / "session.json").is_file()


def test_options_of_the_walk_alone_mean_nothing() -> None:
    result = CliRunner().invoke(build(), ["doctor", "--robot", "a:1"], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "--robot has no meaning without --session" in result.output


@pytest.mark.parametrize("given", ["", "y\n"])
def test_the_walk_stops_where_nobody_answers(given: str, tmp_path: Path) -> None:
    command = ["doctor", "--session", patient_profile(tmp_path), "--out", str(tmp_path)]
    error = CliRunner().invoke(build(), command, input=given).exception
    assert isinstance(error, Unanswered)
    assert (error.exit_code, str(error)) == (4, "The walk needs a person at a terminal; nobody answered.")
    (record,) = tmp_path.glob("session-*/session.json")
    written = json.loads(record.read_text())
    assert not written["ok"]
    assert [step["name"] for step in written["steps"]] == (["limits", "robot"] if given else [])
