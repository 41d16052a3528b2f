"""Pre-training of the backbone: it learns, it can be interrupted, and it leaves nothing but the backbone."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bora_cli.errors import CheckpointError, TrainingDiverged
from bora_cli.models.vlm import Backbone, build_tiny
from bora_cli.train import pretrain as module
from bora_cli.train.pretrain import PretrainConfig, pretrain

CONFIG = PretrainConfig(scenes=4, states=3, held_out_scenes=2, updates=6, batch=6, warmup=2)


class Killed(BaseException):
    """Stands for a process that ended here."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scenes per file, a narrow model, and the state of the run saved at every update."""
    monkeypatch.setattr(module, "SCENES_PER_SHARD", 2)
    monkeypatch.setattr(module, "SAVE_EVERY_S", -1.0)
    monkeypatch.setattr(module, "build_tiny", lambda w, seed: build_tiny(w, seed, width=32, layers=1))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("pretrain") / "backbone"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SCENES_PER_SHARD", 2)
        patch.setattr(module, "build_tiny", lambda w, seed: build_tiny(w, seed, width=32, layers=1))
        pretrain(out, CONFIG)
    return out


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((out / "pretrain.json").read_text())
    return {k: v for k, v in report.items() if k != "seconds"}


def stop_at(stage: str, done: int) -> Any:
    def progress(name: str, now: int, total: int) -> None:
        if (name, now) == (stage, done):
            raise Killed

    return progress


def test_it_leaves_a_backbone_that_can_be_loaded(whole: Path) -> None:
    backbone, report = Backbone.load(whole), report_of(whole)
    assert backbone.hash == report["hash"]
    assert report["config"]["updates"] == 6
    images = np.zeros((2, 2, 64, 64, 3), np.uint8)
    tokens = backbone.encode(images, ["pick up the toy", "press the button"])
    assert torch.isfinite(tokens).all()
    assert not torch.equal(tokens[0], tokens[1])
    assert not (whole / "work").exists()
    held_out = report["held_out"]
    assert held_out["pairs"] == 2 * 3
    assert 0 <= held_out["answers_right"] <= 1
    assert set(held_out["label_error"]) == set(held_out["label_error_of_the_median"])


def test_training_changes_the_weights(whole: Path) -> None:
    fresh = module.build_tiny(module.VOCABULARY, CONFIG.seed)
    trained = Backbone.load(whole).model.state_dict()
    assert all(torch.isfinite(v).all() for v in trained.values())
    assert any(not torch.equal(v, trained[k]) for k, v in fresh.model.state_dict().items())


def test_the_averaged_weights_are_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last: dict[str, dict[str, torch.Tensor]] = {}
    real = module.polyak_update

    def spy(target: torch.nn.Module, source: torch.nn.Module, rate: float) -> None:
        real(target, source, rate)
        if not isinstance(source, module.Heads):
            last["averaged"], last["trained"] = deepcopy(target.state_dict()), deepcopy(source.state_dict())

    monkeypatch.setattr(module, "polyak_update", spy)
    pretrain(tmp_path / "backbone", CONFIG)
    exported = Backbone.load(tmp_path / "backbone").model.state_dict()
    assert all(torch.equal(v, last["averaged"][k]) for k, v in exported.items())
    assert any(not torch.equal(v, last["trained"][k]) for k, v in exported.items())


def test_interrupted_everywhere_it_ends_the_same(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "backbone"
    for stage, done in (("render", 1), ("render", 2), ("pretrain", 1), ("pretrain", 4), ("pretrain", 6)):
        with pytest.raises(Killed):
            pretrain(out, CONFIG, progress=stop_at(stage, done))
        assert not (out / "config.json").exists()
    told: list[tuple[str, int]] = []
    pretrain(out, CONFIG, progress=lambda name, now, _: told.append((name, now)))
    assert told == [("pretrain", 6)]  # nothing was rendered or trained twice
    assert report_of(out) == report_of(whole)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_killed_in_the_middle_of_a_write_it_still_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "backbone"
    with pytest.raises(Killed):
        pretrain(out, CONFIG, progress=stop_at("pretrain", 5))
    (out / "work" / "state.safetensors.tmp").write_bytes(b"torn")
    (out / "work" / "scenes-800001-3.tmp").write_bytes(b"torn")
    monkeypatch.setattr(
        module, "SAVE_EVERY_S", 1e9
    )  # the rest is too short to save, and so to tidy up, again
    pretrain(out, CONFIG)
    assert not (out / "work").exists()


def test_another_run_is_not_continued(tmp_path: Path) -> None:
    out = tmp_path / "backbone"
    with pytest.raises(Killed):
        pretrain(out, CONFIG, progress=stop_at("pretrain", 2))
    with pytest.raises(CheckpointError, match="belongs to another training run"):
        pretrain(out, PretrainConfig(**{**report_config(), "lr": 1.0}))


def report_config() -> dict[str, Any]:
    return {name: getattr(CONFIG, name) for name in PretrainConfig.__dataclass_fields__}


def test_held_out_scenes_are_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[tuple[str, int, int]] = []
    real = module.render_shard

    def spy(job: tuple[str, int, int]) -> None:
        jobs.append(job)
        real(job)

    monkeypatch.setattr(module, "render_shard", spy)
    with pytest.raises(Killed):
        pretrain(tmp_path / "backbone", CONFIG, progress=stop_at("pretrain", 1))
    seeds = [seed for _, seed, _ in jobs]
    assert len(seeds) == len(set(seeds)) == 3
    assert all(800_000 <= s < 900_000 for s in seeds)


def test_a_loss_that_diverges_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = module._loss
    monkeypatch.setattr(module, "_loss", lambda *args: real(*args) * float("inf"))
    with pytest.raises(TrainingDiverged, match=r"pre-training loss became inf at update 0\. Lower"):
        pretrain(tmp_path / "backbone", CONFIG)


def test_the_global_generator_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with pytest.raises(Killed):
        pretrain(tmp_path / "backbone", CONFIG, progress=stop_at("pretrain", 1))
    assert torch.equal(torch.get_rng_state(), before)
