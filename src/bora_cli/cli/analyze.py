"""`bora analyze`: what a critic knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import options as o

ANALYSED = (
    "checkpoint",
    "successes",
    "failures",
    "spearman",
    "late_drop",
    "ece",
    "bias",
    "spread",
    "action_sensitivity",
)
"""Numbers of an analysis that are printed; all of them are in its critic.json."""
EXECUTING = "Executing other chunks"


def analyze_command(
    ctx: typer.Context,
    *,
    checkpoint: o.Checkpoint,
    data: o.Data,
    out: o.Out,
    seed: o.Seed = 0,
    counterfactual: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Do so in N recorded states (simulator).", rich_help_panel=EXECUTING
        ),
    ] = 0,
    then: Annotated[
        str,
        typer.Option(
            metavar="CHECKPOINT|expert",
            help="Who goes on; else the recorded policy.",
            show_default=False,
            rich_help_panel=EXECUTING,
        ),
    ] = "",
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Processes; else one per core.",
            show_default=False,
            rich_help_panel=EXECUTING,
        ),
    ] = 0,
    json: o.Json = False,
) -> None:
    """Ask the critic about recorded episodes: does it foresee success, does it look at the action?"""
    if not counterfactual and (then or o.was_given(ctx, "workers")):
        raise typer.BadParameter("--then and --workers belong to --counterfactual.")
    o.require_checkpoint(checkpoint)
    o.require_datasets(data)
    if then not in ("", "expert"):
        o.require_checkpoint(Path(then))
    o.require_new(out)
    from bora_cli.analysis.analyze import analyze
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.workers import Workers

    ui = o.ui_of(ctx)
    with claimed(out), ui.progress() as progress, Workers(workers or None) as pool:
        result = analyze(
            checkpoint,
            data=data,
            out=out,
            seed=seed,
            counterfactual=counterfactual,
            then=then,
            workers=pool,
            progress=progress,
        )

    def told() -> None:
        ui.table("", ("", ""), [(name, result[name]) for name in ANALYSED])
        for sentence in result["says"]:
            ui.line(sentence)

    ui.show(result, json, told)
    ui.say(f"report: {result['report']}; next: bora notebook value_traces --run {out}")
