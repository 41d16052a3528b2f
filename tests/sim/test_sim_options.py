"""Switches of a scene: each moves only its own thing, and only distractors touch the physics."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError
from bora_cli.seeds import stream
from bora_cli.sim.distractors import KEEP_OUT, draw_distractors
from bora_cli.sim.operator import EXPERT, SimulatedOperator
from bora_cli.sim.scene import Layout, draw_layout
from bora_cli.sim.scene_options import (
    MAX_DISTRACTORS,
    RANGES,
    SceneOptions,
    parse_options,
    parse_setting,
    setting_identity,
)
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.tasks import TASKS
from bora_cli.sim.variation import HUES, SETTINGS

SEEDS = range(610_100, 610_112)
WIDE = "hue=any,light=wide,table=wide,camera=wide"

options = st.builds(
    SceneOptions,
    hue=st.sampled_from([*HUES]),
    light=st.sampled_from(RANGES),
    table=st.sampled_from(RANGES),
    camera=st.sampled_from(RANGES),
    distractors=st.integers(0, MAX_DISTRACTORS),
)


@given(options)
def test_the_identity_names_the_options(chosen: SceneOptions) -> None:
    assert parse_options(chosen.identity) == chosen


def test_the_default_is_called_default() -> None:
    assert SceneOptions().identity == "default"
    assert parse_options("") == parse_options("default") == parse_options("light=usual") == SceneOptions()


@given(st.sampled_from(SETTINGS), options)
def test_switches_are_written_behind_the_setting(setting: str, chosen: SceneOptions) -> None:
    assert parse_setting(setting_identity(setting, chosen)) == (setting, chosen)


def test_the_simulation_says_its_setting_in_one_way() -> None:
    assert Simulation("pick_toy", setting="unseen").setting == "unseen"
    sim = Simulation("pick_toy", setting="unseen, distractors=2,light=usual ,hue=any")
    assert sim.setting == "unseen,hue=any,distractors=2"
    with pytest.raises(ConfigError, match="Unknown setting 'novel'"):
        Simulation("pick_toy", setting="novel,hue=any")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ligth=wide", r"'ligth' is not a switch of a scene\. Did you mean 'light'\?"),
        ("light=dark", r"light=dark is unknown; expected one of fixed, usual, wide"),
        ("distractors=4", r"distractors=4 is unknown; expected one of 0, 1, 2, 3"),
        ("distractors=few", r"distractors=few is unknown"),
        ("hue=any,hue=seen", r"hue is given twice"),
    ],
)
def test_an_unknown_switch_or_value_names_the_known_ones(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_options(text)


def hue(layout: Layout) -> float:
    return colorsys.rgb_to_hsv(*layout.item.palette.main)[0]


def inside(value: float, key: str) -> bool:
    return any(low - 1e-9 <= value <= high + 1e-9 for low, high in HUES[key])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("setting", ["standard", "unseen"])
def test_the_hue_is_a_switch_of_its_own(task: str, setting: str) -> None:
    for seed in SEEDS:
        usual = draw_layout(task, setting, seed)
        for source in HUES:
            layout = draw_layout(task, setting, seed, SceneOptions(hue=source))
            assert inside(hue(layout), source)
            assert layout.item.kind == usual.item.kind
            assert layout.appearance == usual.appearance
        assert draw_layout(task, setting, seed, SceneOptions(hue="seen")) == usual


@pytest.mark.parametrize("switch", ["light", "table", "camera"])
def test_a_switch_moves_only_its_own(switch: str) -> None:
    own = {
        "light": ("light", "brightness", "tint"),
        "table": ("table", "wall", "floor", "planks"),
        "camera": ("camera_jitter", "camera_aim", "fovy"),
    }[switch]
    usual = draw_layout("pick_toy", "standard", 610_100)
    for value in ("fixed", "wide"):
        looks = [
            draw_layout("pick_toy", "standard", seed, parse_options(f"{switch}={value}")).appearance
            for seed in SEEDS
        ]
        assert (
            replace(looks[0], **{name: getattr(usual.appearance, name) for name in own}) == usual.appearance
        )
        assert len({tuple(getattr(look, name) for name in own) for look in looks}) == (
            1 if value == "fixed" else len(SEEDS)
        )


def trajectory(task: str, vary: str) -> np.ndarray:
    sim = Simulation(task, setting=f"standard,{vary}")
    sim.prepare(610_105)
    operator = SimulatedOperator(EXPERT, stream("operator", 0))
    operator.begin(sim)
    rows = []
    for _ in range(18):
        sim.step(operator.act(sim)[0])
        rows.append(np.concatenate([sim.data.qpos, sim.data.qvel]))
    return np.stack(rows)


@pytest.mark.parametrize("task", TASKS)
def test_looks_leave_the_motion_alone_bit_for_bit(task: str) -> None:
    usual = trajectory(task, "default")
    np.testing.assert_array_equal(trajectory(task, WIDE), usual)
    np.testing.assert_array_equal(trajectory(task, "light=fixed,table=fixed,camera=fixed"), usual)


def test_wide_scenes_look_different_and_show_planks() -> None:
    usual, wide = (
        Simulation("pick_toy", setting=s, image_size=32, backend="rays")
        for s in ("standard", f"standard,{WIDE}")
    )
    a, b = (sim.reset(610_104).images["scene"].astype(int) for sim in (usual, wide))
    assert np.abs(a - b).mean() > 10
    assert any(draw_layout("pick_toy", "standard", s, parse_options(WIDE)).appearance.planks for s in SEEDS)


@pytest.mark.parametrize("task", TASKS)
def test_distractors_keep_away_and_come_from_other_tasks(task: str) -> None:
    counts = []
    for seed in SEEDS:
        layout = draw_layout(task, "unseen", seed, SceneOptions(distractors=3))
        counts.append(len(layout.distractors))
        assert replace(layout, distractors=()) == draw_layout(task, "unseen", seed)
        for i, one in enumerate(layout.distractors):
            assert one.task != task
            at = np.array([one.x, one.y])
            assert np.hypot(*(at - (layout.item.x, layout.item.y))) >= KEEP_OUT + one.radius
            assert np.hypot(*(at - layout.tool_start[:2])) >= KEEP_OUT + one.radius
            for other in layout.distractors[:i]:
                assert np.hypot(*(at - (other.x, other.y))) > one.radius + other.radius
    assert np.mean(counts) >= 1


def test_fewer_distractors_are_the_first_of_more() -> None:
    layout = draw_layout("pick_toy", "standard", 610_103)
    more, fewer = (
        draw_distractors("pick_toy", layout.item, layout.tool_start, count, "seen", 610_103)
        for count in (3, 1)
    )
    assert fewer == more[:1]


@pytest.mark.parametrize("task", TASKS)
def test_an_expert_works_among_distractors(task: str) -> None:
    sim = Simulation(task, setting="standard,distractors=3")
    sim.prepare(610_106)
    operator = SimulatedOperator(EXPERT, stream("operator", 0))
    operator.begin(sim)
    for _ in range(sim.max_ticks):
        result = sim.step(operator.act(sim)[0])
        bodies = sim.model.geom_bodyid[sim.data.contact.geom]
        names = {sim.model.body(int(b)).name for b in bodies.ravel()}
        assert not any(name.startswith("distractor") for name in names)
        if result.terminated:
            break
    assert result.success
