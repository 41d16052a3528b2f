"""How fast the simulator is: control steps per second on one core, per task and renderer.

    OMP_NUM_THREADS=1 python benchmarks/sim.py [--episodes 5] [--passes 5] [--size 64]

A step is one tick: an expert decides, the robot moves, both cameras are rendered; the time of every reset is
part of it.  Counted is processor time of this process, and of every episode the best pass, so that a busy
machine falsifies little.  robosuite is measured beside it where it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable

import numpy as np

from bora_cli.seeds import stream
from bora_cli.sim.operator import EXPERT, SimulatedOperator
from bora_cli.sim.render import why_not
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.tasks import TASKS

FIRST_SCENE = 660_000
NO_CAMERAS = "no cameras"
WITH_CAMERAS = ("egl", "osmesa", "rays")


def run_episode(sim: Simulation, seed: int, images: bool) -> tuple[int, float, float]:
    """Return steps, seconds altogether and seconds of the reset of an expert's episode."""
    begin = time.process_time()
    sim.prepare(seed)
    sim.observe(images)
    resetting = time.process_time() - begin
    operator = SimulatedOperator(EXPERT, stream("operator", seed))
    operator.begin(sim)
    steps = 0
    while True:
        result = sim.step(operator.act(sim)[0])
        sim.observe(images)
        steps += 1
        if result.terminated or result.truncated:
            return steps, time.process_time() - begin, resetting


def measure(task: str, how: str, episodes: int, passes: int, size: int) -> tuple[float, float]:
    """Return steps per second and ms per reset; of every episode the best pass counts."""
    images = how != NO_CAMERAS
    sim = Simulation(task, image_size=size, backend=how if images else "rays")
    run_episode(sim, FIRST_SCENE, images)
    steps, seconds, resetting = 0, 0.0, 0.0
    for seed in range(FIRST_SCENE, FIRST_SCENE + episodes):
        runs = [run_episode(sim, seed, images) for _ in range(passes)]
        steps += runs[0][0]
        seconds += min(run[1] for run in runs)
        resetting += min(run[2] for run in runs)
    sim.close()
    return steps / seconds, 1e3 * resetting / episodes


def robosuite_rate(size: int, steps: int = 100) -> float:
    """Return control steps per second of robosuite's Lift with a dexterous hand and two cameras."""
    import robosuite  # not a dependency of bora

    env = robosuite.make(
        "Lift",
        robots="PandaDexRH",
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=True,
        camera_names=["frontview", "robot0_eye_in_hand"],
        camera_heights=size,
        camera_widths=size,
        control_freq=10,
    )
    env.reset()
    low, _ = env.action_spec
    begin = time.process_time()
    for _ in range(steps):
        env.step(np.zeros_like(low))
    return steps / (time.process_time() - begin)


def print_table(title: str, columns: list[str], rows: list[str], value: Callable[[str, str], float]) -> None:
    print(f"\n{title}\n")
    print("| task | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        print(
            f"| {row} | " + " | ".join(f"{value(row, column):.0f}" for column in columns) + " |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=5, help="different episodes")
    parser.add_argument("--passes", type=int, default=5, help="the best one of each episode counts")
    parser.add_argument("--size", type=int, default=64, help="side of the images, px")
    options = parser.parse_args()
    columns = [NO_CAMERAS, *(name for name in WITH_CAMERAS if not why_not(name))]
    cells = {}
    for task in TASKS:
        for how in columns:
            cells[task, how] = measure(task, how, options.episodes, options.passes, options.size)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    tasks = list(TASKS)
    print_table(
        f"Control steps per second, two cameras of {options.size} px, resets included, one core",
        columns,
        tasks,
        lambda task, how: cells[task, how][0],
    )
    print_table("Reset with first images, ms", columns, tasks, lambda task, how: cells[task, how][1])
    if importlib.util.find_spec("robosuite") is not None:
        print(f"\nrobosuite, Lift with a dexterous hand: {robosuite_rate(options.size):.0f} steps per second")
    else:
        print(
            "\nrobosuite is not installed; not measured here (once noted for 1.5.2, such a scene: about 9)."
        )


if __name__ == "__main__":
    main()
