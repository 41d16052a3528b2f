"""Tasks with two objects: the instruction decides, the wrong object is no success, and successes last."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.seeds import stream
from bora_cli.sim.arm_hand import POSTURES
from bora_cli.sim.operator import CORRECTOR, EXPERT, OperatorStyle, SimulatedOperator
from bora_cli.sim.scene import draw_layout
from bora_cli.sim.scene_options import SceneOptions
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.state import Privileged, StepResult
from bora_cli.sim.tasks import TASKS
from bora_cli.sim.tasks.base import fill
from bora_cli.sim.variation import (
    HELD_OUT_COLOURS,
    HUES,
    HUES_APART,
    SETTINGS,
    TABLE,
    draw_palettes,
    name_colour,
)

PAIRED = tuple(name for name, task in TASKS.items() if task.crowded)
SEEDS = range(610_400, 610_440)


def drive(
    sim: Simulation, style: OperatorStyle, until: Callable[[Simulation], bool] = lambda _: False
) -> StepResult:
    """Let a person drive until the episode ends, he stops, or a condition holds; return the last result."""
    operator = SimulatedOperator(style, stream("operator", 0))
    operator.begin(sim)
    while True:
        action, stops = operator.act(sim)
        result = sim.step(action)
        if result.terminated or result.truncated or stops or until(sim):
            return result


def go_on(sim: Simulation, posture: str, up: float, ticks: int) -> StepResult:
    """Move the hand straight up by m per tick in a posture; return the last result."""
    for _ in range(ticks):
        result = sim.step(np.array([0, 0, up, 0, 0, 0, *POSTURES[posture]], np.float32))
    return result


def test_both_new_tasks_have_two_objects() -> None:
    assert PAIRED == ("pick_place", "pull_tissue")


@pytest.mark.parametrize("task", PAIRED)
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_instruction_means_one_of_the_two(task: str, setting: str) -> None:
    found = set()
    for seed in SEEDS:
        item = draw_layout(task, setting, seed).item
        mirrored = replace(item.other, other=replace(item, other=None))
        ours, theirs = (TASKS[task].instructions(i) for i in (item, mirrored))
        assert len(ours) >= 2
        assert not set(ours) & set(theirs)
        assert not any("{" in text for text in ours)
        found |= set(ours)
    assert len(found) >= 8


@pytest.mark.parametrize("task", PAIRED)
def test_new_colours_and_kinds_are_told_apart_by_words_that_are_not_new(task: str) -> None:
    for seed in SEEDS:
        item = draw_layout(task, "unseen", seed, SceneOptions(hue="held_out")).item
        assert name_colour(item.palette.main) in HELD_OUT_COLOURS
        side = "left" if item.y > item.other.y else "right"
        assert all(side in text.split() for text in TASKS[task].instructions(item))


def test_fill_leaves_out_what_it_has_no_word_for_and_what_decides_nothing() -> None:
    wordings = ("take it", "take the {colour} one", "take the {noun} on the {side}")
    words = {"colour": "red", "noun": "block"}
    assert fill(wordings, words, None) == ("take it", "take the red one")
    assert fill(wordings, words, {"colour", "side"}) == ("take the red one",)
    assert fill(wordings, words | {"side": "left"}, {"side"}) == ("take the block on the left",)


@given(st.integers(0, 10**6), st.sampled_from([*HUES]))
def test_two_colours_are_told_apart_by_their_names(seed: int, hues: str) -> None:
    first, second = draw_palettes(np.random.default_rng(seed), hues)
    a, b = (colorsys.rgb_to_hsv(*palette.main)[0] for palette in (first, second))
    assert name_colour(first.main) != name_colour(second.main)
    assert abs((a - b + 0.5) % 1.0 - 0.5) > HUES_APART - 1e-6
    for hue in (a, b):
        assert any(low - 1e-6 <= hue <= high + 1e-6 for low, high in HUES[hues])


@pytest.mark.parametrize("task", PAIRED)
@pytest.mark.parametrize("setting", SETTINGS)
def test_both_objects_are_of_the_setting_and_either_may_be_left(task: str, setting: str) -> None:
    (name, sizes), sides = next(iter(TABLE[task].sizes.items())), set()
    for seed in SEEDS:
        item = draw_layout(task, setting, seed).item
        sides.add(item.y > item.other.y)
        for one in (item, item.other):
            assert one.kind in TABLE[task].kinds[setting]
            assert any(low <= getattr(one, name) <= high for low, high in sizes[setting])
    assert sides == {True, False}


@pytest.mark.parametrize("task", PAIRED)
@pytest.mark.parametrize("setting", SETTINGS)
def test_both_objects_stand_where_they_were_put(task: str, setting: str) -> None:
    sim = Simulation(task, setting=setting)
    for seed in SEEDS:
        sim.prepare(seed)
        assert not sim.privileged().touching
        for site, item in (("target", sim.layout.item), ("decoy", sim.layout.item.other)):
            at = sim.data.site(site).xpos[:2]
            assert np.linalg.norm(at - (item.x, item.y)) < 0.004


@pytest.mark.parametrize("task", PAIRED)
def test_privileged_state_names_both_objects(task: str) -> None:
    sim = Simulation(task)
    sim.prepare(610_400)
    state, item = sim.privileged(), sim.layout.item
    assert state.decoy is not None
    np.testing.assert_allclose(state.target_position[:2], (item.x, item.y), atol=0.004)
    np.testing.assert_allclose(state.decoy[0][:2], (item.other.x, item.other.y), atol=0.004)


class Swapped:
    """A simulation whose privileged state takes the wrong object for the right one."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim

    def privileged(self) -> Privileged:
        state = self._sim.privileged()
        assert state.decoy is not None
        position, yaw = state.decoy
        held = state.touching and position[2] > state.target_start[2] + 0.03
        return replace(state, target_position=position, target_yaw=yaw, progress=0.5 * held)


