"""What every pixel shows."""

from __future__ import annotations

import numpy as np
import pytest

from bora_cli.sim.part_masks import BACKGROUND, HAND, OBJECT, part_masks
from bora_cli.sim.simulation import CAMERAS, Simulation


@pytest.mark.parametrize("task", ["pick_toy", "pick_place", "open_box", "pull_tissue", "press_button"])
def test_the_object_is_where_the_target_is_and_the_hand_is_seen(task: str) -> None:
    sim = Simulation(task)
    sim.prepare(100_003)
    masks = part_masks(sim, 64)
    assert masks.shape == (len(CAMERAS), 64, 64)
    assert masks.dtype == np.uint8
    scene = masks[CAMERAS.index("scene")]
    assert set(np.unique(scene)) == {BACKGROUND, HAND, OBJECT}
    assert (masks[CAMERAS.index("wrist")] == HAND).mean() > 0.02
    camera = sim.model.camera("scene").id
    eye, turn = sim.data.cam_xpos[camera], sim.data.cam_xmat[camera].reshape(3, 3)
    x, y, z = turn.T @ (sim.privileged().target_position - eye)
    half = np.tan(np.radians(sim.model.cam_fovy[camera]) / 2)
    row, column = (int(32 - 32 * y / (-z * half)), int(32 + 32 * x / (-z * half)))
    near = scene[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5]
    assert (near == OBJECT).any()


def test_bystanders_are_background() -> None:
    plain, crowded = Simulation("pick_toy"), Simulation("pick_toy", setting="standard,distractors=2")
    for sim in (plain, crowded):
        sim.prepare(100_004)
    names = [crowded.model.body(i).name for i in range(crowded.model.nbody)]
    assert any(name.startswith("distractor") for name in names)
    counts = [(part_masks(sim, 64)[0] == OBJECT).sum() for sim in (plain, crowded)]
    assert abs(int(counts[0]) - int(counts[1])) < 40
