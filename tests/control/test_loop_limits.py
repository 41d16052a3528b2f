"""Whole episodes in the simulation with a policy out of its mind: the robot stays inside its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bora_cli.control.loop import roll_out
from bora_cli.sim.operator import CORRECTOR, SimulatedOperator
from bora_cli.sim.simulation import HAND_RATE, LEASH, WORKSPACE_HIGH, WORKSPACE_LOW, Simulation
from bora_cli.sim.watcher import Watcher
from bora_cli.types import F32, ActionSpec, Decision, Observation

EXECUTE, HORIZON = 4, 8


class Wild:
    """A policy out of its mind: enormous, infinite and undefined numbers among sound ones."""

    execute = EXECUTE

    def __init__(self, spec: ActionSpec, finite: bool) -> None:
        self._spec, self._finite = spec, finite

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        chunk = rng.uniform(-2, 2, (HORIZON, self._spec.dim)).astype(np.float32)
        chunk *= 10.0 ** rng.integers(-1, 30, chunk.shape)
        if not self._finite:
            bad = rng.choice([np.nan, np.inf, -np.inf], chunk.shape)
            chunk = np.where(rng.random(chunk.shape) < 0.01, bad, chunk).astype(np.float32)
        none = np.zeros((1, 1), np.float16)
        return Decision(0, 0, "", 0.0, EXECUTE, chunk, chunk, chunk, none)


class Guarded:
    """A simulation that checks its limits at every tick and renders nothing."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim
        self.ticks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sim, name)

    def observe(self, images: bool = True) -> Observation:
        return self._sim.observe(images=False)

    def step(self, action: F32) -> Any:
        before = self._sim.privileged()
        result = self._sim.step(action)
        after, spec = self._sim.privileged(), self._sim.action_spec
        assert np.isfinite(result.applied).all()
        assert (result.applied >= spec.low).all()
        assert (result.applied <= spec.high).all()
        assert (after.commanded_position >= np.array(WORKSPACE_LOW) - 1e-6).all()
        assert (after.commanded_position <= np.array(WORKSPACE_HIGH) + 1e-6).all()
        assert np.linalg.norm(after.commanded_position - before.tool_position) <= LEASH + 1e-6
        assert np.abs(after.hand_command - before.hand_command).max() <= HAND_RATE * self._sim.dt + 1e-6
        self.ticks += 1
        return result


@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("task", ["pick_toy", "press_button"])
def test_no_policy_drives_the_robot_out_of_its_limits(task: str, finite: bool) -> None:
    sim = Simulation(task, gap="deployment")
    rig = Guarded(sim)
    for seed in (600_000, 600_001):
        episode = roll_out(
            rig,
            Wild(sim.action_spec, finite),
            scene_seed=seed,
            rng=np.random.default_rng(seed),
            meta={},
            watcher=Watcher(task, np.random.default_rng(1)),
            operator=SimulatedOperator(CORRECTOR, np.random.default_rng(2)),
            images=False,
        )
        assert np.isfinite(episode.action).all()
        assert np.isfinite(episode.state).all()
        assert episode.meta["takeovers"] > 0
    assert rig.ticks >= 40
