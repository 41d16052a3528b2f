"""Collecting, evaluating and replaying in an environment that is not ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import BoraError, ConfigError, DataError, SchemaMismatch
from bora_cli.evaluate.environments import collect_env, evaluate_env, load_operator, replay_env, summary_of
from bora_cli.evaluate.replay import replay
from bora_cli.evaluate.resimulate import recorded as resimulable
from bora_cli.profiles import EnvProfile, load_environment
from bora_cli.types import Controller
from tiny_env import POINT, write_profile

EXPERT = "tiny_env:Expert"


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> EnvProfile:
    return load_environment(write_profile(tmp_path_factory.mktemp("profile")))


@pytest.fixture(scope="module")
def demos(profile: EnvProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("environments") / "demos"
    collect_env(profile, out=out, episodes=3, operator=EXPERT)
    return out


def test_a_demonstrator_of_ones_own_is_recorded(demos: Path, profile: EnvProfile) -> None:
    dataset = Dataset.open(demos)
    assert check(demos) == []
    assert (dataset.cameras, dataset.image_size, dataset.fps) == (("scene", "wrist"), (64, 64), 10)
    episodes = list(dataset.episodes())
    assert all(e.success and e.terminated[-1] and (e.controller == Controller.DEMO).all() for e in episodes)
    assert len({e.state.tobytes() for e in episodes}) == 3
    meta = episodes[0].meta
    assert (meta["task"], meta["operator"], meta["profile_hash"]) == (POINT, EXPERT, profile.hash)


def test_an_interrupted_collection_goes_on(demos: Path, profile: EnvProfile, tmp_path: Path) -> None:
    for count in (1, 3):
        collect_env(profile, out=tmp_path / "two", episodes=count, operator=EXPERT)
    first, second = Dataset.open(demos), Dataset.open(tmp_path / "two")
    assert len(second) == 3
    assert all(
        np.array_equal(a.state, b.state) for a, b in zip(first.episodes(), second.episodes(), strict=True)
    )
    with pytest.raises(ConfigError, match="holds another collection"):
        collect_env(profile, out=tmp_path / "two", episodes=3, operator=EXPERT, seed=1)


def test_replaying_repeats_what_happened(demos: Path, profile: EnvProfile) -> None:
    summary = summary_of(replay_env(demos, profile))
    assert {k: summary[k] for k in ("episodes", "successes", "recorded_successes", "same_outcome")} == {
        "episodes": 3,
        "successes": 3,
        "recorded_successes": 3,
        "same_outcome": 3,
    }
    assert max(r["difference"] for r in summary["replays"]) < 1e-6
    (one,) = replay_env(demos, profile, index=2, film=True)
    assert one.episode == 2
    assert len(one.frames) == one.ticks + 1


def test_replayed_actions_can_be_recorded_again(demos: Path, profile: EnvProfile, tmp_path: Path) -> None:
    again = collect_env(profile, out=tmp_path / "again", source=demos, image_size=16)
    assert [e.meta["source_episode"] for e in again.episodes(images=False)] == [0, 1, 2]
    for before, after in zip(Dataset.open(demos).episodes(), again.episodes(), strict=True):
        np.testing.assert_allclose(after.state, before.state, atol=1e-6)
        assert after.meta["scene_seed"] == before.meta["scene_seed"]
        assert after.images["wrist"].shape[1:] == (16, 16, 3)
    assert again.info["job"]["operator"] == "replay"


def test_actions_that_run_out_end_the_episode_without_success(
    demos: Path, profile: EnvProfile, tmp_path: Path
) -> None:
    harder = load_environment(write_profile(tmp_path, ("goal = 0.5", "goal = 0.9")))
    again = collect_env(harder, out=tmp_path / "again", source=demos, episodes=1).episode(0)
    assert len(again) == Dataset.open(demos).row(0).length
    assert (again.success, bool(again.terminated[-1])) == (False, True)
    assert again.meta["source_success"] is True


def test_a_policy_is_trained_and_counted(
    demos: Path, profile: EnvProfile, toy_backbone: Path, tmp_path: Path
) -> None:
    from bora_cli.train.offline import train

    train("cp", data=[demos], out=tmp_path / "policy", backbone=str(toy_backbone), updates=8)
    result = evaluate_env(tmp_path / "policy", profile, episodes=2, seed=7, record=tmp_path / "seen")
    document = result.to_json()
    assert (document["task"], document["setting"], document["episodes"]) == (POINT, "as it comes", 2)
    assert [t.scene_seed for t in result.trials] == [7, 8]
    recorded = Dataset.open(tmp_path / "seen")
    assert check(tmp_path / "seen") == []
    assert recorded.episode(0).decisions
    with pytest.raises(DataError, match=rf"is of the environment {POINT}; only a state of our simulator"):
        resimulable(recorded.episode(0))
    with pytest.raises(
        DataError, match=rf"seen is of the environment {POINT}, .* Name its profile with --env"
    ):
        replay(tmp_path / "seen", 0)
    unrecorded = evaluate_env(tmp_path / "policy", profile, episodes=2, seed=7)
    assert unrecorded.trials == result.trials
    assert result.warnings == []
    dark = load_environment(write_profile(tmp_path, ('source = "camera"\ncrop', 'source = "none"\ncrop')))
    (warning,) = evaluate_env(tmp_path / "policy", dark, episodes=1, seed=7).warnings
    assert warning.startswith(
        f"The policy learned from data of profile {profile.hash}; 'point' is {dark.hash}: "
    )
    other = load_environment(write_profile(tmp_path, ('"90 deg"', '"80 deg"')))
    with pytest.raises(SchemaMismatch, match="policy and profile 'point': action specs differ"):
        evaluate_env(tmp_path / "policy", other, episodes=1)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (('"90 deg"', '"80 deg"'), "action specs differ (high: "),
        (('"x", "y", "grip"', '"x", "y", "g"'), "states differ (g, grip)."),
        (('"10 Hz"', '"20 Hz"'), "ticks last 0.1 s there and 0.05 s here."),
    ],
)
def test_data_of_another_rig_is_refused(
    demos: Path, tmp_path: Path, edit: tuple[str, str], text: str
) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        replay_env(demos, load_environment(write_profile(tmp_path, edit)))
    assert text in str(caught.value)


def test_somebody_has_to_drive(demos: Path, profile: EnvProfile, tmp_path: Path) -> None:
    def refused(kind: type[BoraError], text: str, **options: object) -> None:
        with pytest.raises(kind) as caught:
            collect_env(profile, out=tmp_path / "out", **options)  # type: ignore[arg-type]
        assert text in str(caught.value)
        assert not (tmp_path / "out").exists()

    refused(ConfigError, "needs somebody to drive it")
    refused(ConfigError, "needs somebody to drive it", source=demos, operator=EXPERT)
    refused(ConfigError, "demos has 3 episodes to replay; 4 were asked for", source=demos, episodes=4)
    refused(DataError, "is not a bora dataset", source=tmp_path / "none")
    with pytest.raises(DataError, match=r"demos has no episode 3; expected 0 to 2"):
        replay_env(demos, profile, index=3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Expert", "Operator 'Expert' is not of the form MODULE:NAME"),
        ("no_such_module:Expert", "cannot be imported: No module named 'no_such_module'"),
        ("tiny_env:Novice", "Module tiny_env has nothing callable named 'Novice'"),
        ("tiny_env:POINT", "nothing callable named 'POINT'"),
    ],
)
def test_operators_that_do_not_exist_are_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_operator(name)
    assert text in str(caught.value)
