"""What an update of the backbone costs: processor time there and back for each part that can be trained.

    OMP_NUM_THREADS=1 python benchmarks/adapting.py

The shipped backbone, 96 windows (a batch of the preset `sim`) of two pictures of 64 px, random pictures, one thread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from bora_cli.checkpoint import TINY, load_backbone
from bora_cli.models.adapt import Adaptation, adapt, in_bf16, recompute_activations

PARTS = ("full", "full,bf16", "full,recompute", "full,bf16,recompute", "last_blocks@1", "lora@8")


def main() -> None:
    """Print one line of Markdown per part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--rows", type=int, default=96)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| --adapt | processor, s |\n|---|---|")
    for text in PARTS:
        taken = there_and_back(text, given.rows, given.repetitions)
        print(f"| `{text}` | {np.median(taken):.2f} ({min(taken):.2f}-{max(taken):.2f}) |", flush=True)


def there_and_back(text: str, rows: int, repetitions: int) -> list[float]:
    """Return the processor time of passes forward and backward, s; the first pass is not counted."""
    backbone, how = load_backbone(TINY), Adaptation.parse(text)
    if how is None:
        raise SystemExit(f"{text} trains nothing")
    parameters = adapt(backbone, how).values()
    if how.recompute:
        recompute_activations(backbone)
    images = np.random.default_rng(0).integers(0, 256, (rows, 2, 64, 64, 3), dtype=np.uint8)
    taken = []
    for _ in range(1 + repetitions):
        started = time.process_time()
        with in_bf16(torch.device("cpu"), how.bf16):
            z = backbone.encode(images, ["pick up the red toy"] * rows, grad=True)
        z.square().mean().backward()
        taken.append(time.process_time() - started)
        for p in parameters:
            p.grad = None
    return taken[1:]


if __name__ == "__main__":
    main()
