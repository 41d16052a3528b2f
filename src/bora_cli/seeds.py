"""Which random numbers are drawn for what.

A *scene seed* is the integer given to `Simulation.reset`; it fixes layout, shape, appearance and physics of an
episode.  Every purpose has its own range of scene seeds, so that no scene is ever used twice:

    purpose      range              used for
    eval         [      0, 100000)  evaluation; `bora eval --seed S --episodes N` uses S .. S+N-1
    collect      [100000, 300000)   demonstrations
    online       [300000, 500000)   online rounds (the policy acts, a person may take over)
    release      [500000, 600000)   paired unaided episodes that decide whether a residual is released
    tune         [600000, 800000)   choosing difficulty and hyper-parameters
    pretrain     [800000, 900000)   rendered scenes for the backbone (each seed gives many scenes)

bora itself never draws a scene seed of 900000 or more: that range is kept for evaluation by others.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from bora_cli.errors import ConfigError

RANGES: dict[str, tuple[int, int]] = {
    "eval": (0, 100_000),
    "collect": (100_000, 300_000),
    "online": (300_000, 500_000),
    "release": (500_000, 600_000),
    "tune": (600_000, 800_000),
    "pretrain": (800_000, 900_000),
}
BLOCK = 1_000
"""Scene seeds set aside for one run seed within a purpose."""


def scene_seeds(purpose: str, seed: int, count: int, start: int = 0) -> list[int]:
    """Return `count` scene seeds for a purpose.

    seed: the run's `--seed`; block number `seed` of the purpose's range.  start: offset within the block.
    For `eval` the scene seeds are simply seed + start, seed + start + 1, ...; any non-negative seed is accepted,
    so that a held-out range can be named on the command line.
    Raises ConfigError if the block would leave the purpose's range.
    """
    if seed < 0:
        raise ConfigError(f"Seed {seed} is negative; expected 0 or more.", "Choose a non-negative --seed.")
    if purpose == "eval":
        return list(range(seed + start, seed + start + count))
    low, high = RANGES[purpose]
    blocks = (high - low) // BLOCK
    if seed >= blocks or start + count > BLOCK:
        raise ConfigError(
            f"Seed {seed} with episodes {start}..{start + count - 1} is outside the {purpose} scenes;"
            f" expected a seed below {blocks} and at most {BLOCK} episodes.",
            "Choose a smaller --seed or fewer episodes.",
        )
    first = low + seed * BLOCK + start
    return list(range(first, first + count))


def stream(name: str, *entropy: int) -> np.random.Generator:
    """Return an independent generator for a named purpose.

    name: what the numbers are for ("layout", "operator", "policy", ...).  entropy: seeds that identify the instance.
    Adding a draw to one stream never moves another.
    """
    return np.random.Generator(np.random.PCG64(seed_sequence(name, *entropy)))


def seed_sequence(name: str, *entropy: int) -> np.random.SeedSequence:
    """Return the seed sequence behind `stream`; use `.generate_state(1)` where a library wants an integer."""
    keys: Sequence[int] = [zlib.crc32(name.encode()), *entropy]
    return np.random.SeedSequence(list(keys))
