"""Actor and learner as two processes that meet at files: killed anywhere, they end where one process does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from online_rounds import OUT, enter_toy_world, instant_training, judged_by, start
from test_train_online import Killed, columns, on_call, while_the_policy_is_copied

from bora_cli.checkpoint import load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError
from bora_cli.train import online
from bora_cli.train.crew import Crew
from bora_cli.train.meeting import POINTER, publish, weights_after
from bora_cli.types import Episode
from toy_world import weights

DRIVER = Path(__file__).with_name("role_driver.py")


class Nothing(Exception):
    """There is nothing to do until the other one has done something."""


def nothing(reason: str) -> None:
    raise Nothing(reason)


@pytest.fixture(autouse=True)
def toy_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter_toy_world(monkeypatch, tmp_path)


def play(policy: Path, role: str, **options: Any) -> dict[str, Any] | str:
    """Play a role as far as it goes; returns its result, or what it waits for."""
    try:
        return start(policy, role=role, wait=nothing, **options)
    except Nothing as waiting:
        return str(waiting)


ACTOR, LEARNER = "actor", "learner"
KILLS: list[tuple[str, str, Callable[[pytest.MonkeyPatch], None]]] = [
    (ACTOR, "before the first episode", on_call(Dataset, "append", 1)),
    (ACTOR, "between two episodes", on_call(Dataset, "append", 2)),
    (LEARNER, "before the update", on_call(online, "fit_residual", 1)),
    (LEARNER, "before the policy is saved", on_call(online, "save_trained", 1)),
    (LEARNER, "between the halves of the test", on_call(online, "evaluate", 2)),
    (LEARNER, "before the round is closed", on_call(online, "write_json", 1)),
    (LEARNER, "before the pointer is moved", on_call(online, "publish", 1)),
    (ACTOR, "in the second round", on_call(Dataset, "append", 2)),
    (LEARNER, "before the second update", on_call(online, "fit_residual", 1)),
    (LEARNER, "before the release", on_call(online, "_release", 1)),
    (LEARNER, "while the policy is copied", while_the_policy_is_copied),
]


def test_two_that_are_killed_anywhere_equal_one_that_is_not(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 2))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    monkeypatch.chdir(whole)
    expected = start(toy_policy)
    monkeypatch.chdir(broken)
    assert play(toy_policy, LEARNER) == "episodes of round 1: 0 of 3 are there"
    for role, moment, kill in KILLS:
        other = LEARNER if role == ACTOR else ACTOR
        with monkeypatch.context() as patch:
            kill(patch)
            for _ in range(2):
                try:
                    play(toy_policy, role)
                except Killed:
                    break
                play(toy_policy, other)
            else:
                pytest.fail(f"The {role} was not killed {moment}.")
    while isinstance(result := play(toy_policy, LEARNER), str):
        play(toy_policy, ACTOR)
    assert result == expected
    assert weights(OUT / "policy") == weights(whole / OUT / "policy")
    pairs = zip(
        Dataset.open(whole / OUT / "episodes").episodes(),
        Dataset.open(OUT / "episodes").episodes(),
        strict=True,
    )
    for one, other_episode in pairs:
        assert columns(one) == columns(other_episode)
        assert one.meta == other_episode.meta
    assert start(toy_policy) == expected  # and one process alone may go on, and finds nothing to do


def test_the_actor_waits_for_weights_and_never_learns(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    assert play(toy_policy, ACTOR) == "the learner to finish round 1"
    assert len(Dataset.open(OUT / "episodes")) == 3
    assert play(toy_policy, LEARNER) == "episodes of round 2: 0 of 3 are there"
    assert json.loads((OUT / POINTER).read_text())["policy"] == "round-1/policy"
    result = play(toy_policy, ACTOR)
    assert isinstance(result, dict)
    assert result["role"] == "actor"
    assert [row.meta["round"] for row in Dataset.open(OUT / "episodes").rows()] == [1, 1, 1, 2, 2, 2]
    lams = [{d.lam for d in e.decisions} for e in Dataset.open(OUT / "episodes").episodes(images=False)]
    assert lams == [{0.0}] * 3 + [{1.0}] * 3  # they change between episodes only


def test_weights_that_have_not_wholly_arrived_are_not_used(toy_policy: Path, tmp_path: Path) -> None:
    """A synchronised directory may bring the pointer first, then the files one by one."""
    run = tmp_path / "run"
    there = shutil.copytree(toy_policy, run / "round-1" / "policy")
    publish(run, 1, there)
    actor = (there / "actor.safetensors").read_bytes()
    for state in ("missing", "torn"):
        (there / "actor.safetensors").unlink(missing_ok=True)
        if state == "torn":
            (there / "actor.safetensors").write_bytes(actor[:-1])
        with pytest.raises(Nothing, match="the learner to finish round 1"):
            weights_after(run, 1, toy_policy, nothing)
    (there / "actor.safetensors").write_bytes(actor)
    assert weights_after(run, 1, toy_policy, nothing) == there
    shutil.move(there, there.with_name("later"))
    with pytest.raises(Nothing):
        weights_after(run, 1, toy_policy, nothing)
    publish(run, 1, toy_policy)
    assert weights_after(run, 1, toy_policy, nothing) == toy_policy  # the base was kept


def test_episodes_that_have_not_wholly_arrived_are_not_learned_from(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    play(toy_policy, ACTOR)
    late = next((OUT / "episodes" / "data").rglob("*2.parquet"))
    content = late.read_bytes()
    late.unlink()
    waiting = play(toy_policy, LEARNER)
    assert isinstance(waiting, str)
    assert waiting.startswith("episodes of round 1: 3 of 3 are there; ")
    assert "is missing" in waiting
    late.write_bytes(content)
    assert play(toy_policy, LEARNER) == "episodes of round 2: 0 of 3 are there"


def test_an_actor_needs_no_offline_data_and_a_learner_no_person(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    homeless = shutil.copytree(toy_policy, tmp_path / "homeless")
    config = json.loads((homeless / "config.json").read_text())
    config["provenance"]["data"] = [str(tmp_path / "nowhere")]
    (homeless / "config.json").write_text(json.dumps(config))

    class Somebody(online.Simulated):
        operator = "person"

    crew: Crew = Somebody(online.Workers(1))
    assert play(homeless, ACTOR, crew=crew) == "the learner to finish round 1"
    job = json.loads((OUT / "job.json").read_text())
    assert (job["operator"], job["data_hash"]) == ("person", None)
    play(toy_policy, LEARNER)
    job = json.loads((OUT / "job.json").read_text())
    assert job["operator"] == "person"
    assert len(job["data_hash"]) == 12
    assert isinstance(play(homeless, ACTOR, crew=crew), dict)
    assert isinstance(play(toy_policy, LEARNER), dict)
    with pytest.raises(ConfigError, match="operator 'person' there, 'simulated' asked"):
        play(toy_policy, ACTOR)


def test_a_role_is_played_once(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))

    def meanwhile(reason: str) -> None:
        for role in (LEARNER, "both"):
            with pytest.raises(ConfigError, match="has its learner already"):
                start(toy_policy, role=role)
        nothing(reason)

    with pytest.raises(Nothing):
        start(toy_policy, role=LEARNER, wait=meanwhile)


def test_an_actor_that_was_replaced_writes_nothing_more(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was stopped for so long that another one took its role."""
    real = online.assisted

    def slow(item: Any) -> Episode:
        (OUT / ".actor.lease").unlink()
        return real(item)

    monkeypatch.setattr(online, "assisted", slow)
    with pytest.raises(ConfigError, match="no longer the actor"):
        start(toy_policy, role=ACTOR)
    assert len(Dataset.open(OUT / "episodes")) == 0


@pytest.mark.parametrize("role", [ACTOR, LEARNER])
def test_a_process_that_is_killed_leaves_its_role_to_the_next(
    toy_policy: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a signal that no process hears: the learner in its update, the actor after its first episode."""
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 2))
    if role == LEARNER:
        play(toy_policy, ACTOR, rounds=1)
    command = [sys.executable, str(DRIVER), role, str(toy_policy), str(OUT)]
    paths = os.pathsep.join([str(DRIVER.parents[1]), str(DRIVER.parent), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert (OUT / f".{role}.lease").is_file()  # nobody gave it back
    if role == ACTOR:
        assert len(Dataset.open(OUT / "episodes")) == 1
        play(toy_policy, ACTOR, rounds=1)
    result = play(toy_policy, LEARNER, rounds=1)
    assert isinstance(result, dict)
    assert result["rounds"][0]["released"] is True
    assert load_trained(OUT / "policy").lam > 0
