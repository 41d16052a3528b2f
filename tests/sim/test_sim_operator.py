"""The scripted person: competence, mistakes, planning from any state, watching."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bora_cli.seeds import stream
from bora_cli.sim.arm_hand import POSTURES
from bora_cli.sim.operator import (
    CORRECTOR,
    EXPERT,
    OperatorStyle,
    SimulatedOperator,
    mixed_style,
)
from bora_cli.sim.simulation import HAND_RATE, Simulation
from bora_cli.sim.styles import MIXTURES
from bora_cli.sim.tasks import TASKS
from bora_cli.sim.watcher import RULES, Watcher


def drive(sim: Simulation, operator: SimulatedOperator, ticks: int | None = None) -> tuple[bool, int, bool]:
    """Let an operator drive; return success, ticks, and whether it gave up."""
    operator.begin(sim)
    count = 0
    while True:
        action, stops = operator.act(sim)
        result = sim.step(action)
        count += 1
        if result.terminated or result.truncated or stops or count == ticks:
            return result.success, count, stops


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("setting", ["standard", "unseen"])
@pytest.mark.parametrize("gap", ["none", "deployment"])
def test_expert_succeeds(task: str, setting: str, gap: str) -> None:
    sim = Simulation(task, setting=setting, gap=gap)
    for seed in range(620_000, 620_004):
        sim.prepare(seed)
        success, ticks, stops = drive(sim, SimulatedOperator(EXPERT, stream("operator", seed)))
        assert success, f"scene {seed}"
        assert not stops
        assert ticks < sim.max_ticks


@pytest.mark.parametrize("task", TASKS)
def test_expert_limits_himself_to_the_hand_rate(task: str) -> None:
    sim = Simulation(task)
    sim.prepare(620_005)
    operator = SimulatedOperator(EXPERT, stream("operator", 0))
    operator.begin(sim)
    for _ in range(12):
        before = sim.privileged().hand_command
        action, _ = operator.act(sim)
        assert np.abs(action[6:] - before).max() <= HAND_RATE * sim.dt + 1e-6
        np.testing.assert_allclose(sim.step(action).applied, action, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "mistake"), [("pick_toy", "high"), ("open_box", "depth"), ("press_button", "early")]
)
def test_a_mistake_without_retry_fails_and_is_given_up(task: str, mistake: str) -> None:
    sim = Simulation(task)
    sim.prepare(620_006)
    style = OperatorStyle(mistake=mistake, mistake_size=0.06, retry_probability=0.0)
    success, ticks, stops = drive(sim, SimulatedOperator(style, stream("operator", 0)))
    assert not success
    assert stops or ticks == sim.max_ticks


def test_a_noticed_mistake_is_repaired() -> None:
    sim = Simulation("pick_toy")
    sim.prepare(620_007)
    style = OperatorStyle(mistake="high", mistake_size=0.06, retry_probability=1.0)
    success, ticks, _ = drive(sim, SimulatedOperator(style, stream("operator", 0)))
    assert success
    assert ticks > 30


def test_letting_go_early_drops_the_toy() -> None:
    sim = Simulation("pick_toy")
    sim.prepare(620_008)
    style = OperatorStyle(mistake="early", mistake_size=2, retry_probability=0.0)
    success, _, stops = drive(sim, SimulatedOperator(style, stream("operator", 0)))
    assert not success
    assert stops


def test_takeover_grasps_a_dropped_toy_again() -> None:
    sim = Simulation("pick_toy")
    sim.prepare(620_009)
    drive(sim, SimulatedOperator(EXPERT, stream("operator", 0)), ticks=22)
    assert sim.privileged().progress > 0.1
    for _ in range(5):
        sim.step(np.concatenate([np.zeros(6), POSTURES["release"]]).astype(np.float32))
    assert sim.privileged().progress < 0.1
    success, _, _ = drive(sim, SimulatedOperator(CORRECTOR, stream("operator", 1)))
    assert success


def test_takeover_above_the_object_skips_the_hover() -> None:
    sim = Simulation("pick_toy")
    sim.prepare(620_010)
    drive(sim, SimulatedOperator(EXPERT, stream("operator", 0)), ticks=8)
    _, ticks, _ = drive(sim, SimulatedOperator(EXPERT, stream("operator", 1)))
    sim.prepare(620_010)
    _, whole, _ = drive(sim, SimulatedOperator(EXPERT, stream("operator", 0)))
    assert ticks <= whole - 6


def test_takeover_with_the_toy_in_hand_only_lifts() -> None:
    sim = Simulation("pick_toy")
    sim.prepare(620_011)
    drive(sim, SimulatedOperator(EXPERT, stream("operator", 0)), ticks=19)
    success, ticks, _ = drive(sim, SimulatedOperator(EXPERT, stream("operator", 1)))
    assert success
    assert ticks < 10


@pytest.mark.parametrize("task", TASKS)
def test_mixture_shares_are_reproduced(task: str) -> None:
    mixture = MIXTURES[task]
    assert sum(mixture.shares.values()) == pytest.approx(1.0)
    styles = [mixed_style(stream("style", i), task) for i in range(600)]
    for name, share in mixture.shares.items():
        found = np.mean([(s.mistake or "good") == name for s in styles])
        assert abs(found - share) < 0.06
    for style in styles:
        low, high = mixture.sizes.get(style.mistake or "good", (0.0, 0.0))
        assert low <= style.mistake_size <= high


def roll_out(
    sim: Simulation, policy: SimulatedOperator | None, watcher: Watcher
) -> tuple[list[str], list[int]]:
    """Let a scripted policy act (None holds) beside a person; return reasons and ticks of takeovers."""
    person = SimulatedOperator(CORRECTOR, stream("person", 0))
    watcher.begin(sim)
    if policy is not None:
        policy.begin(sim)
    driving, reasons, ticks = False, [], []
    for tick in range(sim.max_ticks):
        verdict = watcher.observe(sim, driving)
        if verdict.engage and not driving:
            person.begin(sim)
            reasons.append(verdict.reason)
            ticks.append(tick)
        driving = verdict.engage
        hold = np.concatenate([np.zeros(6), sim.privileged().hand_command]).astype(np.float32)
        action = person.act(sim)[0] if driving else policy.act(sim)[0] if policy is not None else hold
        result = sim.step(action)
        if result.terminated or result.truncated:
            break
    return reasons, ticks


@pytest.mark.parametrize("task", TASKS)
def test_a_good_policy_is_left_alone(task: str) -> None:
    sim = Simulation(task)
    takeovers = 0
    for seed in range(620_020, 620_025):
        sim.prepare(seed)
        policy = SimulatedOperator(replace(CORRECTOR, speed=0.8), stream("policy", seed))
        takeovers += len(roll_out(sim, policy, Watcher(task, stream("watcher", seed)))[0])
    assert takeovers <= 1


@pytest.mark.parametrize("task", TASKS)
def test_a_policy_that_does_nothing_is_taken_over_after_a_while(task: str) -> None:
    sim = Simulation(task)
    sim.prepare(620_030)
    reasons, ticks = roll_out(sim, None, Watcher(task, stream("watcher", 0)))
    assert reasons[0] == "the hand comes no closer"
    assert RULES[task].reach_stall <= ticks[0] <= RULES[task].reach_stall + 6
    assert len(reasons) <= RULES[task].takeovers
    assert sim.privileged().success or len(reasons) == RULES[task].takeovers or task == "pick_toy"
