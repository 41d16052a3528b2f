"""Devices by name on the command line, and in `bora doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from bora_cli.cli import doctor
from bora_cli.cli.app import build
from bora_cli.cli.devices import fingers_by, known_device, opened, pedals
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, DataError, MissingSystemLibrary, NoDevice
from bora_cli.evaluate.teleoperate import Driver
from bora_cli.input import spacemouse_open
from bora_cli.input.device import GRIP, TAKE_OVER
from bora_cli.input.keyboard import Keyboard
from bora_cli.input.spacemouse_open import Found
from bora_cli.input.synergies import fit_synergies
from bora_cli.profiles import load_profile


def test_doctor_tells_which_spacemice_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    mice = [
        Found("SpaceMouseCompact", "/dev/hidraw3", True, None, None),
        Found("SpaceMousePro", "/dev/hidraw4", False, None, None),
    ]
    monkeypatch.setattr(spacemouse_open, "find_spacemice", lambda: (mice, []))
    lines = [(check.state, check.detail) for check in doctor._devices()]
    assert lines[0] == ("ok", "SpaceMouseCompact at /dev/hidraw3")
    assert lines[1][0] == "note"
    assert "may not be opened: install what `bora profile udev` prints" in lines[1][1]


def test_doctor_does_not_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacemouse_open, "find_spacemice", lambda: ([], []))
    assert [(c.state, c.detail) for c in doctor._devices()] == [
        ("note", "none connected; the keyboard drives as well")
    ]

    def missing() -> None:
        raise MissingSystemLibrary("No hidapi.", "Install it.")

    monkeypatch.setattr(spacemouse_open, "find_spacemice", missing)
    assert [(c.state, c.detail) for c in doctor._devices()] == [("note", "No hidapi. Install it.")]


def test_teleop_without_the_device_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacemouse_open, "find_spacemice", lambda: ([], []))
    result = CliRunner().invoke(build(), ["teleop", "--task", "press_button", "--device", "spacemouse"])
    assert isinstance(result.exception, NoDevice)
    assert result.exception.hint == "Plug one in, or give --device keyboard."


def test_devices_that_were_opened_are_closed_if_the_next_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    first = SimpleNamespace(name="first", close=lambda: closed.append("first"))

    def open_one(where: str, **options: object) -> object:
        if where == "a":
            return first
        raise NoDevice("no b")

    monkeypatch.setattr(spacemouse_open, "open_spacemouse", open_one)
    names = ["keyboard", "spacemouse:a", "spacemouse:b"]
    with pytest.raises(NoDevice, match="no b"), opened(names, Keyboard(), load_profile("sim")):
        pass
    assert closed == ["first"]


def test_the_keyboard_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    mouse, keyboard = SimpleNamespace(name="mouse", close=lambda: None), Keyboard()
    monkeypatch.setattr(spacemouse_open, "open_spacemouse", lambda where, **options: mouse)
    with opened(["spacemouse"], keyboard, load_profile("sim")) as devices:
        assert devices == (mouse, keyboard)
    with opened(["keyboard"], keyboard, load_profile("sim")) as devices:
        assert devices == (keyboard,)


def test_a_udp_address_is_a_port_or_a_host_and_a_port(tmp_path: Path) -> None:
    hardware, token = load_profile("sim"), tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    for where in ("udp:0", "udp:127.0.0.1:0", "udp:[::1]:0"):
        with opened([where], Keyboard(), hardware, token) as (device, _):
            assert device.name.startswith("udp ")
            assert "nobody sends" in device.trouble
    for where, message in (
        ("udp:here", "has no port"),
        ("udp:0.0.0.0:0", "can be reached by others"),
    ):
        with pytest.raises(ConfigError, match=message), opened([where], Keyboard(), hardware):
            pass
    with (
        pytest.raises(ConfigError, match="cannot be read: No such file"),
        opened(["udp:0"], Keyboard(), hardware, tmp_path / "none"),
    ):
        pass


def test_a_gamepad_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def open_one(number: int | None) -> object:
        asked.append(number)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr("bora_cli.input.gamepad.open_gamepad", open_one)
    with opened(["gamepad", "gamepad:1"], Keyboard(), load_profile("sim")):
        assert asked == [None, 1]
    with (
        pytest.raises(ConfigError, match="gamepad:left is not a number"),
        opened(["gamepad:left"], Keyboard(), load_profile("sim")),
    ):
        pass


def test_a_recording_is_named_by_dataset_and_episode(toy_demos: Path) -> None:
    hardware = load_profile("sim")
    with opened([f"replay:{toy_demos}#1"], Keyboard(), hardware) as (device, _):
        assert device.left == len(Dataset.open(toy_demos).episode(1, images=False))
    for where, message in (
        ("mine", "names no episode"),
        ("mine#one", "names no episode"),
        ("#1", "names no episode"),
    ):
        with pytest.raises(ConfigError, match=message), opened([f"replay:{where}"], Keyboard(), hardware):
            pass
    for where in (f"{toy_demos}#99", "nowhere#0"):
        with pytest.raises(DataError), opened([f"replay:{where}"], Keyboard(), hardware):
            pass


def test_the_page_has_the_rules_that_are_printed() -> None:
    printed = CliRunner().invoke(build(), ["profile", "udev"]).output
    page = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()
    rules = [line for line in printed.splitlines() if line.startswith("KERNEL")]
    assert len(rules) == 3
    assert all(rule in page for rule in rules)


def test_pedals_are_keys_that_mean_nothing_else() -> None:
    assert pedals(None, beside_policy=False) == {}
    assert pedals(["b", "takeover=c"], beside_policy=True) == {"b": GRIP, "c": TAKE_OVER}
    assert pedals(["grip=x", "takeover=t"], beside_policy=True) == {"x": GRIP, "t": TAKE_OVER}
    for value, message in (
        ("left", "'left' is not one key"),
        ("lift=b", "'lift=b' is not one key"),
        ("takeover=", "'takeover=' is not one key"),
        ("y", "the key 'y' means 'success' already"),
        ("takeover=q", "the key 'q' means 'stop' already"),
        ("=", "the key '=' means 'larger steps' already"),
        ("t", "the key 't' means 'take over' already"),
    ):
        with pytest.raises(ConfigError, match=message):
            pedals([value], beside_policy=True)
    with pytest.raises(ConfigError, match="'b' is given twice"):
        pedals(["b", "takeover=b"], beside_policy=True)
    with pytest.raises(ConfigError, match="nobody takes over here"):
        pedals(["takeover=b"], beside_policy=False)


def test_one_device_may_have_the_fingers() -> None:
    keyboard, names = Keyboard(()), ["keyboard", "fingers=udp:0"]
    assert known_device(names) == names
    assert fingers_by(names) == 1
    assert fingers_by(["keyboard", "udp:0"]) is None
    with opened(names, keyboard, load_profile("sim")) as devices:
        assert [device.name.partition(" ")[0] for device in devices] == ["keyboard", "udp"]
    for strange in (["fingers=keyboard"], ["fingers=keyboard", "fingers=udp:0"]):
        with pytest.raises(ConfigError, match="expected one for the arm and one for them"):
            fingers_by(strange)


def test_devices_for_fingers_and_pedals_get_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The seat of every session knows which device it is, and what the keys of pedals ask for."""
    seats: list[tuple[int | None, object, tuple[str, ...]]] = []
    guides: list[list[str]] = []
    recordings: list[bool] = []
    words = ["--device", "keyboard", "--device", "fingers=udp:0", "--window", "none", "--pedal", "b"]
    words += ["--device", "replay:mine#0"]

    class Taken(Exception):
        pass

    def take(*given: object, **options: object) -> None:
        for value in (*given, *options.values()):
            driver = getattr(value, "driver", getattr(value, "_driver", value))
            if isinstance(driver, Driver):
                for key in "bc":
                    driver.keyboard.press(key, 0.0)
                said = driver.keyboard.read(0.0)
                seats.append((driver.fingers_by, driver.synergies, said.pressed if said else ()))
                guides.append([what for key, what in driver.desk._guide if key == "t"])
        raise Taken

    fit_hand = tmp_path / "hand.json"
    postures = list(load_profile("sim").postures.values())
    joints = [joint.name for joint in load_profile("sim").hand.joints]
    fit_hand.write_text(json.dumps(fit_synergies(postures, joints).to_json()))
    words += ["--hand", str(fit_hand)]
    monkeypatch.setattr("bora_cli.cli.desk.TerminalDesk.__enter__", lambda desk: desk)
    monkeypatch.setattr("bora_cli.cli.desk.TerminalDesk.__exit__", lambda *_: None)
    monkeypatch.setattr("bora_cli.evaluate.teleoperate.Session", take)
    monkeypatch.setattr("bora_cli.train.online.run_rounds", take)
    monkeypatch.setattr("bora_cli.train.on_robot.rounds_on_robot", take)
    monkeypatch.setattr("bora_cli.evaluate.robot_session.RobotSession", take)

    def replay(where: str, takes_over: bool) -> object:
        recordings.append(takes_over)
        return SimpleNamespace(name=where, close=lambda: None)

    monkeypatch.setattr("bora_cli.cli.devices._replay", replay)
    monkeypatch.setattr("bora_cli.evaluate.on_robot.evaluate_on_robot", take)
    robot_at = SimpleNamespace(close=lambda: None, spec=SimpleNamespace(name="x"))
    monkeypatch.setattr("bora_cli.cli.robot_session.connected", lambda *_: robot_at)
    policy, task = str(tmp_path / "policy"), ["--task", "press_button"]
    monkeypatch.setattr("bora_cli.cli.options.require_checkpoint", lambda path: None)
    Path(policy).mkdir()
    robot = ["--profile", "sim", "--driver", "a:b", "--prompt", "x"]
    both = ["--pedal", "takeover=c"]
    for command in (
        ["teleop", *task],
        ["robot", "collect", *robot, "--out", str(tmp_path / "c")],
        ["online", policy, *task, "--out", str(tmp_path / "a"), *both],
        ["robot", "online", policy, *robot, "--out", str(tmp_path / "b"), *both],
        ["robot", "eval", policy, *robot, *both],
    ):
        result = CliRunner().invoke(build(), [*command, *words])
        assert isinstance(result.exception, Taken), result.exception
    assert [number for number, _, _ in seats] == [1] * 5
    assert all(synergies is not None for _, synergies, _ in seats)
    assert [asked for _, _, asked in seats] == [(GRIP,)] * 2 + [(GRIP, TAKE_OVER)] * 3
    assert guides == [[]] * 2 + [["take over, and hand back"]] * 3
    assert recordings == [False] * 2 + [True] * 3
