"""What an update of the online stage costs: from cached tokens, beside lerobot's SAC, which runs its encoder.

    OMP_NUM_THREADS=1 python benchmarks/learner.py --lerobot PYTHON [--turns 6]

A learner step is two updates of the critic and one of the actor.  Ours are those of `bora online` (`fit_residual`: the
critic on mixed batches, with its Polyak copy, and the residual with the hinge), on demonstrations and assisted episodes
recorded first.  The backbone may not be asked meanwhile; what it was asked before is counted.  Lerobot's
(benchmarks/learner_lerobot.py) has its pictures in memory.  PYTHON is the interpreter of an environment with lerobot
and may stand in BORA_LEROBOT_PYTHON.  The sides take turns, one thread each.  In brackets stands the range of the
turns: the median of what they are turns of lies in the range of six with 97 %.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, cast
from unittest.mock import patch

import numpy as np
import torch

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.checkpoint import TINY, Trained, load_backbone, load_trained, package_versions
from bora_cli.control.loop import roll_out
from bora_cli.data.dataset import Dataset
from bora_cli.evaluate.collect import collect, simulation
from bora_cli.models.vlm import Backbone
from bora_cli.seeds import scene_seeds, stream
from bora_cli.sim.limits import STATE_NAMES, action_spec
from bora_cli.sim.operator import SimulatedOperator
from bora_cli.sim.styles import CORRECTOR
from bora_cli.sim.watcher import Watcher
from bora_cli.train.offline import train
from bora_cli.train.residual import fit_residual
from bora_cli.train.tokens import COPIES, dataset_tokens
from bora_cli.types import Episode

TASK, SIDE = "pick_toy", 64
UTD = 2
"""Updates of the critic per update of the actor."""
UPDATES = 40
"""Our updates of each kind in a turn; the first half is not timed."""
CRITIC, RESIDUAL = "online critic", "residual"
"""What `fit_residual` calls its stages."""
OURS = "bora, tokens of two cameras"
PARTS = {
    "matrix products": ("aten::baddbmm", "aten::bmm", "aten::mm", "aten::addmm"),
    "layer norms": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "ReLU": ("aten::clamp_min", "aten::threshold_backward"),
    "copies": ("aten::copy_",),
}
"""Operations of torch whose share of an update is told."""


@dataclass(frozen=True)
class Seconds:
    """Wall-clock and processor time of something, s."""

    wall: float
    processor: float


class Stopwatch:
    """Takes the time of the updates of one stage; a way to be told of progress."""

    def __init__(self, stage: str, profiler: Any = None) -> None:
        self.stage, self.profiler = stage, profiler
        self.seen: list[tuple[int, Seconds]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Note when so many updates were done; a profiler looks on from the first to the last note."""
        if stage != self.stage:
            return
        if self.profiler is not None and not self.seen:
            self.profiler.start()
        self.seen.append((done, now()))
        if self.profiler is not None and done == total:
            self.profiler.stop()

    def each(self) -> Seconds:
        """Return the mean time of an update after the first note."""
        (before, first), *_, (after, last) = self.seen
        n = after - before
        return Seconds((last.wall - first.wall) / n, (last.processor - first.processor) / n)


@dataclass(frozen=True)
class Material:
    """What a round learns from: a policy with a critic, offline episodes with tokens beside them, online episodes."""

    base: Trained
    demos: Path
    episodes: Path

    def learn(self, batch: int, updates: int, *told: Stopwatch) -> None:
        """Learn a round; raises RuntimeError if the backbone is asked for anything."""
        config = OnlineConfig(updates=updates, batch=batch, min_takeovers=1)

        def progress(stage: str, done: int, total: int) -> None:
            for watch in told:
                watch(stage, done, total)

        refuse = RuntimeError("the backbone was asked during an update")
        with patch.object(Backbone, "encode", side_effect=refuse):
            fit_residual(self.base, self.episodes, [self.demos], config=config, progress=progress)


