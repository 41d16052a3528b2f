"""`bora train` and `bora pretrain`: everything that makes weights without a robot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bora_cli.cli import options as o
from bora_cli.cli.ui import Ui
from bora_cli.cli.used import require_used

TAKES = {
    "cp": ("--backbone", "--updates", "--preset", "--validate", "--adapt"),
    "diffusion": ("--backbone", "--updates", "--preset", "--validate"),
    "filtered_bc": ("--backbone", "--updates", "--preset", "--validate", "--adapt"),
    "awr": ("--backbone", "--updates", "--preset", "--validate", "--advantages"),
    "decoupled": ("--backbone", "--init", "--updates", "--preset", "--validate"),
    "decoupled_value": ("--backbone", "--init", "--updates", "--preset", "--validate"),
    "bora": (
        "--backbone",
        "--init",
        "--updates",
        "--preset",
        "--validate",
        "--critic",
        "--warm-up",
        "--advantages",
        "--adapt",
    ),
    "bc_interventions": ("--init",),
}
"""What a method of `bora train` takes beside the options that all take."""
Updates = Annotated[int | None, typer.Option(min=1, metavar="N", help="Gradient steps; else the preset's.")]


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
    preset: o.Preset = "sim",
    advantages: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help=f"{o.choice(o.ADVANTAGES)}.",
            show_default=False,
            callback=o.known("kind of advantages", o.ADVANTAGES),
        ),
    ] = "learned",
    critic: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            help="Critic: iql or ranked.",
            callback=o.known("critic", o.CRITICS),
        ),
    ] = "iql",
    warm_up: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="What bora clones first: all or gated.",
            show_default=False,
            callback=o.known("warm-up", o.WARM_UPS),
        ),
    ] = "all",
    adapt: Annotated[
        str,
        typer.Option(
            metavar="PART",
            help="VLM: full, last_blocks@N, lora@RANK.",
            show_default=False,
            callback=o.known_adaptation,
        ),
    ] = "none",
    validate: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Dataset to look at, not to learn from."),
    ] = None,
    share: Annotated[
        Literal["ddp", "fsdp"],
        typer.Option(metavar="HOW", help="Under torchrun: ddp or fsdp.", show_default=False),
    ] = "ddp",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Sizes, memory and time; writes nothing.")
    ] = False,
    json: o.Json = False,
) -> None:
    """Train a policy from datasets, without a robot.

    cp and diffusion imitate every demonstration, filtered_bc the successes. bora
    also learns a critic and prefers what went better; awr weighs by it; decoupled
    has a critic of pixels, decoupled_value one blind to actions. bc_interventions
    copies corrections of an online run onto --init. Interrupted? Repeat it.
    """
    require_used(ctx, method, TAKES)
    o.require_datasets([*data, *(validate or [])])
    first = os.environ.get("RANK", "0") == "0"  # torchrun numbers its processes
    if first:
        o.require_new(out)
    if init is not None:
        o.require_checkpoint(init)
    from bora_cli.data.files import claimed
    from bora_cli.train.folder import folder_of, is_interrupted
    from bora_cli.train.offline import train

    ui = o.ui_of(ctx) if first else Ui(quiet=True)
    asked: dict[str, Any] = {
        "data": data,
        "backbone": backbone,
        "init": init,
        "seed": seed,
        "updates": updates,
        "preset": preset,
        "advantages": advantages,
        "adapt": adapt,
        "critic": critic,
        "warm_up": warm_up,
        "held_out": tuple(validate or ()),
    }
    if dry_run and first:
        _show_plan(ui, method, asked, json)
    if dry_run:
        return
    if is_interrupted(out):
        ui.say(f"{folder_of(out)} holds an interrupted training; its command goes on with it.")
    with claimed(out) if first else nullcontext(), ui.progress() as progress:
        result = train(method, out=out, share=share, progress=progress, **asked)
    if not first:
        return
    ui.report(result if json else {k: v for k, v in result.items() if k != "alarms"}, json)
    for alarm in result.get("alarms", []):
        ui.warn(alarm)
    tasks = str(result.get("task")).split(", ")
    ours = all(task in (*o.TASKS, "None") for task in tasks)
    where = (
        f"--task {tasks[0] if tasks[0] in o.TASKS and not tasks[1:] else 'TASK'}" if ours else "--env PROFILE"
    )
    ui.say(f"next: bora eval {out} {where}")


def _show_plan(ui: Ui, method: str, asked: Mapping[str, Any], json: bool) -> None:
    """Print what a training would take."""
    from bora_cli.train.prepare import Request
    from bora_cli.train.rehearse import rehearse

    lists = {name: tuple(asked[name]) for name in ("data", "held_out")}
    with ui.progress() as progress:
        plan = rehearse(Request(method, **{**asked, **lists}), progress)
    columns = ("phase", "updates", "ms", "loading_ms", "seconds")

    def tables() -> None:
        ui.report(plan, False)
        ui.table("", columns, [[phase[c] for c in columns] for phase in plan["phases"]])

    ui.show(plan, json, tables)


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
