"""LeRobot's side of benchmarks/learner.py; runs in an environment with lerobot and without bora.

python benchmarks/learner_lerobot.py SIZES    SIZES: JSON of the arguments of `main`

A request, a line of JSON, is one learner step of SAC as lerobot's learner takes it (`lerobot.rl.learner`): UTD updates
of the critics, each with its Polyak step, then one of the actor and one of the temperature.  Random pictures and
weights, nothing is downloaded.  The encoder is the one that comes with the policy, four convolutions learned from
scratch, which actor and critics share and which every update runs.  Reading and normalising pictures is not timed,
compiling is off.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import lerobot
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.sac.configuration_sac import SACConfig
from lerobot.policies.sac.modeling_sac import SACPolicy

Step = Callable[[], None]


def main(state: int, action: int, utd: int) -> None:
    """Answer each request with a line of JSON: seconds of a step, or versions where no batch is named."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps: dict[tuple[int, int], Step] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "batch" not in asked:
            print(json.dumps({"lerobot": lerobot.__version__, "torch": torch.__version__}), flush=True)
            continue
        batch, side = int(asked["batch"]), int(asked["side"])
        if (batch, side) not in steps:
            steps[batch, side] = learner_step(batch, side, state, action, utd)
        wall, processor = time.perf_counter(), time.process_time()
        steps[batch, side]()
        took = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        print(json.dumps(took), flush=True)


def learner_step(batch: int, side: int, state: int, action: int, utd: int) -> Step:
    """Return a call that takes one learner step.  side: of both pictures, px, 0 for none."""
    seen = {"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(state,))}
    for camera in ("scene", "wrist") if side else ():
        seen[f"observation.images.{camera}"] = PolicyFeature(type=FeatureType.VISUAL, shape=(3, side, side))
    acts = {"action": PolicyFeature(type=FeatureType.ACTION, shape=(action,))}
    config = SACConfig(input_features=seen, output_features=acts, device="cpu", use_torch_compile=False)
    policy = SACPolicy(config)
    policy.train()
    trained = policy.get_optim_params()
    trained = {k: [v] if isinstance(v, torch.Tensor) else list(v) for k, v in trained.items()}
    optimizers = {k: torch.optim.Adam(v, lr=3e-4) for k, v in trained.items()}
    data: dict[str, Any] = {
        "state": {k: torch.rand(batch, *f.shape) for k, f in seen.items()},
        "next_state": {k: torch.rand(batch, *f.shape) for k, f in seen.items()},
        "action": torch.rand(batch, action) * 2 - 1,
        "reward": torch.rand(batch),
        "done": torch.zeros(batch),
    }

    def update(what: str) -> None:
        loss = policy.forward(data, model=what)[f"loss_{what}"]  # type: ignore[arg-type]
        optimizers[what].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained[what], config.grad_clip_norm)
        optimizers[what].step()

    def step() -> None:
        for _ in range(utd - 1):
            update("critic")
            policy.update_target_networks()
        update("critic")
        update("actor")
        update("temperature")
        policy.update_target_networks()

    return step


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
