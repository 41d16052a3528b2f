"""What makes an offline policy better: methods beside the controls that could explain their gain away.

    python benchmarks/offline.py --tasks pick_toy --seeds 0 1 2 --out runs/offline

Every (task, seed) has its own mixed demonstrations; all methods of a row of the table learn from the same ones, those
that improve a policy from the same CP Base, and meet the same evaluation scenes.  A policy or evaluation that is there
is not made again, so the command can be interrupted and asked for more methods, seeds or tasks later.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bora_cli.analysis.tables import cells, comparisons, write_results
from bora_cli.data.files import write_json
from bora_cli.evaluate.collect import collect
from bora_cli.evaluate.evaluate import EvalResult, evaluate
from bora_cli.evaluate.metrics import Result, wilson
from bora_cli.evaluate.workers import Workers
from bora_cli.train.offline import train


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
SETTINGS = ("standard", "unseen")


def main() -> None:
    """Make what is missing, print the tables as Markdown and write every episode to OUT/results.parquet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["pick_toy"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--quality", default="mixed")
    parser.add_argument("--episodes", type=int, default=100, help="evaluation scenes per cell and seed")
    parser.add_argument("--gap", default="none")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    arguments = parser.parse_args()
    names = ["cp", *(n for n in ROWS if n in arguments.methods and n != "cp")]
    with Workers(arguments.workers) as pool:
        for task in arguments.tasks:
            results = [r for seed in arguments.seeds for r in run(task, seed, names, arguments, pool)]
            write_results(arguments.out / f"results-{task}.parquet", results)
            print(table(task, results, names), flush=True)


def run(
    task: str, seed: int, names: Sequence[str], arguments: argparse.Namespace, pool: Workers
) -> list[Result]:
    """Return the evaluated episodes of all methods on one task with one seed."""
    root = arguments.out / f"{task}-{seed}"
    demonstrations = root / "demos"
    collect(
        task=task,
        episodes=arguments.demonstrations,
        out=demonstrations,
        quality=arguments.quality,
        seed=seed,
        workers=pool,
    )
    results = []
    for name in names:
        row, slug = ROWS[name], name.replace(", ", "-").replace(" ", "_")
        policy = root / "policies" / slug
        if not (policy / "config.json").is_file():
            init = root / "policies" / "cp" if row.improves else None
            train(row.method, data=[demonstrations], out=policy, init=init, seed=seed, **row.options)
        for setting in SETTINGS:
            file = root / "evaluations" / f"{slug}-{setting}-{arguments.gap}-{arguments.episodes}.json"
            if not file.is_file():
                found = evaluate(
                    policy,
                    task=task,
                    setting=setting,
                    gap=arguments.gap,
                    episodes=arguments.episodes,
                    seed=1000 * seed,
                    workers=pool,
                )
                write_json(file, found.to_json())
            done = EvalResult.from_json(json.loads(file.read_text()))
            results += [
                Result(name, setting, done.job.gap, seed, t.scene_seed, t.success, t.ticks)
                for t in done.trials
            ]
            print(f"{task} {seed} {name} {setting}: {done.successes}/{len(done.trials)}", flush=True)
    return results


def table(task: str, results: Sequence[Result], names: Sequence[str]) -> str:
    """Return success per method and setting, and how `bora` differs from every other, as Markdown."""
    pooled = {(c.method, c.setting): c for c in cells(results)}
    lines = ["", f"### {task}", "", "| method | " + " | ".join(SETTINGS) + " |", "|---" * 3 + "|"]
    for name in names:
        counted = [pooled[name, setting] for setting in SETTINGS]
        spans = [(c.k, c.n, *wilson(c.k, c.n)) for c in counted]
        lines.append(
            f"| {name} | "
            + " | ".join(f"{k}/{n} = {k / n:.2f} ({low:.2f}-{high:.2f})" for k, n, low, high in spans)
            + " |"
        )
    pairs = [("bora", other) for other in names if other != "bora"]
    found = comparisons(results, rng=np.random.default_rng(0), pairs=pairs)
    if found:
        lines += ["", "Paired differences of `bora`, in points (95 % bootstrap over seeds and scenes):", ""]
        lines += [
            f"- over {c.against}, {c.setting}: {100 * c.difference:+.0f} ({100 * c.lo:+.0f} to {100 * c.hi:+.0f})"
            for c in found
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
