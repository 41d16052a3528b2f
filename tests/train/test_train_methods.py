"""Every method of `bora train` from data to checkpoint, evaluation and analysis, in the point world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.analysis.analyze import analyze
from bora_cli.checkpoint import load_trained, read_config, save_trained
from bora_cli.errors import CheckpointError, ConfigError
from bora_cli.evaluate.evaluate import evaluate
from bora_cli.models.diffusion import DiffusionExpert
from bora_cli.models.vlm import Backbone, build_tiny
from bora_cli.train import methods
from bora_cli.train.buffer import load_buffer
from bora_cli.train.offline import train
from bora_cli.train.residual import require_critic
from toy_world import TASK, move_into_toy_world, weights

NEW = ("diffusion", "awr", "decoupled", "decoupled_value")


@pytest.fixture(scope="module")
def trained(toy_demos: Path, toy_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("methods")
    for method in NEW:
        options: dict[str, Any] = {"backbone": str(toy_backbone), "updates": 24}
        train(method, data=[toy_demos], out=root / method, **options)
    return {method: root / method for method in NEW}


@pytest.mark.parametrize("method", NEW)
def test_a_checkpoint_holds_the_policy_and_says_what_it_is(
    trained: dict[str, Path], method: str, tmp_path: Path
) -> None:
    found = load_trained(trained[method])
    assert found.provenance["method"] == method
    assert isinstance(found.actor.expert, DiffusionExpert) == (method == "diffusion")
    assert found.spec.steps == (10 if method == "diffusion" else 1)
    assert (found.decoupled is not None) == method.startswith("decoupled")
    assert found.critic is None
    assert {f.suffix for f in trained[method].iterdir()} == {".safetensors", ".json", ".md"}
    save_trained(tmp_path / "again", found)
    assert weights(tmp_path / "again") == weights(trained[method])
    lines = (trained[method].with_name(f"{method}.run") / "metrics.jsonl").read_text().splitlines()
    assert all(np.isfinite(v) for line in lines for k, v in json.loads(line).items() if k != "phase")


def test_a_ranked_critic_is_another_critic_and_the_actor_follows_it(
    toy_demos: Path, toy_backbone: Path, toy_policy: Path, tmp_path: Path
) -> None:
    found = train(
        "bora",
        data=[toy_demos],
        out=tmp_path / "ranked",
        backbone=str(toy_backbone),
        updates=24,
        critic="ranked",
    )
    assert found["critic"] == "ranked"
    phases = [
        json.loads(line) for line in (tmp_path / "ranked.run" / "metrics.jsonl").read_text().splitlines()
    ]
    ranked = [row for row in phases if row["phase"] == "critic"]
    assert all({"loss_rank", "ranked_right"} <= set(row) for row in ranked)
    order = list(dict.fromkeys(row["phase"] for row in phases))
    assert order.index("value 1") < order.index("critic") < order.index("improve")
    assert load_trained(tmp_path / "ranked").critic is not None


def test_a_choice_of_critic_that_would_go_unused_is_refused(toy_demos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="filtered_bc has no choice of critic"):
        train("filtered_bc", data=[toy_demos], out=tmp_path / "p", critic="ranked")
    with pytest.raises(ConfigError, match="Unknown critic 'best'"):
        train("bora", data=[toy_demos], out=tmp_path / "p", critic="best")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("method", NEW)
def test_it_can_be_evaluated(trained: dict[str, Path], method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    move_into_toy_world(monkeypatch)
    result = evaluate(trained[method], task=TASK, episodes=2)
    again = evaluate(trained[method], task=TASK, episodes=2)
    assert len(result.trials) == 2
    assert result.trials == again.trials


def test_critics_of_pixels_are_analysed_and_the_blind_one_prefers_nothing(
    trained: dict[str, Path], toy_demos: Path, tmp_path: Path
) -> None:
    blind = analyze(trained["decoupled_value"], data=[toy_demos], out=tmp_path / "blind")
    assert {score["win_rate"] for score in blind["swap"]} == {0.5}
    assert blind["action_sensitivity"] == 0
    seeing = analyze(trained["decoupled"], data=[toy_demos], out=tmp_path / "seeing")
    assert {score["win_rate"] for score in seeing["swap"]} != {0.5}
    assert seeing["action_sensitivity"] > 0
    with pytest.raises(CheckpointError, match="has no critic"):
        analyze(trained["diffusion"], data=[toy_demos], out=tmp_path / "none")


def test_a_decoupled_critic_never_looks_at_tokens(
    trained: dict[str, Path], toy_demos: Path, tmp_path: Path
) -> None:
    """Another backbone changes the policy and leaves the critic as it is, bit for bit."""
    build_tiny(["press"], 7, width=32, layers=1).save(tmp_path / "other")
    options: dict[str, Any] = {"backbone": str(tmp_path / "other"), "updates": 24}
    train("decoupled", data=[toy_demos], out=tmp_path / "policy", **options)
    ours, theirs = weights(trained["decoupled"]), weights(tmp_path / "policy")
    assert ours["decoupled.safetensors"] == theirs["decoupled.safetensors"]
    assert ours["actor.safetensors"] != theirs["actor.safetensors"]


def test_decoupled_starts_from_a_cp_base_and_from_nothing_else(
    trained: dict[str, Path], toy_demos: Path, toy_backbone: Path, toy_policy: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"backbone": str(toy_backbone), "updates": 24}
    train("cp", data=[toy_demos], out=tmp_path / "cp", **options)
    train("decoupled", data=[toy_demos], out=tmp_path / "d", init=tmp_path / "cp", updates=24)
    assert weights(tmp_path / "d") == weights(trained["decoupled"])
    with pytest.raises(CheckpointError, match=r"is a diffusion policy; bora improves a consistency expert"):
        train("bora", data=[toy_demos], out=tmp_path / "x", init=trained["diffusion"])
    for method in ("diffusion", "awr"):
        with pytest.raises(ConfigError, match=f"{method} starts from nothing"):
            train(method, data=[toy_demos], out=tmp_path / "x", init=toy_policy)
    assert not (tmp_path / "x").exists()


def test_an_online_phase_needs_a_critic_of_tokens(
    trained: dict[str, Path],
) -> None:
    with pytest.raises(CheckpointError, match="no critic to inherit"):
        require_critic(load_trained(trained["decoupled"]), OnlineConfig())


def test_awr_has_the_budget_of_bora_and_asks_for_a_critic_only_to_follow_it(
    trained: dict[str, Path],
    toy_demos: Path,
    toy_backbone: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    budgets: list[int] = []
    real = methods.clone

    def spy(expert: Any, sampler: Any, config: Any, **options: Any) -> Any:
        budgets.append(config.updates)
        return real(expert, sampler, config, **options)

    monkeypatch.setattr(methods, "clone", spy)
    options: dict[str, Any] = {"backbone": str(toy_backbone), "updates": 24, "advantages": "q_minus_v"}
    train("awr", data=[toy_demos], out=tmp_path / "iql", **options)
    facts = load_trained(tmp_path / "iql").provenance
    assert budgets == [24 + facts["improve_updates"]]
    assert (facts["advantages"], facts["critic_updates"]) == ("q_minus_v", 15)
    assert load_trained(tmp_path / "iql").critic is not None
    assert load_trained(trained["awr"]).provenance["critic_updates"] == 0
    assert weights(tmp_path / "iql")["actor.safetensors"] != weights(trained["awr"])["actor.safetensors"]


def test_a_checkpoint_from_before_there_were_heads_is_a_consistency_policy(toy_policy: Path) -> None:
    config = read_config(toy_policy)
    file = toy_policy / "config.json"
    assert config["head"] == "consistency"
    text = file.read_text()
    try:
        file.write_text(json.dumps({k: v for k, v in config.items() if k != "head"}))
        assert load_trained(toy_policy).spec.steps == 1
        file.write_text(json.dumps(config | {"head": "flow"}))
        with pytest.raises(CheckpointError, match="unknown head flow"):
            load_trained(toy_policy)
    finally:
        file.write_text(text)


def test_diffusion_moves_as_far_as_the_demonstrations(
    toy_demos: Path, toy_backbone: Path, tmp_path: Path
) -> None:
    """Half of them go to the goal and half away, so a sample may be either, but not something much larger."""
    train("diffusion", data=[toy_demos], out=tmp_path / "d", backbone=str(toy_backbone), updates=200)
    found = load_trained(tmp_path / "d")
    buffer = load_buffer([toy_demos], Backbone.load(toy_backbone), horizon=8, gamma=0.97)
    w, rows = buffer.windows, buffer.start
    noise = torch.randn(10, len(rows), 8, 18, generator=torch.Generator().manual_seed(0))
    chunks = found.actor.base_chunk(
        buffer.tokens[0][rows].float(), buffer.state[rows], noise, found.spec.steps
    )
    valid = w.mask > 0
    moved, shown = chunks.numpy()[valid][:, :3], w.action[valid][:, :3]
    assert 0.7 < np.sqrt((moved**2).mean() / (shown**2).mean()) < 1.4
