"""The script that turns the pickled door demonstrations into plain arrays, and nothing else into anything."""

from __future__ import annotations

import pickle
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "datasets" / "door_from_pickle.py"))


def episode(ticks: int) -> dict[str, Any]:
    start = {"qpos": np.zeros(30), "qvel": np.ones(30), "door_body_pos": np.full(3, float(ticks))}
    return {
        "observations": np.full((ticks, 39), float(ticks)),
        "actions": np.zeros((ticks, 28)),
        "rewards": np.zeros(ticks),
        "init_state_dict": start,
    }


def test_episodes_become_flat_arrays(tmp_path: Path) -> None:
    source, target = tmp_path / "demos.pickle", tmp_path / "demos.npz"
    source.write_bytes(pickle.dumps([episode(3), episode(2)], protocol=4))
    SCRIPT["main"](source, target)
    with np.load(target) as made:
        assert made["lengths"].tolist() == [3, 2]
        assert made["observations"][:, 0].tolist() == [3, 3, 3, 2, 2]
        assert made["init_door_body_pos"].tolist() == [[3, 3, 3], [2, 2, 2]]


def test_a_pickle_that_wants_more_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "evil.pickle"
    source.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(pickle.UnpicklingError, match=r"asks for os.system; expected arrays alone"):
        SCRIPT["main"](source, tmp_path / "demos.npz")
