"""Importing recordings of an environment: units, ends and rewards, and refusals that leave nothing behind."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.import_npz import import_npz, try_npz
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.profiles import load_environment
from bora_cli.types import Controller
from tiny_env import write_profile

BY_STATE = ('{ info = "reached" }', '{ state = "x", at_least = 0.5 }')


def arrays(**changes: Any) -> dict[str, Any]:
    """Two episodes of 3 and 2 ticks; x passes 0.5 after the second tick of the first one."""
    x = np.array([0.3, 0.4, 0.5, 0.0, 0.1])
    made = {
        "lengths": np.array([3, 2]),
        "observations": np.stack([x, 0 * x, 0 * x], axis=1),
        "actions": np.array([[1.0, 0, 1], [1, 0, 2], [1, 0, 1], [-1, 0, -1], [0, 0, -3]]),
        "rewards": np.array([1.0, 10, 3, 4, 5]),
        "init_position": np.array([[0.3, 0], [0, 0]]),
    }
    return {name: value for name, value in (made | changes).items() if value is not None}


def gather(tmp_path: Path, *edits: tuple[str, str], **changes: Any) -> Dataset:
    file = tmp_path / "demos.npz"
    np.savez(file, **arrays(**changes))
    return import_npz(file, tmp_path / "out", load_environment(write_profile(tmp_path, *edits)))


def test_an_import_is_a_sound_dataset(tmp_path: Path) -> None:
    dataset = gather(tmp_path, BY_STATE)
    assert check(dataset.root) == []
    first, second = dataset.episodes()
    assert (len(first), len(second)) == (3, 2)
    assert (dataset.fps, dataset.cameras, dataset.identity.robot_type) == (10.0, (), "point")
    np.testing.assert_allclose(first.state[:, 0], [0.3, 0.4, 0.5], rtol=1e-6)
    assert first.prompt == "press the button"
    assert (first.controller == Controller.DEMO).all()
    assert first.meta["initial_state"] == {"position": [0.3, 0]}
    assert dataset.info["imported"]["file"] == "demos.npz"


def test_actions_get_units_and_limits(tmp_path: Path) -> None:
    first, second = gather(tmp_path, BY_STATE).episodes()
    np.testing.assert_allclose(first.action[:, 0], 0.05, rtol=1e-6)
    np.testing.assert_allclose(first.action[:, 2], np.pi / 2, rtol=1e-6)
    np.testing.assert_allclose(first.human[1, 2], 0.75 * np.pi, rtol=1e-6)
    assert first.meta["clipped_ticks"] == 1
    np.testing.assert_allclose(second.action[:, 2], 0, atol=1e-7)


def test_the_state_after_a_tick_decides_about_it(tmp_path: Path) -> None:
    first, second = gather(tmp_path, BY_STATE).episodes()
    assert (first.success, second.success) == (True, False)
    assert first.terminated.tolist() == [False, False, True]
    assert second.truncated.tolist() == [False, True]
    np.testing.assert_allclose(first.reward, np.array([0, 1, 0]) - 0.5 / 30, rtol=1e-5)


def test_the_reward_can_decide_and_be_kept(tmp_path: Path) -> None:
    test = ('{ info = "reached" }', '{ reward = 10.0 }\nreward = "environment"')
    first, second = gather(tmp_path, test).episodes()
    assert (first.success, second.success) == (True, False)
    assert first.reward.tolist() == [1, 10, 3]


def test_success_can_be_given(tmp_path: Path) -> None:
    first, second = gather(tmp_path, successes=np.array([False, True]), rewards=None).episodes()
    assert (first.success, second.success) == (False, True)
    np.testing.assert_allclose(second.reward, np.array([0, 1]) - 0.5 / 30, rtol=1e-5)


def test_success_must_be_held(tmp_path: Path) -> None:
    held = ('{ info = "reached" }', '{ state = "x", at_least = 0.4, hold_ticks = 2 }')
    assert gather(tmp_path, held).episode(0).success
    longer = tmp_path / "longer"
    longer.mkdir()
    assert not gather(longer, (held[0], held[1].replace("2", "3"))).episode(0).success


def test_rows_are_put_together_where_a_tick_is_several_steps(tmp_path: Path) -> None:
    twice = ("max_ticks = 30", "max_ticks = 30\nsteps_per_tick = 2")
    test = ('{ info = "reached" }', '{ state = "x", at_least = 0.5 }\nreward = "environment"')
    dataset = gather(tmp_path, twice, test)
    assert check(dataset.root) == []
    first, second = dataset.episodes()
    np.testing.assert_allclose(first.state[:, 0], [0.3, 0.5], rtol=1e-6)
    np.testing.assert_allclose(first.human[:, 2], [0.625 * np.pi, np.pi / 2], rtol=1e-6)
    np.testing.assert_allclose(
        first.action[:, 2], np.pi / 2, rtol=1e-6
    )  # each step inside the limits, then the mean
    assert first.reward.tolist() == [11, 3]
    assert (first.success, second.success, len(second)) == (True, False, 1)
    assert try_npz(tmp_path / "demos.npz", load_environment(tmp_path / "point.toml")) == [2, 1]


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        (
            {"actions": None},
            DataError,
            "has no array actions; it has lengths, observations, rewards, init_position.",
        ),
        (
            {"lengths": np.array([3, 3])},
            SchemaMismatch,
            "observations has shape [5, 3]; profile 'point' and lengths",
        ),
        ({"lengths": np.array([5, 0])}, DataError, "lengths is not a list of positive whole numbers"),
        ({"lengths": np.array([2.5, 2.5])}, DataError, "lengths is not a list of positive whole numbers"),
        (
            {"actions": np.zeros((5, 2))},
            SchemaMismatch,
            "actions has shape [5, 2]; profile 'point' and lengths ask",
        ),
        ({"init_position": np.zeros((3, 2))}, SchemaMismatch, "init_position has shape [3, 2]"),
        ({"observations": np.full((5, 3), 1e300)}, DataError, "observations has entries that are no finite"),
        ({"actions": np.full((5, 3), -1e300)}, DataError, "actions has entries that are no finite numbers"),
        ({"lengths": np.array([2**63, 2**63], np.uint64)}, SchemaMismatch, "observations has shape [5, 3]"),
        ({"rewards": np.full(5, np.nan)}, DataError, "rewards has entries that are no finite numbers"),
        (
            {},
            DataError,
            "The file has no array successes, and the profile's test of success needs the running",
        ),
    ],
)
def test_a_file_that_does_not_fit_leaves_nothing(
    tmp_path: Path, changes: dict[str, Any], kind: type[DataError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        gather(tmp_path, **changes)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_missing_rewards_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="The file has no array rewards, which the profile's"):
        gather(tmp_path, ('{ info = "reached" }', "{ reward = 10.0 }"), rewards=None)


def test_other_files_are_refused(tmp_path: Path) -> None:
    profile = load_environment(write_profile(tmp_path))
    with pytest.raises(DataError, match=r"There is no file .*none.npz"):
        import_npz(tmp_path / "none.npz", tmp_path / "out", profile)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(DataError, match=r"text.npz is not a .npz file of plain arrays"):
        import_npz(tmp_path / "text.npz", tmp_path / "out", profile)
    np.savez(tmp_path / "pickled.npz", lengths=np.array([object()]))
    with pytest.raises(DataError, match=r"pickled.npz is not a .npz file of plain arrays"):
        import_npz(tmp_path / "pickled.npz", tmp_path / "out", profile)


def header(*shape: int) -> bytes:
    """Return the beginning of an array that claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    "members",
    [
        {"lengths": b"hello", "observations": b"x", "actions": b"x"},
        dict.fromkeys(("lengths.npy", "observations.npy", "actions.npy"), header(10**9, 10**6)),
        {"lengths.npy": header(10**30), "observations.npy": b"", "actions.npy": b"\x93NUMPY"},
    ],
    ids=["raw members", "huge header", "torn"],
)
def test_an_archive_of_something_else_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(DataError, match=r"a\.npz is not a \.npz file of plain arrays"):
        import_npz(tmp_path / "a.npz", tmp_path / "out", load_environment(write_profile(tmp_path)))
    assert not (tmp_path / "out").exists()


def test_a_file_can_be_tried_without_an_import(tmp_path: Path) -> None:
    profile = load_environment(write_profile(tmp_path, BY_STATE))
    with pytest.raises(DataError, match="There is no file"):
        try_npz(tmp_path / "none.npz", profile)
    np.savez(tmp_path / "demos.npz", **arrays())
    assert try_npz(tmp_path / "demos.npz", profile) == [3, 2]
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".toml") == ["demos.npz"]


def test_a_used_directory_is_refused(tmp_path: Path) -> None:
    gather(tmp_path, BY_STATE)
    with pytest.raises(DataError, match="already exists; expected a new directory"):
        gather(tmp_path, BY_STATE)
