"""`bora sim`: look at the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import options as o
from bora_cli.errors import ConfigError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
PICTURES = (".png", ".webp")


@app.callback()
def simulator() -> None:
    """Look at the simulator."""


@app.command(epilog="Example: bora sim gallery --out gallery.webp")
def gallery(
    ctx: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Picture to write: .png or .webp.")],
    quick: Annotated[bool, typer.Option("--quick", help="Small, with hard shadows.")] = False,
) -> None:
    """Write one picture of all tasks in all settings, with an expert half-way through each.

    Takes a minute or two; without OpenGL there are no shadows.
    """
    if out.suffix not in PICTURES:
        raise ConfigError(f"--out {out} is neither .png nor .webp.", "Name it gallery.webp.")
    o.require_writable(out.parent)
    from PIL import Image

    from bora_cli.sim.gallery import SUNS, Sheet, gallery

    ui = o.ui_of(ctx)
    with ui.progress() as progress:
        sheet = Sheet(cell=96, gap=4, head=18, label=14) if quick else Sheet()
        picture = gallery(sheet=sheet, suns=1 if quick else SUNS, progress=progress)
    Image.fromarray(picture).save(out, quality=86, method=6)
    ui.say(f"gallery: {out}")
