"""Training through the backbone: who gives it gradients, what the checkpoint keeps, and what it is good for."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bora_cli.algos.bora_offline import OfflineConfig, actor_loss, critic_loss
from bora_cli.algos.cp import CPConfig
from bora_cli.analysis.analyze import analyze
from bora_cli.checkpoint import load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError
from bora_cli.evaluate.evaluate import evaluate
from bora_cli.models.adapt import Adaptation
from bora_cli.models.critic import ChunkCritic, CriticConfig
from bora_cli.models.vlm import Backbone
from bora_cli.train.buffer import Sampler, load_buffer
from bora_cli.train.decoupled import load_pixels
from bora_cli.train.live import LiveTokens
from bora_cli.train.offline import fresh_actor, policy_spec, train
from small_vlms import save_family
from toy_world import TASK, move_into_toy_world, toy_dataset, toy_demonstrations, weights

KINDS = ("full", "last_blocks@1", "lora@4")


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset(tmp_path_factory.mktemp("few") / "demos", toy_demonstrations(4)).root


@pytest.mark.parametrize("text", [*KINDS, "full,bf16,recompute"])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_backbone_learns_from_the_actor_and_never_from_the_critic(
    demos: Path, toy_backbone: Path, text: str, steps: int
) -> None:
    """Through the one evaluation that keeps its graph, however many there are, and into all that is trained."""
    vlm = Backbone.load(toy_backbone)
    buffer = load_buffer([demos], vlm, horizon=8, gamma=0.97)
    actor = fresh_actor(buffer, policy_spec(Dataset.open(demos), vlm.cameras, steps), 0)
    torch.nn.init.normal_(actor.expert.leave[-1].weight, std=0.1)
    sampler = Sampler(buffer, actor.state, actor.action)
    adaptation = Adaptation.parse(text)
    assert adaptation is not None
    prompts = [e.prompt for e in buffer.episodes for _ in range(len(e))]
    live = LiveTokens(vlm, adaptation, load_pixels([demos], vlm.cameras), prompts, 1e-3, 0)
    index = np.arange(0, len(sampler), 7)
    seen = live.images(sampler.start[torch.from_numpy(index)], np.random.default_rng(0))
    batch = live.put_into(sampler.rows(index), seen)
    assert batch.z.requires_grad

    critic = ChunkCritic(CriticConfig(sizes=actor.expert.config.sizes))
    config = OfflineConfig(steps=steps, lambda_bc=0.0, advantage="constant")
    critic_loss(critic, critic, batch, config)[0].backward()
    assert all(p.grad is None for p in vlm.parameters())
    assert any(p.grad is not None for p in critic.parameters())

    old = deepcopy(actor.expert)
    with torch.no_grad():  # a policy equal to the old one has a ratio of 1, and a gradient all the same
        adv = torch.randn(batch.mask.shape, generator=torch.Generator().manual_seed(0))
    loss = actor_loss(actor.expert, old, old, batch, adv, config=config, cp=CPConfig()).loss  # type: ignore[arg-type]
    loss.backward()
    named = {k: p for k, p in vlm.model.named_parameters() if p.requires_grad}
    still = {k for k, p in named.items() if p.grad is None or not p.grad.any()}
    assert named
    assert all("lora_A" in k for k in still), (
        still
    )  # what LoRA adds is a product whose second factor starts at zero
    assert all(p.grad is None for p in vlm.parameters() if not p.requires_grad)


@pytest.mark.parametrize(("method", "text"), [("cp", "full"), ("cp", "lora@4"), ("bora", "last_blocks@1")])
def test_a_policy_with_a_trained_backbone(
    demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, text: str
) -> None:
    """It is kept without a copy of the backbone, acts, and its critic knows the tokens it will see."""
    files = {f.name: f.read_bytes() for f in toy_backbone.iterdir()}
    out = tmp_path / "policy"
    facts = train(method, data=[demos], out=out, backbone=str(toy_backbone), updates=8, adapt=text)
    assert {f.name: f.read_bytes() for f in toy_backbone.iterdir()} == files
    assert facts["adapt"] == text
    assert facts["improve_updates"] == 4
    found = load_trained(out)
    frozen = Backbone.load(toy_backbone)
    assert found.backbone_hash not in (frozen.hash, None)
    assert found.load_backbone().hash == found.backbone_hash
    move_into_toy_world(monkeypatch)
    assert len(evaluate(out, task=TASK, episodes=1).trials) == 1
    if (method, text) == ("cp", "lora@4"):
        again = tmp_path / "again"
        train(method, data=[demos], out=again, backbone=str(toy_backbone), updates=8, adapt=text)
        assert weights(again) == weights(out)
    if method == "bora":
        assert analyze(out, data=[demos], out=tmp_path / "analysis")["episodes"] == 4
    damaged = replace(found, adapted={k: v + 1 for k, v in (found.adapted or {}).items()})
    with pytest.raises(CheckpointError, match="the checkpoint was trained on"):
        damaged.policy()


def test_bf16_that_does_not_pay_is_said(
    demos: Path, toy_backbone: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    how = Adaptation.parse("last_blocks,bf16")
    assert how is not None
    pixels = load_pixels([demos], ("scene", "wrist"))
    for slow, fast in ((0.2, 0.3), (0.3, 0.2)):
        caplog.clear()
        monkeypatch.setattr(
            LiveTokens, "_seconds", lambda _, bf16, slow=slow, fast=fast: fast if bf16 else slow
        )
        LiveTokens(Backbone.load(toy_backbone), how, pixels, ["lift"] * len(pixels), 1e-3, 0)
        said = ["bf16 makes training slower on this machine: 0.30 s there and back, 0.20 s in float32."]
        assert [r.getMessage() for r in caplog.records] == (said if fast > slow else [])


def test_a_real_family_with_lora(demos: Path, tmp_path: Path) -> None:
    folder = save_family("paligemma2", tmp_path / "vlm")
    options: dict[str, Any] = {"backbone": str(folder), "updates": 2, "adapt": "lora@2"}
    train("filtered_bc", data=[demos], out=tmp_path / "policy", **options)
    assert load_trained(tmp_path / "policy").policy().base_hash != Backbone.load(folder).hash


def test_a_policy_with_a_trained_backbone_is_no_start_for_another(
    demos: Path, toy_backbone: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"backbone": str(toy_backbone), "updates": 2}
    train("cp", data=[demos], out=tmp_path / "cp", adapt="last_blocks", **options)
    with pytest.raises(
        CheckpointError, match=r"was trained on backbone .*Give the same --backbone, or leave out"
    ):
        train("bora", data=[demos], out=tmp_path / "x", init=tmp_path / "cp", updates=2)
    with pytest.raises(ConfigError, match="awr leaves the backbone frozen, so adapt lora would go unused"):
        train("awr", data=[demos], out=tmp_path / "x", adapt="lora", **options)
    with pytest.raises(ConfigError, match="'half' is no part of a backbone to train"):
        train("cp", data=[demos], out=tmp_path / "x", adapt="half", **options)
