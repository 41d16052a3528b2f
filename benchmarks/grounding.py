"""Where a backbone sees the object that the instruction names: a linear read-out of its tokens, per task.

    OMP_NUM_THREADS=1 python benchmarks/grounding.py [--backbone DIR] [--tasks pick_place ...]

First images of scenes that nothing was trained on, the hand away from everything.  A ridge regression from
the exported tokens to the object's place on the table is fitted to most of them, its penalty chosen on some,
its error counted on the rest.  Where several objects stand there, only the instruction tells which one is
meant.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from bora_cli.checkpoint import TINY, load_backbone
from bora_cli.models.vlm import Backbone
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.tasks import TASKS
from bora_cli.types import U8

FIRST_SCENE = 610_000
FIT, CHOOSE, COUNT = 700, 200, 300
"""Scenes to fit, to choose the penalty on, and to count errors on."""
PENALTIES = (3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
NEAR_M = 0.02

F64 = NDArray[np.float64]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--backbone", default=TINY)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    options = parser.parse_args()
    backbone = load_backbone(options.backbone)
    print(f"Backbone {backbone.hash}, {COUNT} scenes per task\n")
    print("| task | spread of the object, x / y | mean error, x / y | median distance | within 20 mm |")
    print("|---" * 5 + "|")
    for task in options.tasks:
        images, prompts, places = first_images(task)
        error = read_out(encode(backbone, images, prompts), places)
        distance = np.hypot(*error.T)
        spread, mean = (1000 * v for v in (places.std(axis=0), np.abs(error).mean(axis=0)))
        print(
            f"| `{task}` | {spread[0]:.0f} / {spread[1]:.0f} mm | {mean[0]:.0f} / {mean[1]:.0f} mm"
            f" | {1000 * np.median(distance):.0f} mm | {(distance < NEAR_M).mean():.2f} |",
            flush=True,
        )


def first_images(task: str) -> tuple[U8, list[str], F64]:
    """Return images [n, cameras, h, w, 3], instructions, and places of the object that is meant, [n, 2], m."""
    sim = Simulation(task)
    images, prompts, places = [], [], []
    for seed in range(FIRST_SCENE, FIRST_SCENE + FIT + CHOOSE + COUNT):
        seen = sim.reset(seed)
        images.append(np.stack([seen.images[camera] for camera in ("scene", "wrist")]))
        prompts.append(seen.prompt)
        places.append(sim.privileged().target_position[:2])
    sim.close()
    return np.stack(images), prompts, np.stack(places)


def encode(backbone: Backbone, images: U8, prompts: list[str], batch: int = 200) -> F64:
    """Return the exported tokens in a row, [n, N W]."""
    parts = (slice(i, i + batch) for i in range(0, len(images), batch))
    return np.concatenate([backbone.encode(images[p], prompts[p]).flatten(1).double().numpy() for p in parts])


def read_out(tokens: F64, places: F64) -> F64:
    """Return the errors [COUNT, 2], m, of the ridge regression from tokens to places."""
    x = (tokens - tokens[:FIT].mean(axis=0)) / (tokens[:FIT].std(axis=0) + 1e-6)
    y = places - places[:FIT].mean(axis=0)
    square, product = x[:FIT].T @ x[:FIT], x[:FIT].T @ y[:FIT]
    errors = [x @ np.linalg.solve(square + p * np.eye(len(square)), product) - y for p in PENALTIES]
    best = min(errors, key=lambda error: float(np.abs(error[FIT : FIT + CHOOSE]).mean()))
    return np.asarray(best[FIT + CHOOSE :])


if __name__ == "__main__":
    main()
