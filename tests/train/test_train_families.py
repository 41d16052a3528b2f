"""Checkpoints of real families from a directory to a policy that acts, frozen, on cached tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bora_cli.checkpoint import load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, DataError
from bora_cli.evaluate.evaluate import evaluate
from bora_cli.models.vlm import Backbone
from bora_cli.train.offline import train
from small_vlms import FAMILIES, save_family
from toy_world import TASK, move_into_toy_world, toy_dataset, toy_demonstrations


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset(tmp_path_factory.mktemp("few") / "demos", toy_demonstrations(2)).root


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_is_trained_on_and_acts(
    family: str, demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_family(family, tmp_path / "vlm")
    files = {f.name: f.read_bytes() for f in folder.iterdir()}
    train("cp", data=[demos], out=tmp_path / "policy", backbone=str(folder), updates=4)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == files
    found = load_trained(tmp_path / "policy")
    assert found.actor.expert.config.sizes.token_width == 32
    assert found.load_backbone().hash == found.backbone_hash
    move_into_toy_world(monkeypatch)
    assert len(evaluate(tmp_path / "policy", task=TASK, episodes=1).trials) == 1


def test_tokens_are_cached_per_backbone(demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_family("idefics3", tmp_path / "vlm")
    options: dict[str, Any] = {"backbone": str(folder), "updates": 1}
    train("cp", data=[demos], out=tmp_path / "first", **options)
    monkeypatch.setattr(Backbone, "encode", lambda *_, **__: pytest.fail("encoded again"))
    train("cp", data=[demos], out=tmp_path / "second", **options)


def test_a_checkpoint_that_bora_has_not_saved_takes_the_cameras_of_the_data(tmp_path: Path) -> None:
    episode = toy_demonstrations(1)[0]
    images = {"front": episode.images["scene"]}
    old = toy_dataset(tmp_path / "old", [episode])
    create: dict[str, Any] = {"image_size": 64, "fps": 10, "robot_type": "toy"}
    data = Dataset.create(tmp_path / "front", old.spec, old.state_names, ("front",), **create)
    data.append(type(episode)(**{**vars(episode), "images": images}))
    folder = save_family("paligemma2", tmp_path / "vlm")
    train("cp", data=[data.root], out=tmp_path / "policy", backbone=str(folder), updates=1)
    found = load_trained(tmp_path / "policy")
    assert found.spec.cameras == ("front",)
    assert found.load_backbone().cameras == ("front",)
    with pytest.raises(DataError, match="has no camera scene, wrist; it has front"):
        train("cp", data=[data.root], out=tmp_path / "x", updates=1)


def test_a_backbone_that_changed_since_is_refused(demos: Path, tmp_path: Path) -> None:
    folder = save_family("idefics3", tmp_path / "vlm")
    train("cp", data=[demos], out=tmp_path / "policy", backbone=str(folder), updates=1)
    other = Backbone.load(folder)
    for weight in other.model.parameters():
        weight.data += 0.01 * np.float32(1)
        break
    other.save(folder)
    with pytest.raises(CheckpointError, match="the checkpoint was trained on"):
        load_trained(tmp_path / "policy").policy()
