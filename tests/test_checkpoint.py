"""Checkpoints: what is read is what was written, and what is damaged or does not fit is refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bora_cli import checkpoint as module
from bora_cli.checkpoint import (
    Trained,
    load_backbone,
    load_trained,
    read_config,
    read_part,
    save_checkpoint,
    save_trained,
    tiny_backbone_path,
)
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError
from bora_cli.models.residual import ResidualActor
from bora_cli.models.vlm import Backbone
from bora_cli.sim.limits import STATE_NAMES, action_spec
from bora_cli.train.offline import policy_spec
from bora_cli.train.residual import fresh_residual


@pytest.fixture
def copy(toy_policy: Path, tmp_path: Path) -> Path:
    """A checkpoint that may be broken."""
    return shutil.copytree(toy_policy, tmp_path / "policy")


def with_residual(trained: Trained) -> Trained:
    residual = fresh_residual(trained.spec.action, trained.actor, "constant", 0)
    with torch.no_grad():
        residual.offset.copy_(torch.linspace(-0.3, 0.3, 18))
    return replace(trained, residual=residual, lam=0.75)


def state_of(part: Any) -> dict[str, Tensor]:
    return dict(part.state_dict())


def edit_config(path: Path, **changes: Any) -> None:
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_round_trip(toy_policy: Path, tmp_path: Path) -> None:
    trained = with_residual(load_trained(toy_policy))
    again = load_trained(save_trained(tmp_path / "again", trained))
    assert (again.lam, again.backbone, again.backbone_hash) == (0.75, trained.backbone, trained.backbone_hash)
    assert again.provenance == trained.provenance
    again.spec.action.require_same(trained.spec.action, "copy")
    assert replace(again.spec, action=trained.spec.action) == trained.spec
    for name in ("actor", "critic", "residual"):
        before, after = state_of(getattr(trained, name)), state_of(getattr(again, name))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)
    assert isinstance(again.residual, ResidualActor)
    assert torch.equal(again.residual.bound, trained.residual.bound)  # type: ignore[union-attr]


def test_a_policy_from_disk_decides_like_the_one_in_memory(toy_policy: Path, tmp_path: Path) -> None:
    from toy_world import ToyRig

    rig = ToyRig()
    rig.prepare(3)
    trained = with_residual(load_trained(toy_policy))
    save_trained(tmp_path / "again", trained)
    decisions = [
        t.policy().decide(rig.observe(), np.random.default_rng(7))
        for t in (trained, load_trained(tmp_path / "again"))
    ]
    for name in ("base", "residual", "final", "tokens"):
        assert np.array_equal(getattr(decisions[0], name), getattr(decisions[1], name)), name


def test_the_image_size_is_kept_and_is_64_where_a_checkpoint_does_not_say(copy: Path, tmp_path: Path) -> None:
    trained = load_trained(copy)
    assert trained.spec.image_size == (64, 64)
    large = replace(trained, spec=replace(trained.spec, image_size=(96, 128)))
    assert load_trained(save_trained(tmp_path / "large", large)).spec.image_size == (96, 128)
    spec = read_config(copy)["spec"]
    spec.pop("image_size")
    edit_config(copy, spec=spec)
    assert load_trained(copy).spec.image_size == (64, 64)


def test_training_notes_the_size_of_the_images(tmp_path: Path) -> None:
    cameras = ("scene", "wrist")
    size = (48, 64)
    data = Dataset.create(
        tmp_path / "data", action_spec(), STATE_NAMES, cameras, image_size=size, fps=10, robot_type="toy"
    )
    assert policy_spec(data, cameras, 1).image_size == size


def test_the_card_tells_where_the_policy_comes_from(toy_policy: Path) -> None:
    card = (toy_policy / "README.md").read_text()
    assert "# bora for press_button" in card
    assert "- episodes: 8" in card
    assert "- demonstration_success: 4/8" in card
    versions = read_config(toy_policy)["versions"]
    assert {"bora-cli", "python", "torch", "transformers", "numpy", "mujoco"} <= set(versions)


def test_loading_needs_neither_the_data_nor_the_backbone(copy: Path) -> None:
    edit_config(copy, backbone={"source": "/nowhere/at/all", "hash": "0" * 12})
    trained = load_trained(copy)
    with pytest.raises(CheckpointError, match="Backbone directory not found: /nowhere/at/all"):
        trained.policy()


def test_another_backbone_is_refused(copy: Path, toy_backbone: Path) -> None:
    edit_config(copy, backbone={"source": str(toy_backbone), "hash": "0123456789ab"})
    trained = load_trained(copy)
    with pytest.raises(CheckpointError, match=r"has hash \w{12}; the checkpoint was trained on 0123456789ab"):
        trained.policy()


def test_the_name_tiny_is_the_backbone_of_the_package() -> None:
    assert load_backbone("tiny").hash == Backbone.load(tiny_backbone_path()).hash


def test_where_there_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"No checkpoint at .*none.* Make one with `bora train`"):
        load_trained(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"is not a checkpoint: it has no config\.json"):
        load_trained(tmp_path)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[]", b""])
def test_a_damaged_config_is_named(copy: Path, content: bytes) -> None:
    (copy / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json is not"):
        load_trained(copy)


@pytest.mark.parametrize("part", ["actor", "critic"])
@pytest.mark.parametrize("length", [0, 5, 1000])
def test_damaged_weights_are_named(copy: Path, part: str, length: int) -> None:
    file = copy / f"{part}.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=rf"{part}\.safetensors is damaged"):
        load_trained(copy)


def test_a_missing_part_is_named(copy: Path) -> None:
    (copy / "critic.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no part 'critic'; it has: actor, critic"):
        load_trained(copy)
    with pytest.raises(CheckpointError, match="has no part 'residual'"):
        read_part(copy, "residual")


@pytest.mark.parametrize(
    "change", [{"spec": {}}, {"expert": {"depth": 3}}, {"critic": {}}, {"lam": "much"}, {"backbone": {}}]
)
def test_a_config_that_does_not_fit_is_refused(copy: Path, change: dict[str, Any]) -> None:
    edit_config(copy, **change)
    with pytest.raises(CheckpointError, match=r"does not fit this version .* Train it again"):
        load_trained(copy)


def test_weights_of_other_sizes_are_refused(copy: Path) -> None:
    expert = read_config(copy)["expert"]
    edit_config(copy, expert={**expert, "width": 2 * expert["width"]})
    with pytest.raises(CheckpointError, match="does not fit this version"):
        load_trained(copy)


def test_a_later_format_is_refused(copy: Path) -> None:
    edit_config(copy, format=2)
    with pytest.raises(CheckpointError, match="has checkpoint format 2; this version reads format 1"):
        read_config(copy)


# ------------------------------------------------------------------------------------------- atomicity


def write(path: Path, value: float) -> Path:
    return save_checkpoint(path, {"value": value}, {"part": {"w": torch.tensor([value])}}, "card\n")


def test_a_checkpoint_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "policy"
    write(path, 1.0)
    (path / "stray").write_text("of the old one")
    write(path, 2.0)
    assert read_config(path)["value"] == 2.0
    assert read_part(path, "part")["w"].item() == 2.0
    assert sorted(f.name for f in path.iterdir()) == ["README.md", "config.json", "part.safetensors"]
    assert [f.name for f in path.parent.iterdir()] == ["policy"]


@pytest.mark.parametrize("stage", ["weights", "card", "config"])
def test_an_interrupted_save_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    path = write(tmp_path / "policy", 1.0)
    write_text, save_file = module._write, module.save_file

    def fail(file: Path, *_: Any) -> None:
        if stage == "weights" or stage in file.name.replace("README", "card"):
            raise KeyboardInterrupt
        write_text(file, *_)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", fail)
        patch.setattr(module, "save_file", lambda w, f: fail(f) if stage == "weights" else save_file(w, f))
        with pytest.raises(KeyboardInterrupt):
            write(path, 2.0)
    assert read_part(path, "part")["w"].item() == read_config(path)["value"] == 1.0
    write(path, 3.0)  # and nothing that was left behind is in the way
    assert read_config(path)["value"] == 3.0
    assert [f.name for f in tmp_path.iterdir()] == ["policy"]


def test_a_save_that_fails_at_any_step_leaves_the_old_or_the_new_checkpoint(
    tmp_path: Path, failing_steps: Callable[[int], Any]
) -> None:
    seen = []
    for step in range(1, 100):
        path = write(tmp_path / str(step) / "policy", 1.0)
        with failing_steps(step) as failed:
            try:
                write(path, 2.0)
            except OSError:
                assert failed
        seen.append(read_config(path)["value"])
        assert read_part(path, "part")["w"].item() == seen[-1]
        assert read_config(write(path, 3.0))["value"] == 3.0
        assert [f.name for f in path.parent.iterdir()] == ["policy"]
        if not failed:
            break
    assert seen == sorted(seen)  # the old one, until the new one is complete
    assert set(seen) == {1.0, 2.0}
    assert len(seen) > 6  # three files, two directories, two renames


def test_the_first_save_is_whole_or_nothing(tmp_path: Path, failing_steps: Callable[[int], Any]) -> None:
    for step in range(1, 100):
        path = tmp_path / str(step) / "policy"
        path.parent.mkdir()
        with failing_steps(step) as failed, suppress(OSError):
            write(path, 1.0)
        if path.exists():
            assert read_config(path)["value"] == 1.0
            assert read_part(path, "part")["w"].item() == 1.0
        else:
            with pytest.raises(CheckpointError, match="No checkpoint at"):
                read_config(path)
        if not failed:
            return
