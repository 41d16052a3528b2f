"""LeRobot's side of benchmarks/latency.py; runs in an environment with lerobot and without bora.

python benchmarks/latency_lerobot.py SIZES    SIZES: JSON of the arguments of `main`

Random weights, nothing is downloaded.  Each policy as it comes, and one as small as its picture encoder allows.
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
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy

IN_A_ROW = 10


def main(threads: int, repetitions: int, side: int, horizon: int, state: int, action: int) -> None:
    """Time all policies and print one line of JSON."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    seen = {"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(state,))}
    for camera in ("scene", "wrist"):
        seen[f"observation.images.{camera}"] = PolicyFeature(type=FeatureType.VISUAL, shape=(3, side, side))
    common: dict[str, Any] = {
        "input_features": seen,
        "output_features": {"action": PolicyFeature(type=FeatureType.ACTION, shape=(action,))},
        "device": "cpu",
        "pretrained_backbone_weights": None,
    }
    act = {"chunk_size": horizon, "n_action_steps": horizon}
    small = {"dim_model": 128, "n_heads": 4, "dim_feedforward": 256, "n_encoder_layers": 2}
    ddim: dict[str, Any] = {"horizon": horizon, "n_action_steps": horizon // 2, "crop_shape": None}
    ddim |= {"noise_scheduler_type": "DDIM", "num_inference_steps": 10}
    narrow = {"down_dims": (64, 128), "diffusion_step_embed_dim": 64}
    view = {k: torch.rand(1, *f.shape) for k, f in seen.items()}
    calls: dict[str, tuple[int, Callable[[], Any]]] = {}
    for name, policy in (
        ("ACT", ACTPolicy(ACTConfig(**common, **act))),
        ("ACT, small", ACTPolicy(ACTConfig(**common, **act, **small))),
        ("diffusion policy, 10 DDIM steps", DiffusionPolicy(DiffusionConfig(**common, **ddim))),
        (
            "diffusion policy, small, 10 DDIM steps",
            DiffusionPolicy(DiffusionConfig(**common, **ddim, **narrow)),
        ),
    ):
        calls[f"lerobot {lerobot.__version__}, {name}"] = (weights(policy), decide(policy.eval(), view))
    print(json.dumps(timed(calls, repetitions)))


def weights(policy: torch.nn.Module) -> int:
    """Return how many numbers were or would be learned."""
    return sum(p.numel() for p in policy.parameters())


def decide(policy: Any, view: dict[str, torch.Tensor]) -> Callable[[], Any]:
    """Return a call that makes a policy plan a chunk afresh."""

    def call() -> Any:
        policy.reset()
        return policy.select_action(dict(view))

    return call


@torch.inference_mode()
def timed(calls: dict[str, tuple[int, Callable[[], Any]]], repetitions: int) -> dict[str, dict[str, Any]]:
    """Return wall-clock and processor times, s; the calls take turns as in benchmarks/latency.py."""
    found: dict[str, dict[str, Any]] = {
        name: {"parameters": number, "wall": [], "processor": []} for name, (number, _) in calls.items()
    }
    for _ in range(-(-repetitions // IN_A_ROW)):
        for name, (_, call) in calls.items():
            call()
            for _ in range(IN_A_ROW):
                wall, processor = time.perf_counter(), time.thread_time()
                call()
                found[name]["processor"].append(time.thread_time() - processor)
                found[name]["wall"].append(time.perf_counter() - wall)
    return found


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
