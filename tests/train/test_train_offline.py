"""`bora train`: repeatable, frozen backbone, the right episodes, and no silent nonsense."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bora_cli.checkpoint import load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError, DataError, SchemaMismatch, TrainingDiverged
from bora_cli.models.vlm import Backbone, build_tiny
from bora_cli.train import clone as clone_module
from bora_cli.train import phases, prepare
from bora_cli.train.buffer import load_buffer
from bora_cli.train.offline import fresh_actor, policy_spec, train
from bora_cli.types import Episode
from toy_world import toy_dataset, toy_demonstrations, weights

UPDATES = 16


def run(method: str, data: Path, out: Path, **options: Any) -> dict[str, Any]:
    return train(method, data=[data], out=out, updates=options.pop("updates", UPDATES), **options)


@pytest.fixture(scope="module")
def cp(toy_demos: Path, toy_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("offline") / "cp"
    run("cp", toy_demos, out, backbone=str(toy_backbone))
    return out


def changed(episode: Episode, **columns: Any) -> Episode:
    return replace(episode, **columns)


# -------------------------------------------------------------------------------------- repeatability


def test_the_same_seed_gives_the_same_weights(
    toy_policy: Path, toy_demos: Path, toy_backbone: Path, tmp_path: Path
) -> None:
    """Whatever the state of the global generators is, and however often it is done."""
    torch.manual_seed(123)
    before = torch.get_rng_state()
    run("bora", toy_demos, tmp_path / "again", backbone=str(toy_backbone))
    assert torch.equal(torch.get_rng_state(), before)
    assert weights(tmp_path / "again") == weights(toy_policy)


def test_another_seed_gives_other_weights(
    cp: Path, toy_demos: Path, toy_backbone: Path, tmp_path: Path
) -> None:
    run("cp", toy_demos, tmp_path / "other", backbone=str(toy_backbone), seed=1)
    assert weights(tmp_path / "other") != weights(cp)


def test_the_backbone_is_frozen(
    toy_demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Backbone] = []

    def load(source: str, cameras: Any) -> Backbone:
        used.append(Backbone.load(source))
        return used[-1]

    monkeypatch.setattr(prepare, "load_backbone", load)
    files = {f.name: f.read_bytes() for f in toy_backbone.iterdir()}
    before = Backbone.load(toy_backbone).hash
    run("bora", toy_demos, tmp_path / "policy", backbone=str(toy_backbone))
    assert [b.hash for b in used] == [before]
    assert all(p.grad is None for p in used[0].parameters())
    assert {f.name: f.read_bytes() for f in toy_backbone.iterdir()} == files
    assert load_trained(tmp_path / "policy").backbone_hash == before


# ---------------------------------------------------------------------------------------- what it does


def test_every_method_moves_the_expert_and_only_bora_has_a_critic(
    cp: Path, toy_policy: Path, toy_demos: Path, toy_backbone: Path, tmp_path: Path
) -> None:
    vlm = Backbone.load(toy_backbone)
    buffer = load_buffer([toy_demos], vlm, horizon=8, gamma=0.97)
    newborn = fresh_actor(buffer, policy_spec(Dataset.open(toy_demos), vlm.cameras, 1), 0).state_dict()
    run("filtered_bc", toy_demos, tmp_path / "filtered", backbone=str(toy_backbone))
    paths = {"cp": cp, "bora": toy_policy, "filtered_bc": tmp_path / "filtered"}
    trained = {m: load_trained(p) for m, p in paths.items()}
    states = {m: t.actor.state_dict() for m, t in trained.items()}
    key = "expert.condition.0.weight"
    seen = [newborn[key], *(s[key] for s in states.values())]
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    assert {m: t.critic is not None for m, t in trained.items()} == {
        "cp": False,
        "bora": True,
        "filtered_bc": False,
    }
    assert all(t.provenance["method"] == m for m, t in trained.items())
    assert trained["bora"].provenance["demonstration_success"] == "4/8"
    assert all(np.isfinite(v.numpy()).all() for s in states.values() for v in s.values())


def test_cloning_learns_the_demonstrated_actions(toy_demos: Path, toy_backbone: Path, tmp_path: Path) -> None:
    """Physical units all the way: the chunks of the policy come near those of the data."""
    run("cp", toy_demos, tmp_path / "cp", backbone=str(toy_backbone), updates=120)
    actor = load_trained(tmp_path / "cp").actor
    buffer = load_buffer([toy_demos], Backbone.load(toy_backbone), horizon=8, gamma=0.97)
    rows, w = buffer.start, buffer.windows
    noise = torch.randn(1, len(rows), 8, 18, generator=torch.Generator().manual_seed(0))
    chunks = actor.base_chunk(buffer.tokens[0][rows].float(), buffer.state[rows], noise).numpy()
    valid = w.mask > 0
    arm = (chunks - w.action)[valid][:, :3]
    spread = w.action[valid][:, :3]
    assert (arm**2).mean() < 0.5 * ((spread - spread.mean(0)) ** 2).mean()


def test_a_warm_start_is_taken_as_it_is(
    cp: Path, toy_demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phases, "clone", lambda *_, **__: pytest.fail("cloned again"))
    run("bora", toy_demos, tmp_path / "bora", init=cp)
    warm, improved = load_trained(cp), load_trained(tmp_path / "bora")
    assert torch.equal(improved.actor.state.mean, warm.actor.state.mean)
    assert torch.equal(improved.actor.action.scale, warm.actor.action.scale)
    assert improved.provenance["init"] == str(cp)


@pytest.mark.parametrize("method", ["cp", "filtered_bc"])
def test_a_start_that_would_go_unused_is_refused(
    cp: Path, toy_demos: Path, tmp_path: Path, method: str
) -> None:
    with pytest.raises(ConfigError, match=f"{method} starts from nothing"):
        run(method, toy_demos, tmp_path / "out", init=cp)
    assert not (tmp_path / "out").exists()


def test_bora_from_its_own_warm_up_equals_bora_from_cp(
    cp: Path, toy_policy: Path, toy_demos: Path, tmp_path: Path
) -> None:
    """The demo trains CP Base once and hands it on; that is to change nothing."""
    run("bora", toy_demos, tmp_path / "bora", init=cp)
    assert weights(tmp_path / "bora") == weights(toy_policy)


def test_filtered_cloning_sees_successes_only(
    toy_demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def spy(expert: Any, sampler: Any, config: Any, **options: Any) -> Any:
        seen.append(sampler.columns["success"][options["rows"]])
        return expert

    monkeypatch.setattr(phases, "clone", spy)
    run("filtered_bc", toy_demos, tmp_path / "filtered", backbone=str(toy_backbone), updates=1)
    assert seen[0].all()
    run("cp", toy_demos, tmp_path / "cp", backbone=str(toy_backbone), updates=1)
    assert 0 < seen[1].float().mean() < 1


def test_improvement_is_told_which_actions_were_better(
    toy_demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Advantages reach the surrogate of bora, and the control without a critic gets a constant."""
    seen: dict[str, torch.Tensor] = {}
    real = phases.actor_loss

    def spy(expert: Any, old: Any, teacher: Any, batch: Any, adv: torch.Tensor, **options: Any) -> Any:
        seen[options["config"].advantage] = adv[batch.mask > 0]
        return real(expert, old, teacher, batch, adv, **options)

    monkeypatch.setattr(phases, "actor_loss", spy)
    run("bora", toy_demos, tmp_path / "b", backbone=str(toy_backbone), updates=2)
    run("filtered_bc", toy_demos, tmp_path / "f", backbone=str(toy_backbone), updates=2)
    assert (seen["constant"] == 1).all()
    assert seen["v_gae"].std() > 0
    assert (seen["v_gae"] > 0).any()
    assert (seen["v_gae"] < 0).any()


