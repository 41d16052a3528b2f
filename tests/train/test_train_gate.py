"""What the actor of `bora` is cloned from and told: the gate before the warm-up, and values that know nothing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bora_cli.algos.bora_offline import OfflineConfig, open_gate
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError
from bora_cli.train import methods, phases
from bora_cli.train.offline import train


def run(method: str, data: Path, out: Path, **options: Any) -> dict[str, Any]:
    return train(method, data=[data], out=out, **options)


@pytest.mark.parametrize("skill", [-0.5, 0.5])
def test_values_that_explain_nothing_give_way_to_the_outcomes(
    toy_demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skill: float
) -> None:
    given: list[torch.Tensor] = []
    real = phases.actor_loss

    def spy(*experts: Any, **options: Any) -> Any:
        given.append(experts[4])
        return real(*experts, **options)

    monkeypatch.setattr(phases, "actor_loss", spy)
    monkeypatch.setattr(phases, "explained", lambda *_: skill)
    found = run("bora", toy_demos, tmp_path / "policy", backbone=str(toy_backbone), updates=160)
    totals = {round(float(e.reward.sum()), 4) for e in Dataset.open(toy_demos).episodes(images=False)}
    seen = {round(float(x), 4) for x in torch.cat([adv.flatten() for adv in given])} - {0.0}
    assert (len(seen) <= len(totals)) == (skill <= 0)
    assert any("explained" in alarm for alarm in found.get("alarms", [])) == (skill <= 0)


def test_a_gated_warm_up_clones_what_the_gate_lets_through(
    toy_demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    through: list[Any] = []
    cloned: list[Any] = []
    real, clone = methods.followed, phases.clone

    def look(sampler: Any, config: Any, critic: Any) -> Any:
        batch = sampler.rows(np.arange(len(sampler)))
        opened = open_gate(batch.need("adv"), batch.mask, config) > 0
        assert 0 < int(opened.sum()) < len(sampler)
        through.append(np.flatnonzero(opened.numpy()).tolist())
        return real(sampler, config, critic)

    def spy(expert: Any, sampler: Any, config: Any, **options: Any) -> Any:
        cloned.append(options["rows"].tolist())
        return clone(expert, sampler, config, **options)

    monkeypatch.setattr(methods, "followed", look)
    monkeypatch.setattr(phases, "clone", spy)
    options: dict[str, Any] = {"backbone": str(toy_backbone), "updates": 20}
    gated = run("bora", toy_demos, tmp_path / "gated", warm_up="gated", **options)
    assert cloned == through
    assert gated["warm_up"] == "gated"
    run("bora", toy_demos, tmp_path / "all", **options)
    assert len(through) == 1
    assert len(cloned[1]) > len(cloned[0])


def test_a_gate_that_lets_nothing_through_leaves_everything_to_clone() -> None:
    adv = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [0.5, -0.2]])

    class Three:
        def __len__(self) -> int:
            return 3

        def rows(self, index: Any) -> Any:
            return SimpleNamespace(mask=torch.ones(len(index), 2), need=lambda _: adv[torch.as_tensor(index)])

    three: Any = Three()
    assert phases.followed(three, OfflineConfig()).tolist() == [0, 2]
    assert phases.followed(three, OfflineConfig(gate_margin=9.0)).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("bora", {"warm_up": "some"}, r"Unknown warm-up 'some'"),
        ("cp", {"warm_up": "gated"}, r"cp has no choice of warm-up, so warm-up gated would go unused"),
        ("bora", {"warm_up": "gated", "preset": "paper"}, r"The paper's gate judges batches, not windows"),
        ("bora", {"warm_up": "gated", "init": Path("cp")}, r"cp is the warm-up already"),
    ],
)
def test_a_warm_up_that_would_go_unused_is_refused(
    toy_demos: Path, tmp_path: Path, method: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        run(method, toy_demos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
