"""`bora doctor --session`: the walk before a session, with the person who is going to stand beside the robot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from bora_cli.cli import devices as d
from bora_cli.cli import options as o
from bora_cli.cli.robot_session import Where, connected
from bora_cli.cli.ui import Ui
from bora_cli.errors import ConfigError, Unanswered


def walk_session(
    ctx: typer.Context,
    where: Callable[[], Where] | None,
    profile: str,
    *,
    names: Sequence[str],
    token: Path | None,
    out: Path,
    json: bool,
) -> None:
    """Walk through a session's start, write down what came of it, and leave with exit code 4 if a step failed.

    where: the robot; None is the simulator, where the profile is for it.  names: devices.  out: folder of records.
    Raises Unanswered, after what was done so far is written down, if nobody answers a question.
    """
    from bora_cli.control.walk import walk
    from bora_cli.data.files import write_json
    from bora_cli.input.keyboard import Keyboard
    from bora_cli.profiles import check_profile, load_profile

    ui = o.ui_of(ctx)
    hardware = load_profile(profile)
    if errors := [f for f in check_profile(profile) if f.level == "error"]:
        raise ConfigError(
            f"Profile '{profile}': {errors[0].where}: {errors[0].message}.",
            f"See all with `bora profile check {profile}`.",
        )
    folder = out / f"session-{time.strftime('%Y%m%dT%H%M%S')}"
    folder.mkdir(parents=True)
    keyboard = Keyboard(tuple(hardware.postures))
    steps = []
    unanswered: Unanswered | None = None
    with (
        _robot(where, profile, hardware) as robot,
        d.opened(list(names), keyboard, hardware, token) as opened,
    ):
        held = [device for device in opened if device is not keyboard]
        try:
            for step in walk(robot, hardware, held, _Asked(ui, folder)):
                ui.say(f"{step.name}: {step.state}; {step.detail}")
                steps.append(step)
        except Unanswered as error:
            unanswered = error
        spec = robot.spec
    document = {
        "ok": unanswered is None and all(step.state == "ok" for step in steps),
        "at": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "profile": hardware.name,
        "profile_hash": hardware.hash,
        "robot": spec.name,
        "steps": [step.to_json() for step in steps],
    }
    write_json(folder / "session.json", document)
    if unanswered is not None:
        raise unanswered

    def lines() -> None:
        ui.table("", ("step", "state", ""), [(s.name, s.state, s.detail) for s in steps])
        ui.line(f"written to {folder}")

    ui.show({**document, "folder": str(folder)}, json, lines)
    if any(step.state == "fail" for step in steps):
        raise typer.Exit(4)


@contextmanager
def _robot(where: Callable[[], Where] | None, profile: str, hardware: Any) -> Iterator[Any]:
    if where is not None:
        robot = connected(where(), hardware)
    else:
        from bora_cli.cli.robot import simulated
        from bora_cli.control.guard import GuardedRobot

        robot = GuardedRobot.from_profile(simulated(profile, "press_button", 0, time.monotonic), hardware)
    try:
        yield robot
    finally:
        robot.close()


class _Asked:
    """The person at this terminal; pictures go to a folder."""

    def __init__(self, ui: Ui, folder: Path) -> None:
        self._ui, self._folder = ui, folder

    def tell(self, text: str) -> None:
        self._ui.say(text)

    def asks(self, question: str) -> bool:
        try:
            return typer.confirm(question, err=True)
        except typer.Abort as error:  # Ctrl-C, Ctrl-D, or no terminal at all
            typer.echo(err=True)  # the question did not end its line
            raise Unanswered("The walk needs a person at a terminal; nobody answered.") from error

    def shows(self, camera: str, image: Any) -> str:
        from PIL import Image

        path = self._folder / f"camera-{camera}.png"
        Image.fromarray(image).save(path)
        return str(path)
