"""How much each execution gap matters: a plan executed blindly under it, and a person who copes with it.

    OMP_NUM_THREADS=1 python benchmarks/gaps.py [--episodes 15] [--gaps bias friction@2 ...]

Blindly: the actions of an expert without a gap, replayed under the gap.  A person: the one who takes over from
policies drives from the beginning, and sees what happens.
"""

from __future__ import annotations

import argparse

from bora_cli.seeds import stream
from bora_cli.sim.gaps import GAPS
from bora_cli.sim.operator import CORRECTOR, EXPERT, OperatorStyle, SimulatedOperator
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.tasks import TASKS
from bora_cli.types import F32

FIRST_SCENE, FIRST_PLAN = 630_000, 633_000
WAIT = 8
"""Ticks for which a blind plan holds at its end."""


def drive(sim: Simulation, seed: int, style: OperatorStyle) -> tuple[bool, list[F32]]:
    """Let a person drive one episode; return whether he succeeds, and what was applied."""
    sim.prepare(seed)
    operator = SimulatedOperator(style, stream("operator", seed))
    operator.begin(sim)
    applied = []
    while True:
        result = sim.step(operator.act(sim)[0])
        applied.append(result.applied)
        if result.terminated or result.truncated:
            return result.success, applied


def execute(sim: Simulation, seed: int, actions: list[F32]) -> bool:
    """Execute a plan blindly and hold for a moment; return whether it succeeds."""
    sim.prepare(seed)
    hold = actions[-1].copy()
    hold[sim.action_spec.slice("arm")] = 0.0
    for action in (*actions, *[hold] * WAIT):
        result = sim.step(action)
        if result.terminated or result.truncated:
            return result.success
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=15)
    parser.add_argument("--gaps", nargs="+", default=list(GAPS))
    options = parser.parse_args()
    seeds = range(FIRST_SCENE, FIRST_SCENE + options.episodes)
    planned = range(FIRST_PLAN, FIRST_PLAN + options.episodes)
    plans = {task: [drive(Simulation(task), seed, EXPERT)[1] for seed in planned] for task in TASKS}
    print(f"Successes of {options.episodes}: a plan executed blindly / a person\n")
    print("| gap | " + " | ".join(TASKS) + " |")
    print("|---" * (len(TASKS) + 1) + "|")
    for gap in options.gaps:
        cells = []
        for task in TASKS:
            sim = Simulation(task, gap=gap)
            blind = sum(execute(sim, seed, plan) for seed, plan in zip(planned, plans[task], strict=True))
            person = sum(drive(sim, seed, CORRECTOR)[0] for seed in seeds)
            cells.append(f"{blind} / {person}")
        print(f"| {gap} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