@pytest.mark.parametrize("task", PAIRED)
def test_the_wrong_object_ends_the_episode_without_success(task: str) -> None:
    sim = Simulation(task)
    sim.prepare(610_401)
    operator = SimulatedOperator(EXPERT, stream("operator", 0))
    operator.begin(Swapped(sim))
    result = sim.step(operator.act(Swapped(sim))[0])
    while not (result.terminated or result.truncated):
        result = sim.step(operator.act(Swapped(sim))[0])
    assert result.terminated
    assert not result.success
    assert result.reward < 0


def test_a_mistaken_object_is_noticed_and_the_right_one_fetched() -> None:
    sim = Simulation("pick_place")
    sim.prepare(610_402)
    style = OperatorStyle(mistake="other", retry_probability=1.0)
    assert drive(sim, style).success


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_placed_object_stays_when_the_hand_leaves(setting: str) -> None:
    sim = Simulation("pick_place", setting=setting)
    for seed in range(620_040, 620_044):
        sim.prepare(seed)
        assert drive(sim, EXPERT).success
        go_on(sim, "release", 0.02, 10)
        assert sim.privileged().progress >= 1.0


def test_an_object_in_the_bin_is_not_placed_while_the_hand_is_there() -> None:
    sim = Simulation("pick_place")
    sim.prepare(620_045)
    drive(sim, EXPERT, lambda s: s.privileged().progress > 0.85)
    assert sim.privileged().progress < 1.0


def put(sim: Simulation, name: str, height: float) -> None:
    """Move an object, upright and at rest, above the middle of the bin."""
    joint = sim.model.joint(name)
    address, speed = joint.qposadr[0], joint.dofadr[0]
    sim.data.qpos[address : address + 7] = [*sim.data.body("bin").xpos[:2], height, 1.0, 0.0, 0.0, 0.0]
    sim.data.qvel[speed : speed + 6] = 0.0
    mujoco.mj_forward(sim.model, sim.data)


