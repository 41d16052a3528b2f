"""Golden scenes: what a scene seed of a task means never changes, because results were measured on it."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from bora_cli.seeds import stream
from bora_cli.sim.operator import EXPERT, SimulatedOperator
from bora_cli.sim.simulation import Simulation

SEEDS = (620_100, 620_101)
GOLDEN: dict[tuple[str, str, int], tuple[str, str]] = {
    ("pick_toy", "standard", 620100): ("57de53b3f512bc16", "b7f2123c24493779"),
    ("pick_toy", "standard", 620101): ("5ef74553526d22fb", "b97fad0dde720aff"),
    ("pick_toy", "unseen,hue=held_out", 620100): ("1a935a291788e376", "4ccaad5bb55475da"),
    ("pick_toy", "unseen,hue=held_out", 620101): ("d8ac69718afb4f11", "3bf608fb5656a21b"),
    ("open_box", "standard", 620100): ("510d44187782c5cd", "57cb0306d16561a0"),
    ("open_box", "standard", 620101): ("a0a40104e2c8c2fb", "08fc39956c5b4216"),
    ("open_box", "unseen,hue=held_out", 620100): ("6323e77fde58d788", "7898f019054d719a"),
    ("open_box", "unseen,hue=held_out", 620101): ("876d1d6a5fce328b", "5605e164577046e0"),
    ("press_button", "standard", 620100): ("6180acf6c7a53683", "5ae55f2b6ed63f58"),
    ("press_button", "standard", 620101): ("922fed2793242cb2", "39a8fe5d01140939"),
    ("press_button", "unseen,hue=held_out", 620100): ("c69277c29df3414c", "5993fda2c2a0fd9c"),
    ("press_button", "unseen,hue=held_out", 620101): ("45127d7b06c9d3ce", "cf863c9d7edba9f7"),
    ("pick_toy", "unseen", 620100): ("1a935a291788e376", "7ab9035cddb8b026"),
    ("pick_place", "standard", 620100): ("e1b1bd02ca22ad4f", "32a26096ebb86d68"),
    ("pick_place", "unseen", 620100): ("67c76652cbe8dcfd", "675864787b4fb8bd"),
    ("pull_tissue", "standard", 620100): ("55feae7f89f1d238", "2b8d7ba34cbac90f"),
    ("pull_tissue", "unseen", 620100): ("0264c0154c9967ba", "6623392a03870120"),
}
"""(task, setting, scene seed) -> digests of states and of images."""


def digests(task: str, setting: str, seed: int) -> tuple[str, str]:
    """Return digests of the state after 15 expert ticks, to 1e-6, and of the images before and after them.

    The rounding hides what differs between processors in the last bits.
    """
    sim = Simulation(task, setting=setting, image_size=24, backend="rays")
    first = sim.reset(seed)
    operator = SimulatedOperator(EXPERT, stream("operator", seed))
    operator.begin(sim)
    for _ in range(15):
        sim.step(operator.act(sim)[0])
    last = sim.observe()
    sim.close()
    numbers = np.concatenate([first.state, last.state, sim.data.qpos, sim.data.qvel])
    state = hashlib.sha256((np.round(numbers, 6) + 0.0).tobytes() + first.prompt.encode())
    images = hashlib.sha256(b"".join(o.images[c].tobytes() for o in (first, last) for c in sim.cameras))
    return state.hexdigest()[:16], images.hexdigest()[:16]


@pytest.mark.parametrize(("task", "setting", "seed"), GOLDEN)
def test_a_scene_seed_means_what_it_always_meant(task: str, setting: str, seed: int) -> None:
    assert digests(task, setting, seed) == GOLDEN[task, setting, seed]
