"""Load a dataset of ours with LeRobot's own reader and compare every tick.

LeRobot cannot live beside the current torch, so it is no dependency and pytest does not collect this script.
In an environment with this package and lerobot (it was run with 0.4.4):

    HF_HUB_OFFLINE=1 python tests/data/lerobot_interop.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import lerobot
import numpy as np
from episode_factory import CAMERAS, H, P, make_dataset, make_decision, make_episode
from lerobot.datasets.lerobot_dataset import LeRobotDataset

HORIZON = 4


def main() -> None:
    made = [
        make_episode(6, seed=1, decisions=[make_decision(0, 4)], meta={"task": "pick"}),
        make_episode([P] * 3 + [H] * 4, seed=2, prompt="open the box"),
        make_episode(5, seed=3, truncated=True, success=False),
    ]
    with tempfile.TemporaryDirectory() as directory:
        ours = make_dataset(Path(directory) / "dataset", made)
        steps = [i / ours.fps for i in range(HORIZON)]
        theirs = LeRobotDataset("local/dataset", root=ours.root, delta_timestamps={"action": steps})
        compare(theirs, made)
    print(f"lerobot {lerobot.__version__} reads the dataset: {len(made)} episodes, {len(theirs)} ticks")


def compare(theirs: LeRobotDataset, made: list) -> None:
    """Raise AssertionError at the first difference."""
    assert theirs.num_episodes == len(made)
    assert len(theirs) == sum(map(len, made))
    index = 0
    for episode in made:
        for t in range(len(episode)):
            item = theirs[index]
            index += 1
            ticks = np.minimum(np.arange(t, t + HORIZON), len(episode) - 1)
            assert item["task"] == episode.prompt
            assert np.array_equal(item["action"].numpy(), episode.action[ticks])
            assert item["action_is_pad"].tolist() == [t + i >= len(episode) for i in range(HORIZON)]
            assert np.array_equal(item["observation.state"].numpy(), episode.state[t])
            assert np.array_equal(item["action.human"].numpy(), episode.human[t], equal_nan=True)
            assert bool(item["next.done"]) == bool(episode.terminated[t] or episode.truncated[t])
            assert bool(item["intervention"]) == bool(episode.intervened[t])
            for camera in CAMERAS:
                image = np.moveaxis(item[f"observation.images.{camera}"].numpy(), 0, -1)
                assert np.allclose(image * 255, episode.images[camera][t], atol=1e-3)
    actions = np.concatenate([e.action for e in made])
    assert np.allclose(np.asarray(theirs.meta.stats["action"]["mean"]), actions.mean(0), atol=1e-6)


if __name__ == "__main__":
    main()
