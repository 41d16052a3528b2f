"""`bora profile`: make, list, show and check hardware profiles; let people use the device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import options as o

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
Name = Annotated[str, typer.Argument(metavar="NAME|FILE", help="Profile, by name or file.")]


@app.command("list", epilog="Example: bora profile list")
def list_command(ctx: typer.Context, json: o.Json = False) -> None:
    """List the profiles that come with bora: of robots, then of Gymnasium environments."""
    from bora_cli.profiles import list_environments, list_profiles, read_profile

    profiles = [read_profile(name) for name in (*list_profiles(), *list_environments())]
    document = [{"name": p.name, "hash": p.hash, "description": p.description} for p in profiles]
    ui = o.ui_of(ctx)
    ui.show(document, json, lambda: ui.table("", ("name", "hash", ""), [tuple(p.values()) for p in document]))


@app.command(epilog="Example: bora profile show sim")
def show(ctx: typer.Context, name: Name, json: o.Json = False) -> None:
    """Show a profile in SI units: limits, rates, cameras, operator and the action row."""
    from bora_cli.profiles import EnvProfile, read_profile

    profile = read_profile(name)
    spec = profile.action_spec
    document = {**profile.model_dump(mode="json"), "hash": profile.hash, "action": spec.to_json()}
    ui = o.ui_of(ctx)

    def tables() -> None:
        parts = {"name", "robot", "limits", "operator", "calibration", "env"}
        summary = profile.model_dump(include=parts, exclude_none=True)
        ui.report({**summary, "hash": profile.hash}, False)
        rows = list(zip(spec.names, spec.units, spec.low.tolist(), spec.high.tolist(), strict=True))
        ui.table("\naction", ("name", "unit", "low", "high"), rows)
        if isinstance(profile, EnvProfile):
            views = [(c.name, c.source, str(list(c.crop))) for c in profile.cameras]
            ui.table("\ncameras", ("name", "source", "crop"), views)
            return
        if profile.arm.joints is not None:
            ends = [(j.name, round(j.low, 4), round(j.high, 4), round(j.rate, 4)) for j in profile.arm.joints]
            ui.table("\njoints of the arm", ("name", "low, rad", "high, rad", "rate, rad/s"), ends)
        cameras = [(c.name, c.driver, f"{c.width}x{c.height}", c.rate, c.mount) for c in profile.cameras]
        ui.table("\ncameras", ("name", "driver", "px", "Hz", "mount"), cameras)

    ui.show(document, json, tables)


@app.command(epilog="Example: bora profile check my_rig.toml")
def check(ctx: typer.Context, name: Name, json: o.Json = False) -> None:
    """Check a profile before anything moves; exit code 3 on "error" and "unfit".

    "error": it cannot be used.  "unfit": no real robot may move with it yet.
    """
    from bora_cli.profiles import check_profile

    ui = o.ui_of(ctx)
    findings = check_profile(name)
    unfit = sum(finding.level == "unfit" for finding in findings)

    def lines() -> None:
        for finding in findings:
            ui.line(f"{finding.level}: {finding.where}: {finding.message}")
        if not findings:
            ui.line(f"{name}: nothing found")
        if unfit:
            ui.line(f"{unfit} unfit: no robot will move with it")

    ui.show([o.as_document(finding) for finding in findings], json, lines)
    if unfit or any(finding.level == "error" for finding in findings):
        raise typer.Exit(3)


@app.command(epilog="Example: bora profile new left_franka --like franka_dexhand021")
def new(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name: small letters, digits, _.")],
    like: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Profile to begin from.")
    ] = "franka_dexhand021",
    out: Annotated[Path | None, typer.Option(help="File to write; NAME.toml by default.")] = None,
    json: o.Json = False,
) -> None:
    """Write a profile for a new rig, to be filled in and signed; nothing is written over."""
    from bora_cli.profiles import check_profile, new_profile

    ui = o.ui_of(ctx)
    path = new_profile(name, like, out or Path(f"{name}.toml"))
    open_points = sum(finding.level in ("error", "unfit") for finding in check_profile(path))
    ui.show({"profile": name, "file": str(path), "open": open_points}, json, lambda: ui.line(str(path)))
    ui.say(f"{open_points} points keep a robot from moving with it: bora profile check {path}")


@app.command(epilog="Example: bora profile udev > 70-bora-spacemouse.rules")
def udev(ctx: typer.Context) -> None:
    """Print the udev rules that let people use a SpaceMouse without root."""
    from bora_cli.profiles import UDEV_RULES

    for line in UDEV_RULES.splitlines():
        o.ui_of(ctx).line(line)
