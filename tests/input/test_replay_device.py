"""A recording drives as the person did who made it."""

from __future__ import annotations

import numpy as np
import pytest
from hand_rig import HAND, OPEN, SPEC, HandRig

from bora_cli.control.loop import demonstrate
from bora_cli.errors import DataError
from bora_cli.input.person import Person
from bora_cli.input.replay import Replay
from bora_cli.types import Episode


def recording() -> np.ndarray:
    rng = np.random.default_rng(0)
    human = np.zeros((12, 18), np.float32)
    human[:, :6] = rng.uniform(SPEC.low[:6], SPEC.high[:6], (12, 6))
    human[:, 6:] = OPEN + 0.005 * np.arange(12)[:, None]
    return human


def played(human: np.ndarray, hand: np.ndarray = OPEN, ticks: int = 15) -> Episode:
    rig = HandRig(ticks, hand=hand.copy())
    person = Person(SPEC, rig.dt, HAND, [Replay(human, SPEC)], clock=lambda: rig.now)
    return demonstrate(rig, person, scene_seed=0, meta={}, images=False)


def test_from_the_same_start_it_repeats_the_episode() -> None:
    episode = played(recording())
    np.testing.assert_allclose(episode.action[:12], recording(), atol=1e-6)


def test_from_another_posture_the_hand_makes_the_same_motion() -> None:
    episode = played(recording(), hand=OPEN + 0.05)
    np.testing.assert_allclose(episode.action[:12, 6:], recording()[:, 6:] + 0.05, atol=1e-6)


def test_every_episode_plays_it_from_the_start() -> None:
    rig = HandRig(12)
    person = Person(SPEC, rig.dt, HAND, [Replay(recording(), SPEC)], clock=lambda: rig.now)
    for _ in range(2):
        rig.hand = OPEN.copy()
        episode = demonstrate(rig, person, scene_seed=0, meta={}, images=False)
        np.testing.assert_allclose(episode.action, recording(), atol=1e-6)


def test_when_it_is_over_the_robot_holds() -> None:
    episode = played(recording())
    assert not episode.action[12:, :6].any()
    np.testing.assert_array_equal(episode.action[12:, 6:], np.tile(episode.action[11, 6:], (3, 1)))


def test_ticks_that_nobody_drove_are_silence() -> None:
    human = recording()
    human[3:6] = np.nan
    replay = Replay(human, SPEC)
    said = [replay.read(0.0) is not None for _ in range(14)]
    assert said == [True] * 3 + [False] * 3 + [True] * 6 + [False] * 2
    assert replay.trouble == "the recording is over"
    replay.begin()
    assert (replay.left, replay.trouble) == (12, "")


def test_recordings_that_are_none() -> None:
    with pytest.raises(DataError, match="no command of a person"):
        Replay(np.full((4, 18), np.nan), SPEC)
    with pytest.raises(DataError, match=r"shape \(4, 3\); expected \(T, 18\)"):
        Replay(np.zeros((4, 3)), SPEC)
