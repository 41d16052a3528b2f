"""The simulation: limits, determinism, snapshots, success conditions."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bora_cli.errors import ConfigError, SchemaMismatch
from bora_cli.sim.arm_hand import POSTURES
from bora_cli.sim.operator import EXPERT, SimulatedOperator
from bora_cli.sim.simulation import HAND_RATE, LEASH, WORKSPACE_HIGH, WORKSPACE_LOW, Simulation
from bora_cli.sim.tasks import TASKS
from bora_cli.types import F32


def expert_actions(sim: Simulation, seed: int, ticks: int) -> list[F32]:
    """Drive the expert and return what was applied."""
    sim.prepare(seed)
    operator = SimulatedOperator(EXPERT, np.random.default_rng(0))
    operator.begin(sim)
    return [sim.step(operator.act(sim)[0]).applied for _ in range(ticks)]


def rest(sim: Simulation) -> F32:
    """Return the action that asks for nothing."""
    return np.concatenate([np.zeros(6), sim.privileged().hand_command]).astype(np.float32)


@pytest.fixture(scope="module")
def running() -> Iterator[Simulation]:
    sim = Simulation("pick_toy")
    sim.prepare(610_000)
    yield sim
    sim.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays(np.float32, 18, elements=st.floats(width=32)))
def test_applied_is_within_the_limits_for_any_input(running: Simulation, action: F32) -> None:
    before = running.privileged()
    result = running.step(action)
    after = running.privileged()
    spec = running.action_spec
    assert np.all(result.applied >= spec.low)
    assert np.all(result.applied <= spec.high)
    assert np.abs(after.hand_command - before.hand_command).max() <= HAND_RATE * running.dt + 1e-6
    assert np.all(after.commanded_position >= np.array(WORKSPACE_LOW) - 1e-6)
    assert np.all(after.commanded_position <= np.array(WORKSPACE_HIGH) + 1e-6)
    outside = before.tool_position - np.clip(before.tool_position, WORKSPACE_LOW, WORKSPACE_HIGH)
    leash = max(LEASH, float(np.linalg.norm(outside)))
    assert np.linalg.norm(after.commanded_position - before.tool_position) <= leash + 1e-6


def test_what_the_leash_draws_back_is_in_no_action() -> None:
    """Turned on, the arm slips; the command follows it by more than any action may say, and none says it."""
    sim = Simulation("press_button")
    sim.prepare(600_010)
    turn = np.random.default_rng(2).normal(size=3)
    row, most = rest(sim), 0.0
    row[3:6] = 0.12 * turn / np.linalg.norm(turn)
    for _ in range(20):
        before = sim.privileged().commanded_position
        applied = sim.step(row).applied
        assert np.all(np.abs(applied) <= np.maximum(-sim.action_spec.low, sim.action_spec.high))
        drawn = sim.privileged().commanded_position - before - applied[:3]
        most = max(most, float(np.linalg.norm(drawn)))
    assert most > sim.action_spec.high[0]


@pytest.mark.parametrize("pushed", [(0.0, 0.0, -0.03), (-0.03, -0.02, -0.01), (-0.2, 0.0, 0.0)])
def test_a_tool_that_was_pushed_out_of_the_work_space_does_not_draw_the_command_out(
    pushed: tuple[float, float, float],
) -> None:
    sim = Simulation("pick_toy")
    sim.prepare(610_000)
    tool = sim.data.site("tool").id
    low, high = np.array(WORKSPACE_LOW), np.array(WORKSPACE_HIGH)
    for _ in range(3):
        measured = low + np.array(pushed)
        sim.data.site_xpos[tool] = measured
        sim.step(rest(sim))
        command = sim.privileged().commanded_position
        assert np.all(command >= low - 1e-9)
        assert np.all(command <= high + 1e-9)
        gone = float(np.linalg.norm(measured - np.clip(measured, low, high)))
        assert np.linalg.norm(command - measured) <= max(LEASH, gone) + 1e-9


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_no_number_holds(bad: float) -> None:
    sim = Simulation("press_button")
    sim.prepare(610_001)
    sim.step(np.concatenate([[0.02, 0, 0, 0, 0, 0], POSTURES["point"]]).astype(np.float32))
    before = sim.privileged()
    action = np.full(18, 0.01, np.float32)
    action[7] = bad
    result = sim.step(action)
    after = sim.privileged()
    np.testing.assert_array_equal(result.applied[:6], 0)
    np.testing.assert_array_equal(after.commanded_position, before.commanded_position)
    np.testing.assert_array_equal(after.hand_command, before.hand_command)


def test_a_blocked_arm_does_not_wind_up() -> None:
    sim = Simulation("open_box")
    sim.prepare(610_002)
    down = np.concatenate([[0, 0, -0.025, 0, 0, 0], POSTURES["close"]]).astype(np.float32)
    for _ in range(25):
        sim.step(down)
    state = sim.privileged()
    assert np.linalg.norm(state.commanded_position - state.tool_position) <= LEASH + 0.005


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_trajectory(task: str) -> None:
    first, second = Simulation(task), Simulation(task)
    a, b = expert_actions(first, 610_005, 12), expert_actions(second, 610_005, 12)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first.data.qpos, second.data.qpos)


def test_same_seed_same_observation_and_prompt() -> None:
    sim = Simulation("pick_toy", image_size=32, backend="rays")
    first = sim.reset(610_006)
    sim.reset(610_007)
    again = sim.reset(610_006)
    assert first.prompt == again.prompt
    np.testing.assert_array_equal(first.state, again.state)
    assert set(first.images) == {"scene", "wrist"}
    for camera, image in first.images.items():
        assert image.shape == (32, 32, 3)
        np.testing.assert_array_equal(image, again.images[camera])
    sim.close()


def test_instructions_vary_with_the_seed() -> None:
    sim = Simulation("open_box")
    prompts = set()
    for seed in range(610_000, 610_012):
        sim.prepare(seed)
        prompts.add(sim.instruction)
    assert len(prompts) > 2
    assert prompts <= set(TASKS["open_box"].wordings)


def test_state_matches_its_names() -> None:
    sim = Simulation("pick_toy")
    sim.prepare(610_008)
    state = dict(zip(sim.state_names, sim.observe(images=False).state, strict=True))
    truth = sim.privileged()
    assert state["tool_z"] == pytest.approx(truth.tool_position[2], abs=1e-6)
    assert state["tool_r11"] == pytest.approx(truth.tool_rotation[1, 1], abs=1e-6)
    assert state["command_thumb_yaw"] == pytest.approx(POSTURES["open"][0])


@pytest.mark.parametrize("task", TASKS)
def test_restore_continues_bit_by_bit(task: str) -> None:
    sim = Simulation(task)
    expert_actions(sim, 610_009, 13)
    snapshot = sim.snapshot()
    rng = np.random.default_rng(1)
    actions = rng.uniform(sim.action_spec.low, sim.action_spec.high, (10, 18)).astype(np.float32)
    results = [sim.step(a) for a in actions]
    end = sim.data.qpos.copy(), sim.data.qvel.copy(), sim.observe(images=False).state
    sim.prepare(610_010)
    sim.restore(snapshot)
    for action, expected in zip(actions, results, strict=True):
        result = sim.step(action)
        np.testing.assert_array_equal(result.applied, expected.applied)
        assert (result.reward, result.truncated) == (expected.reward, expected.truncated)
    np.testing.assert_array_equal(sim.data.qpos, end[0])
    np.testing.assert_array_equal(sim.data.qvel, end[1])
    np.testing.assert_array_equal(sim.observe(images=False).state, end[2])


@pytest.mark.parametrize(
    ("made_by", "named"),
    [
        (Simulation("press_button"), "task press_button"),
        (Simulation("pick_toy", setting="unseen"), "setting unseen"),
        (Simulation("pick_toy", gap="latency@2"), "gap latency@2"),
    ],
    ids=["task", "setting", "gap"],
)
def test_a_snapshot_of_something_else_is_refused_and_changes_nothing(made_by: Simulation, named: str) -> None:
    made_by.prepare(610_011)
    snapshot = made_by.snapshot()
    sim = Simulation("pick_toy")
    with pytest.raises(ConfigError, match=f"The snapshot was taken of {named}"):
        sim.restore(snapshot)
    with pytest.raises(ConfigError, match="no scene yet"):
        sim.snapshot()
    expert_actions(sim, 610_009, 3)
    before = sim.snapshot()
    with pytest.raises(ConfigError, match=r"Restore it into a Simulation with these arguments\."):
        sim.restore(snapshot)
    after = sim.snapshot()
    np.testing.assert_array_equal(after.physics, before.physics)
    assert (after.scene_seed, after.tick, after.pending.shape) == (610_009, 3, (0, 18))


def test_no_gap_changes_nothing() -> None:
    plain, none = Simulation("pick_toy"), Simulation("pick_toy", gap="none")
    np.testing.assert_array_equal(expert_actions(plain, 610_011, 10), expert_actions(none, 610_011, 10))
    np.testing.assert_array_equal(plain.data.qpos, none.data.qpos)


def test_bias_moves_the_tool_but_is_not_reported() -> None:
    sim = Simulation("pick_toy", gap="bias")
    sim.prepare(610_012)
    before = sim.privileged()
    result = sim.step(rest(sim))
    np.testing.assert_array_equal(result.applied[:3], 0)
    np.testing.assert_allclose(
        sim.privileged().commanded_position - before.commanded_position, before.drift, atol=1e-12
    )


def test_gap_moves_camera_and_friction() -> None:
    plain, gap = Simulation("pick_toy"), Simulation("pick_toy", gap="deployment")
    plain.prepare(610_013)
    gap.prepare(610_013)
    camera = plain.model.camera("scene").id
    np.testing.assert_allclose(gap.model.cam_pos[camera] - plain.model.cam_pos[camera], [0, 0.02, 0.01])
    np.testing.assert_allclose(gap.model.geom_friction[:, 0], 0.7 * plain.model.geom_friction[:, 0])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("setting", ["standard", "unseen"])
def test_a_motionless_hand_never_succeeds(task: str, setting: str) -> None:
    sim = Simulation(task, setting=setting)
    sim.prepare(610_014)
    assert sim.privileged().progress < 0.05
    total = 0.0
    while True:
        result = sim.step(rest(sim))
        total += result.reward
        assert not result.terminated
        if result.truncated:
            break
    assert sim.privileged().tick == sim.max_ticks
    assert total == pytest.approx(-0.5)


def test_reset_is_never_success() -> None:
    for task in TASKS:
        for setting in ("standard", "unseen"):
            sim = Simulation(task, setting=setting)
            for seed in range(610_020, 610_030):
                sim.prepare(seed)
                assert sim.privileged().progress < 0.05
                assert not sim.privileged().success


@pytest.mark.parametrize("setting", ["standard", "unseen"])
def test_an_opened_box_stays_open(setting: str) -> None:
    sim = Simulation("open_box", setting=setting)
    sim.prepare(610_015)
    operator = SimulatedOperator(EXPERT, np.random.default_rng(0))
    operator.begin(sim)
    while not sim.step(operator.act(sim)[0]).success:
        pass
    for i in range(25):
        up = 0.0 if i < 4 else 0.02
        sim.step(np.concatenate([[0, 0, up, 0, 0, 0], POSTURES["release"]]).astype(np.float32))
    assert not sim.privileged().touching
    assert sim.privileged().progress > 0.8


def test_a_fallen_toy_ends_the_episode_without_success() -> None:
    sim = Simulation("pick_toy")
    sim.prepare(610_016)
    address = sim.model.joint("toy").qposadr[0]
    sim.data.qpos[address : address + 3] = [0.5, 0.8, -0.1]
    mujoco.mj_forward(sim.model, sim.data)
    result = sim.step(rest(sim))
    assert result.terminated
    assert not result.success
    assert result.reward < 0


def test_messages_say_what_to_do() -> None:
    sim = Simulation("pick_toy")
    with pytest.raises(ConfigError, match=r"has no scene yet.*Call reset\(scene_seed\)"):
        sim.observe()
    sim.prepare(610_017)
    with pytest.raises(SchemaMismatch, match=r"shape \(17,\); expected \(18,\)"):
        sim.step(np.zeros(17, np.float32))
    with pytest.raises(ConfigError, match="Unknown setting 'odd'"):
        Simulation("pick_toy", setting="odd")
