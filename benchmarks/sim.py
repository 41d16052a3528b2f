"""How fast the simulator is: control steps per second on one core, per task and renderer.

    OMP_NUM_THREADS=1 python benchmarks/sim.py [--episodes 5] [--passes 5] [--only rays] [--robosuite PYTHON]

A step is one tick: an expert decides, the robot moves, both cameras are rendered; the time of every reset is
part of it.  Counted is processor time of this process, and of every episode the best pass, so that a busy
machine falsifies little.  robosuite is measured beside it with the interpreter of an environment that has it.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def robosuite(python: str, size: int) -> dict[str, Any]:
    """Run robosuite's side in its own interpreter: version, and (steps per second, ms per reset) per renderer."""
    command = [python, str(Path(__file__).with_name("sim_robosuite.py")), str(size)]
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        sys.exit(f"robosuite's side failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def print_table(title: str, columns: list[str], rows: list[str], value: Callable[[str, str], float]) -> None:
    print(f"\n{title}\n")
    print("| task | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for row in rows:
        cells = [value(row, column) for column in columns]
        shown = ["" if math.isnan(cell) else f"{cell:.0f}" for cell in cells]
        print(f"| {row} | " + " | ".join(shown) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=5, help="different episodes")
    parser.add_argument("--passes", type=int, default=5, help="the best one of each episode counts")
    parser.add_argument("--size", type=int, default=64, help="side of the images, px")
    parser.add_argument(
        "--only", nargs="+", default=(), metavar="NAME", help=f"of {NO_CAMERAS}, {WITH_CAMERAS}"
    )
    parser.add_argument("--robosuite", default="", metavar="PYTHON", help="interpreter that has robosuite")
    options = parser.parse_args()
    wanted = [
        name for name in (NO_CAMERAS, *WITH_CAMERAS) if name in (options.only or (NO_CAMERAS, *WITH_CAMERAS))
    ]
    columns = [name for name in wanted if name == NO_CAMERAS or not why_not(name)]
    cells = {}
    for task in TASKS:
        for how in columns:
            cells[task, how] = measure(task, how, options.episodes, options.passes, options.size)
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    tasks = list(TASKS)
    if options.robosuite:
        found = robosuite(options.robosuite, options.size)
        tasks.append(f"robosuite {found['robosuite']}, Lift, five-finger hand")
        cells |= {(tasks[-1], how): tuple(found.get(how, (math.nan, math.nan))) for how in columns}
    print_table(
        f"Control steps per second, two cameras of {options.size} px, resets included, one core",
        columns,
        tasks,
        lambda task, how: cells[task, how][0],
    )
    print_table("Reset with first images, ms", columns, tasks, lambda task, how: cells[task, how][1])


if __name__ == "__main__":
    main()
