"""What the analysis loads, and what it does not keep in memory."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Mapping
from dataclasses import fields, replace
from mmap import mmap
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bora_cli.analysis.recordings import load_recordings
from bora_cli.analysis.scorers import scorer_of
from bora_cli.checkpoint import Trained, load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError, DataError, SchemaMismatch
from bora_cli.models.decoupled import DecoupledConfig, DecoupledCritic
from bora_cli.models.vlm import Backbone
from bora_cli.sim.limits import STATE_NAMES, action_spec
from bora_cli.train.buffer import load_buffer
from bora_cli.train.tokens import encode
from bora_cli.types import ActionSpec, Controller
from toy_world import CAMERAS, toy_dataset, toy_demonstrations


@pytest.fixture
def trained(toy_policy: Path) -> Trained:
    return load_trained(toy_policy)


def of_pixels(trained: Trained) -> Trained:
    config = DecoupledConfig(cameras=2, state_dim=len(STATE_NAMES), action_dim=18, horizon=8)
    return replace(trained, critic=None, decoupled=DecoupledCritic(config))


def test_tokens_are_those_that_training_sees(trained: Trained, toy_demos: Path) -> None:
    backbone = trained.load_backbone()
    recordings = load_recordings([toy_demos], trained, backbone, gamma=0.97)
    plain = load_buffer([toy_demos], backbone, horizon=8, gamma=0.97, copies=1)
    rows = np.arange(len(plain.state))
    off = recordings.seen(rows) - plain.tokens[0]
    assert np.abs(off.numpy()).max() < 1e-2  # batched otherwise, rounded to half
    assert (recordings.state(rows) == plain.state).all()
    assert (recordings.first == plain.first).all()
    for column in fields(plain.windows):
        mine = getattr(recordings.windows, column.name)
        theirs = getattr(plain.windows, column.name)
        assert mine.dtype == theirs.dtype
        assert (mine == theirs).all()


def test_few_numbers_of_images_are_encoded_at_once(
    trained: Trained, toy_demos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, sizes = trained.load_backbone(), []

    def watched(backbone: Backbone, images: Any, prompts: list[str]) -> Any:
        sizes.append(len(images))
        return encode(backbone, images, prompts)

    monkeypatch.setattr("bora_cli.analysis.recordings.encode", watched)
    recordings = load_recordings([toy_demos], trained, backbone, gamma=0.97)
    assert set(sizes) <= {8, 16, 24, 32}
    assert sum(sizes) < recordings.first[-1] + 8 * len(recordings.episodes)


def test_an_episode_in_which_nobody_drove_has_no_windows(trained: Trained, tmp_path: Path) -> None:
    held_still, driven = toy_demonstrations(2)
    held_still.controller[:] = Controller.HELD
    root = toy_dataset(tmp_path / "d", [held_still, driven, held_still]).root
    recordings = load_recordings([root], trained, trained.load_backbone(), gamma=0.97)
    assert set(recordings.windows.episode) == {1}
    assert len(recordings.first) == 4
    some = recordings.take(np.array([4, 2]))
    assert some.t.tolist() == [4, 2]
    assert (some.action == recordings.windows.action[[4, 2]]).all()


def test_episodes_are_read_when_they_are_asked_for(trained: Trained, toy_demos: Path, tmp_path: Path) -> None:
    other = toy_dataset(tmp_path / "other", toy_demonstrations(3)[1:])
    backbone = trained.load_backbone()
    episodes = load_recordings([toy_demos, other.root], trained, backbone, gamma=0.97).episodes
    whole = [*Dataset.open(toy_demos).episodes(images=False), *other.episodes(images=False)]
    assert len(episodes) == len(whole)
    assert [e.action.tolist() for e in episodes] == [e.action.tolist() for e in whole]
    assert (episodes[-1].state == other.episode(1).state).all()
    assert episodes[0] is not episodes[0]
    assert not episodes[0].images
    with pytest.raises(IndexError):
        episodes[len(whole)]


def test_pixels_are_those_of_the_episodes(trained: Trained, toy_demos: Path) -> None:
    blind = of_pixels(trained)
    backbone = blind.load_backbone()
    recordings = load_recordings([toy_demos], blind, backbone, gamma=0.97)
    last = Dataset.open(toy_demos).episode(7)
    tail = recordings.seen(np.arange(recordings.first[7], recordings.first[8])).numpy()
    assert (tail[:, 1] == last.images["wrist"]).all()
    rows = np.array([3, 40], np.int64)
    scorer = scorer_of(blind, backbone, recordings)
    chunks, mask = np.zeros((2, 8, 18), np.float32), np.ones((2, 8), np.float32)
    v, q = scorer.glance(rows, recordings.seen(rows).numpy(), chunks, mask)
    assert v == pytest.approx(scorer.v(rows))
    assert q == pytest.approx(scorer.q(rows, chunks, mask)[0])
    with pytest.raises(CheckpointError, match="There is no critic to ask"):
        scorer_of(replace(blind, decoupled=None), backbone, recordings)


def held(thing: Any, met: set[int]) -> int:
    """Return the bytes of all arrays and texts of bytes that can be reached from an object; rows of datasets count."""
    if id(thing) in met or isinstance(thing, type | ModuleType | str):
        return 0
    met.add(id(thing))
    if isinstance(thing, np.ndarray):
        return max(thing.nbytes, held(thing.base, met)) if thing.base is not None else thing.nbytes
    if isinstance(thing, torch.Tensor):
        return thing.untyped_storage().nbytes()
    if isinstance(thing, bytes | bytearray | memoryview | mmap):
        return len(thing)
    if isinstance(thing, Mapping):
        return sum(held(part, met) for part in thing.values())
    if isinstance(thing, list | tuple | set | frozenset):
        return sum(held(part, met) for part in thing)
    return sum(held(part, met) for part in getattr(thing, "__dict__", {}).values())


@pytest.mark.parametrize("pixels", [False, True])
def test_nothing_large_is_kept_of_an_episode(trained: Trained, tmp_path: Path, pixels: bool) -> None:
    trained = of_pixels(trained) if pixels else trained
    backbone, kept = trained.load_backbone(), []
    for count in (2, 10):
        root = toy_dataset(tmp_path / str(count), toy_demonstrations(count)).root
        recordings = load_recordings([root], trained, backbone, gamma=0.97)
        scorer = scorer_of(trained, backbone, recordings)
        w = recordings.windows
        scorer.v(np.arange(recordings.first[-1]))
        scorer.q(recordings.first[w.episode] + w.t, w.action, w.mask)
        kept.append(held(recordings, set()))
    assert held({"decisions": [np.zeros(9)[:0]]}, set()) == 72  # a view counts as what it keeps alive
    assert kept[1] - kept[0] == 8 * 8  # where it starts, int64


def test_memory_does_not_grow_with_the_episodes(trained: Trained, tmp_path: Path) -> None:
    blind = of_pixels(trained)
    backbone = blind.load_backbone()
    peaks: list[int] = []
    left: list[int] = []
    for count in (6, 6, 22):  # the first one pays for what is imported
        root = toy_dataset(tmp_path / f"{len(peaks)}", toy_demonstrations(count)).root
        tracemalloc.start()
        recordings = load_recordings([root], blind, backbone, gamma=0.97)
        left.append(tracemalloc.get_traced_memory()[0])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert recordings.looks.read().nbytes > 4e6
    assert peaks[2] < peaks[1] + 2e5
    assert left[2] < left[1] + 16 * 6e3  # what is known of an episode without its ticks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": "renamed"}, r"The checkpoint and .*: action specs differ \(names"),
        ({"cameras": ("scene",)}, "has no images of camera wrist; it has scene"),
        ({"fps": 5}, "10 against 5 ticks per second"),
        ({}, "No episodes in"),
    ],
)
def test_what_cannot_be_judged(
    trained: Trained, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    spec = action_spec()
    if "spec" in change:
        data = spec.to_json() | {"names": [f"{n}_renamed" for n in spec.names]}
        change = {"spec": ActionSpec.from_json(data)}
    made = {"spec": spec, "cameras": CAMERAS, "fps": 10} | change
    Dataset.create(
        tmp_path / "d",
        made["spec"],
        STATE_NAMES,
        made["cameras"],
        image_size=64,
        fps=made["fps"],
        robot_type="toy",
    )
    with pytest.raises((SchemaMismatch, DataError), match=message):
        load_recordings([tmp_path / "d"], trained, trained.load_backbone(), gamma=0.97)


@pytest.mark.parametrize("column", ["state", "action"])
def test_numbers_that_are_not_finite_are_found_before_anything_is_encoded(
    trained: Trained, tmp_path: Path, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = toy_demonstrations(2)
    getattr(bad, column)[3, 1] = np.nan
    root = toy_dataset(tmp_path / "d", [good, bad]).root
    monkeypatch.setattr("bora_cli.analysis.recordings.encode", lambda *_: pytest.fail("encoded"))
    with pytest.raises(
        DataError, match=rf"Episode 1 of .*d has 1 values of {column} .* first at tick 3.*`bora data check`"
    ):
        load_recordings([root], trained, trained.load_backbone(), gamma=0.97)


def test_the_same_episodes_are_not_counted_twice(trained: Trained, toy_demos: Path, tmp_path: Path) -> None:
    backbone = trained.load_backbone()
    with pytest.raises(ConfigError, match="was named twice; its episodes would be doubled"):
        load_recordings([toy_demos, toy_demos / ".." / toy_demos.name], trained, backbone, gamma=0.97)
    shutil.copytree(toy_demos, tmp_path / "copy")
    with pytest.raises(ConfigError, match=r"copy has the same episodes as .*; they would be doubled"):
        load_recordings([toy_demos, tmp_path / "copy"], trained, backbone, gamma=0.97)
