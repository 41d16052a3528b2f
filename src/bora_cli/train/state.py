"""The state of a training run: weights, optimisers, counters and random numbers, so that a run can be continued.

A run that is continued equals one that was not interrupted, bit for bit on the same machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bora_cli.data.files import write_bytes
from bora_cli.errors import CheckpointError
from bora_cli.train import parallel

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]


def save_state(
    path: Path,
    update: int,
    modules: Mapping[str, nn.Module],
    optimizers: Optimizers,
    rng: np.random.Generator,
    generator: torch.Generator,
    job: Mapping[str, Any],
) -> None:
    """Write everything a run needs to go on, atomically.  job: what is trained; checked when it is read.

    Of several processes all have to call it, and the first one writes.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in _tensors(modules, optimizers):
        whole = parallel.whole(tensor)
        if parallel.first():  # nobody else has to have room for all of them
            tensors[name] = whole.cpu()
    tensors["generator"] = generator.get_state()
    meta = {"update": update, "rng": rng.bit_generator.state, "job": dict(job)}
    if parallel.first():
        write_bytes(path, save(tensors, {"state": json.dumps(meta)}))


def load_state(
    path: Path,
    modules: Mapping[str, nn.Module],
    optimizers: Optimizers,
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
        own, kept = module.state_dict(), _below(tensors, name)
        module.load_state_dict({k: parallel.like(v, own[k]) for k, v in kept.items()})
    for number, optimizer in enumerate(_each(optimizers)):
        _restore(optimizer, _below(tensors, f"optimizer{number}"))
    rng.bit_generator.state = meta["rng"]
    generator.set_state(tensors["generator"])
    return int(meta["update"])


def _tensors(modules: Mapping[str, nn.Module], optimizers: Optimizers) -> Iterator[tuple[str, Tensor]]:
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            yield f"{name}/{key}", value
    for number, optimizer in enumerate(_each(optimizers)):
        for index, entry in optimizer.state_dict()["state"].items():
            for slot, value in entry.items():
                yield f"optimizer{number}/{index}/{slot}", torch.as_tensor(value)


def _restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, slot = key.partition("/")
        parameter = parameters[int(index)]
        whole = value if value.shape != parameter.shape else parallel.like(value, parameter)
        state.setdefault(int(index), {})[slot] = whole
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _each(optimizers: Optimizers) -> Sequence[torch.optim.Optimizer]:
    return [optimizers] if isinstance(optimizers, torch.optim.Optimizer) else optimizers


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(f"{prefix}/"): v for k, v in tensors.items() if k.startswith(f"{prefix}/")}
