"""`bora collect`: record demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import environment as e
from bora_cli.cli import options as o


def _image_side(value: int) -> int:
    """Accept 16 to 512 pixels; as a range of the option it would take a fifth of the width of the help."""
    if not 16 <= value <= 512:
        raise typer.BadParameter(f"{value} is not in the range 16 to 512.")
    return value


def command(
    ctx: typer.Context,
    *,
    task: e.Task = "",
    env: e.Env = "",
    replay: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --env: a dataset whose actions are repeated.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Dataset to make or continue.")],
    episodes: o.Episodes = 100,
    profile: o.Profile = "sim",
    operator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Who: simulated; with --env MODULE:NAME.",
            show_default=False,
        ),
    ] = "simulated",
    quality: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="mixed, expert or shares: early_release=0.3,jitter=0.1.",
            callback=o.known_quality,
        ),
    ] = "mixed",
    setting: o.Setting = "standard",
    gap: o.Gap = "none",
    seed: o.Seed = 0,
    workers: o.WorkerCount = 0,
    image_size: Annotated[
        int, typer.Option(metavar="PX", help="Side of the images, 16 to 512.", callback=_image_side)
    ] = 64,
    video: Annotated[
        str,
        typer.Option(
            metavar="CODEC", help="Images as h264-lossless, h264 or av1, not PNG.", show_default=False
        ),
    ] = "",
    json: o.Json = False,
) -> None:
    """Record demonstrations into a dataset.

    Interrupted? The same command goes on, and ends with the same data.
    """
    e.require_task(task, env)
    o.require_writable(out)
    if env:
        e.refuse(ctx, ("profile", "quality", "setting", "gap", "workers", "video"), with_env=True)
        count = episodes if o.was_given(ctx, "episodes") else None
        person = operator if o.was_given(ctx, "operator") else ""
        e.collect(
            ctx,
            env,
            out,
            source=replay,
            operator=person,
            episodes=count,
            seed=seed,
            image_size=image_size,
            json=json,
        )
        return
    e.refuse(ctx, ("replay",), with_env=False)
    o.known("operator", o.OPERATORS)(operator)
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.collect import collect
    from bora_cli.evaluate.workers import Workers
    from bora_cli.sim.mistakes import require_quality

    require_quality(quality, task)
    ui = o.ui_of(ctx)
    with claimed(out), ui.progress() as progress, Workers(workers or None) as pool:
        dataset = collect(
            task=task,
            episodes=episodes,
            out=out,
            profile=profile,
            operator=operator,
            quality=quality,
            setting=setting,
            gap=gap,
            seed=seed,
            image_size=image_size,
            video=video,
            workers=pool,
            progress=progress,
        )
    ui.report({"dataset": str(out), **dataset.summary()}, json)
    ui.say(f"next: bora train filtered_bc --data {out} --out policy")