def test_one_episode_is_enough(toy_backbone: Path, tmp_path: Path) -> None:
    """There is nothing to cross-fit then; the value judges the episode it was fitted to."""
    data = toy_dataset(tmp_path / "one", toy_demonstrations(1))
    run("bora", data.root, tmp_path / "policy", backbone=str(toy_backbone), updates=2)
    assert load_trained(tmp_path / "policy").critic is not None


def test_metrics_can_be_read_while_training(toy_policy: Path) -> None:
    lines = (toy_policy.with_name("policy.run") / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [r["phase"] for r in rows][:2] == ["clone", "critic"]
    assert {"value 1", "improve"} <= {r["phase"] for r in rows}
    assert all(isinstance(v, float) for r in rows for k, v in r.items() if k not in ("phase", "update"))


# --------------------------------------------------------------------------------------------- refusals


def test_unknown_words(toy_demos: Path, toy_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"Unknown method 'bra'\. Methods: cp, diffusion, filtered_bc, awr, dec"
    ):
        run("bra", toy_demos, tmp_path / "x")
    with pytest.raises(ConfigError, match=r"Unknown preset 'big'\. Presets: sim, paper"):
        run("cp", toy_demos, tmp_path / "x", preset="big", backbone=str(toy_backbone))
    assert not any(tmp_path.iterdir())


def test_no_success_to_imitate(toy_backbone: Path, tmp_path: Path) -> None:
    failures = [e for e in toy_demonstrations(4) if not e.success]
    data = toy_dataset(tmp_path / "failures", failures)
    with pytest.raises(DataError, match="No successful episode to imitate"):
        run("filtered_bc", data.root, tmp_path / "x", backbone=str(toy_backbone))


@pytest.mark.parametrize("column", ["state", "action", "reward"])
@pytest.mark.parametrize("method", ["cp", "bora"])
def test_data_that_is_not_a_number_is_refused(
    toy_backbone: Path, tmp_path: Path, column: str, method: str
) -> None:
    episodes = toy_demonstrations(2)
    values = getattr(episodes[1], column).copy()
    values[2] = np.nan
    data = toy_dataset(tmp_path / "bad", [episodes[0], replace(episodes[1], **{column: values})])
    said = (
        rf"Episode 1 of .*bad has \d+ values of {column} that are not finite, the first at tick 2\. Find all"
    )
    with pytest.raises(DataError, match=said):
        run(method, data.root, tmp_path / "x", backbone=str(toy_backbone))
    assert not (tmp_path / "x").exists()
    assert not (data.root / "cache").exists()


@pytest.mark.parametrize("method", ["awr", "bora", "decoupled", "decoupled_value"])
def test_whoever_judges_needs_rewards_and_a_success(toy_backbone: Path, tmp_path: Path, method: str) -> None:
    episodes = toy_demonstrations(4)
    none = toy_dataset(tmp_path / "none", [replace(e, reward=np.zeros_like(e.reward)) for e in episodes])
    with pytest.raises(
        DataError, match=rf"no rewards: all of them are 0 in 4 episodes, and {method} learns from"
    ):
        run(method, none.root, tmp_path / "x", backbone=str(toy_backbone))
    failures = toy_dataset(tmp_path / "failures", [e for e in episodes if not e.success])
    with pytest.raises(DataError, match=rf"None of 2 episodes succeeded; {method} learns what success takes"):
        run(method, failures.root, tmp_path / "y", backbone=str(toy_backbone))
    run("cp", none.root, tmp_path / "cp", backbone=str(toy_backbone), updates=1)


def test_successes_alone_are_enough_and_said(toy_backbone: Path, tmp_path: Path) -> None:
    data = toy_dataset(tmp_path / "good", [e for e in toy_demonstrations(4) if e.success])
    facts = run("bora", data.root, tmp_path / "x", backbone=str(toy_backbone), updates=2)
    assert facts["warnings"] == [
        "All 2 episodes succeeded: a critic can only learn from them what was faster."
    ]
    assert "warnings" not in run("cp", data.root, tmp_path / "y", backbone=str(toy_backbone), updates=1)


def test_datasets_of_two_robots_are_refused(toy_demos: Path, toy_backbone: Path, tmp_path: Path) -> None:
    old = Dataset.open(toy_demos)
    create: dict[str, Any] = {"image_size": 64, "fps": 10, "robot_type": "other"}
    wider = replace(old.spec, high=old.spec.high * 2)
    other = Dataset.create(tmp_path / "wider", wider, old.state_names, old.cameras, **create)
    other.append(toy_demonstrations(1)[0])
    with pytest.raises(SchemaMismatch, match=r"demos and .*wider: action specs differ"):
        train("cp", data=[toy_demos, other.root], out=tmp_path / "x", backbone=str(toy_backbone))
    assert not list(tmp_path.glob("x*"))


def test_data_without_pictures_is_refused(toy_demos: Path, toy_backbone: Path, tmp_path: Path) -> None:
    old = Dataset.open(toy_demos)
    create: dict[str, Any] = {"image_size": 64, "fps": 10, "robot_type": "other"}
    blind = Dataset.create(tmp_path / "blind", old.spec, old.state_names, (), **create)
    blind.append(replace(toy_demonstrations(1)[0], images={}))
    with pytest.raises(
        DataError, match=r"has no camera .*; it has none\. Execute its actions again with `bora collect"
    ):
        train("cp", data=[blind.root], out=tmp_path / "x", backbone=str(toy_backbone))
    assert not list(tmp_path.glob("x*"))


def test_a_checkpoint_of_another_shape_is_refused(cp: Path, toy_demos: Path, tmp_path: Path) -> None:
    shutil.copytree(cp, tmp_path / "cp")
    config = json.loads((cp / "config.json").read_text())
    config["expert"]["width"] = 64
    (tmp_path / "cp" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"does not fit this version .*Train it again"):
        run("bora", toy_demos, tmp_path / "x", init=tmp_path / "cp")
    assert not (tmp_path / "x").exists()


def test_a_loss_that_diverges_stops_training_and_keeps_the_old_policy(
    cp: Path, toy_demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "policy"
    shutil.copytree(cp, out)
    real, calls = clone_module.bc_loss, []

    def explode(*args: Any, **options: Any) -> Any:
        loss, info = real(*args, **options)
        calls.append(1)
        return (loss * float("nan") if len(calls) == 4 else loss), info

    monkeypatch.setattr(clone_module, "bc_loss", explode)
    with pytest.raises(
        TrainingDiverged, match=r"The clone loss became nan at update 3\. Check the data with"
    ):
        run("cp", toy_demos, out, backbone=str(toy_backbone))
    assert weights(out) == weights(cp)


def test_a_warm_start_from_another_backbone_is_refused(cp: Path, toy_demos: Path, tmp_path: Path) -> None:
    build_tiny(["press"], 1, width=32, layers=1).save(tmp_path / "other")
    with pytest.raises(CheckpointError, match=r"was trained on backbone .*Give the same --backbone"):
        run("bora", toy_demos, tmp_path / "x", init=cp, backbone=str(tmp_path / "other"))


def test_a_warm_start_from_another_robot_is_refused(cp: Path, toy_demos: Path, tmp_path: Path) -> None:
    old = Dataset.open(toy_demos)
    create = {"image_size": 64, "fps": 10, "robot_type": "other"}
    wider = replace(old.spec, high=old.spec.high * 2)
    other = Dataset.create(tmp_path / "wider", wider, old.state_names, old.cameras, **create)  # type: ignore[arg-type]
    other.append(toy_demonstrations(1)[0])
    with pytest.raises(SchemaMismatch, match=r"cp and .*wider: action specs differ"):
        run("bora", other.root, tmp_path / "x", init=cp)
    renamed = ("elbow", *old.state_names[1:])
    other = Dataset.create(tmp_path / "renamed", old.spec, renamed, old.cameras, **create)  # type: ignore[arg-type]
    other.append(toy_demonstrations(1)[0])
    with pytest.raises(SchemaMismatch, match=r"cp and .*renamed: states differ in elbow, tool_x\."):
        run("bora", other.root, tmp_path / "x", init=cp)


def test_a_camera_that_the_data_lacks(toy_demos: Path, tmp_path: Path) -> None:
    build_tiny(["press"], 1, cameras=("scene", "ceiling"), width=32, layers=1).save(tmp_path / "other")
    with pytest.raises(DataError, match="has no camera ceiling; it has scene, wrist"):
        run("cp", toy_demos, tmp_path / "x", backbone=str(tmp_path / "other"))


def test_cloning_corrections_needs_to_know_whose(toy_demos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bc_interventions needs one dataset of online episodes"):
        run("bc_interventions", toy_demos, tmp_path / "x")
