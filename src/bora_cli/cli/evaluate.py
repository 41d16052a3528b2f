"""`bora eval` and `bora replay`: executing, and counting what happens."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import environment as e
from bora_cli.cli import options as o

FILMED = 3
"""Episodes in the film of an evaluation."""
FILM_SIZE = 320
"""Side of its pictures, px; a report holds several films and keeps smaller ones."""


def eval_command(
    ctx: typer.Context,
    *,
    checkpoint: o.Checkpoint,
    task: e.Task = "",
    env: e.Env = "",
    setting: o.Setting = "standard",
    gap: o.Gap = "none",
    episodes: o.Episodes = 100,
    seed: o.Seed = 7,
    profile: o.Profile = "sim",
    workers: o.WorkerCount = 0,
    video: o.Film = None,
    record: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also record a dataset (made or continued)."),
    ] = None,
    json: o.Json = False,
) -> None:
    """Count the successes of a policy acting alone, with a 95 % interval.

    Scenes are SEED, SEED+1, ...: with the same seed two policies meet the same.
    """
    e.require_task(task, env)
    o.require_checkpoint(checkpoint)
    o.require_film(video)
    if env:
        e.refuse(ctx, ("setting", "gap", "profile", "workers", "video"), with_env=True)
        e.evaluate(ctx, checkpoint, env, episodes=episodes, seed=seed, record=record, json=json)
        return
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.evaluate import evaluate
    from bora_cli.evaluate.workers import Workers

    ui = o.ui_of(ctx)
    claim = nullcontext() if record is None else claimed(record)
    with claim, ui.progress() as progress, Workers(workers or None) as pool:
        result = evaluate(
            checkpoint,
            task=task,
            setting=setting,
            gap=gap,
            episodes=episodes,
            seed=seed,
            profile=profile,
            record=record,
            workers=pool,
            progress=progress,
        )
        if video is not None:
            from bora_cli.analysis.media import webp_film
            from bora_cli.evaluate.film import film

            scenes = [t.scene_seed for t in result.trials[:FILMED]]
            video.write_bytes(webp_film(film(result.job, scenes, progress, size=FILM_SIZE)))
            ui.say(f"film of the first episodes: {video}")
    document = result.to_json()
    for warning in result.warnings:
        ui.warn(warning)

    def sentence() -> None:
        ui.line(e.counted(document["successes"], document["episodes"], document["wilson95"]))
        ui.line(f"{task}, {setting}, gap {result.job.gap}, scenes {seed} to {seed + episodes - 1}")

    ui.show(document, json, sentence)


def replay_command(
    ctx: typer.Context,
    *,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="Directory made by `bora collect`.")],
    episode: Annotated[int, typer.Option(min=0, metavar="N", help="Number of the episode.")] = 0,
    env: Annotated[
        str,
        typer.Option(metavar="NAME|FILE", help="The Gymnasium environment it belongs to."),
    ] = "",
    every: Annotated[bool, typer.Option("--all", help="With --env: every episode, and count.")] = False,
    video: o.Film = None,
    json: o.Json = False,
) -> None:
    """Execute a recorded episode again and say whether the same thing happens."""
    if every and not env:
        raise typer.BadParameter("--all has no meaning without --env.")
    if every and o.was_given(ctx, "episode"):
        raise typer.BadParameter("--all and --episode exclude each other.")
    o.require_datasets([dataset])
    o.require_film(video)
    if env:
        e.replay(ctx, dataset, env, episode=None if every else episode, video=video, json=json)
        return
    from bora_cli.evaluate.replay import replay

    ui = o.ui_of(ctx)
    with ui.progress() as progress:
        result = replay(dataset, episode, film=video is not None, progress=progress)
    if video is not None:
        from bora_cli.analysis.media import webp_film

        video.write_bytes(webp_film(result.frames, fps=result.fps))
        ui.say(f"film: {video}")
    ui.report(result.to_json(), json)
