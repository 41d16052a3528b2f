"""`bora data`: look into datasets, mend them, and make others of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bora_cli.cli import data_io
from bora_cli.cli import options as o
from bora_cli.errors import ConfigError

if TYPE_CHECKING:
    from bora_cli.cli.ui import Ui

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
Root = Annotated[Path, typer.Argument(metavar="DIR", help="Dataset directory.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and change nothing.")]
Keep = Annotated[
    bool, typer.Option("--keep-backup/--no-backup", help="Keep the old dataset as DIR.backup-N.")
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where", metavar="COND", help="Such as success=false, 'length<20', gap=bias; repeat: all must hold."
    ),
]
Numbers = Annotated[str, typer.Option("--episodes", metavar="3,7,10:20", help="Which; a:b ends before b.")]


@app.command(epilog="Example: bora data info demos")
def info(ctx: typer.Context, root: Root, json: o.Json = False) -> None:
    """Show what a dataset holds: episodes, successes, ticks, provenance."""
    o.require_datasets([root])
    from bora_cli.data.dataset import Dataset

    ui = o.ui_of(ctx)
    found = Dataset.open(root, gather=False).summary()
    ui.show(found, json, lambda: _overview(ui, found))


@app.command(epilog="Example: bora data check demos")
def check(
    ctx: typer.Context,
    root: Root,
    every: Annotated[
        bool, typer.Option("--all-images", help="Decode every image, not three per episode and camera.")
    ] = False,
    json: o.Json = False,
) -> None:
    """Look for damage, contradictions and wrong statistics.

    Changes nothing. Ends with exit code 3 if there are errors.
    """
    o.require_datasets([root])
    from bora_cli.data.check import check as look

    ui = o.ui_of(ctx)
    findings = look(root, None if every else 3)

    def lines() -> None:
        for finding in findings:
            where = "" if finding.episode is None else f"episode {finding.episode}: "
            where += f"{finding.file}: " if finding.file and finding.file not in finding.message else ""
            ui.line(f"{finding.severity}: {where}{finding.message} {finding.remedy}")
        if not findings:
            ui.line(f"{root}: nothing found")

    ui.show([o.as_document(finding) for finding in findings], json, lines)
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(3)


@app.command(epilog="Example: bora data repair demos --dry-run")
def repair(
    ctx: typer.Context,
    root: Root,
    like: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Dataset of the same rig, if meta/bora.json is lost.")
    ] = None,
    keep_backup: Keep = True,
    dry_run: DryRun = False,
    json: o.Json = False,
) -> None:
    """Put right what follows from the rest of a dataset, and say what was done.

    Rows, indices, counts and statistics are computed again. Episodes that are
    half or beyond repair go into DIR/quarantine, with the reason beside them;
    nothing is thrown away.
    """
    from bora_cli.data.repair import repair as run

    ui = o.ui_of(ctx)
    with ui.progress() as progress:
        report = run(root, like=like, dry_run=dry_run, keep_backup=keep_backup, progress=progress)

    def lines() -> None:
        for step in report.steps:
            where = "" if step.episode is None else f"episode {step.episode}: "
            ui.line(f"{'would be ' if dry_run else ''}{step.action}: {where}{step.message}")
        if not report.steps:
            ui.line(f"{root}: nothing to repair")
        for old, new in report.renumbered.items():
            ui.line(f"episode {old} {'would be' if dry_run else 'is'} episode {new}")
        _say_backup(ui, report.backup)
        for finding in report.left:
            ui.line(f"left: {finding}")

    ui.show({**report.to_json(), "dry_run": dry_run}, json, lines)


@app.command(epilog="Example: bora data stats demos")
def stats(ctx: typer.Context, root: Root, json: o.Json = False) -> None:
    """Compute the statistics afresh, and compare them with the stored ones.

    Lengths, successes, share of human ticks, and the range of every dimension
    of actions and states. Changes nothing.
    """
    o.require_datasets([root])
    from bora_cli.data.dataset import Dataset
    from bora_cli.data.statistics import describe

    ui = o.ui_of(ctx)
    found = describe(Dataset.open(root, gather=False))

    def tables() -> None:
        summary = {key: found[key] for key in ("episodes", "ticks", "success", "human_share")}
        ui.report(summary, False)
        if found["lengths"]:
            edges, counts = found["lengths"]["edges"], found["lengths"]["counts"]
            most = max(counts)
            rows = [
                (f"{low} - {high - 1}" if high - low > 1 else str(low), n, "#" * round(30 * n / most))
                for low, high, n in zip(edges[:-1], edges[1:], counts, strict=True)
            ]
            ui.table("\nlengths, ticks", ("", "episodes", ""), rows)
        for column, entries in found["columns"].items():
            if entries:
                shown = [key for key in entries[0] if key not in ("q01", "q50", "q99")]
                ui.table(f"\n{column}", shown, [[_short(entry[key]) for key in shown] for entry in entries])
        differs = ", ".join(found["stored"]["differs"])
        ui.line(f"\nstored statistics: {'differ: ' + differs if differs else 'agree'}")
        if differs:
            ui.line("`bora data repair` writes them again.")

    ui.show(found, json, tables)


@app.command(epilog="Example: bora data merge demos more_demos --out all_demos")
def merge(
    ctx: typer.Context,
    roots: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Datasets, in this order.")],
    out: o.Out,
    dry_run: DryRun = False,
    json: o.Json = False,
) -> None:
    """Write the episodes of several datasets of one robot into a new one.

    What is known about each episode (gap, scene, profile, checkpoint) stays
    with the episode.
    """
    o.require_datasets(roots)
    o.require_new(out)
    from bora_cli.data.dataset import Dataset
    from bora_cli.data.select import merge as run
    from bora_cli.data.select import require_mergeable

    ui = o.ui_of(ctx)
    counts = {str(root): len(Dataset.open(root, gather=False)) for root in roots}
    if dry_run:
        require_mergeable(roots)
    else:
        with ui.progress() as progress:
            run(roots, out, progress=progress)
    ui.report(
        {"dataset": str(out), "episodes": sum(counts.values()), "from": counts, "dry_run": dry_run}, json
    )


@app.command(epilog="Example: bora data split demos --fraction 0.8,0.2 --out parts")
def split(
    ctx: typer.Context,
    root: Root,
    out: o.Out,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--episodes", metavar="0:80", help="A part by numbers; repeat for each part."),
    ] = None,
    fraction: Annotated[
        str, typer.Option(metavar="0.8,0.2", help="Random parts of these shares; see --seed.")
    ] = "",
    where: Where = None,
    success: Annotated[bool, typer.Option("--success", help="Two parts: successes and failures.")] = False,
    names: Annotated[str, typer.Option(metavar="A,B", help="Names of the parts.")] = "",
    seed: o.Seed = 0,
    dry_run: DryRun = False,
    json: o.Json = False,
) -> None:
    """Write parts of a dataset as datasets OUT/NAME; the dataset itself stays.

    Parts are given by numbers, by fractions, by success, or by conditions
    (two parts: matching and rest).
    """
    o.require_datasets([root])
    o.require_new(out)
    from bora_cli.data.dataset import Dataset
    from bora_cli.data.filters import matching, parse_numbers
    from bora_cli.data.select import fractions
    from bora_cli.data.select import split as run

    if sum(map(bool, (ranges, fraction, where, success))) != 1:
        raise ConfigError(
            "Give exactly one of --episodes, --fraction, --success and --where.",
            "For example --fraction 0.8,0.2.",
        )
    dataset = Dataset.open(root, gather=False)
    default: Sequence[str] = ()
    if ranges:
        parts = [parse_numbers(text, len(dataset)) for text in ranges]
    elif fraction:
        parts = fractions(len(dataset), _shares(fraction), seed)
    else:
        chosen = matching(dataset.rows(), where or ["success=true"])
        parts = [chosen, sorted(set(range(len(dataset))) - set(chosen))]
        default = ("success", "failure") if success else ("matching", "rest")
    labels = _labels(names, default, len(parts))
    ui = o.ui_of(ctx)
    if not dry_run:
        with ui.progress() as progress:
            run(root, dict(zip(labels, parts, strict=True)), out, progress=progress)
    document = {
        "parts": [
            {"dataset": str(out / label), "episodes": part} for label, part in zip(labels, parts, strict=True)
        ],
        "dry_run": dry_run,
    }
    rows = [(str(out / label), len(part)) for label, part in zip(labels, parts, strict=True)]
    ui.show(document, json, lambda: ui.table("", ("dataset", "episodes"), rows))


@app.command(epilog="Example: bora data delete demos --where success=false --dry-run")
def delete(
    ctx: typer.Context,
    root: Root,
    numbers: Numbers = "",
    where: Where = None,
    keep_backup: Keep = True,
    dry_run: DryRun = False,
    json: o.Json = False,
) -> None:
    """Take episodes out of a dataset; the others move up and get new numbers.

    The new dataset is made beside the old one and checked before the two
    change places. With --episodes and --where, an episode goes if both say so.
    """
    o.require_datasets([root])
    from bora_cli.data.dataset import Dataset
    from bora_cli.data.filters import matching, parse_numbers
    from bora_cli.data.select import delete as run

    if not numbers and not where:
        raise ConfigError("Nothing says which episodes.", "Give --episodes 3,7 or --where success=false.")
    dataset = Dataset.open(root, gather=False)
    chosen = set(parse_numbers(numbers, len(dataset))) if numbers else set(range(len(dataset)))
    gone = sorted(chosen & set(matching(dataset.rows(), where))) if where else sorted(chosen)
    ui = o.ui_of(ctx)
    backup = None
    if gone and not dry_run:
        with ui.progress() as progress:
            backup = run(root, gone, keep_backup=keep_backup, progress=progress)
    document = {
        "dataset": str(root),
        "deleted": gone,
        "left": len(dataset) - len(gone),
        "backup": str(backup) if backup else None,
        "dry_run": dry_run,
    }

    def lines() -> None:
        verb = "would be deleted" if dry_run else "deleted"
        ui.line(f"{len(gone)} episodes {verb}, {document['left']} left: {_listed(gone)}")
        _say_backup(ui, backup)

    ui.show(document, json, lines)


app.command("import", epilog="Example: bora data import lerobot_dir --success-from all --out demos")(
    data_io.import_command
)
app.command("export", epilog="Example: bora data export demos --out for_lerobot")(data_io.export_command)
app.command("view", epilog="Example: bora data view demos --where success=false --open")(data_io.view_command)


def _overview(ui: Ui, found: dict[str, Any]) -> None:
    """Print a summary of a dataset for people; see `bora_cli.data.summary`."""
    from bora_cli.data.summary import COUNTED

    height, width = found["image_size"]
    megabytes = found["size_bytes"] / 1e6
    rows = [
        ("episodes", f"{found['episodes']}, {found['decisions']} decisions of a policy"),
        ("ticks", f"{found['ticks']}, {found['seconds']:.1f} s at {found['fps']:g} Hz, {megabytes:.1f} MB"),
        ("robot", f"{found['robot_type']}, action specification {found['action_spec_hash']}"),
        ("cameras", f"{', '.join(found['cameras']) or 'none'}, {width} x {height} px"),
    ]
    if lengths := found["lengths"]:
        rows.append(("lengths", f"{lengths['min']} to {lengths['max']}, median {lengths['median']:g}"))
    acted = [f"{name} {about['share']:.0%}" for name, about in found["controllers"].items()]
    rows.append(("who acted", ", ".join(acted) or "nobody"))
    if found["missing_columns"]:
        rows.append(("lacks", f"{', '.join(found['missing_columns'])}: an earlier version made it"))
    if found["human_share"] is not None:
        rows.append(("human share", f"{found['human_share']:.0%}, {found['takeovers']} takeovers"))
    for name in (*COUNTED, "instructions"):
        counts = [f"{value} ({n})" for value, n in found[name].items()]
        rows.append((name.replace("_", " "), ", ".join(counts) or "none"))
    ui.table("", ("", ""), rows)
    tasks = [(t["task"], t["setting"], t["gap"], t["n"], t["of"]) for t in found["tasks"]]
    if tasks:
        ui.table("", ("task", "setting", "gap", "successes", "of"), tasks)


def _short(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


def _say_backup(ui: Ui, backup: Path | str | None) -> None:
    if backup is not None:
        ui.line(f"The old dataset is {backup}; remove it when you no longer need it.")


def _listed(numbers: Sequence[int]) -> str:
    text = ", ".join(map(str, numbers[:20]))
    return f"{text}, ..." if len(numbers) > 20 else text or "none"


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--fraction {text} is no list of numbers.", "For example 0.8,0.2.") from None


def _labels(names: str, default: Sequence[str], parts: int) -> list[str]:
    labels = names.split(",") if names else list(default) or [f"part-{i}" for i in range(parts)]
    bad = [label for label in labels if not label or set(label) & set("/\\") or label.startswith(".")]
    if len(labels) != parts or len(set(labels)) != parts or bad:
        raise ConfigError(
            f"--names {','.join(labels)} names {len(labels)} parts; there are {parts}, each with a name of"
            " its own that can be a directory's.",
            "For example --names train,test.",
        )
    return labels
