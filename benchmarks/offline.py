"""What makes an offline policy better: methods beside the controls that could explain their gain away.

    python benchmarks/offline.py --tasks pick_toy --seeds 0 1 2 --out runs/offline

Every (task, seed) has its own mixed demonstrations; all methods of a row of the table learn from the same ones, those
that improve a policy from the same CP Base, and meet the same evaluation scenes.  A policy or evaluation that is there
is not made again, so the command can be interrupted and asked for more methods, seeds or tasks later.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from cells import SETTINGS, counted, demonstrations, evaluated, points, slug, trained

from bora_cli.analysis.tables import cells, comparisons, write_results
from bora_cli.evaluate.metrics import Result
from bora_cli.evaluate.workers import Workers


@dataclass(frozen=True)
class Row:
    """One policy of the table: what `bora train` is told.  improves: whether it starts from the row `cp`."""

    method: str
    improves: bool = False
    options: dict[str, Any] = field(default_factory=dict)


ROWS: dict[str, Row] = {
    "cp": Row("cp"),
    "filtered_bc": Row("filtered_bc"),
    "bora": Row("bora", True),
    "bora, gated warm-up": Row("bora", False, {"warm_up": "gated"}),
    "bora, constant advantage": Row("bora", True, {"advantages": "constant"}),
    "bora, random advantage": Row("bora", True, {"advantages": "random"}),
    "bora, flipped advantage": Row("bora", True, {"advantages": "flipped"}),
    "bora, q - v": Row("bora", True, {"advantages": "q_minus_v"}),
    "bora, ranked critic": Row("bora", True, {"critic": "ranked"}),
    "diffusion": Row("diffusion"),
    "awr": Row("awr"),
    "decoupled": Row("decoupled", True),
    "decoupled_value": Row("decoupled_value", True),
}

OURS = ("bora", "bora, gated warm-up")
"""Rows that are compared with all others."""
APART = 1000
"""Between the seeds of one task and those of the next, where tasks are pooled."""


def main() -> None:
    """Make what is missing, print the tables as Markdown and write every episode to OUT/results.parquet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["pick_toy"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--quality", help="of the demonstrations; else the task's, see `cells.py`")
    parser.add_argument("--episodes", type=int, default=100, help="evaluation scenes per cell and seed")
    parser.add_argument("--gap", default="none")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    arguments = parser.parse_args()
    names = ["cp", *(n for n in ROWS if n in arguments.methods and n != "cp")]
    pooled: list[Result] = []
    with Workers(arguments.workers) as pool:
        for number, task in enumerate(arguments.tasks):
            results = [r for seed in arguments.seeds for r in run(task, seed, names, arguments, pool)]
            write_results(arguments.out / f"results-{task}.parquet", results)
            print(table(task, results, names), flush=True)
            pooled += [replace(r, seed=APART * number + r.seed) for r in results]
    if len(arguments.tasks) > 1:
        print(table(f"{len(arguments.tasks)} tasks together", pooled, names))


def run(
    task: str, seed: int, names: Sequence[str], arguments: argparse.Namespace, pool: Workers
) -> list[Result]:
    """Return the evaluated episodes of all methods on one task with one seed."""
    root = arguments.out / f"{task}-{seed}"
    data = demonstrations(
        root, task, seed, episodes=arguments.demonstrations, quality=arguments.quality, pool=pool
    )
    results = []
    for name in names:
        policy = policy_of(name, root, data, seed)
        for setting in SETTINGS:
            file = f"{slug(name)}-{setting}-{arguments.gap}-{arguments.episodes}.json"
            results += evaluated(
                policy,
                root / "evaluations" / file,
                name,
                task=task,
                setting=setting,
                seed=seed,
                episodes=arguments.episodes,
                gap=arguments.gap,
                pool=pool,
            )
    return results


def policy_of(name: str, root: Path, data: Path, seed: int) -> Path:
    """Return the policy of a row, trained on the demonstrations `data`; one that improves CP Base finds that there."""
    row = ROWS[name]
    init = root / "policies" / "cp" if row.improves else None
    return trained(root, name, row.method, data=data, seed=seed, init=init, **row.options)


def table(task: str, results: Sequence[Result], names: Sequence[str]) -> str:
    """Return success per method and setting, and how what `bora` learns differs from the others, as Markdown."""
    pooled = {(c.method, c.setting): c for c in cells(results)}
    lines = ["", f"### {task}", "", "| method | " + " | ".join(SETTINGS) + " |", "|---" * 3 + "|"]
    for name in names:
        found = [pooled[name, setting] for setting in SETTINGS]
        lines.append(f"| {name} | " + " | ".join(counted(c.k, c.n) for c in found) + " |")
    for ours in (n for n in OURS if n in names):
        pairs = [(ours, other) for other in names if other != ours]
        differences = comparisons(results, rng=np.random.default_rng(0), pairs=pairs)
        if differences:
            lines += [
                "",
                f"Paired differences of `{ours}`, in points (95 % bootstrap over seeds and scenes):",
                "",
            ]
            lines += [
                f"- over {c.against}, {c.setting}: {points(c.difference, c.lo, c.hi)}" for c in differences
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
