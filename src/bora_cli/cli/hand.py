"""`bora hand`: how the fingers of a hand move together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import options as o
from bora_cli.errors import ConfigError

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def hand() -> None:
    """Learn how the fingers of a hand move together."""


@app.command(epilog="Example: bora hand fit demos --out hand.json")
def fit(
    ctx: typer.Context,
    datasets: Annotated[
        list[Path], typer.Argument(metavar="DATASET...", help="Demonstrations.", show_default=False)
    ],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.json", help="File to write.")],
    count: Annotated[int, typer.Option(metavar="N", help="Synergies, 1 to 6; one per axis.")] = 6,
    successes: Annotated[
        bool, typer.Option("--successes", help="Learn from successful episodes only.")
    ] = False,
    json: o.Json = False,
) -> None:
    """Find the directions in which demonstrated hands move.

    `bora teleop --hand FILE.json` then moves the hand along them, one per axis.
    """
    o.require_datasets(datasets)
    if out.suffix != ".json":
        raise ConfigError(f"--out {out} is not a .json file.", "Name it hand.json.")
    o.require_writable(out.parent)
    if out.is_dir() or not out.parent.is_dir():
        raise ConfigError(f"--out {out} cannot be a file there.", "Name a file in a directory that exists.")
    from itertools import pairwise

    import numpy as np

    from bora_cli.data.dataset import Dataset
    from bora_cli.data.files import write_json
    from bora_cli.input.synergies import fit_synergies

    spec = Dataset.open(datasets[0]).spec
    group, pieces, episodes = spec.slice("hand"), [], 0
    for path in datasets:
        dataset = Dataset.open(path)
        spec.require_same(dataset.spec, f"{path} and {datasets[0]}")
        columns, offsets = dataset.columns(["action"])
        for row, (first, last) in zip(dataset.rows(), pairwise(offsets), strict=True):
            if row.success or not successes:
                pieces.append(columns["action"][first:last, group])
                episodes += 1
    postures = np.concatenate(pieces) if pieces else np.empty((0, group.stop - group.start), np.float32)
    source = f"{episodes} episodes, {len(postures)} ticks of {', '.join(str(path) for path in datasets)}"
    fitted = fit_synergies(postures, spec.names[group], count, source)
    write_json(out, fitted.to_json())
    ui = o.ui_of(ctx)
    main = [
        ", ".join(f"{fitted.names[j]} {row[j]:+.2f}" for j in np.argsort(-np.abs(row))[:3])
        for row in fitted.directions
    ]
    document = {**fitted.to_json(), "file": str(out)}

    def lines() -> None:
        ui.line(f"{out}: {fitted.source}")
        ui.line(f"{len(fitted.spread)} synergies hold {100 * fitted.explained:.1f} % of the variance.")
        rows = [
            (n, float(spread), text)
            for n, (spread, text) in enumerate(zip(fitted.spread, main, strict=True), 1)
        ]
        ui.table("", ("axis", "spread, rad", "moves most"), rows)

    ui.show(document, json, lines)
    ui.say(f"next: bora teleop --task pick_toy --hand {out}")
