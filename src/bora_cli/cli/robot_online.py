"""`bora robot online` and `bora robot learn`: rounds of help, learning and blind tests on a robot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from bora_cli.cli import devices as d
from bora_cli.cli import options as o
from bora_cli.cli import robot_session as r
from bora_cli.cli.online import LISTEN_S, alarm_from, waiting

METHODS = ("bora", "bc_interventions")


def command(
    ctx: typer.Context,
    *,
    checkpoint: o.Checkpoint,
    prompt: Annotated[str, typer.Option("--prompt", metavar="TEXT", help="Told to the robot.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Run to make or continue.")],
    profile: r.Profile,
    robot: r.Address = "",
    token_file: r.Secret = None,
    driver: r.Driver = "",
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:WHERE]",
            help="keyboard, spacemouse, gamepad, udp ...",
            callback=d.known_device,
            show_default=False,
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Help, learn, test.")] = 2,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Per round, with help.")] = 10,
    pairs: Annotated[int, typer.Option(min=0, metavar="N", help="Of a test; 0: no test.")] = 5,
    limit: Annotated[float, typer.Option(metavar="S", help="Longest episode, s.")] = 60.0,
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="bora (default) or bc_interventions.",
            callback=o.known("method", METHODS),
            show_default=False,
        ),
    ] = "bora",
    residual: o.Residual = "mlp",
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Mixed in; else CHECKPOINT's.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of learning and test.")] = 0,
    window: Annotated[str, typer.Option(metavar="NAME", help="tk or none.")] = "tk",
    hand: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of `bora hand fit`.", show_default=False)
    ] = None,
    pedal: d.Pedals = None,
    udp_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of a udp device.", show_default=False, rich_help_panel=r.ROBOT),
    ] = None,
    alarm: Annotated[
        str | None, typer.Option(metavar="REPORT", help="Call for help: docs/online.md.", show_default=False)
    ] = None,
    elsewhere: Annotated[bool, typer.Option("--elsewhere", help="`bora robot learn` learns.")] = False,
    json: o.Json = False,
) -> None:
    """Help a policy on a robot, let it learn, and test blindly if it got better."""
    o.require_checkpoint(checkpoint)
    o.require_writable(out)
    o.require_datasets(data or [])
    where = r.Where(robot, token_file, driver, profile, out / "flights" if driver else Path("flights"))
    r.require_sane(window, limit)
    pedals = d.pedals(pedal, beside_policy=True)
    from bora_cli.control.flight import FlightRecorder
    from bora_cli.data.files import claimed
    from bora_cli.input.key_file import KEYS
    from bora_cli.train.on_robot import Place, rounds_on_robot

    ui = o.ui_of(ctx)
    seat = r.Place(window, hand, udp_token_file, device or ["keyboard"], ui.quiet, out / KEYS, pedals, True)
    with (
        claimed(out),
        r.station(where, seat) as (guarded, hardware, person),
        ui.progress(bars=window != "none") as progress,
    ):
        result = rounds_on_robot(
            checkpoint,
            Place(guarded, hardware, person, FlightRecorder(where.flights)),
            prompt=prompt,
            out=out,
            rounds=rounds,
            episodes=episodes,
            pairs=pairs,
            limit_s=limit,
            seed=seed,
            method=cast('Literal["bora", "bc_interventions"]', method),
            residual=cast('Literal["constant", "mlp"]', residual),
            data=data or None,
            alarm=alarm_from(alarm, checkpoint),
            elsewhere=elsewhere,
            wait=waiting(ui, LISTEN_S),
            progress=progress,
        )
    for warning in result["warnings"]:
        ui.warn(warning)
    finished = result["rounds"]

    def table() -> None:
        names = ("", *(f"round {done['index']}" for done in finished))
        rows = [(key, *(done[key] for done in finished)) for key in finished[0] if key != "index"]
        ui.table("", names, rows)

    ui.show(result, json, table if finished else lambda: ui.line("no round was finished"))
    if result["stopped"]:
        ui.say("the same command goes on")
    elif any(done["released"] for done in finished):
        ui.say(f"next: bora robot eval {result['policy']} ...")


def learn_command(
    ctx: typer.Context,
    *,
    checkpoint: o.Checkpoint,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out of `bora robot online --elsewhere`.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Mixed in; else CHECKPOINT's.", show_default=False),
    ] = None,
    json: o.Json = False,
) -> None:
    """Learn from the rounds of a robot, in a process or on a computer of its own.

    RUN is a directory that both see. Waits for the episodes of each round.
    """
    o.require_checkpoint(checkpoint)
    o.require_datasets(data or [])
    from bora_cli.train.robot_learner import learn_elsewhere

    ui = o.ui_of(ctx)
    with ui.progress() as progress:
        result = learn_elsewhere(checkpoint, run, data=data or None, wait=waiting(ui), progress=progress)
    ui.show(result, json, lambda: ui.line(f"learned from all {result['rounds']} rounds of {run}"))
