"""Collecting: the same episodes whatever the number of processes, interruptions included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, DataError
from bora_cli.evaluate.collect import collect
from bora_cli.evaluate.workers import Workers
from bora_cli.profiles import load_profile
from bora_cli.seeds import scene_seeds
from bora_cli.types import Controller, Episode


def gather(out: Path, episodes: int, **options: Any) -> Dataset:
    return collect(**{"task": "press_button", "image_size": 16, **options}, episodes=episodes, out=out)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return gather(tmp_path_factory.mktemp("collect") / "three", 3)


def same(a: Dataset, b: Dataset) -> bool:
    def content(episode: Episode) -> list[Any]:
        arrays = [episode.state, episode.action, episode.human, episode.reward]
        images = [image.tobytes() for image in episode.images.values()]
        return [[x.tobytes() for x in arrays], images, episode.success, episode.prompt, episode.meta]

    return [content(e) for e in a.episodes()] == [content(e) for e in b.episodes()]


def test_a_collection_is_a_sound_dataset(three: Dataset) -> None:
    assert check(three.root) == []
    episodes = list(three.episodes())
    assert [e.meta["scene_seed"] for e in episodes] == scene_seeds("collect", 0, 3)
    assert all((e.controller == Controller.DEMO).all() for e in episodes)
    assert all(e.images["wrist"].shape == (len(e), 16, 16, 3) for e in episodes)
    assert len({e.state.tobytes() for e in episodes}) == 3
    hands = {e.human[0, 6:].tobytes() for e in episodes}
    assert len(hands) == 3  # everyone starts to open the hand, each with noise of his own
    meta = episodes[0].meta
    assert meta["profile_hash"] == load_profile("sim").hash
    assert (meta["task"], meta["quality"], meta["gap"]) == ("press_button", "mixed", "none@1.0")
    assert meta["style"]["mistake"] == meta["mistake"]
    assert three.info["job"]["seed"] == 0


def test_two_processes_collect_the_same(three: Dataset, tmp_path: Path, two_workers: Workers) -> None:
    assert same(gather(tmp_path / "two", 3, workers=two_workers), three)


def test_an_interrupted_collection_goes_on(three: Dataset, tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("collect", 3)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gather(tmp_path / "cut", 3, progress=stop)
    assert len(Dataset.open(tmp_path / "cut")) == 2
    assert same(gather(tmp_path / "cut", 3), three)
    assert len(gather(tmp_path / "cut", 1)) == 3  # fewer than there are: nothing to do, nothing lost


def test_a_collection_killed_while_it_was_created_goes_on(three: Dataset, tmp_path: Path) -> None:
    """Info and statistics are written before the identity that makes a directory a dataset."""
    meta = tmp_path / "born" / "meta"
    meta.mkdir(parents=True)
    for name in ("info.json", "stats.json", "bora.json.tmp"):
        (meta / name).write_text("{}")
    assert same(gather(tmp_path / "born", 3), three)


def test_seed_and_quality_change_the_episodes(three: Dataset, tmp_path: Path) -> None:
    other = next(gather(tmp_path / "seed", 1, seed=1).episodes())
    assert other.meta["scene_seed"] == scene_seeds("collect", 1, 1)[0]
    expert = next(gather(tmp_path / "expert", 1, quality="expert").episodes())
    first = next(three.episodes())
    assert expert.meta["mistake"] is None
    assert expert.success
    assert np.array_equal(expert.state[0], first.state[0])  # one scene, two people
    assert not np.array_equal(expert.action[:5], first.action[:5])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"quality": "expert"}, "quality 'mixed' there, 'expert' asked"),
        ({"gap": "deployment"}, "gap 'none@1.0' there, 'deployment@1.0' asked"),
        ({"seed": 4, "setting": "unseen"}, "setting 'standard' there, 'unseen' asked, seed 0 there, 4 asked"),
    ],
)
def test_another_collection_is_not_continued(three: Dataset, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"holds another collection .*{said}"):
        gather(three.root, 4, **change)
    assert len(Dataset.open(three.root)) == 3


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(DataError, match="is not empty; expected a new directory"):
        gather(tmp_path, 1)
    assert [f.name for f in tmp_path.iterdir()] == ["thesis.tex"]


def test_more_scenes_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="outside the collect scenes"):
        gather(tmp_path / "many", 1001)
    assert not (tmp_path / "many").exists()
