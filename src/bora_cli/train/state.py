"""The state of a training run: weights, optimiser, counters and random numbers, so that a run can be continued.

A run that is continued equals one that was not interrupted, bit for bit on the same machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bora_cli.data.files import write_bytes
from bora_cli.errors import CheckpointError


def save_state(
    path: Path,
    update: int,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    generator: torch.Generator,
    job: Mapping[str, Any],
) -> None:
    """Write everything a run needs to go on, atomically.  job: what is trained; checked when it is read."""
    tensors = {
        f"{name}/{k}": v.detach().clone() for name, m in modules.items() for k, v in m.state_dict().items()
    }
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v).clone() for k, v in entry.items()}
    tensors["generator"] = generator.get_state()
    meta = {"update": update, "rng": rng.bit_generator.state, "job": dict(job)}
    write_bytes(path, save(tensors, {"state": json.dumps(meta)}))


def load_state(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    generator: torch.Generator,
    job: Mapping[str, Any],
) -> int:
    """Restore a run in place and return the number of updates done; 0 if there is nothing to continue.

    Raises CheckpointError if the saved run is another one.
    """
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        meta = json.loads(file.metadata()["state"])
        tensors: dict[str, Tensor] = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - not a dict
    if meta["job"] != json.loads(json.dumps(dict(job))):
        raise CheckpointError(
            f"{path} belongs to another training run ({meta['job']}).", "Choose another --out, or delete it."
        )
    for name, module in modules.items():
        module.load_state_dict(_below(tensors, name))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(tensors, "optimizer").items():
        index, _, slot = key.partition("/")
        state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    rng.bit_generator.state = meta["rng"]
    generator.set_state(tensors["generator"])
    return int(meta["update"])


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{prefix}/"): v for k, v in tensors.items() if k.startswith(f"{prefix}/")}
