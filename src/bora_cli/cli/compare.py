"""`bora compare`: several policies or runs side by side on the same scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bora_cli.cli import options as o

EVALUATION = "Policies"
"""Panel of the options that only matter where a RUN is a checkpoint, which is evaluated first."""


def compare_command(
    ctx: typer.Context,
    *,
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Evaluations (.json), demo or online runs, datasets, policies."
        ),
    ],
    against: Annotated[
        str, typer.Option("--against", metavar="NAME", help="The reference; else the first.")
    ] = "",
    figure: Annotated[
        Path | None, typer.Option("--figure", metavar="FILE", help="Also draw: .png or .svg.")
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            "--task", metavar="TASK", callback=_known_task, help=o.choice(o.TASKS), rich_help_panel=EVALUATION
        ),
    ] = "",
    setting: Annotated[
        str,
        typer.Option(
            metavar="SETTING",
            callback=o.known_setting,
            help="standard or unseen.",
            rich_help_panel=EVALUATION,
        ),
    ] = "standard",
    gap: Annotated[
        str,
        typer.Option(
            metavar="GAP",
            callback=o.known_gap,
            help="Execution gap, as in bora eval.",
            rich_help_panel=EVALUATION,
        ),
    ] = "none",
    episodes: Annotated[
        int, typer.Option(min=1, metavar="N", help="Scenes for each policy.", rich_help_panel=EVALUATION)
    ] = 100,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="First scene.", rich_help_panel=EVALUATION)
    ] = 7,
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes; 0: all cores.", rich_help_panel=EVALUATION)
    ] = 0,
    json: o.Json = False,
) -> None:
    """Put policies or runs side by side and say which differences exceed noise.

    Success, steps and human share, on the scenes that both met.
    """
    if figure is not None:
        require_figure(figure)
    policies = [p for p in runs if (p / "config.json").is_file()]
    if policies and not task:
        raise typer.BadParameter(
            f"{policies[0]} is a policy: say what to evaluate it on.", param_hint="'--task'"
        )
    for name in ("task", "setting", "gap", "episodes", "seed", "workers"):
        if not policies and o.was_given(ctx, name):
            raise typer.BadParameter(f"--{name} has no meaning: no RUN is a policy that must be evaluated.")
    from bora_cli.analysis.compare import compare, sentence
    from bora_cli.analysis.compare_sources import evaluation_trials, load_run, together, unique_names
    from bora_cli.errors import ConfigError
    from bora_cli.seeds import stream

    seen: set[Path] = set()
    for path in (p.resolve() for p in runs):
        if path in seen:
            raise ConfigError(f"{path} was named twice; it cannot differ from itself.", "Name each run once.")
        seen.add(path)
    ui = o.ui_of(ctx)
    job = {"task": task, "setting": setting, "gap": gap, "episodes": episodes, "seed": seed}
    fresh = _evaluated(ctx, policies, workers, job) if policies else {}
    sources = [
        evaluation_trials(fresh[p].to_json(), p, p.resolve().name) if p in fresh else load_run(p)
        for p in runs
    ]
    result = compare(together(sources, unique_names(runs)), rng=stream("bootstrap", 0), against=against)
    for warning in result.warnings:
        ui.warn(warning)
    document = result.to_json()
    if figure is not None:
        from bora_cli.analysis.compare_figure import comparison
        from bora_cli.analysis.style import save

        save(comparison(result), figure)
        document["figure"] = str(figure)
        ui.say(f"figure: {figure}")

    def tables() -> None:
        for block in dict.fromkeys(r.condition for r in result.rows):
            ui.table(str(block), COLUMNS, [_cells(r) for r in result.rows if r.condition == block])
            for pair in (p for p in result.pairs if p.condition == block):
                ui.line(sentence(pair))
            ui.line("")

    ui.show(document, json, tables)


COLUMNS = ("", "success", "95 %", "ticks", "human share", "takeovers")
"""ticks: mean length of the successes; takeovers: per episode."""


def require_figure(path: Path) -> None:
    """Raise ConfigError unless a figure can be written to `path`."""
    from bora_cli.errors import ConfigError

    if path.suffix not in (".png", ".svg"):
        raise ConfigError(f"--figure {path} is neither .png nor .svg.", "Name it compare.png.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"--figure {path}: there is no directory {path.parent}.", "Create it first.")


def _known_task(value: str) -> str:
    return o.known("task", o.TASKS)(value) if value else value


def _evaluated(
    ctx: typer.Context, policies: list[Path], workers: int, job: dict[str, Any]
) -> dict[Path, Any]:
    """Evaluate every policy on the same scenes."""
    from bora_cli.evaluate.evaluate import evaluate
    from bora_cli.evaluate.workers import Workers

    with o.ui_of(ctx).progress() as progress, Workers(workers or None) as pool:
        return {p: evaluate(p, workers=pool, progress=progress, label=p.name, **job) for p in policies}


def _cells(row: Any) -> tuple[object, ...]:
    return (
        row.system,
        f"{row.k}/{row.n}",
        f"{100 * row.lo:.0f}-{100 * row.hi:.0f} %",
        "-" if row.ticks is None else f"{row.ticks.value:.0f}",
        "-" if row.human_share is None else f"{100 * row.human_share.value:.0f} %",
        "-" if row.takeovers is None else f"{row.takeovers:.1f}",
    )
