"""`bora demo` and `bora report`: the whole method on this machine, in minutes."""

from __future__ import annotations

import json as json_module
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import options as o


def command(
    ctx: typer.Context,
    *,
    task: o.Task = "pick_toy",
    seed: o.Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Run to make or continue; else runs/demo-TASK-SEED."),
    ] = None,
    gap: o.Gap = "deployment",
    quick: Annotated[bool, typer.Option("--quick", help="A smoke test; its numbers mean nothing.")] = False,
    workers: o.WorkerCount = 0,
    json: o.Json = False,
) -> None:
    """Run the whole method on this machine, in minutes.

    Collect, imitate, improve offline with a critic, adapt online with takeovers,
    evaluate, analyze, report. Interrupted? The same command goes on.
    """
    from bora_cli.cli.pipeline import Job, Pipeline
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.workers import Workers

    ui = o.ui_of(ctx)
    root = out or Path("runs") / f"demo-{task}-{seed}{'-quick' if quick else ''}"
    with claimed(root), Workers(workers or None) as pool:
        pipeline = Pipeline(root, Job.make(task, seed, gap, quick), pool, lambda *a, **k: None)
        pipeline.claim()
        stages = list(pipeline.stages())
        ui.say(
            f"{len(stages)} stages into {root}; each names the commands that would repeat it in a folder beside it."
        )
        for number, stage in enumerate(stages, 1):
            if pipeline.done(stage):
                ui.say(f"[{number}/{len(stages)}] {stage.name}: done before")
                continue
            ui.say(f"[{number}/{len(stages)}] {stage.name}")
            for line in stage.commands:
                ui.say(f"  $ {line}")
            with ui.progress() as progress:
                pipeline.progress = progress
                seconds = pipeline.execute(stage)
            ui.say(f"  {seconds:.0f} s")
    _show(ctx, root, json)


def report_command(
    ctx: typer.Context,
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a `bora demo` run.")],
    json: o.Json = False,
) -> None:
    """Write summary.json and report.html of a demo run afresh."""
    from bora_cli.analysis.run_report import report
    from bora_cli.data.files import claimed

    ui = o.ui_of(ctx)
    claim = claimed(run) if run.is_dir() else nullcontext()  # what is missing is told, not made
    with claim, ui.progress() as progress:
        report(run, progress=progress)
    _show(ctx, run, json)


def _show(ctx: typer.Context, root: Path, as_json: bool) -> None:
    """Print the success table of a finished run, or its summary as JSON."""
    from bora_cli.analysis.summary import RunSummary, method_title
    from bora_cli.analysis.wording import headline
    from bora_cli.evaluate.metrics import wilson

    ui = o.ui_of(ctx)
    summary = RunSummary.load(root / "summary.json")

    def table() -> None:
        rows = []
        for method in summary.methods():
            row: list[object] = [method_title(method)]
            for setting, gap in summary.settings():
                cell = summary.cell(method, setting, gap)
                if cell is None:
                    row.append("")
                    continue
                low, high = wilson(cell.k, cell.n)
                row.append(f"{cell.k}/{cell.n} ({100 * low:.0f}-{100 * high:.0f} %)")
            rows.append(row)
        ui.table(
            f"Success without help (95 % interval), gap {summary.settings()[0][1]}",
            ["", *(setting for setting, _ in summary.settings())],
            rows,
        )
        ui.paragraph(headline(summary))
        if summary.human is not None:
            ui.line(f"Human share of the online time: {100 * summary.human.share:.0f} %")

    ui.show(json_module.loads((root / "summary.json").read_text()), as_json, table)
    ui.say(f"report: {root / 'report.html'}")
