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
    "late_drop_success",
    "ece",
    "bias",
    "spread",
    "action_sensitivity",
)
"""Numbers of an analysis that are printed; all of them are in its critic.json."""
COVERING = "Covering hand, object, background"
EXECUTING = "Executing other chunks"


def analyze_command(
    ctx: typer.Context,
    *,
    checkpoint: o.Checkpoint,
    data: o.Data,
    out: o.Out,
    seed: o.Seed = 0,
    occlusion: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="In N episodes; 0: not at all.", rich_help_panel=COVERING),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Where they are, if no simulator.", rich_help_panel=COVERING),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BOX", help="Or object:CAMERA=X0,Y0,X1,Y1 (hand:...).", rich_help_panel=COVERING
        ),
    ] = None,
    counterfactual: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="From N recorded states.", rich_help_panel=EXECUTING),
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
    ope: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Evaluations of policies to rank; repeat."),
    ] = None,
    workers: o.WorkerCount = 0,
    json: o.Json = False,
) -> None:
    """Ask the critic about recorded episodes: does it foresee success, does it look at the action?"""
    if not counterfactual and then:
        raise typer.BadParameter("--then belongs to --counterfactual.")
    if masks is not None and box:
        raise typer.BadParameter("--masks and --box exclude each other.")
    if occlusion == 0 and (masks is not None or box):
        raise typer.BadParameter("--masks and --box have no meaning with --occlusion 0.")
    o.require_checkpoint(checkpoint)
    o.require_datasets(data)
    if then not in ("", "expert"):
        o.require_checkpoint(Path(then))
    o.require_new(out)
    from bora_cli.analysis.analyze import analyze
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.workers import Workers

    ui = o.ui_of(ctx)
    with claimed(out), ui.progress() as progress, Workers(workers or (None if counterfactual else 1)) as pool:
        result = analyze(
            checkpoint,
            data=data,
            out=out,
            seed=seed,
            occlusion=occlusion,
            masks=masks,
            boxes=box or (),
            counterfactual=counterfactual,
            then=then,
            ope=ope or (),
            workers=pool,
            progress=progress,
        )

    def told() -> None:
        for note in result["notes"]:  # first: what the numbers below cannot tell
            ui.line(note)
        between = {
            k: f" [{lo:.3f}, {hi:.3f}]" for k, (lo, hi) in result["intervals"].items() if lo is not None
        }
        marks = {k: f"{result[k]:.3f}{told}" for k, told in between.items() if k in ANALYSED}
        ui.table("", ("", ""), [(name, marks.get(name, result[name])) for name in ANALYSED])
        for sentence in result["says"]:
            ui.line(sentence)

    ui.show(result, json, told)
    ui.say(f"report: {result['report']}; next: bora notebook value_traces --run {out}")
