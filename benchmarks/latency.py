"""How long a chunk takes: one pass of the head, one to three evaluations, ten DDIM steps, and whole policies.

    python benchmarks/latency.py [--threads 1 2] [--repetitions 200] [--lerobot PYTHON] [--theirs 20]

The consistency head and the diffusion head are the same network; `bora train cp` and `bora train diffusion` make them.
Random weights, batch 1, CPU.  PYTHON is the interpreter of an environment with lerobot, whose ACT and diffusion policy
are then timed by benchmarks/latency_lerobot.py on pictures, states and chunks of the same sizes; it may also stand in
BORA_LEROBOT_PYTHON.  Calls take turns in short runs, so that all of them meet the same neighbours on the machine.
"Processor" is the time that the calling thread computed, which neighbours hardly change; it needs one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bora_cli.checkpoint import TINY, load_backbone, package_versions
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.diffusion import DDIM_STEPS, DiffusionConfig, DiffusionExpert
from bora_cli.models.nn import Sizes
from bora_cli.models.normalize import Normalizer
from bora_cli.models.policy import Actor, PolicySpec, VLAPolicy
from bora_cli.sim.limits import DT, STATE_NAMES, action_spec
from bora_cli.types import Observation

SIDE, HORIZON, EXECUTE = 64, 8, 4
HEADS = {"shipped": (256, 2), "large": (1024, 4)}
"""Sizes of heads that are timed: width and blocks."""
IN_A_ROW = 10
"""Calls of one kind before it is the turn of the next; one more before them is not timed."""
PASS, CHUNK, DDIM = "one pass of the network", "chunk, 1 evaluation", f"chunk, {DDIM_STEPS} DDIM steps"


@dataclass(frozen=True)
class Timing:
    """Wall-clock and processor time of repeated calls, s, and how many weights they use."""

    parameters: int
    wall: list[float]
    processor: list[float]


def main() -> None:
    """Print a Markdown table per network size and number of threads, the two goals, and versions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=200, help="timed calls of each kind")
    parser.add_argument("--lerobot", default=os.environ.get("BORA_LEROBOT_PYTHON", ""))
    parser.add_argument(
        "--theirs", type=int, default=0, help="timed calls of lerobot's policies, else as many"
    )
    every = os.cpu_count() or 1
    parser.add_argument("--threads", type=int, nargs="+", default=list(dict.fromkeys((1, every))))
    parser.add_argument("--only", nargs="+", choices=[*HEADS, "policies"], default=[*HEADS, "policies"])
    given = parser.parse_args()
    for threads in given.threads:
        torch.set_num_threads(threads)
        for title in (t for t in HEADS if t in given.only):
            width, blocks = HEADS[title]
            print(f"\n### Head, {title} (width {width}, {blocks} blocks), {threads} thread(s)\n")
            found = timed(heads(width, blocks), given.repetitions)
            print(table(found, threads, PASS))
            print("\n" + goals(found, threads), flush=True)
        if "policies" in given.only:
            print(f"\n### Whole policies, {threads} thread(s)\n")
            found = timed(policies(), given.repetitions)
            if given.lerobot:
                found |= theirs(given.lerobot, threads, given.theirs or given.repetitions)
            print(table(found, threads, "bora, consistency head"), flush=True)
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(
        f"\nVersions: {json.dumps(package_versions())}; {platform.platform()}; load {load} on {every} cores."
    )


Call = tuple[int, Callable[[], Any]]


def heads(width: int, blocks: int) -> dict[str, Call]:
    """Return the calls that time a head, with its number of weights: tokens are there, nothing is trained."""
    backbone = load_backbone(TINY)
    sizes = Sizes(
        n_tokens=backbone.n_tokens,
        token_width=backbone.width,
        state_dim=len(STATE_NAMES),
        action_dim=action_spec().dim,
        horizon=HORIZON,
    )
    expert = ConsistencyExpert(ConsistencyConfig(sizes=sizes, width=width, blocks=blocks)).eval()
    diffusion = DiffusionExpert(DiffusionConfig(sizes=sizes, width=width, blocks=blocks)).eval()
    z, s = torch.randn(1, sizes.n_tokens, sizes.token_width), torch.randn(1, sizes.state_dim)
    noise = torch.randn(3, 1, sizes.horizon, sizes.action_dim)
    sigma, level = torch.full((1,), 10.0), torch.full((1,), 50)
    weights = sum(p.numel() for p in expert.parameters())
    calls: dict[str, Callable[[], Any]] = {
        PASS: lambda: expert.denoise(noise[0], sigma, z, s),
        CHUNK: lambda: expert.sample(z, s, noise[:1], 1),
        "chunk, 2 evaluations": lambda: expert.sample(z, s, noise[:2], 2),
        "chunk, 3 evaluations": lambda: expert.sample(z, s, noise, 3),
        "one pass of the diffusion head": lambda: diffusion.predict_v(noise[0], level, diffusion.embed(z, s)),
        DDIM: lambda: diffusion.sample(z, s, noise[0]),
    }
    return {name: (weights, call) for name, call in calls.items()}


