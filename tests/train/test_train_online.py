"""Online rounds: killed at any arrow they go on there, and nothing is released that did not earn it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from online_rounds import OUT, enter_toy_world, instant_training, judged_by, start

from bora_cli.checkpoint import load_trained
from bora_cli.data import files
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.models.vlm import Backbone
from bora_cli.seeds import RANGES
from bora_cli.train import online
from bora_cli.types import Episode
from toy_world import MAX_TICKS, ToyRig, ToyWatcher, Verdict, weights


class Killed(BaseException):
    """Stands for a process that ended here."""


@pytest.fixture(autouse=True)
def toy_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter_toy_world(monkeypatch, tmp_path)


# ------------------------------------------------------------------------------------------ resumption


def on_call(module: Any, name: str, call: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Return a patch that kills the process when a function is called for the n-th time."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        real, calls = getattr(module, name), []

        def die(*args: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == call:
                raise Killed
            return real(*args, **options)

        monkeypatch.setattr(module, name, die)

    return patch


def while_the_policy_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def die(source: Path, target: Path, **options: Any) -> None:
        target.mkdir(exist_ok=True)
        (target / "actor.safetensors").write_bytes(b"torn")
        raise Killed

    monkeypatch.setattr(files.shutil, "copytree", die)


KILLS = {
    "before the first episode": on_call(Dataset, "append", 1),
    "between two episodes": on_call(Dataset, "append", 2),
    "before the update": on_call(online, "fit_residual", 1),
    "before the policy is saved": on_call(online, "save_trained", 1),
    "before the release test": on_call(online, "evaluate", 1),
    "between the two halves of the test": on_call(online, "evaluate", 2),
    "before the round is closed": on_call(online, "write_json", 1),
    "in the second round": on_call(Dataset, "append", 2),
    "before the second update": on_call(online, "fit_residual", 1),
    "before the second release test": on_call(online, "evaluate", 1),
    "before the release": on_call(online, "_release", 1),
    "while the policy is copied": while_the_policy_is_copied,
}


def columns(episode: Episode) -> dict[str, bytes]:
    names = (
        "state",
        "action",
        "proposed",
        "human",
        "controller",
        "phase",
        "reward",
        "terminated",
        "truncated",
    )
    found = {name: getattr(episode, name).tobytes() for name in names}
    found |= {camera: image.tobytes() for camera, image in episode.images.items()}
    found["tokens"] = b"".join(d.tokens.tobytes() + d.final.tobytes() for d in episode.decisions)
    return found


def test_a_run_that_is_killed_at_every_arrow_equals_one_that_is_not(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_by(monkeypatch, (0, 2))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    monkeypatch.chdir(whole)
    expected = start(toy_policy)
    assert [r["released"] for r in expected["rounds"]] == [True, True]
    monkeypatch.chdir(broken)
    for moment, kill in KILLS.items():
        with monkeypatch.context() as patch:
            kill(patch)
            try:
                start(toy_policy)
            except Killed:
                continue
            pytest.fail(f"The run was not killed {moment}.")
    assert start(toy_policy) == expected
    assert weights(broken / OUT / "policy") == weights(whole / OUT / "policy")
    assert weights(broken / OUT / "round-1" / "policy") == weights(whole / OUT / "round-1" / "policy")
    assert check(broken / OUT / "episodes") == []
    pairs = zip(
        Dataset.open(whole / OUT / "episodes").episodes(),
        Dataset.open(broken / OUT / "episodes").episodes(),
        strict=True,
    )
    for one, other in pairs:
        assert columns(one) == columns(other)
        assert one.meta == other.meta
    assert start(toy_policy) == expected  # and a finished run stays finished


def test_a_run_killed_while_it_claims_its_directory_goes_on(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    OUT.mkdir()
    (OUT / "job.json.tmp").write_text("{")
    assert len(start(toy_policy, rounds=1)["rounds"]) == 1


# --------------------------------------------------------------------------------------------- the run


def test_what_happened_is_counted(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (1, 2), (2, 1))
    result = start(toy_policy)
    data = Dataset.open(OUT / "episodes")
    assert len(data) == 6
    episodes = list(data.episodes())
    assert [e.meta["round"] for e in episodes] == [1, 1, 1, 2, 2, 2]
    scenes = [e.meta["scene_seed"] for e in episodes]
    assert len(set(scenes)) == 6
    assert all(RANGES["online"][0] <= s < RANGES["online"][1] for s in scenes)
    assert all(e.images["scene"].shape == (len(e), 64, 64, 3) for e in episodes)
    assert len({e.decisions[0].noise_seed for e in episodes}) == 6
    first = result["rounds"][0]
    assert first["episodes"] == 3
    assert first["ticks"] == sum(len(e) for e in episodes[:3])
    assert first["human_ticks"] == sum(int(e.intervened.sum()) for e in episodes[:3])
    assert first["human_share"] == pytest.approx(first["human_ticks"] / first["ticks"])
    assert first["takeovers"] == sum(e.meta["takeovers"] for e in episodes[:3])
    assert first["successes"] == sum(e.success for e in episodes[:3])
    assert first["unaided_successes"] == 0
    assert (first["base_k"], first["residual_k"], first["release_n"]) == (1, 2, online.RELEASE_SCENES)


def test_the_second_round_acts_with_what_the_first_released(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1), (0, 1))
    start(toy_policy)
    episodes = list(Dataset.open(OUT / "episodes").episodes(images=False))
    assert {d.lam for e in episodes[:3] for d in e.decisions} == {0.0}
    assert {d.lam for e in episodes[3:] for d in e.decisions} == {1.0}
    finals = [load_trained(OUT / part).residual for part in ("round-1/policy", "round-2/policy", "policy")]
    sizes = [float(r.offset.detach()[0]) for r in finals if r is not None]
    assert sizes == pytest.approx([0.03, 0.06, 0.06])  # each round learns from all episodes so far


@pytest.mark.parametrize(
    ("first", "second", "released"),
    [
        ((3, 4), (4, 5), [True, True]),
        ((3, 3), (3, 3), [False, False]),  # a tie goes to the base
        ((4, 3), (3, 4), [False, True]),
        ((3, 4), (4, 4), [True, True]),  # but among residuals to the one that saw more
        ((3, 4), (5, 4), [True, False]),
    ],
)
def test_the_better_is_kept(
    toy_policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: tuple[int, int],
    second: tuple[int, int],
    released: list[bool],
) -> None:
    instant_training(monkeypatch)
    judge = judged_by(monkeypatch, first, second)
    result = start(toy_policy, episodes=1)
    assert [r["released"] for r in result["rounds"]] == released
    folders = [Path(toy_policy), OUT / "round-1" / "policy", OUT / "round-2" / "policy"]
    in_use = 1 if released[0] else 0
    last = 2 if released[1] else in_use
    assert weights(OUT / "policy") == weights(folders[last])
    tested = [path for path, _ in judge.asked]
    assert tested == [folders[0], folders[1], folders[in_use], folders[2]]


def test_both_halves_of_a_release_test_meet_the_same_fresh_scenes(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judge = judged_by(monkeypatch, (1, 2))
    start(toy_policy, episodes=1)
    scenes = [s for _, s in judge.asked]
    assert scenes[0] == scenes[1]
    assert scenes[2] == scenes[3]
    assert not set(scenes[0]) & set(scenes[2])
    assert all(RANGES["release"][0] <= s < RANGES["release"][1] for some in scenes for s in some)


def test_a_release_test_runs_unaided(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, on two scenes of the point world."""
    instant_training(monkeypatch)
    monkeypatch.setattr(online, "RELEASE_SCENES", 2)
    told: list[tuple[str, int, int]] = []
    result = start(toy_policy, rounds=1, episodes=1, progress=lambda *a: told.append(a))
    assert result["rounds"][0]["release_n"] == 2
    assert ("release test 1, policy in use", 2, 2) in told
    assert ("release test 1, new policy", 2, 2) in told
    assert ("round 1", 1, 1) in told


