"""Turn the door demonstrations of aravindr93/hand_dapg into the .npz file that `bora data import` reads.

    python datasets/door_from_pickle.py door-v0_demos.pickle door_human_demos.npz

The file lies there as dapg/demonstrations/door-v0_demos.pickle, under Apache-2.0 (Rajeswaran et al., "Learning Complex
Dexterous Manipulation with Deep Reinforcement Learning and Demonstrations", RSS 2018).  Loading a pickle can run any
code; this reader lets it make NumPy arrays and nothing else.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

CORES = ("numpy.core.multiarray", "numpy._core.multiarray")
ALLOWED = {("numpy", "ndarray"), ("numpy", "dtype"), *((core, "_reconstruct") for core in CORES)}


class ArraysOnly(pickle.Unpickler):
    """An unpickler that makes NumPy arrays and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"The file asks for {module}.{name}; expected arrays alone.")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def main(source: Path, target: Path) -> None:
    """Read the episodes and write them as flat arrays."""
    with source.open("rb") as file:
        episodes = ArraysOnly(file, encoding="latin1").load()
    arrays = {"lengths": np.array([len(e["actions"]) for e in episodes])}
    for name in ("observations", "actions", "rewards"):
        arrays[name] = np.concatenate([e[name] for e in episodes])
    for name in ("qpos", "qvel", "door_body_pos"):
        arrays[f"init_{name}"] = np.stack([e["init_state_dict"][name] for e in episodes])
    np.savez_compressed(target, **arrays)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python datasets/door_from_pickle.py door-v0_demos.pickle door_human_demos.npz")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
