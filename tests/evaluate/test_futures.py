"""Other futures of a recorded tick, in the point world and in the simulator."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bora_cli.control.loop import demonstrate, roll_out
from bora_cli.errors import CheckpointError, ConfigError, DataError
from bora_cli.evaluate.evaluate import EvalJob, acting_policy, checkpoint_hash
from bora_cli.evaluate.futures import Branch, Successor, branch, futures, successor_of
from bora_cli.seeds import stream
from bora_cli.sim.operator import EXPERT, SimulatedOperator
from bora_cli.sim.simulation import Simulation
from bora_cli.types import Episode
from toy_world import TASK, ToyOperator, ToyRig, toy_demonstrations


class KeptRig(ToyRig):
    """The point world, with a state that can be kept."""

    def snapshot(self) -> dict[str, Any]:
        return copy.deepcopy(self.__dict__)

    def restore(self, snapshot: dict[str, Any]) -> None:
        self.__dict__.update(copy.deepcopy(snapshot))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bora_cli.evaluate.futures.simulation", lambda **_: KeptRig())
    monkeypatch.setattr("bora_cli.evaluate.futures.SimulatedOperator", ToyOperator)


def recorded(policy: Path, scene: int) -> Episode:
    """Record an unaided episode as `bora eval --record` does."""
    digest = checkpoint_hash(policy)
    job = EvalJob(str(policy), digest, TASK, "standard", "none@1.0", 64, record=True)
    acting = acting_policy(str(policy), digest)
    return roll_out(
        KeptRig(),
        acting,
        scene_seed=scene,
        rng=stream("policy", scene),
        meta=asdict(job) | {"operator": "none"},
    )


def branched(episode: Episode, tick: int, successor: Successor, **chunks: Any) -> Branch:
    own = {"executed": episode.action[tick : tick + 4]} | chunks
    return branch(episode, tick, own, execute=4, successor=successor, resample=True, gamma=0.97)


@pytest.mark.usefixtures("toy")
def test_the_future_of_the_recorded_chunk_is_the_recorded_episode(toy_policy: Path) -> None:
    episode = recorded(toy_policy, 5)
    successor = successor_of([episode])
    assert successor == Successor(str(toy_policy), checkpoint_hash(toy_policy))
    away = np.repeat(episode.action[8:9] * np.float32(0), 4, axis=0)
    found = {f.kind: f for f in futures(branched(episode, 8, successor, away=away))}
    assert list(found) == ["executed", "away", "resampled"]
    rewards = episode.reward[8:] * 0.97 ** np.arange(len(episode) - 8)
    assert found["executed"].success == episode.success
    assert found["executed"].ticks == len(episode) - 8
    assert found["executed"].ret == pytest.approx(rewards.sum(), abs=1e-6)
    assert found["resampled"].chunk.shape == (8, 18)
    assert not np.array_equal(found["resampled"].chunk[:4], episode.action[8:12])


@pytest.mark.usefixtures("toy")
def test_the_person_goes_on_after_demonstrations_and_knows_no_other_sample() -> None:
    episode = toy_demonstrations(1)[0]
    episode.meta["gap"] = "none"
    successor = successor_of([episode])
    assert successor.name == "expert"
    backwards = -episode.action[0:4]
    found = {f.kind: f for f in futures(branched(episode, 0, successor, worse=backwards))}
    assert list(found) == ["executed", "worse"]
    assert found["executed"].success
    assert found["executed"].ticks < found["worse"].ticks


def test_equal_chunks_have_equal_futures_in_the_simulator() -> None:
    sim = Simulation("press_button")
    person = SimulatedOperator(EXPERT, stream("operator", 7))
    meta = {"task": "press_button", "setting": "standard", "gap": "none"}
    episode = demonstrate(sim, person, scene_seed=100_007, meta=meta, images=False)
    chunk = episode.action[4:8]
    found = {
        f.kind: f for f in futures(branched(episode, 4, Successor(), same=chunk.copy(), still=chunk * 0))
    }
    assert replace(found["same"], kind="executed", chunk=chunk) == replace(found["executed"], chunk=chunk)
    assert found["still"].ret != found["executed"].ret


@pytest.mark.usefixtures("toy")
def test_what_has_no_other_future(toy_policy: Path) -> None:
    episode = toy_demonstrations(1)[0]
    with pytest.raises(DataError, match=r"does not say its gap; .*Ask this of episodes of `bora collect`"):
        branched(episode, 0, Successor())
    episode.meta["gap"] = "none"
    episode.state[4, 0] += 0.5
    with pytest.raises(DataError, match=r"not the recorded one at tick 4: a state number is off by 0\.5"):
        futures(branched(episode, 4, Successor()))
    rolled = recorded(toy_policy, 6)
    rolled.meta["checkpoint"] = "/nowhere"
    with pytest.raises(
        CheckpointError, match=r"/nowhere with hash .* is not found\..*Say who goes on: --then"
    ):
        successor_of([rolled])
    with pytest.raises(ConfigError, match="with 1 known policies; expected one"):
        successor_of([rolled, episode])
    assert successor_of([rolled], "expert") == Successor()
    assert successor_of([rolled], str(toy_policy)).digest == checkpoint_hash(toy_policy)
    assert successor_of([rolled], near=[toy_policy]).checkpoint == str(toy_policy)
