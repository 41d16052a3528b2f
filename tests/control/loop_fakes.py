"""A robot, a policy, a watcher and an operator without physics or mind, whose numbers tell what happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bora_cli.control.arbiter import Phase
from bora_cli.control.loop import roll_out
from bora_cli.types import F32, ActionSpec, Decision, Episode, Observation

SPEC = ActionSpec(
    names=("dx", "dy", "finger"),
    units=("m", "m", "rad"),
    low=np.array([-0.1, -0.1, 0.0], np.float32),
    high=np.array([0.1, 0.1, 1.5], np.float32),
    groups={"arm": (0, 2), "hand": (2, 3)},
)
EXECUTE, HORIZON = 4, 8
DRIVEN = (Phase.TAKING, Phase.HUMAN)
NAN = np.float32(np.nan)


@dataclass
class Outcome:
    applied: F32
    reward: float
    terminated: bool = False
    truncated: bool = False
    success: bool = False


@dataclass
class FakeRig:
    """A robot that applies 0.9 of every arm command and says where it ended; state = [tick, x, finger]."""

    max_ticks: int = 30
    succeeds_at: int | None = None
    fails_at: int | None = None
    action_spec: ActionSpec = SPEC
    dt: float = 0.1
    tick: int = 0
    finger: float = 0.3
    applied: list[F32] = field(default_factory=list)
    rendered: list[int] = field(default_factory=list)
    prepared: list[int] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    """Ticks at which it was told to hold."""

    def hold(self) -> None:
        self.held.append(self.tick)

    def prepare(self, scene_seed: int) -> None:
        self.prepared.append(scene_seed)
        self.tick = 0

    def observe(self, images: bool = True) -> Observation:
        pictures = {}
        if images:
            self.rendered.append(self.tick)
            pictures = {"scene": np.full((2, 2, 3), self.tick, np.uint8)}
        return Observation(
            pictures, np.array([self.tick, 0, self.finger], np.float32), "press", self.tick * 0.1
        )

    def step(self, action: F32) -> Outcome:
        applied = SPEC.clip(np.nan_to_num(action, nan=7.0))
        applied[:2] *= np.float32(0.9)
        self.finger = float(applied[2])
        self.applied.append(applied)
        self.tick += 1
        success, failure = self.tick == self.succeeds_at, self.tick == self.fails_at
        over = self.tick >= self.max_ticks
        return Outcome(applied, -0.1, success or failure, over and not (success or failure), success)


@dataclass
class GentleRig(FakeRig):
    """The same with a word on how control changes hands."""

    ramp_ticks: int = 2
    takeover_step: F32 = field(default_factory=lambda: SPEC.half_range)


@dataclass
class FakePolicy:
    """Plans chunks whose numbers tell which decision and which tick they belong to."""

    execute: int = EXECUTE
    broken: frozenset[int] = frozenset()
    """Decisions whose chunk is not a number."""
    seen: list[Observation] = field(default_factory=list)

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        assert obs.images, "a policy needs to see"
        number = len(self.seen)
        self.seen.append(obs)
        chunk = np.zeros((HORIZON, 3), np.float32)
        chunk[:, 0], chunk[:, 1], chunk[:, 2] = 0.001 * number, 0.01 * np.arange(HORIZON), 0.5
        if number in self.broken:
            chunk[:] = NAN
        tokens = np.full((2, 3), obs.state[0], np.float16)
        seed = int(rng.integers(2**31))
        return Decision(-1, seed, "hash", 0.0, -1, chunk, np.zeros_like(chunk), chunk, tokens)


@dataclass
class Says:
    engage: bool
    reason: str = ""


@dataclass
class FakeWatcher:
    """A person who wants to drive at given ticks."""

    wanted: frozenset[int]
    begun: int = 0

    def begin(self, rig: FakeRig) -> None:
        self.begun += 1

    def observe(self, rig: FakeRig, human_driving: bool) -> Says:
        engage = rig.tick in self.wanted
        return Says(engage, f"tick {rig.tick}")


@dataclass
class FakeOperator:
    command: tuple[float, float, float] = (-0.05, 0.05, 1.0)
    gives_up_at: int | None = None
    begun: list[int] = field(default_factory=list)

    def begin(self, rig: FakeRig) -> None:
        self.begun.append(rig.tick)

    def act(self, rig: FakeRig) -> tuple[F32, bool]:
        return np.array(self.command, np.float32), rig.tick == self.gives_up_at


def run(
    rig: FakeRig, *, wanted: frozenset[int] | None = None, policy: FakePolicy | None = None, **options: Any
) -> Episode:
    watcher = None if wanted is None else FakeWatcher(wanted)
    options = {"operator": FakeOperator(), **options}
    rng = np.random.default_rng(0)
    return roll_out(
        rig, policy or FakePolicy(), scene_seed=5, rng=rng, meta={"a": 1}, watcher=watcher, **options
    )


def ticks(*spans: tuple[int, int]) -> frozenset[int]:
    return frozenset(t for low, high in spans for t in range(low, high))