class Peer:
    """Lerobot in an interpreter of its own, asked for one learner step at a time."""

    def __init__(self, python: str, script: Path = Path(__file__).with_name("learner_lerobot.py")) -> None:
        sizes = {"state": len(STATE_NAMES), "action": action_spec().dim, "utd": UTD}
        command = [python, str(script), json.dumps(sizes)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._in, self._out = cast("IO[str]", self._process.stdin), cast("IO[str]", self._process.stdout)

    def ask(self, **what: Any) -> dict[str, Any]:
        """Return what the other side answers; raises RuntimeError where it has ended."""
        print(json.dumps(what), file=self._in, flush=True)
        for line in self._out:
            if line.startswith("{"):  # it may talk of other things
                return dict(json.loads(line))
        raise RuntimeError("lerobot's side has ended; its last words are above.")

    def step(self, batch: int, side: int) -> Seconds:
        """Return what a learner step took; side: of the pictures, px, 0 for none."""
        found = self.ask(batch=batch, side=side)
        return Seconds(found["wall"], found["processor"])

    def close(self) -> None:
        """Let the other side end."""
        self._in.close()
        self._process.wait()
        self._out.close()


def main() -> None:
    """Print what each side's learner step takes as Markdown, what the tokens cost once, and versions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lerobot", default=os.environ.get("BORA_LEROBOT_PYTHON", ""))
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 64])
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 64, 0], help="px, 0: no pictures")
    parser.add_argument("--turns", type=int, default=6)
    given = parser.parse_args()
    torch.set_num_threads(1)
    peer = Peer(given.lerobot) if given.lerobot else None
    versions = peer.ask() if peer is not None else {}
    steps: dict[tuple[int, str], list[Seconds]] = {}
    with TemporaryDirectory() as folder:
        material, about = prepare(Path(folder))
        print(about + "\n", flush=True)
        for turn in range(given.turns + 1):
            for batch in given.batches:
                found = ours(material, batch)
                if peer is not None:
                    found |= {title(side): peer.step(batch, side) for side in given.sides}
                for name, took in found.items() if turn else []:  # the first turn warms up
                    steps.setdefault((batch, name), []).append(took)
        print(table(steps) + "\n\n" + shares(material, given.batches[0]))
    if peer is not None:
        peer.close()
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"\nVersions: {json.dumps(package_versions())}; lerobot's side {json.dumps(versions)};", end=" ")
    print(f"{platform.platform()}; load {load} on {os.cpu_count()} cores.")


def title(side: int) -> str:
    """Return what the other side's learner step is called."""
    return f"lerobot's SAC, two pictures of {side} px" if side else "lerobot's SAC, state alone"


def prepare(folder: Path, episodes: int = 8, assisted: int = 4) -> tuple[Material, str]:
    """Return what to learn from, recorded in the simulator, and a sentence about the tokens' price."""
    demos = collect(task=TASK, episodes=episodes, out=folder / "demos", image_size=SIDE)
    backbone = load_backbone(TINY)
    started = now()
    tokens = dataset_tokens(demos, backbone)
    took = now().processor - started.processor
    passes = int(np.prod(tokens.shape[:2]))
    train("bora", data=[demos.root], out=folder / "policy", updates=20)
    base = load_trained(folder / "policy")
    sim, online = simulation(TASK, "standard", "none@1.0", SIDE), folder / "episodes"
    recorded = Dataset.create(
        online,
        sim.action_spec,
        sim.state_names,
        sim.cameras,
        image_size=SIDE,
        fps=round(1 / sim.dt),
        robot_type="sim",
    )
    for scene in scene_seeds("online", 0, assisted):
        recorded.append(one_assisted(base, sim, scene))
    about = (
        f"Tokens of {tokens.shape[1]} ticks of demonstrations in {COPIES} views, once: {took:.1f} s of processor time,"
        f" {1e3 * took / passes:.2f} ms per pair of pictures. The ticks of {assisted} assisted episodes: none, the"
        " policy had acted on them."
    )
    return Material(base, demos.root, online), about


def one_assisted(base: Trained, sim: Any, scene: int) -> Episode:
    """Let the policy act with the scripted person beside it, who takes over where it fails."""
    return roll_out(
        sim,
        base.policy(),
        scene_seed=scene,
        rng=stream("policy", scene),
        meta={"task": TASK},
        watcher=Watcher(TASK, stream("watcher", scene)),
        operator=SimulatedOperator(CORRECTOR, stream("operator", scene)),
    )


def ours(material: Material, batch: int, updates: int = UPDATES) -> dict[str, Seconds]:
    """Return the mean time of a critic's update, a residual's and a learner step."""
    critic, residual = Stopwatch(CRITIC), Stopwatch(RESIDUAL)
    material.learn(batch, updates, critic, residual)
    c, a = critic.each(), residual.each()
    step = Seconds(UTD * c.wall + a.wall, UTD * c.processor + a.processor)
    return {"an update of its critic": c, "an update of its residual": a, OURS: step}


def shares(material: Material, batch: int) -> str:
    """Say on which operations the time of our critic's updates goes."""
    seen = torch.profiler.profile()
    material.learn(batch, UPDATES, Stopwatch(CRITIC, seen))
    took = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    of = {
        part: sum(t for k, t in took.items() if k in names) / sum(took.values())
        for part, names in PARTS.items()
    }
    said = ", ".join(f"{part} {share:.0%}" for part, share in of.items())
    return f"An update of our critic, batch {batch}: {said}, the rest {1 - sum(of.values()):.0%}."


def table(steps: dict[tuple[int, str], list[Seconds]]) -> str:
    """Return a row per batch and side as Markdown; `times` is how often our step fits into another, in its turn."""
    head = ["batch", "learner step", "processor, s", "steps/s, processor", "steps/s, wall", "times ours"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for (batch, name), turns in steps.items():
        processor, wall = (np.array([getattr(t, k) for t in turns]) for k in ("processor", "wall"))
        unit = np.array([t.processor for t in steps[batch, OURS]])
        cells = [f"{batch}", name, spread(processor, 4), spread(1 / processor, 3), spread(1 / wall, 3)]
        lines.append("| " + " | ".join([*cells, spread(processor / unit, 3)]) + " |")
    return "\n".join(lines)


def spread(values: np.ndarray, digits: int) -> str:
    """Return the median and, in brackets, the range."""
    low, middle, high = (f"{x:.{digits}g}" for x in (values.min(), np.median(values), values.max()))
    return f"{middle} ({low}-{high})"


def now() -> Seconds:
    """Return both clocks."""
    return Seconds(time.perf_counter(), time.process_time())


if __name__ == "__main__":
    main()
