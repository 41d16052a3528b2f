"""How good the scripted person is as a demonstrator: an expert, and one of mixed quality.

    OMP_NUM_THREADS=1 python benchmarks/operators.py [--episodes 200] [--tasks pick_toy ...]

Success per task and setting on scenes that nothing else uses, with 95 % Wilson intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bora_cli.control.loop import demonstrate
from bora_cli.evaluate.metrics import wilson
from bora_cli.seeds import stream
from bora_cli.sim.operator import SimulatedOperator, style_of_quality
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.tasks import TASKS
from bora_cli.sim.variation import SETTINGS

FIRST_SCENE = 670_000
QUALITIES = ("expert", "mixed")


def successes(task: str, setting: str, quality: str, seeds: Sequence[int]) -> int:
    """Return how many of these scenes a demonstrator of this quality masters."""
    sim = Simulation(task, setting=setting)
    count = 0
    for seed in seeds:
        style = style_of_quality(quality, stream("operator style", seed), task)
        operator = SimulatedOperator(style, stream("operator", seed))
        count += demonstrate(sim, operator, scene_seed=seed, meta={}, images=False).success
    sim.close()
    return count


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    options = parser.parse_args()
    seeds = range(FIRST_SCENE, FIRST_SCENE + options.episodes)
    columns = [(quality, setting) for quality in QUALITIES for setting in SETTINGS]
    print("| task | " + " | ".join(f"{quality}, {setting}" for quality, setting in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for task in options.tasks:
        row = []
        for quality, setting in columns:
            k = successes(task, setting, quality, seeds)
            low, high = wilson(k, len(seeds))
            row.append(f"{k}/{len(seeds)} ({low:.2f}-{high:.2f})")
        print(f"| {task} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
