"""`bora robot`: what it says and how it ends."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bora_cli.cli.app import build
from bora_cli.errors import NoDevice
from bora_cli.profiles import load_profile
from robot_fakes import FakeRobot, completed_profile


def run(*arguments: str, given: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(build(), ["robot", *arguments], input=given)
    return result.exit_code, result.stdout, result.stderr


def test_the_simulator_is_a_proven_robot() -> None:
    code, out, _ = run("check", "--json")
    assert code == 0
    document = json.loads(out)
    assert document["ok"]
    assert document["checks"][0] == "spec"
    assert document["findings"] == []


def test_nothing_moves_without_consent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "lab_driver.py").write_text("def connect(profile):\n    raise AssertionError('moved')\n")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rig.toml").write_text(completed_profile())
    profile = ("--profile", str(tmp_path / "rig.toml"), "--driver", "lab_driver:connect")
    code, out, err = run("check", *profile, given="n\n")
    assert code == 1
    assert "Is the emergency stop tested, and in reach?" in err
    assert "moved" not in out + err


def test_a_driver_that_breaks_its_contract_is_exit_code_4(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = (
        "from dataclasses import replace\nimport time\nfrom robot_fakes import SPEC, FakeRobot\n"
        "def connect(profile):\n    return FakeRobot(time.monotonic, spec=replace(SPEC, dt=0.0))\n"
    )
    (tmp_path / "bad_driver.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rig.toml").write_text(completed_profile())
    profile = ("--profile", str(tmp_path / "rig.toml"), "--driver", "bad_driver:connect")
    code, out, _ = run("check", *profile, "--yes")
    assert code == 4
    assert "spec: dt is 0.0 s" in out
    assert FakeRobot.__doc__


def test_an_unfinished_profile_moves_nothing() -> None:
    result = CliRunner().invoke(
        build(), ["robot", "check", "--profile", "franka_dexhand021", "--driver", "no:matter", "--yes"]
    )
    assert "Nothing moves with profile 'franka_dexhand021'" in str(result.exception)


@pytest.mark.parametrize("verb", ["collect", "eval", "online"])
@pytest.mark.parametrize(
    ("profile", "says"), [("rig.toml", "There is no display"), ("unfit.toml", "Nothing moves with profile")]
)
def test_no_robot_is_connected_in_vain(
    verb: str, profile: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_policy: Path
) -> None:
    """Without a display, or with an unfit profile, nothing is asked of the server."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("connected")

    def blind(_: object) -> None:
        raise NoDevice("There is no display for a window.")

    monkeypatch.setattr("bora_cli.robot.client.RemoteRobot.connect", never)
    monkeypatch.setattr("bora_cli.cli.desk.WindowDesk.__enter__", blind)
    monkeypatch.chdir(tmp_path)
    Path("rig.toml").write_text(completed_profile())
    Path("unfit.toml").write_text(completed_profile().replace("sign = 1,", ""))
    Path("token").write_text("x" * 32)
    command = ["robot", verb, *([] if verb == "collect" else [str(toy_policy)])]
    command += ["--robot", "a:1", "--token-file", "token", "--profile", profile, "--prompt", "x"]
    result = CliRunner().invoke(build(), [*command, *([] if verb == "eval" else ["--out", "out"])])
    assert says in str(result.exception)


@pytest.mark.parametrize("as_json", [False, True])
def test_rounds_that_changed_nothing_say_why(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_policy: Path
) -> None:
    why = "nothing learned: 0 takeovers, 4 are needed; the policy is unchanged"
    finished = {"index": 1, "takeovers": 0, "released": False}
    told = {"policy": "run/policy", "rounds": [finished], "stopped": False, "warnings": [why]}
    monkeypatch.setattr("bora_cli.train.on_robot.rounds_on_robot", lambda *_, **__: told)
    monkeypatch.setattr(
        "bora_cli.cli.robot_session.station", lambda *_: nullcontext((None, load_profile("sim"), None))
    )
    command = ["robot", "online", str(toy_policy), "--out", str(tmp_path / "run"), "--driver", "a:b"]
    command += ["--profile", "sim", "--prompt", "x", *(["--json"] if as_json else [])]
    result = CliRunner().invoke(build(), command)
    assert result.exit_code == 0, result.exception
    assert f"warning: {why}\n" in result.stderr
    assert "next:" not in result.stderr
    if as_json:
        assert json.loads(result.stdout)["warnings"] == [why]
