"""Evaluation: named scenes, paired noise, any number of processes, and a film of the very same episodes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bora_cli.checkpoint import load_trained, save_trained
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError, SchemaMismatch
from bora_cli.evaluate.collect import open_or_create
from bora_cli.evaluate.evaluate import (
    EvalResult,
    acting_policy,
    checkpoint_hash,
    evaluate,
)
from bora_cli.evaluate.film import film
from bora_cli.evaluate.metrics import wilson
from bora_cli.evaluate.workers import Workers
from bora_cli.profiles import load_profile
from bora_cli.seeds import RANGES
from bora_cli.train.offline import train
from bora_cli.train.residual import fresh_residual
from toy_world import MAX_TICKS, TASK, move_into_toy_world, toy_demonstrations, toy_simulation


@pytest.fixture
def toy_world(monkeypatch: pytest.MonkeyPatch) -> None:
    move_into_toy_world(monkeypatch)


@pytest.fixture(scope="module")
def pushed(toy_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy policy with a residual."""
    trained = load_trained(toy_policy)
    residual = fresh_residual(trained.spec.action, trained.actor, "constant", 0)
    with torch.no_grad():
        residual.offset.fill_(0.2)
    out = tmp_path_factory.mktemp("pushed") / "policy"
    return save_trained(out, replace(trained, residual=residual, lam=0.5))


def run(policy: Path, episodes: int = 3, **options: Any) -> EvalResult:
    return evaluate(policy, **{"task": TASK, "episodes": episodes, **options})


# ----------------------------------------------------------------------------------- in the simulation


def test_two_processes_find_the_same(toy_policy: Path, two_workers: Workers) -> None:
    told: list[tuple[str, int, int]] = []
    options: dict[str, Any] = {"seed": 40, "gap": "deployment", "setting": "unseen"}
    alone = run(toy_policy, **options, progress=lambda *a: told.append(a))
    together = run(toy_policy, **options, workers=two_workers)
    assert alone.trials == together.trials
    assert alone.to_json() == together.to_json()
    assert [t.scene_seed for t in alone.trials] == [40, 41, 42]
    assert told == [("evaluate", 1, 3), ("evaluate", 2, 3), ("evaluate", 3, 3)]
    assert alone.warnings == []


# -------------------------------------------------------------------------------------- scenes and noise


@pytest.mark.usefixtures("toy_world")
def test_scenes_are_those_that_were_named(toy_policy: Path) -> None:
    assert [t.scene_seed for t in run(toy_policy, 4, seed=7).trials] == [7, 8, 9, 10]
    assert [t.scene_seed for t in run(toy_policy, scenes=[5, 3]).trials] == [5, 3]
    some = run(toy_policy, 2, seed=8).trials
    assert some == run(toy_policy, 4, seed=7).trials[1:3]  # an episode does not depend on the others


@pytest.mark.usefixtures("toy_world")
def test_two_policies_meet_the_same_noise(toy_policy: Path, pushed: Path, tmp_path: Path) -> None:
    runs = {"base": toy_policy, "pushed": pushed}
    for name, policy in runs.items():
        run(policy, record=tmp_path / name)
    episodes = {name: list(Dataset.open(tmp_path / name).episodes(images=False)) for name in runs}
    for base, other in zip(episodes["base"], episodes["pushed"], strict=True):
        first = [(d.noise_seed, d.t_start) for d in base.decisions]
        assert first == [(d.noise_seed, d.t_start) for d in other.decisions][: len(first)]
        assert np.array_equal(base.decisions[0].base, other.decisions[0].base)
        assert not np.array_equal(base.decisions[0].final, other.decisions[0].final)
    assert len({e.decisions[0].noise_seed for e in episodes["base"]}) == 3


@pytest.mark.usefixtures("toy_world")
def test_lambda_can_be_overridden_for_one_evaluation(toy_policy: Path, pushed: Path, tmp_path: Path) -> None:
    def lams(name: str, **options: Any) -> set[float]:
        run(pushed, 1, record=tmp_path / name, **options)
        return {d.lam for e in Dataset.open(tmp_path / name).episodes(images=False) for d in e.decisions}

    assert lams("own") == {0.5}
    assert lams("none", lam=0.0) == {0.0}
    assert lams("own again") == {0.5}
    assert run(pushed, lam=0.0).trials == run(toy_policy).trials


