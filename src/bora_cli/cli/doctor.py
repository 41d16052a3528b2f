"""`bora doctor`: is everything here that bora needs, and, with --session, is the rig ready for people?"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from bora_cli.cli import devices as d
from bora_cli.cli import options as o
from bora_cli.cli import robot_session as r
from bora_cli.errors import BoraError

SESSION = "Before a session"
PACKAGES = ("torch", "transformers", "safetensors", "numpy", "mujoco", "pyarrow", "polars", "typer", "marimo")


@dataclass(frozen=True)
class Check:
    """One line of the report; only "fail" means that something will not work."""

    name: str
    state: Literal["ok", "note", "fail"]
    detail: str


def command(
    ctx: typer.Context,
    *,
    session: Annotated[
        str,
        typer.Option(
            metavar="PROFILE",
            help="Instead, walk through stop, limits, cameras, device of a rig.",
            show_default=False,
            rich_help_panel=SESSION,
        ),
    ] = "",
    robot: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="Of `bora robot serve`.", rich_help_panel=SESSION),
    ] = "",
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The server's secret.", rich_help_panel=SESSION),
    ] = None,
    driver: Annotated[
        str,
        typer.Option(metavar="MODULE:NAME", help="Or a driver in this process.", rich_help_panel=SESSION),
    ] = "",
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:WHERE]",
            help=f"{o.choice(d.DEVICES)}.",
            callback=d.known_device,
            rich_help_panel=SESSION,
        ),
    ] = None,
    udp_token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Secret of a udp device.", rich_help_panel=SESSION),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the record of the walk goes.", rich_help_panel=SESSION)
    ] = Path("sessions"),
    json: o.Json = False,
) -> None:
    """Check this installation: packages, rendering, weights, profiles, devices, disk.

    Exit code 3 if a check fails; 4 if a step of a session's walk does.
    """
    if session:
        from bora_cli.cli.session import walk_session

        o.require_writable(out)
        where = (lambda: r.Where(robot, token_file, driver, session)) if robot or driver else None
        walk_session(ctx, where, session, names=device or [], token=udp_token_file, out=out, json=json)
        return
    if given := [name for name in ("robot", "driver", "device", "out") if o.was_given(ctx, name)]:
        raise typer.BadParameter(f"--{given[0]} has no meaning without --session.")
    ui = o.ui_of(ctx)
    checks: list[Check] = []
    steps = (_python, _packages, _cores, _torch, _rendering, _backbone, _profiles, _devices, _disk)
    with ui.progress() as progress:
        for number, step in enumerate(steps, 1):
            checks.extend(step())
            progress("doctor", number, len(steps))
    document = {"ok": all(c.state != "fail" for c in checks), "checks": [o.as_document(c) for c in checks]}
    ui.show(
        document,
        json,
        lambda: ui.table("", ("check", "state", ""), [(c.name, c.state, c.detail) for c in checks]),
    )
    if not document["ok"]:
        raise typer.Exit(3)


def _python() -> Iterator[Check]:
    new_enough = sys.version_info >= (3, 11)
    yield Check("python", "ok" if new_enough else "fail", f"{platform.python_version()} at {sys.executable}")


def _packages() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    for name in PACKAGES:
        try:
            yield Check(name, "ok", version(name))
        except PackageNotFoundError:
            yield Check(name, "fail", f"not installed; run `pip install {name}`")


def _cores() -> Iterator[Check]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("cores", "ok" if usable > 1 else "note", str(usable))


def _torch() -> Iterator[Check]:
    try:
        import torch
    except ImportError as error:
        yield Check("torch device", "fail", f"cannot be imported: {error}")
        return
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu only"
    yield Check("torch device", "ok", f"{device}, {torch.get_num_threads()} threads")


def _rendering() -> Iterator[Check]:
    from bora_cli.sim.render import probe_backends

    found = probe_backends()
    usable = any(ok for _, ok, _ in found)
    for name, ok, why in found:
        state: Literal["ok", "note", "fail"] = "ok" if ok else "note" if usable else "fail"
        yield Check(f"render {name}", state, why or "works")


def _backbone() -> Iterator[Check]:
    from bora_cli.checkpoint import TINY, load_backbone

    try:
        yield Check("backbone", "ok", f"{TINY}, hash {load_backbone(TINY).hash}")
    except BoraError as error:
        yield Check("backbone", "fail", str(error))


def _profiles() -> Iterator[Check]:
    from bora_cli.profiles import list_profiles, load_profile

    names = list_profiles()
    if not names:
        yield Check("profiles", "fail", "none found; reinstall bora-cli")
    for name in names:
        try:
            yield Check(f"profile {name}", "ok", f"hash {load_profile(name).hash}")
        except BoraError as error:
            yield Check(f"profile {name}", "fail", str(error))


def _devices() -> Iterator[Check]:
    """What a person could drive with; none is needed."""
    from bora_cli.input.spacemouse_open import find_spacemice

    try:
        found, _ = find_spacemice()
    except BoraError as error:
        yield Check("spacemouse", "note", str(error))
        return
    if not found:
        yield Check("spacemouse", "note", "none connected; the keyboard drives as well")
    for device in found:
        remedy = "" if device.allowed else "; it may not be opened: install what `bora profile udev` prints"
        yield Check(
            "spacemouse", "ok" if device.allowed else "note", f"{device.model} at {device.path}{remedy}"
        )


def _disk() -> Iterator[Check]:
    here = Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=here) as file:
            file.write(b"bora")
    except OSError as error:
        yield Check("disk", "note", f"cannot write to {here} ({error}); give --out a directory elsewhere")
        return
    stat = os.statvfs(here)
    free = stat.f_bavail * stat.f_frsize / 2**30
    yield Check("disk", "ok" if free > 1 else "note", f"{free:.1f} GiB free at {here}")
