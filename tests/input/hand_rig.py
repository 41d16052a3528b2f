"""A robot with the simulator's action row, a device that says what a test tells it, and a policy that waves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bora_cli.input.device import STILL, DeviceSample, Frame
from bora_cli.input.hand import HandMap
from bora_cli.profiles import load_profile
from bora_cli.types import F32, Decision, Observation

PROFILE = load_profile("sim")
SPEC = PROFILE.action_spec
NAMES = SPEC.names[6:]
HAND = HandMap.build(NAMES, SPEC.low[6:], SPEC.high[6:], PROFILE.postures, PROFILE.limits.hand_rate)
OPEN = np.array(PROFILE.postures["open"], np.float32)


@dataclass
class Outcome:
    applied: F32
    truncated: bool
    reward: float = 0.0
    terminated: bool = False
    success: bool = False


@dataclass
class HandRig:
    """Applies what it is told, but holds on what is no number; state = the commanded hand."""

    ticks: int = 20
    hand: F32 = field(default_factory=OPEN.copy)
    applied: list[F32] = field(default_factory=list)
    action_spec: Any = SPEC
    dt: float = 0.1

    @property
    def now(self) -> float:
        return len(self.applied) * self.dt

    def prepare(self, scene_seed: int) -> None:
        self.applied.clear()

    def observe(self, images: bool = True) -> Observation:
        pictures = {"scene": np.zeros((2, 2, 3), np.uint8)} if images else {}
        return Observation(pictures, self.hand.copy(), "wave", self.now)

    def step(self, action: F32) -> Outcome:
        if not np.isfinite(action).all():
            action = np.concatenate([np.zeros(6, np.float32), self.hand])
        self.applied.append(action.copy())
        self.hand = action[6:].copy()
        return Outcome(action, len(self.applied) >= self.ticks)

    def hold(self) -> None:
        """Nothing moves by itself."""


@dataclass
class FakeDevice:
    """Says at tick t what `says` has for it: a twist, buttons, a glove, its age in s, or trouble; silent otherwise."""

    rig: HandRig
    says: Mapping[int, Mapping[str, Any]]
    frame: Frame = "base"
    name: str = "fake"
    closed: int = 0
    begun: int = 0

    @property
    def tick(self) -> int:
        return len(self.rig.applied)

    @property
    def trouble(self) -> str:
        return str(self.says.get(self.tick, {}).get("trouble", ""))

    def read(self, now: float) -> DeviceSample | None:
        said = self.says.get(self.tick)
        if said is None or "trouble" in said:
            return None
        twist = np.asarray(said.get("twist", STILL), float)
        return DeviceSample(
            now - said.get("age", 0.0), twist, tuple(said.get("pressed", ())), said.get("hand")
        )

    def begin(self) -> None:
        self.begun += 1

    def close(self) -> None:
        self.closed += 1


class WavingPolicy:
    """Moves arm and hand at every tick."""

    execute = 4

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        chunk = np.tile(np.concatenate([SPEC.high[:6] * 0.5, OPEN]), (8, 1)).astype(np.float32)
        chunk[:, 6:] += 0.02 * np.arange(8, dtype=np.float32)[:, None]
        tokens = np.zeros((1, 1), np.float16)
        return Decision(-1, 0, "hash", 0.0, -1, chunk, np.zeros_like(chunk), chunk, tokens)
