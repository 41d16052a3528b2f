"""Scenes: seeds, independent streams, standard against unseen, and what the model contains."""

from __future__ import annotations

import colorsys

import pytest

from bora_cli.errors import ConfigError
from bora_cli.sim.scene import Layout, build_model, draw_layout
from bora_cli.sim.tasks import TASKS, get_task
from bora_cli.sim.variation import HUES, TABLE, pick

SEEDS = range(610_000, 610_040)


def hue(layout: Layout) -> float:
    return colorsys.rgb_to_hsv(*layout.item.palette.main)[0]


def inside(value: float, intervals: tuple[tuple[float, float], ...]) -> bool:
    return any(low - 1e-9 <= value <= high + 1e-9 for low, high in intervals)


def size_of(layout: Layout, name: str) -> float:
    """Return a size of the layout in the unit of the variation table."""
    return layout.item.half_width / 0.026 if name == "scale" else getattr(layout.item, name)


@pytest.mark.parametrize("task", TASKS)
def test_standard_and_unseen_tables_are_disjoint(task: str) -> None:
    kinds = TABLE[task].kinds
    assert not set(kinds["standard"]) & set(kinds["unseen"])
    for ranges in TABLE[task].sizes.values():
        for low, high in ranges["standard"]:
            assert all(high < a or low > b for a, b in ranges["unseen"])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("setting", ["standard", "unseen"])
def test_draws_stay_in_their_setting(task: str, setting: str) -> None:
    kinds = set()
    for seed in SEEDS:
        layout = draw_layout(task, setting, seed)
        kinds.add(layout.item.kind)
        assert inside(hue(layout), HUES["seen"])
        for name, ranges in TABLE[task].sizes.items():
            assert inside(size_of(layout, name), ranges[setting])
    assert kinds == set(TABLE[task].kinds[setting])


@pytest.mark.parametrize("task", TASKS)
def test_settings_share_pose_physics_and_surroundings(task: str) -> None:
    seen, unseen = (draw_layout(task, setting, 610_003) for setting in ("standard", "unseen"))
    assert (seen.item.x, seen.item.y, seen.item.yaw) == (unseen.item.x, unseen.item.y, unseen.item.yaw)
    assert seen.tool_start == unseen.tool_start
    assert seen.appearance == unseen.appearance


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_is_a_scene(task: str) -> None:
    assert draw_layout(task, "standard", 610_001) == draw_layout(task, "standard", 610_001)
    assert draw_layout(task, "standard", 610_001) != draw_layout(task, "standard", 610_002)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("setting", ["standard", "unseen"])
def test_every_kind_compiles_and_stays_small(task: str, setting: str) -> None:
    done = set()
    for seed in SEEDS:
        layout = draw_layout(task, setting, seed)
        if layout.item.kind in done:
            continue
        done.add(layout.item.kind)
        model = build_model(layout)
        assert model.ngeom <= 80
        assert {model.camera(i).name for i in range(model.ncam)} == {"scene", "wrist"}
        assert model.site("target").id >= 0


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="expected standard or unseen"):
        draw_layout("pick_toy", "novel", 0)
    with pytest.raises(ConfigError, match="pick_toy, open_box, press_button, pick_place, pull_tissue"):
        get_task("fold_shirt")


def test_pick_walks_over_the_gap() -> None:
    intervals = ((0.0, 1.0), (3.0, 4.0))
    assert pick(intervals, 0.25) == 0.5
    assert pick(intervals, 0.75) == 3.5