def test_without_takeovers_the_base_goes_on_unchanged(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trusting(ToyWatcher):
        def observe(self, rig: ToyRig, human_driving: bool) -> Verdict:
            return Verdict(False)

    monkeypatch.setattr(online, "Watcher", Trusting)
    monkeypatch.setattr(online, "evaluate", lambda *_, **__: pytest.fail("tested without a residual"))
    result = start(toy_policy, rounds=1)
    assert result["rounds"][0]["released"] is False
    assert result["rounds"][0]["takeovers"] == 0
    assert result["rounds"][0]["ticks"] == 3 * MAX_TICKS
    rig = ToyRig()
    rig.prepare(9)
    obs = rig.observe()
    candidate = load_trained(OUT / "round-1" / "policy")
    assert candidate.lam == 0.0
    policies = [load_trained(toy_policy), load_trained(OUT / "policy"), candidate]
    finals = [p.policy().decide(obs, np.random.default_rng(1)).final.tobytes() for p in policies]
    assert len(set(finals)) == 1


def test_the_control_is_released_untested(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "evaluate", lambda *_, **__: pytest.fail("the control was tested"))
    result = start(toy_policy, rounds=1, episodes=1, method="bc_interventions")
    assert result["rounds"][0]["released"] is True
    assert load_trained(OUT / "policy").lam > 0


def test_between_the_episodes_no_backbone_runs(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything after the collection works on the log."""
    judged_by(monkeypatch, (0, 1))
    real = online.fit_residual

    def guarded(*args: Any, **options: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Backbone, "encode", lambda *_, **__: pytest.fail("the backbone was called"))
            return real(*args, **options)

    monkeypatch.setattr(online, "fit_residual", guarded)
    assert start(toy_policy, rounds=1)["rounds"][0]["released"] is True


def test_the_manifest_is_readable(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    result = start(toy_policy, rounds=1, episodes=1)
    assert json.loads((OUT / "job.json").read_text()) == result["job"]
    assert json.loads((OUT / "round-1" / "round.json").read_text()) == result["rounds"][0]
    assert load_trained(OUT / "policy").provenance["online_round"] == 1