def policies() -> dict[str, Call]:
    """Return the calls that time a decision: two pictures and a prompt in, a chunk in physical units out."""
    backbone = load_backbone(TINY)
    action, rng = action_spec(), np.random.default_rng(0)
    sizes = Sizes(
        n_tokens=backbone.n_tokens,
        token_width=backbone.width,
        state_dim=len(STATE_NAMES),
        action_dim=action.dim,
        horizon=HORIZON,
    )
    views = [
        Observation(
            images={c: rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for c in backbone.cameras},
            state=rng.normal(size=len(STATE_NAMES)).astype(np.float32),
            prompt="pick up the toy",
        )
        for _ in range(2)
    ]
    see = cycle(views)  # what a policy has just seen it does not look at again
    vision = sum(p.numel() for p in backbone.parameters())
    calls: dict[str, Call] = {}
    for name, expert, steps in (
        ("consistency head", ConsistencyExpert(ConsistencyConfig(sizes=sizes)), 1),
        ("consistency head, 2 evaluations", ConsistencyExpert(ConsistencyConfig(sizes=sizes)), 2),
        ("diffusion head, 10 DDIM steps", DiffusionExpert(DiffusionConfig(sizes=sizes)), DDIM_STEPS),
    ):
        actor = Actor(expert, Normalizer.identity(sizes.state_dim), Normalizer.identity(sizes.action_dim))
        spec = PolicySpec(action, STATE_NAMES, backbone.cameras, DT, HORIZON, EXECUTE, steps, (SIDE, SIDE))
        policy = VLAPolicy(spec, backbone, actor)
        weights = vision + sum(p.numel() for p in actor.parameters())
        calls[f"bora, {name}"] = (
            weights,
            lambda policy=policy: policy.decide(next(see), np.random.default_rng(0)),
        )
    calls["bora, backbone alone"] = (vision, lambda: policy.tokens(next(see)))
    return calls


@torch.inference_mode()
def timed(calls: dict[str, Call], repetitions: int) -> dict[str, Timing]:
    """Return the time that each call takes; the calls take turns."""
    found = {name: Timing(weights, [], []) for name, (weights, _) in calls.items()}
    for _ in range(-(-repetitions // IN_A_ROW)):
        for name, (_, call) in calls.items():
            call()
            for _ in range(IN_A_ROW):
                wall, processor = time.perf_counter(), time.thread_time()
                call()
                found[name].processor.append(time.thread_time() - processor)
                found[name].wall.append(time.perf_counter() - wall)
    return found


def theirs(python: str, threads: int, repetitions: int) -> dict[str, Timing]:
    """Return the timings of lerobot's policies in an interpreter that has lerobot."""
    script = Path(__file__).with_name("latency_lerobot.py")
    sizes = {"threads": threads, "repetitions": repetitions, "side": SIDE, "horizon": HORIZON}
    sizes |= {"state": len(STATE_NAMES), "action": action_spec().dim}
    done = subprocess.run(
        [python, str(script), json.dumps(sizes)], check=True, capture_output=True, text=True
    )
    *_, last = done.stdout.splitlines()
    return {name: Timing(**found) for name, found in json.loads(last).items()}


def table(found: dict[str, Timing], threads: int, unit: str) -> str:
    """Return a row per call as Markdown; `unit` is the row of which the others are multiples."""
    one = threads == 1
    head = ["what", "weights", "median, ms", "p99, ms", *(["processor, ms"] if one else []), "times"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, timing in found.items():
        cells = [name, f"{timing.parameters / 1e6:.2f} M"]
        cells += [f"{1e3 * np.median(timing.wall):.2f}", f"{1e3 * np.quantile(timing.wall, 0.99):.2f}"]
        cells += [f"{1e3 * np.median(timing.processor):.2f}"] if one else []
        cells.append(f"{_cost(timing, threads) / _cost(found[unit], threads):.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def goals(found: dict[str, Timing], threads: int) -> str:
    """Say whether a chunk costs at most two passes, and whether ten DDIM steps cost at least eight chunks."""
    chunk = _cost(found[CHUNK], threads)
    passes, steps = chunk / _cost(found[PASS], threads), _cost(found[DDIM], threads) / chunk
    return (
        f"A chunk costs {passes:.2f} passes (goal: at most 2: {'met' if passes <= 2 else 'missed'}), ten DDIM steps"
        f" {steps:.1f} chunks (goal: at least 8: {'met' if steps >= 8 else 'missed'})."
    )


def _cost(timing: Timing, threads: int) -> float:
    """Return what calls are compared by: processor time where one thread does all, else the wall clock."""
    return float(np.median(timing.processor if threads == 1 else timing.wall))


if __name__ == "__main__":
    main()
