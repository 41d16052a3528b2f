"""`bora data`: look into a dataset and check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import options as o

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
Root = Annotated[Path, typer.Argument(metavar="DIR", help="Dataset directory.")]


@app.command(epilog="Example: bora data info demos")
def info(ctx: typer.Context, root: Root, json: o.Json = False) -> None:
    """Show what a dataset holds: episodes, successes, ticks, provenance."""
    o.require_datasets([root])
    from bora_cli.data.dataset import Dataset

    o.ui_of(ctx).report(Dataset.open(root).summary(), json)


@app.command(epilog="Example: bora data check demos")
def check(ctx: typer.Context, root: Root, json: o.Json = False) -> None:
    """Look for damage and contradictions; ends with exit code 3 if there are errors."""
    o.require_datasets([root])
    from bora_cli.data.check import check as look

    ui = o.ui_of(ctx)
    findings = look(root)

    def lines() -> None:
        for finding in findings:
            where = "" if finding.episode is None else f"episode {finding.episode}: "
            ui.line(f"{finding.severity}: {where}{finding.message} {finding.remedy}")
        if not findings:
            ui.line(f"{root}: nothing found")

    ui.show([o.as_document(finding) for finding in findings], json, lines)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(3)
