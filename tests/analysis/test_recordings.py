"""What the analysis loads, and what it does not keep in memory."""

from __future__ import annotations

import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bora_cli.analysis.recordings import load_recordings
from bora_cli.analysis.scorers import scorer_of
from bora_cli.checkpoint import Trained, load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError, DataError, SchemaMismatch
from bora_cli.models.decoupled import DecoupledConfig, DecoupledCritic
from bora_cli.sim.limits import STATE_NAMES, action_spec
from bora_cli.train.buffer import load_buffer
from bora_cli.types import ActionSpec
from toy_world import CAMERAS, toy_dataset, toy_demonstrations


@pytest.fixture
def trained(toy_policy: Path) -> Trained:
    return load_trained(toy_policy)


def of_pixels(trained: Trained) -> Trained:
    config = DecoupledConfig(cameras=2, state_dim=len(STATE_NAMES), action_dim=18, horizon=8)
    return replace(trained, critic=None, decoupled=DecoupledCritic(config))


def test_tokens_are_those_that_training_sees(trained: Trained, toy_demos: Path) -> None:
    backbone = trained.load_backbone()
    buffer, pixels = load_recordings([toy_demos], trained, backbone, gamma=0.97)
    plain = load_buffer([toy_demos], backbone, horizon=8, gamma=0.97, copies=1)
    assert pixels is None
    assert np.abs((buffer.tokens - plain.tokens).numpy()).max() < 1e-2  # batched otherwise, rounded to half
    assert (buffer.state == plain.state).all()
    assert (buffer.first == plain.first).all()
    assert (buffer.windows.action == plain.windows.action).all()
    assert (buffer.windows.mc_return == plain.windows.mc_return).all()
    assert all(not e.images for e in buffer.episodes)


def test_pixels_are_those_of_the_episodes(trained: Trained, toy_demos: Path) -> None:
    blind = of_pixels(trained)
    backbone = blind.load_backbone()
    buffer, pixels = load_recordings([toy_demos], blind, backbone, gamma=0.97)
    assert pixels is not None
    assert buffer.tokens.numel() == 0
    last = Dataset.open(toy_demos).episode(7)
    assert (pixels[buffer.first[7] :, 1] == last.images["wrist"]).all()
    rows = np.array([3, 40], np.int64)
    scorer = scorer_of(blind, backbone, buffer, pixels)
    v, q = scorer.glance(rows, pixels[rows], np.zeros((2, 8, 18), np.float32), np.ones((2, 8), np.float32))
    assert v == pytest.approx(scorer.v(rows))
    assert q == pytest.approx(
        scorer.q(rows, np.zeros((2, 8, 18), np.float32), np.ones((2, 8), np.float32))[0]
    )
    with pytest.raises(DataError, match="looks at pixels; none were given"):
        scorer_of(blind, backbone, buffer)
    with pytest.raises(CheckpointError, match="There is no critic to ask"):
        scorer_of(replace(blind, decoupled=None), backbone, buffer)


def test_memory_does_not_grow_with_the_images(trained: Trained, tmp_path: Path) -> None:
    blind, peaks = of_pixels(trained), []
    backbone = blind.load_backbone()
    for count in (2, 16):
        root = toy_dataset(tmp_path / str(count), toy_demonstrations(count)).root
        tracemalloc.start()
        _, pixels = load_recordings([root], blind, backbone, gamma=0.97)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert isinstance(pixels, np.memmap)
    assert pixels.nbytes > 4e6
    assert peaks[1] < peaks[0] + 2e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": "renamed"}, r"The checkpoint and .*: action specs differ \(names"),
        ({"cameras": ("scene",)}, "has no images of camera wrist; it has scene"),
        ({"fps": 5}, "10 against 5 ticks per second"),
        ({}, "No episodes in"),
    ],
)
def test_what_cannot_be_judged(
    trained: Trained, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    spec = action_spec()
    if "spec" in change:
        data = spec.to_json() | {"names": [f"{n}_renamed" for n in spec.names]}
        change = {"spec": ActionSpec.from_json(data)}
    made = {"spec": spec, "cameras": CAMERAS, "fps": 10} | change
    Dataset.create(
        tmp_path / "d",
        made["spec"],
        STATE_NAMES,
        made["cameras"],
        image_size=64,
        fps=made["fps"],
        robot_type="toy",
    )
    with pytest.raises((SchemaMismatch, DataError), match=message):
        load_recordings([tmp_path / "d"], trained, trained.load_backbone(), gamma=0.97)


@pytest.mark.parametrize("column", ["state", "action"])
def test_numbers_that_are_not_finite_are_found_before_anything_is_encoded(
    trained: Trained, tmp_path: Path, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = toy_demonstrations(2)
    getattr(bad, column)[3, 1] = np.nan
    root = toy_dataset(tmp_path / "d", [good, bad]).root
    monkeypatch.setattr("bora_cli.analysis.recordings.encode", lambda *_: pytest.fail("encoded"))
    with pytest.raises(
        DataError, match=rf"Episode 1 of .*d has 1 values of {column} .* first at tick 3.*`bora data check`"
    ):
        load_recordings([root], trained, trained.load_backbone(), gamma=0.97)


def test_the_same_episodes_are_not_counted_twice(trained: Trained, toy_demos: Path, tmp_path: Path) -> None:
    backbone = trained.load_backbone()
    with pytest.raises(ConfigError, match="was named twice; its episodes would be doubled"):
        load_recordings([toy_demos, toy_demos / ".." / toy_demos.name], trained, backbone, gamma=0.97)
    shutil.copytree(toy_demos, tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"copy has the same episodes as .*; they would be doubled"):
        load_recordings([toy_demos, tmp_path / "copy"], trained, backbone, gamma=0.97)
