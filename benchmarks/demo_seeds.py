"""Pool the demo over seeds: the table of docs/results.md.

    python benchmarks/demo_seeds.py --task pick_toy --seeds 0 1 2 3 4 --out runs/seeds

Each seed is one `bora demo`, resumable like the demo itself; a finished seed is only read.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from bora_cli.analysis.summary import Cell, Comparison, RunSummary, method_title
from bora_cli.analysis.tables import cells, comparisons, read_results
from bora_cli.evaluate.metrics import Result, wilson


def main() -> None:
    """Run what is missing and print the pooled table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="pick_toy")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("runs/seeds"))
    arguments = parser.parse_args()
    results: list[Result] = []
    runs: list[RunSummary] = []
    for seed in arguments.seeds:
        root = arguments.out / f"{arguments.task}-{seed}"
        command = ["demo", "--task", arguments.task, "--seed", str(seed), "--out", str(root)]
        subprocess.run([sys.executable, "-m", "bora_cli", *command], check=True, stdout=subprocess.DEVNULL)
        results += read_results(root / "results.parquet")
        runs.append(RunSummary.load(root / "summary.json"))
    print(table(arguments.task, results, runs))


def table(task: str, results: list[Result], runs: list[RunSummary]) -> str:
    """Return the pooled success table, the paired differences, the human share and the demo's duration."""
    pooled = cells(results)
    settings = list(dict.fromkeys((c.setting, c.gap) for c in pooled))
    lines = [f"### {task}, {len(runs)} seeds ({', '.join(str(r.seed) for r in runs)})", ""]
    lines += ["| method | " + " | ".join(f"{s}, gap {g}" for s, g in settings) + " |"]
    lines += ["|---|" + "---|" * len(settings)]
    for method in dict.fromkeys(c.method for c in pooled):
        row = [_cell(c) for key in settings for c in pooled if (c.method, c.setting, c.gap) == (method, *key)]
        lines.append(f"| {method_title(method)} | " + " | ".join(row) + " |")
    lines += ["", "Paired differences in points, 95 % bootstrap over seeds and scenes:", ""]
    lines += [_difference(c) for c in comparisons(results, rng=np.random.default_rng(0))]
    shares = [r.human.share for r in runs if r.human is not None]
    ticks = sum(r.human.ticks for r in runs if r.human is not None)
    human = sum(r.human.human_ticks for r in runs if r.human is not None)
    released = [sum(x.released for x in r.rounds) for r in runs]
    lines += ["", f"Human share {human}/{ticks} ticks ({100 * human / max(ticks, 1):.0f} %); per seed "]
    lines[-1] += ", ".join(f"{100 * s:.0f} %" for s in shares) + f"; rounds released per seed {released}."
    seconds = [sum(s.seconds for s in r.stages) for r in runs]
    lines += ["", "Seconds of the stages per seed: " + ", ".join(f"{s:.0f}" for s in seconds) + "."]
    lines += ["", "Versions: " + json.dumps(runs[0].versions) + "; " + json.dumps(runs[0].machine) + "."]
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    low, high = wilson(cell.k, cell.n)
    return f"{cell.k}/{cell.n} = {cell.k / cell.n:.2f} ({low:.2f}-{high:.2f})"


def _difference(c: Comparison) -> str:
    return (
        f"- {method_title(c.method)} - {method_title(c.against)}, {c.setting}: "
        f"{100 * c.difference:+.0f} ({100 * c.lo:+.0f} to {100 * c.hi:+.0f}), n = {c.n}"
    )


if __name__ == "__main__":
    main()
