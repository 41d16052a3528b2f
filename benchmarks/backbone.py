"""What the backbone is worth: the shipped one beside a random start, frozen beside trained through the actor's losses.

    python benchmarks/backbone.py --seeds 0 1 2 --out runs/backbone

One method, CP Base, so that nothing but the tokens differs.  Every seed has its own demonstrations (those of
`benchmarks/offline.py`), training and, where the start is random, weights; all rows of a seed meet the same evaluation
scenes.  Training time is processor time, without encoding all images once.  What is there is not made again; rows are
made one after the other over all seeds, and only rows that all seeds have enter the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import SETTINGS, counted, demonstrations, evaluated, points, slug

from bora_cli.analysis.tables import cells, comparisons, write_results
from bora_cli.checkpoint import TINY, load_backbone, package_versions
from bora_cli.data.files import write_json
from bora_cli.evaluate.metrics import Result
from bora_cli.evaluate.workers import Workers
from bora_cli.models.vlm import build_tiny
from bora_cli.sim.labelled_scenes import VOCABULARY
from bora_cli.train.buffer import load_buffer
from bora_cli.train.offline import train


@dataclass(frozen=True)
class Row:
    """One way to come by tokens.

    random: start from random weights of the seed.  adapt: what the second stage trains of it.  updates: of the first
    stage, the preset's if None.
    """

    random: bool
    adapt: str = "none"
    updates: int | None = None


FROZEN = "shipped, frozen"
ROWS: dict[str, Row] = {
    FROZEN: Row(random=False),
    "random, frozen": Row(random=True),
    "random, full": Row(random=True, adapt="full"),
    "shipped, last_blocks@1": Row(random=False, adapt="last_blocks@1"),
    "shipped, lora@8": Row(random=False, adapt="lora@8"),
    "shipped, frozen, 2400 updates": Row(random=False, updates=2400),
    "shipped, full": Row(random=False, adapt="full"),
}
"""The rows with a trained backbone take 1600 updates on cached tokens and 800 with a graph; the last but one shows what
as many updates do on cached tokens alone."""


def main() -> None:
    """Make what is missing, print the table as Markdown and write every episode to OUT/results-TASK.parquet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="pick_toy")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--quality", help="of the demonstrations; else the task's, see `cells.py`")
    parser.add_argument("--episodes", type=int, default=100, help="evaluation scenes per cell and seed")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/backbone"))
    arguments = parser.parse_args()
    results: list[Result] = []
    seconds: dict[str, list[float]] = {}
    with Workers(arguments.workers) as pool:
        for name in [n for n in ROWS if n in arguments.rows]:
            for seed in arguments.seeds:
                cost, found = run(name, seed, arguments, pool)
                seconds.setdefault(name, []).append(cost)
                results += found
            write_results(arguments.out / f"results-{arguments.task}.parquet", results)
            print(table(arguments.task, results, seconds), flush=True)
    print("\nVersions: " + json.dumps(package_versions()))


def run(name: str, seed: int, arguments: argparse.Namespace, pool: Workers) -> tuple[float, list[Result]]:
    """Return the processor time of the training, s, and the evaluated episodes of one row and seed."""
    task, root, row = arguments.task, arguments.out / f"{arguments.task}-{seed}", ROWS[name]
    policy, cost = root / "policies" / slug(name), root / "costs" / f"{slug(name)}.json"
    data = demonstrations(
        root, task, seed, episodes=arguments.demonstrations, quality=arguments.quality, pool=pool
    )
    if not cost.is_file():
        options: dict[str, Any] = {"adapt": row.adapt, "updates": row.updates}
        if row.random:
            options["backbone"] = str(random_start(root / "random", seed))
        encode_once(data, options.get("backbone", TINY))
        started = time.process_time()
        train("cp", data=[data], out=policy, seed=seed, **options)
        write_json(cost, {"processor_seconds": time.process_time() - started})
    results = []
    for setting in SETTINGS:
        results += evaluated(
            policy,
            root / "evaluations" / f"{slug(name)}-{setting}-{arguments.episodes}.json",
            name,
            task=task,
            setting=setting,
            seed=seed,
            episodes=arguments.episodes,
            pool=pool,
        )
    return float(json.loads(cost.read_text())["processor_seconds"]), results


def encode_once(demonstrations: Path, source: str) -> None:
    """Cache the tokens beside the dataset, so that no row pays for what others of its start find there."""
    load_buffer([demonstrations], load_backbone(source), horizon=8, gamma=0.97)


def random_start(folder: Path, seed: int) -> Path:
    """Return a backbone of the shipped one's shape and vocabulary that has seen nothing."""
    if not (folder / "config.json").is_file():
        build_tiny(VOCABULARY, seed).save(folder)
    return folder


def table(task: str, results: Sequence[Result], seconds: dict[str, list[float]]) -> str:
    """Return training time, success per setting, and the paired differences to the first row, as Markdown."""
    pooled = {(c.method, c.setting): c for c in cells(results)}
    lines = [
        "",
        f"### {task}",
        "",
        "| start, what is trained | training, s | standard | unseen |",
        "|---" * 4 + "|",
    ]
    for name, costs in seconds.items():
        success = " | ".join(counted(pooled[name, s].k, pooled[name, s].n) for s in SETTINGS)
        lines.append(f"| {name} | {', '.join(f'{s:.0f}' for s in costs)} | {success} |")
    pairs = [(name, FROZEN) for name in seconds if name != FROZEN]
    found = comparisons(results, rng=np.random.default_rng(0), pairs=pairs)
    if found:
        lines += [
            "",
            f"Paired differences to `{FROZEN}`, in points (95 % bootstrap over seeds and scenes):",
            "",
        ]
        lines += [f"- {c.method}, {c.setting}: {points(c.difference, c.lo, c.hi)}" for c in found]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