def test_the_wrong_object_on_top_of_the_right_one_is_no_success() -> None:
    sim = Simulation("pick_place")
    sim.prepare(610_403)
    item = sim.layout.item
    assert item.other is not None
    floor = 0.008 + item.half_height
    put(sim, "object", floor + 0.001)
    assert go_on(sim, "open", 0.0, 1).reward < 0
    put(sim, "object", floor)
    put(sim, "decoy", floor + item.half_height + item.other.half_height + 0.001)
    result = go_on(sim, "open", 0.0, 12)
    assert sim.data.site("decoy").xpos[2] > 0.05, "it fell off, so this scene shows nothing"
    assert result.terminated
    assert not result.success


def test_what_drops_into_the_bin_comes_to_rest() -> None:
    sim = Simulation("pick_place")
    for seed in range(610_403, 610_409):
        sim.prepare(seed)
        address = sim.model.joint("object").qposadr[0]
        sim.data.qpos[address : address + 3] = [*sim.data.body("bin").xpos[:2], 0.08]
        sim.data.qpos[address + 3 : address + 7] = [0.99, 0.1, 0.05, 0.0]
        mujoco.mj_forward(sim.model, sim.data)
        result = go_on(sim, "open", 0.0, 12)
        assert result.success or result.terminated
        assert np.linalg.norm(sim.data.joint("object").qvel[:3]) < 0.01


def torn(sim: Simulation) -> bool:
    return not sim.data.eq_active[sim.model.eq("tissue").id]


def test_a_dropped_tissue_ends_the_episode_without_success() -> None:
    sim = Simulation("pull_tissue")
    sim.prepare(620_041)
    drive(sim, EXPERT, torn)
    assert not sim.privileged().success
    for _ in range(20):
        result = go_on(sim, "release", 0.0, 1)
        if result.terminated:
            break
    assert result.terminated
    assert not result.success


def test_a_tissue_in_the_air_is_not_taken() -> None:
    sim = Simulation("pull_tissue")
    sim.prepare(610_410)
    sim.data.eq_active[sim.model.eq("tissue").id] = 0
    address = sim.model.joint("tissue").qposadr[0]
    sim.data.qpos[address : address + 3] = [0.6, 0.3, 0.6]
    mujoco.mj_forward(sim.model, sim.data)
    assert sim.privileged().progress < 1.0


def test_a_tissue_that_is_pushed_is_not_torn() -> None:
    sim = Simulation("pull_tissue")
    sim.prepare(610_411)
    sim.data.xfrc_applied[sim.model.body("tissue").id, :3] = (0.05, 0.05, 0.0)
    go_on(sim, "open", 0.0, 3)
    assert not torn(sim)


def test_a_torn_tissue_is_torn_in_a_snapshot_too() -> None:
    sim = Simulation("pull_tissue")
    sim.prepare(620_042)
    drive(sim, EXPERT, torn)
    snapshot = sim.snapshot()
    go_on(sim, "close", 0.02, 3)
    after = sim.data.qpos.copy()
    sim.prepare(620_043)
    sim.restore(snapshot)
    assert torn(sim)
    go_on(sim, "close", 0.02, 3)
    np.testing.assert_array_equal(sim.data.qpos, after)
    sim.prepare(620_042)
    assert not torn(sim)


@pytest.mark.parametrize("task", PAIRED)
def test_takeover_from_the_middle_of_an_attempt_succeeds(task: str) -> None:
    sim = Simulation(task)
    for seed, ticks in ((620_050, 6), (620_051, 12), (620_052, 17)):
        sim.prepare(seed)
        drive(sim, replace(CORRECTOR, goal_error_m=0.01), lambda s, n=ticks: s.privileged().tick >= n)
        assert drive(sim, CORRECTOR).success, f"scene {seed}"
