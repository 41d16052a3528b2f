"""`bora train`, `bora online` and `bora pretrain`: everything that makes weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from bora_cli.cli import options as o
from bora_cli.errors import ConfigError

TAKES = {
    "cp": ("--backbone", "--updates", "--preset", "--adapt"),
    "diffusion": ("--backbone", "--updates", "--preset"),
    "filtered_bc": ("--backbone", "--updates", "--preset", "--adapt"),
    "awr": ("--backbone", "--updates", "--preset", "--advantages"),
    "decoupled": ("--backbone", "--init", "--updates", "--preset"),
    "decoupled_value": ("--backbone", "--init", "--updates", "--preset"),
    "bora": ("--backbone", "--init", "--updates", "--preset", "--advantages", "--adapt"),
    "bc_interventions": ("--init",),
}
"""What a method of `bora train` takes beside the options that all take."""
ONLINE_TAKES = {
    "bora": ("--data", "--preset", "--residual"),
    "bc_interventions": ("--residual",),
}
"""The same for `bora online`: a control that only copies corrections has no critic and one set of numbers."""

Updates = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Gradient steps; else the preset's number.")
]

Preset = Annotated[
    str,
    typer.Option(metavar="NAME", help="Numbers: sim or paper.", callback=o.known("preset", o.PRESETS)),
]


def train_command(
    ctx: typer.Context,
    *,
    method: Annotated[
        str,
        typer.Argument(
            metavar="METHOD",
            help=o.choice(o.METHODS),
            callback=o.known("method", o.METHODS),
        ),
    ],
    data: o.Data,
    out: o.Out,
    backbone: Annotated[
        str | None,
        typer.Option(metavar="DIR|HUB_ID", help="Vision-language model."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(metavar="CHECKPOINT", help="Policy to start from."),
    ] = None,
    seed: o.Seed = 0,
    updates: Updates = None,
    preset: Preset = "sim",
    advantages: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help=f"To follow: {o.choice(o.ADVANTAGES)}.",
            callback=o.known("kind of advantages", o.ADVANTAGES),
        ),
    ] = "learned",
    adapt: Annotated[
        str,
        typer.Option(
            metavar="PART",
            help="Of the backbone to train: last_blocks@N, lora@RANK.",
            callback=o.known_adaptation,
        ),
    ] = "none",
    json: o.Json = False,
) -> None:
    """Train a policy from datasets, without a robot.

    cp and diffusion imitate every demonstration, filtered_bc the successes. bora
    also learns a critic and prefers what went better than usual; awr weighs by
    it; decoupled has a critic of pixels, decoupled_value one blind to actions.
    bc_interventions copies the corrections of an online run onto --init; bora
    and decoupled take a CP Base there.
    """
    _require_used(ctx, method, TAKES)
    o.require_datasets(data)
    o.require_new(out)
    if init is not None:
        o.require_checkpoint(init)
    from bora_cli.data.files import claimed
    from bora_cli.train.offline import train

    ui = o.ui_of(ctx)
    with claimed(out), ui.progress() as progress:
        result = train(
            method,
            data=data,
            out=out,
            backbone=backbone,
            init=init,
            seed=seed,
            updates=updates,
            preset=preset,
            advantages=advantages,
            adapt=adapt,
            progress=progress,
        )
    ui.report(result, json)
    task = result.get("task")
    ui.say(f"next: bora eval {out} --task {task if task in o.TASKS else 'TASK'}")


def _require_used(ctx: typer.Context, method: str, takes: Mapping[str, Sequence[str]]) -> None:
    """Raise ConfigError for options that were given and that the method does not use.

    takes: for every method, which of the options that depend on the method it uses.
    """
    optional = list(dict.fromkeys(option for options in takes.values() for option in options))
    given = [f"--{name}" for name in ctx.params if o.was_given(ctx, name)]
    unused = [option for option in given if option in optional and option not in takes[method]]
    if not unused:
        return
    hint = "Leave it out." if len(unused) == 1 else "Leave them out."
    if "--init" in unused:
        hint += " --init names the policy that bora improves, or that bc_interventions corrects."
    raise ConfigError(
        f"{method} has no use for {', '.join(unused)}; of {', '.join(optional)} it takes"
        f" {', '.join(takes[method])}.",
        hint,
    )


def online_command(
    ctx: typer.Context,
    *,
    checkpoint: o.Checkpoint,
    task: o.Task,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Run to make or continue.")],
    gap: o.Gap = "none",
    setting: o.Setting = "standard",
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Collect, learn, test.")] = 2,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Episodes per round.")] = 10,
    seed: o.Seed = 0,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="To mix in; else the data of CHECKPOINT."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help=o.choice(o.ONLINE_METHODS),
            callback=o.known("method", o.ONLINE_METHODS),
        ),
    ] = "bora",
    preset: Preset = "sim",
    residual: Annotated[
        str,
        typer.Option(metavar="KIND", help=o.choice(o.RESIDUALS), callback=o.known("residual", o.RESIDUALS)),
    ] = "constant",
    profile: o.Profile = "sim",
    workers: o.WorkerCount = 0,
    json: o.Json = False,
) -> None:
    """Let the policy act, take over where it fails, learn a correction on top.

    The base policy stays frozen. A correction is released only if the policy
    alone succeeds more often with it, on scenes kept for that purpose.
    """
    _require_used(ctx, method, ONLINE_TAKES)
    o.require_checkpoint(checkpoint)
    o.require_writable(out)
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.workers import Workers
    from bora_cli.train.online import run_rounds

    ui = o.ui_of(ctx)
    with claimed(out), ui.progress() as progress, Workers(workers or None) as pool:
        result = run_rounds(
            checkpoint,
            task=task,
            gap=gap,
            setting=setting,
            rounds=rounds,
            episodes=episodes,
            seed=seed,
            out=out,
            method=method,
            preset=cast('Literal["sim", "paper"]', preset),
            residual=cast('Literal["constant", "low_rank", "mlp"]', residual),
            data=data or None,
            profile=profile,
            workers=pool,
            progress=progress,
        )
    finished = result["rounds"]
    names = ("", *(f"round {done['index']}" for done in finished))
    rows = [(key, *(done[key] for done in finished)) for key in finished[0] if key != "index"]
    ui.show(result, json, lambda: ui.table("", names, rows))
    ui.say(f"next: bora eval {result['policy']} --task {task} --gap {gap}")


def pretrain_command(
    ctx: typer.Context,
    *,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Backbone to make or to continue.")],
    scenes: Annotated[int, typer.Option(min=1, metavar="N", help="Rendered scenes.")] = 6000,
    updates: Annotated[int, typer.Option(min=1, metavar="N", help="Gradient steps.")] = 9000,
    seed: o.Seed = 0,
    workers: o.WorkerCount = 0,
    json: o.Json = False,
) -> None:
    """Pre-train the small vision-language backbone on rendered scenes with free labels.

    Only needed to make another one: the built-in backbone was made by this command.
    """
    o.require_writable(out)
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.workers import Workers
    from bora_cli.train.pretrain import PretrainConfig, pretrain

    config = PretrainConfig(scenes=scenes, updates=updates, seed=seed)
    ui = o.ui_of(ctx)
    with claimed(out), ui.progress() as progress, Workers(workers or None) as pool:
        report = pretrain(out, config, workers=pool, progress=progress)
    ui.report({"backbone": str(out), **report}, json)
