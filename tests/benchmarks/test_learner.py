"""benchmarks/learner.py: what it times is the online stage, without a backbone; how it talks to the other side."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bora_cli.checkpoint import Trained, load_trained
from bora_cli.control.loop import roll_out
from bora_cli.seeds import stream
from toy_world import BIAS, TASK, ToyOperator, ToyRig, ToyWatcher, toy_dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def learner(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import learner

    return learner


@pytest.fixture(scope="module")
def base(toy_policy: Path) -> Trained:
    return load_trained(toy_policy)


@pytest.fixture(scope="module")
def online(base: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset of an episode with two takeovers."""
    rng, person = stream("policy", 300_000), ToyOperator(rng=stream("operator", 300_000))
    options: dict[str, Any] = {"watcher": ToyWatcher(), "operator": person, "meta": {"task": TASK}}
    episode = roll_out(ToyRig(BIAS), base.policy(), scene_seed=300_000, rng=rng, **options)
    return toy_dataset(tmp_path_factory.mktemp("online") / "episodes", [episode]).root


def test_a_learner_step_is_two_updates_of_the_critic_and_one_of_the_residual(
    learner: ModuleType, base: Trained, online: Path, toy_demos: Path
) -> None:
    took = learner.ours(learner.Material(base, toy_demos, online), batch=8, updates=21)
    critic, residual = took["an update of its critic"], took["an update of its residual"]
    assert residual.wall > 0
    assert took[learner.OURS].wall == 2 * critic.wall + residual.wall
    assert took[learner.OURS].processor == 2 * critic.processor + residual.processor


def test_the_backbone_may_not_be_asked_while_updates_are_timed(
    learner: ModuleType, base: Trained, online: Path, toy_demos: Path, tmp_path: Path
) -> None:
    """Without the tokens beside them the demonstrations would have to be encoded now."""
    bare = shutil.copytree(toy_demos, tmp_path / "demos", ignore=shutil.ignore_patterns("cache"))
    with pytest.raises(RuntimeError, match="the backbone was asked during an update"):
        learner.ours(learner.Material(base, bare, online), batch=8, updates=21)


def test_what_is_before_the_first_note_is_not_counted(
    learner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch, at = learner.Stopwatch("residual"), iter([9.0, 12.0, 19.0])
    monkeypatch.setattr(learner, "now", lambda: learner.Seconds(wall := next(at), wall / 2))
    watch("online critic", 20, 45)
    for done in (20, 40, 45):
        watch("residual", done, 45)
    assert watch.each() == learner.Seconds(0.4, 0.2)


def test_the_other_side_may_talk_before_it_answers(learner: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    asked = json.loads(line)\n"
        "    print('loading')\n"
        "    print(json.dumps({'wall': asked['batch'], 'processor': asked['side']}), flush=True)\n"
    )
    peer = learner.Peer(sys.executable, script)
    assert peer.step(64, 128) == learner.Seconds(64, 128)
    peer.close()


def test_a_side_that_ends_is_noticed(learner: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text("input()\n")
    peer = learner.Peer(sys.executable, script)
    with pytest.raises(RuntimeError, match="lerobot's side has ended"):
        peer.step(64, 128)
    peer.close()


def test_times_are_compared_within_their_turn(learner: ModuleType) -> None:
    seconds = learner.Seconds
    steps = {
        (64, learner.OURS): [seconds(0.2, 0.1), seconds(0.4, 0.2), seconds(0.4, 0.4)],
        (64, learner.title(128)): [seconds(4.0, 2.0), seconds(8.0, 4.0), seconds(8.0, 4.0)],
    }
    *_, ours, theirs = learner.table(steps).splitlines()
    assert "| 0.2 (0.1-0.4) | 5 (2.5-10) | 2.5 (2.5-5) | 1 (1-1) |" in ours
    assert "two pictures of 128 px | 4 (2-4) |" in theirs
    assert theirs.endswith("| 20 (10-20) |")
