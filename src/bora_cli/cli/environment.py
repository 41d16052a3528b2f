"""What `--env` makes of `bora collect`, `bora eval` and `bora replay`: a Gymnasium environment instead of ours."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from bora_cli.cli import options as o


def known_task(value: str) -> str:
    """Accept a task, or nothing."""
    return o.known("task", o.TASKS)(value) if value else value


Task = Annotated[
    str,
    typer.Option(
        "--task", metavar="TASK", help=f"{o.choice(o.TASKS)}.", callback=known_task, show_default=False
    ),
]
Env = Annotated[
    str,
    typer.Option("--env", metavar="NAME|FILE", help="Instead: a Gymnasium environment.", show_default=False),
]


def refuse(ctx: typer.Context, names: tuple[str, ...], *, with_env: bool) -> None:
    """Raise BadParameter if an option stands on the command line that means nothing with (or without) --env."""
    for name in names:
        if o.was_given(ctx, name):
            option = f"--{name.replace('_', '-')}"
            raise typer.BadParameter(f"{option} has no meaning {'with' if with_env else 'without'} --env.")


def require_task(task: str, env: str) -> None:
    """Raise BadParameter unless exactly one of --task and --env is given."""
    if task and env:
        raise typer.BadParameter("--task has no meaning with --env: the profile says what to do.")
    if not task and not env:
        raise typer.BadParameter("Missing option '--task' (or '--env' for a Gymnasium environment).")


def collect(
    ctx: typer.Context,
    env: str,
    out: Path,
    *,
    source: Path | None,
    operator: str,
    episodes: int | None,
    seed: int,
    image_size: int,
    json: bool,
) -> None:
    """Record episodes of an environment."""
    if source is not None:
        o.require_datasets([source])
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.environments import collect_env
    from bora_cli.profiles import load_environment

    ui = o.ui_of(ctx)
    profile = load_environment(env)
    with claimed(out), ui.progress() as progress:
        dataset = collect_env(
            profile,
            out=out,
            episodes=episodes,
            source=source,
            operator=operator,
            seed=seed,
            image_size=image_size,
            progress=progress,
        )
    ui.report({"dataset": str(out), **dataset.summary()}, json)
    ui.say(f"next: bora train filtered_bc --data {out} --out policy")


def evaluate(
    ctx: typer.Context,
    checkpoint: Path,
    env: str,
    *,
    episodes: int,
    seed: int,
    record: Path | None,
    json: bool,
) -> None:
    """Count the successes of a policy in an environment."""
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.environments import evaluate_env
    from bora_cli.profiles import load_environment

    ui = o.ui_of(ctx)
    profile = load_environment(env)
    claim = nullcontext() if record is None else claimed(record)
    with claim, ui.progress() as progress:
        result = evaluate_env(
            checkpoint, profile, episodes=episodes, seed=seed, record=record, progress=progress
        )
    document = result.to_json()
    for warning in result.warnings:
        ui.warn(warning)

    def sentence() -> None:
        ui.line(counted(document["successes"], document["episodes"], document["wilson95"]))
        ui.line(f"{profile.env.id}, profile {profile.name}, seeds {seed} to {seed + episodes - 1}")

    ui.show(document, json, sentence)


def replay(
    ctx: typer.Context, dataset: Path, env: str, *, episode: int | None, video: Path | None, json: bool
) -> None:
    """Execute recorded actions in an environment, and count."""
    from bora_cli.evaluate.environments import replay_env, summary_of
    from bora_cli.profiles import load_environment

    ui = o.ui_of(ctx)
    with ui.progress() as progress:
        replays = replay_env(
            dataset, load_environment(env), index=episode, film=video is not None, progress=progress
        )
    if video is not None:
        from bora_cli.analysis.media import webp_film

        frames = [frame for one in replays for frame in one.frames]
        video.write_bytes(webp_film(frames, fps=replays[0].fps))
        ui.say(f"film: {video}")
    document: dict[str, Any] = summary_of(replays)

    def sentence() -> None:
        ui.line(counted(document["successes"], document["episodes"], document["wilson95"]))
        ui.line(
            f"recorded as successes: {document['recorded_successes']};"
            f" same outcome: {document['same_outcome']} of {document['episodes']}"
        )

    ui.show(document, json, sentence)


def counted(successes: int, episodes: int, interval: list[float]) -> str:
    """Return "k of n succeeded" with the interval in per cent."""
    low, high = (100 * share for share in interval)
    rate = 100 * successes / episodes
    return f"{successes} of {episodes} succeeded ({rate:.0f} %, 95 % interval {low:.0f} to {high:.0f} %)"
