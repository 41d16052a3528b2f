"""What a control loop hands over tick by tick is what is on disk; what goes wrong is said at the next call."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from episode_factory import CAMERAS, assert_same_episode, make_dataset, make_decision, make_episode

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.recorder import Recorder
from bora_cli.errors import DataError
from bora_cli.types import Episode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_dataset(tmp_path / "d").root


@pytest.fixture
def recorder(root: Path) -> Iterator[Recorder]:
    made = Recorder(root)
    yield made
    made.close(complain=False)


def play(recorder: Recorder, episode: Episode) -> None:
    """Hand an episode over as a loop would."""
    buffers = {c: np.empty_like(episode.images[c][0]) for c in CAMERAS}
    for t in range(len(episode)):
        for camera, buffer in buffers.items():
            buffer[:] = episode.images[camera][t]  # a camera that reuses its memory
        recorder.tick(
            buffers,
            state=episode.state[t],
            action=episode.action[t],
            proposed=episode.proposed[t],
            human=episode.human[t],
            controller=episode.controller[t],
            reward=episode.reward[t],
        )


def test_ticks_become_the_episode_that_was_played(root: Path, recorder: Recorder) -> None:
    before = time.time_ns()
    made = [
        make_episode(7, seed=1, decisions=[make_decision(0, 4)], meta={"a": [1]}),
        make_episode(4, seed=2, truncated=True, success=False, prompt="open the box"),
    ]
    for episode in made:
        play(recorder, episode)
        recorder.finish(
            success=episode.success,
            prompt=episode.prompt,
            terminated=bool(episode.terminated[-1]),
            meta=episode.meta,
            decisions=episode.decisions,
        )
    play(recorder, make_episode(3, seed=3))
    recorder.discard()
    recorder.submit(make_episode(5, seed=4))
    assert recorder.wait() == [0, 1, 2]
    dataset = Dataset.open(root)
    assert check(root) == []
    for found, expected in zip(dataset.episodes(), [*made, make_episode(5, seed=4)], strict=True):
        assert_same_episode(found, expected)
    played, submitted = dataset.episode(0), dataset.episode(2)
    assert played.wall_ns is not None
    assert before <= played.wall_ns.min() <= played.wall_ns.max() <= time.time_ns()
    assert played.monotonic_ns is not None
    assert (np.diff(played.monotonic_ns) >= 0).all()
    assert submitted.wall_ns is None  # nobody says when it was


def test_closing_commits_what_is_finished_and_drops_what_is_not(root: Path) -> None:
    with Recorder(root) as recorder:
        play(recorder, make_episode(4, seed=1))
        recorder.finish(success=True, prompt="pick up the toy")
        play(recorder, make_episode(3, seed=2))
    assert recorder.committed == [0]
    assert len(Dataset.open(root)) == 1


def test_what_does_not_fit_is_said_and_leaves_nothing(root: Path, recorder: Recorder) -> None:
    recorder.tick(
        dict.fromkeys(CAMERAS, np.zeros((6, 8, 3), np.uint8)), state=np.zeros(9), action=np.zeros(3)
    )
    recorder.finish(success=True, prompt="x")
    with pytest.raises(DataError, match=r"Episode\.state is float32 \[1, 9\]; expected float32 \[1, 2\]"):
        recorder.wait()
    assert len(Dataset.open(root)) == 0


def test_an_episode_that_cannot_be_put_together_costs_no_other(root: Path) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    recorder = Recorder(root)
    for cameras in (CAMERAS, CAMERAS[:1]):
        recorder.tick(dict.fromkeys(cameras, image), state=np.zeros(2), action=np.zeros(3))
    recorder._put("finish", (True, "x", True, {}, []))
    recorder._put("episode", make_episode(4, seed=1))  # in the queue before the loop hears of the error
    with pytest.raises(DataError, match=r"An episode cannot be put together \(KeyError: 'wrist'\)"):
        recorder.close()
    assert recorder.committed == [0]
    assert len(Dataset.open(root)) == 1


def test_a_killed_recording_process_is_noticed(root: Path, recorder: Recorder) -> None:
    recorder.submit(make_episode(4, seed=1))
    recorder.wait()
    os.kill(recorder._process.pid or 0, signal.SIGKILL)
    recorder._process.join()
    with pytest.raises(DataError, match="The recording process ended"):
        recorder.submit(make_episode(4, seed=2))
    assert recorder.committed == [0]


def test_too_much_waiting_is_an_error_and_not_a_delay(root: Path) -> None:
    with Recorder(root, limit=100) as recorder:
        images = dict.fromkeys(CAMERAS, np.zeros((6, 8, 3), np.uint8))
        with pytest.raises(
            DataError, match="0 MiB wait to be written, 0 of them of this episode; expected at most 0"
        ):
            recorder.tick(images, state=np.zeros(2), action=np.zeros(3))


def test_what_the_recording_process_holds_counts_until_it_is_on_disk(root: Path) -> None:
    episode = make_episode(9, seed=1)
    with Recorder(root, limit=10_000) as recorder:  # the episode with all that comes with it takes 7155
        for begin, end in ((0, 1), (1, 2)):
            play(recorder, episode)
            with pytest.raises(DataError, match="MiB wait to be written, 0 of them of this episode"):
                play(recorder, episode)
            if begin == 0:
                recorder.discard()
                recorder.submit(episode)
            else:
                recorder.finish(success=True, prompt="pick up the toy")
            assert len(recorder.wait()) == end  # and there is room again


def test_a_place_without_a_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a bora dataset"):
        Recorder(tmp_path)
