"""A recording for rerun holds what was asked for; without rerun one error says what to install.

Runs where rerun-sdk is installed; what does not need it runs everywhere.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from episode_factory import CAMERAS, SPEC, H, P, make_dataset, make_decision, make_episode

from bora_cli.data.dataset import Dataset
from bora_cli.data.rerun_file import write_recording
from bora_cli.errors import ConfigError, DataError

needs_rerun = pytest.mark.skipif(not importlib.util.find_spec("rerun"), reason="rerun-sdk is not installed")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    first = make_episode([P, P, H, H, P], seed=1, decisions=[make_decision(0, 2)])
    first.wall_ns = 1_900_000_000_000_000_000 + 100_000_000 * np.arange(5)
    return make_dataset(tmp_path / "d", [first, make_episode(3, seed=2)])


def test_without_rerun_one_error_says_what_to_install(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(ConfigError, match=r"need rerun-sdk.*pip install .bora-cli\[rerun\]"):
        write_recording(dataset, [0], tmp_path / "a.rrd")
    assert not list(tmp_path.glob("a.rrd*"))


@needs_rerun
def test_a_recording_holds_the_episodes(dataset: Dataset, tmp_path: Path) -> None:
    values = {0: {"v": np.linspace(0, 1, 5)}}
    write_recording(dataset, [0, 1], tmp_path / "a.rrd", values)
    written = (tmp_path / "a.rrd").read_bytes()
    assert written[:3] == b"RRF"
    assert not list(tmp_path.glob("*.tmp"))
    for index, names in ((0, ("human", "residual", "values/v")), (1, ())):
        for name in (*names, "action", "proposed", "state", "controller", "reward"):
            assert f"/episode_{index}/{name}".encode() in written, (index, name)
        for camera in CAMERAS:
            assert f"/episode_{index}/images/{camera}".encode() in written
    assert b"/episode_1/human" not in written  # nobody commanded anything
    assert all(name.encode() in written for name in SPEC.names)


@needs_rerun
def test_values_of_another_dataset_leave_nothing(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'v' of episode 1 has 5 numbers; the episode has 3 ticks"):
        write_recording(dataset, [1], tmp_path / "a.rrd", {1: {"v": np.zeros(5)}})
    assert not list(tmp_path.glob("a.rrd*"))
