"""A world without physics: a point that is to reach the origin, with the action and state of the simulated robot.

It costs microseconds per tick and stands in for `Simulation`, `SimulatedOperator` and `Watcher`, so that whole
training runs can be tested.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bora_cli.control.loop import demonstrate
from bora_cli.data.dataset import Dataset
from bora_cli.seeds import stream
from bora_cli.sim.limits import DT, STATE_NAMES, action_spec
from bora_cli.types import F32, Episode, Observation

TASK, PROMPT = "press_button", "press the button"
CAMERAS = ("scene", "wrist")
MAX_TICKS = 24
BIAS = np.array([0.010, -0.006, 0.0], np.float32)
"""What the biased world adds to every translation, m per tick."""


@dataclass
class Outcome:
    applied: F32
    reward: float
    terminated: bool
    truncated: bool
    success: bool


class ToyRig:
    """The point world as a rig.  bias: float32 [3], added to every translation after it was applied."""

    dt = DT
    backend = "toy"
    cameras = CAMERAS

    def __init__(self, bias: F32 | None = None) -> None:
        self.action_spec = action_spec()
        self.state_names = STATE_NAMES
        self.bias = np.zeros(3, np.float32) if bias is None else bias
        self.max_ticks = MAX_TICKS
        self.tick = 0

    def privileged(self) -> SimpleNamespace:
        """Return what only a simulator knows: the camera looks from the front."""
        return SimpleNamespace(view=np.array([1.0, 0.0, 0.0]))

    def prepare(self, scene_seed: int) -> None:
        rng = stream("toy", scene_seed)
        self.position = (rng.choice([-1, 1], 3) * rng.uniform(0.15, 0.22, 3)).astype(np.float32)
        self.hand = self.action_spec.center[6:].copy()
        self.tick = 0

    def hold(self) -> None:
        """Do nothing; without a step nothing moves."""

    def observe(self, images: bool = True) -> Observation:
        state = np.concatenate([self.position, np.zeros(6), self.hand, self.hand]).astype(np.float32)
        pictures = {c: self._picture(i) for i, c in enumerate(CAMERAS)} if images else {}
        return Observation(pictures, state, PROMPT, self.tick * DT)

    def step(self, action: F32) -> Outcome:
        applied = self.action_spec.clip(np.nan_to_num(action))
        self.position = self.position + applied[:3] + self.bias
        self.hand = applied[6:].copy()
        self.tick += 1
        success = bool(np.linalg.norm(self.position) < 0.02)
        truncated = not success and self.tick >= self.max_ticks
        return Outcome(applied, float(success) - 0.5 / self.max_ticks, success, truncated, success)

    def frame(self, camera: str = "scene", size: int = 320, fancy: bool = True) -> Any:
        """Return a picture for people whose brightness is the tick, uint8 [size, size, 3]."""
        return np.full((size, size, 3), self.tick, np.uint8)

    def _picture(self, axis: int) -> Any:
        """Return an image with a bright square where the point is, uint8 [64, 64, 3]."""
        image = np.full((64, 64, 3), 40, np.uint8)
        row, column = np.clip(32 + 100 * self.position[axis : axis + 2], 4, 60).astype(int)
        image[row - 4 : row + 4, column - 4 : column + 4] = (250, 120, 30)
        return image


class ToyOperator:
    """Drives the point to the origin, or away from it; knows the bias.  style, rng: as `SimulatedOperator`."""

    def __init__(
        self,
        style: Any = None,
        rng: np.random.Generator | None = None,
        *,
        away: bool = False,
        stops: int = 99,
    ) -> None:
        self.rng = rng or np.random.default_rng(0)
        self.sign = 1.0 if away else -1.0
        self.stops = stops

    def begin(self, rig: ToyRig) -> None:
        """Do nothing; there is no plan."""

    def act(self, rig: ToyRig) -> tuple[F32, bool]:
        spec = rig.action_spec
        command = spec.center.copy()
        command[:3] = self.sign * np.clip(rig.position, -0.02, 0.02) - rig.bias
        command += self.rng.normal(0, 0.02, spec.dim).astype(np.float32) * spec.half_range
        return spec.clip(command), rig.tick >= self.stops


@dataclass
class Verdict:
    engage: bool
    reason: str = "toy"


class ToyWatcher:
    """Takes over twice per episode, at ticks 3 to 9 and 15 to 19."""

    def __init__(self, task: str = TASK, rng: np.random.Generator | None = None) -> None:
        """Accept what `Watcher` accepts."""

    def begin(self, rig: ToyRig) -> None:
        """Do nothing."""

    def observe(self, rig: ToyRig, human_driving: bool) -> Verdict:
        return Verdict(3 <= rig.tick < 10 or 15 <= rig.tick < 20)


def toy_simulation(
    task: str,
    setting: str,
    gap: str,
    image_size: int,
    profile: str = "sim",
    profile_hash: str = "",
    max_ticks: int = 0,
) -> ToyRig:
    """Stand in for `collect.simulation`; every gap but none is the bias."""
    rig = ToyRig(None if gap.startswith("none") else BIAS)
    rig.max_ticks = max_ticks or rig.max_ticks
    return rig


def toy_demonstrations(count: int, first: int = 100_000) -> list[Episode]:
    """Return demonstrations; of four, two succeed, one runs out of time and one is given up."""
    rig, made = ToyRig(), []
    for i in range(count):
        operator = ToyOperator(rng=stream("toy operator", i), away=i % 4 > 1, stops=7 if i % 4 == 3 else 99)
        meta = {"task": TASK, "setting": "standard", "profile_hash": "toy"}
        made.append(demonstrate(rig, operator, scene_seed=first + i, meta=meta))
    return made


def toy_dataset(root: Path, episodes: list[Episode]) -> Dataset:
    """Write episodes into a new dataset."""
    dataset = Dataset.create(
        root, action_spec(), STATE_NAMES, CAMERAS, image_size=64, fps=10, robot_type="toy"
    )
    for episode in episodes:
        dataset.append(episode)
    return dataset


def move_into_toy_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let evaluation and online rounds run in the point world instead of the simulation."""
    monkeypatch.setattr("bora_cli.evaluate.evaluate.simulation", toy_simulation)
    monkeypatch.setattr("bora_cli.evaluate.film.simulation", toy_simulation)
    monkeypatch.setattr("bora_cli.train.online.simulation", toy_simulation)
    monkeypatch.setattr("bora_cli.train.crew.simulation", toy_simulation)
    monkeypatch.setattr("bora_cli.train.online.SimulatedOperator", ToyOperator)
    monkeypatch.setattr("bora_cli.train.online.Watcher", ToyWatcher)


def weights(checkpoint: Path) -> dict[str, bytes]:
    """Return the bytes of every weight file of a checkpoint."""
    return {f.name: f.read_bytes() for f in sorted(checkpoint.glob("*.safetensors"))}
