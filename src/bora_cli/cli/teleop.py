"""`bora teleop`: a person drives the simulator, and can record what he does."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from bora_cli.cli import devices as d
from bora_cli.cli import options as o
from bora_cli.errors import ConfigError

WINDOWS = ("tk", "none")
FRAMES = ("view", "base")


def command(
    ctx: typer.Context,
    *,
    task: o.Task = "pick_toy",
    profile: Annotated[str, typer.Option(metavar="NAME|FILE", help="Hardware profile.")] = "sim",
    device: d.Names = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Record into this dataset.", show_default=False)
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Stop after so many, else by key.", show_default=False),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="tk, or none (terminal only).", callback=o.known("window", WINDOWS)
        ),
    ] = "tk",
    hand: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Synergies from `bora hand fit`.", show_default=False)
    ] = None,
    frame: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="view (as in the picture) or base.", callback=o.known("frame", FRAMES)
        ),
    ] = "view",
    pedal: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Key of a pedal that grips.", show_default=False),
    ] = None,
    token: d.Token = None,
    setting: o.Setting = "standard",
    gap: o.Gap = "none",
    seed: o.Seed = 0,
    limit: Annotated[float, typer.Option(metavar="S", help="Longest episode, 1 to 600 s.")] = 60.0,
    image_size: Annotated[int, typer.Option(metavar="PX", help="Side of the images, 16 to 512.")] = 64,
    json: o.Json = False,
) -> None:
    """Drive the simulator yourself, in real time; see docs/operators.md."""
    if out is not None:
        o.require_writable(out)
    for name, value, low, high in (("limit", limit, 1, 600), ("image-size", image_size, 16, 512)):
        if not low <= value <= high:
            raise ConfigError(
                f"--{name} {value:g} is not in the range {low} to {high}.", "Choose another one."
            )
    pedals = d.pedals(pedal, beside_policy=False)
    from bora_cli.cli.desk import TerminalDesk, WindowDesk
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.guard import sim_profile
    from bora_cli.evaluate.teleoperate import SESSION_HELP, Driver, Session, TeleopJob
    from bora_cli.input.keyboard import HELP, Keyboard
    from bora_cli.input.synergies import load_synergies
    from bora_cli.sim.gaps import parse_gap

    ui = o.ui_of(ctx)
    hardware = sim_profile(profile)
    synergies = load_synergies(hand) if hand is not None else None
    keyboard = Keyboard(tuple(hardware.postures), pedals)
    guide = (*SESSION_HELP, *HELP)
    desk: Any = WindowDesk(guide) if window == "tk" else TerminalDesk(guide, ui.quiet)
    claim: AbstractContextManager[Any] = claimed(out) if out is not None else nullcontext()
    job = TeleopJob(profile, hardware.hash, task, setting, parse_gap(gap).identity, seed, image_size, limit)
    names = device or ["keyboard"]
    puck = d.fingers_by(names)
    with claim, d.opened(names, keyboard, hardware, token) as opened, desk:
        driver = Driver(desk, keyboard, opened, time.monotonic, time.sleep, frame, puck, synergies)
        session = Session(job, driver, out)
        tally = session.run(episodes)
    document: dict[str, Any] = {**vars(tally), "devices": [each.name for each in opened]}
    if session.dataset is not None:
        document = {"dataset": str(out), **document, "all": session.dataset.summary()}
    ui.report(document, json)
    if session.dataset is not None and len(session.dataset):
        ui.say(f"next: bora data view {out}")