# --------------------------------------------------------------------------------------------- recording


@pytest.mark.usefixtures("toy_world")
def test_recording_changes_nothing_and_can_be_continued(toy_policy: Path, tmp_path: Path) -> None:
    plain = run(toy_policy, 4)

    def stop(label: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    record = tmp_path / "record"
    with pytest.raises(KeyboardInterrupt):
        run(toy_policy, 4, record=record, progress=stop)
    assert len(Dataset.open(record)) == 2
    assert run(toy_policy, 4, record=record).trials == plain.trials
    again = run(toy_policy, 4, record=record, workers=None)
    assert again.trials == plain.trials
    assert check(record) == []
    episodes = list(Dataset.open(record).episodes())
    assert len(episodes) == 4
    assert all(e.images["scene"].shape[0] == len(e) for e in episodes)
    assert [len(e) for e in episodes] == [t.ticks for t in plain.trials]
    with pytest.raises(ConfigError, match=r"holds another collection .*first 0 there, 1 asked"):
        run(toy_policy, 4, seed=1, record=record)


@pytest.mark.usefixtures("toy_world")
def test_a_recording_says_under_which_profile_it_was_made(toy_policy: Path, tmp_path: Path) -> None:
    digest = load_profile("sim").hash
    result = run(toy_policy, 2, record=tmp_path / "record")
    assert (result.job.profile, result.job.profile_hash) == ("sim", digest)
    dataset = Dataset.open(tmp_path / "record")
    assert dataset.info["job"]["profile_hash"] == digest
    assert {e.meta["profile_hash"] for e in dataset.episodes(images=False)} == {digest}
    with pytest.raises(ConfigError, match="which this version does not have"):
        run(toy_policy, profile="franka_dexhand021", record=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_recording_without_a_profile_hash_is_refused(toy_policy: Path, tmp_path: Path) -> None:
    rig = toy_simulation(TASK, "standard", "none", 64)
    for job in (
        {"image_size": 64, "profile": "sim"},
        {"image_size": 64, "profile": "sim", "profile_hash": ""},
    ):
        with pytest.raises(
            ConfigError, match=r"has no profile_hash; expected the hash of its hardware profile"
        ):
            open_or_create(tmp_path / "record", job, rig)  # type: ignore[arg-type]
    assert not (tmp_path / "record").exists()
    job = {"image_size": 64, "profile": "sim", "profile_hash": "abc"}
    dataset = open_or_create(tmp_path / "record", job, rig)  # type: ignore[arg-type]
    nameless = toy_demonstrations(1)[0]
    nameless.meta["profile_hash"] = ""
    with pytest.raises(SchemaMismatch, match=r"Episode\.meta has no profile_hash"):
        dataset.append(nameless)
    assert len(dataset) == 0


def test_images_are_as_large_as_those_of_the_training(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def noted(task: str, setting: str, gap: str, image_size: int, *profile: str) -> Any:
        sizes.append(image_size)
        return toy_simulation(task, setting, gap, image_size, *profile)

    monkeypatch.setattr("bora_cli.evaluate.evaluate.simulation", noted)
    monkeypatch.setattr("bora_cli.evaluate.film.simulation", noted)
    trained = load_trained(toy_policy)
    large = save_trained(
        tmp_path / "large", replace(trained, spec=replace(trained.spec, image_size=(96, 96)))
    )
    result = run(large, 1)
    film(result.job, [0], size=8)
    assert result.job.image_size == 96
    assert set(sizes) == {96}
    tall = save_trained(tmp_path / "tall", replace(trained, spec=replace(trained.spec, image_size=(96, 64))))
    with pytest.raises(
        CheckpointError, match="tall was trained on images of 96 x 64 px; the simulator renders"
    ):
        run(tall)


@pytest.mark.usefixtures("toy_world")
def test_a_film_shows_the_evaluated_episodes(toy_policy: Path) -> None:
    result = run(toy_policy, 2)
    frames = film(result.job, [0, 1], size=8)
    ticks = [t.ticks for t in result.trials]
    assert [int(f[0, 0, 0]) for f in frames] == [t for n in ticks for t in range(n + 1)]
    assert frames[0].shape == (8, 8, 3)


# ---------------------------------------------------------------------------------------------- results


@pytest.mark.usefixtures("toy_world")
def test_numbers_are_complete_and_survive_json(toy_policy: Path) -> None:
    result = run(toy_policy, 3)
    data = json.loads(json.dumps(result.to_json()))
    assert data["episodes"] == 3
    assert data["successes"] == sum(t.success for t in result.trials)
    assert data["wilson95"] == list(wilson(data["successes"], 3))
    assert data["renderer"] == "toy"
    assert all(t.terminated or t.ticks == MAX_TICKS for t in result.trials)
    assert EvalResult.from_json(data) == result
    del data["profile"], data["profile_hash"]  # as versions before wrote it
    assert EvalResult.from_json(data).trials == result.trials


@pytest.mark.usefixtures("toy_world")
def test_a_reader_is_warned(toy_policy: Path) -> None:
    assert run(toy_policy, 1, task="pick_toy").warnings == [
        "The checkpoint was trained for press_button, not for pick_toy."
    ]
    assert run(toy_policy, 2, seed=99_999).warnings == [
        "Scenes 99999..100000 reach into those of 'collect' (100000..299999):"
        " policies may have been trained, tuned or released on them."
    ]


@pytest.mark.usefixtures("toy_world")
@pytest.mark.parametrize("purpose", sorted(set(RANGES) - {"eval"}))
def test_a_reader_is_warned_of_scenes_that_were_not_kept_apart(toy_policy: Path, purpose: str) -> None:
    low, high = RANGES[purpose]
    (warning,) = run(toy_policy, 1, seed=high - 1).warnings
    assert f"reach into those of '{purpose}' ({low}..{high - 1})" in warning


@pytest.mark.usefixtures("toy_world")
def test_scenes_for_evaluation_raise_no_warning(toy_policy: Path) -> None:
    assert run(toy_policy, 1, seed=RANGES["eval"][1] - 1).warnings == []


# --------------------------------------------------------------------------------------- which policy


def test_the_hash_is_of_what_a_policy_does(
    toy_policy: Path, toy_demos: Path, toy_backbone: Path, tmp_path: Path
) -> None:
    """Training again gives the same policy, though never in the same number of seconds."""
    train("bora", data=[toy_demos], out=tmp_path / "again", backbone=str(toy_backbone), updates=16)
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    config["provenance"]["seconds"] += 1.0
    (tmp_path / "again" / "config.json").write_text(json.dumps(config))
    assert checkpoint_hash(tmp_path / "again") == checkpoint_hash(toy_policy)
    config["lam"] = 0.25
    (tmp_path / "again" / "config.json").write_text(json.dumps(config))
    assert checkpoint_hash(tmp_path / "again") != checkpoint_hash(toy_policy)


def test_a_changed_checkpoint_is_loaded_afresh(toy_policy: Path, tmp_path: Path) -> None:
    path = shutil.copytree(toy_policy, tmp_path / "policy")
    first = acting_policy(str(path), checkpoint_hash(path))
    assert acting_policy(str(path), checkpoint_hash(path)) is first
    trained = load_trained(path)
    with torch.no_grad():
        trained.actor.state.mean += 1.0
    save_trained(path, trained)
    assert acting_policy(str(path), checkpoint_hash(path)) is not first


def test_bad_input_is_refused_before_anything_runs(toy_policy: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No checkpoint at"):
        run(tmp_path / "none")
    trained = load_trained(toy_policy)
    spec = replace(trained.spec.action, high=trained.spec.action.high * 2)
    other = save_trained(tmp_path / "other", replace(trained, spec=replace(trained.spec, action=spec)))
    with pytest.raises(SchemaMismatch, match=r"other and the simulated robot: action specs differ .*high"):
        run(other, record=tmp_path / "record")
    foreign = replace(load_trained(other), provenance={**trained.provenance, "task": "Door-v1"})
    with pytest.raises(SchemaMismatch) as caught:
        run(save_trained(tmp_path / "foreign", foreign))
    assert caught.value.hint == (
        "The policy was trained for Door-v1: name the profile of that environment with --env, not --task."
    )
    with pytest.raises(ConfigError, match="Seed -1 is negative"):
        run(toy_policy, seed=-1)
    with pytest.raises(ConfigError, match="juggle"):
        run(toy_policy, task="juggle")
    assert not (tmp_path / "record").exists()
