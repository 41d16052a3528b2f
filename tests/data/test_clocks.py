"""When a tick was recorded, and what the residual added: columns that older datasets do not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage_kinds import DATA, column, table
from episode_factory import CAMERAS, SIZE, SPEC, STATES, assert_same_episode, make_decision, make_episode

from bora_cli.data.check import check
from bora_cli.data.content import episode_hash
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import read_json
from bora_cli.data.foreign import ImportOptions, import_source
from bora_cli.data.lerobot import LeRobotDataset
from bora_cli.data.repair import repair
from bora_cli.data.schema import ADDED, DATA_PATH, EPISODE_PATH, INFO, NAMED, RESIDUAL, STATS, episode_file
from bora_cli.data.select import delete, merge
from bora_cli.data.tables import column_array, residual_at
from bora_cli.types import Episode

START = 1_900_000_000_000_000_000


def timed(ticks: int = 8, *, late: int = 0, **changes: Any) -> Episode:
    """Return an episode of 10 Hz that began `late` ns after START, with two decisions."""
    times = 100_000_000 * np.arange(ticks) + late
    decisions = [make_decision(1, 4, seed=1), make_decision(5, 3, seed=2)]
    meta = {"operator": "somebody", "profile_hash": "f00"}
    episode = make_episode(ticks, decisions=decisions, meta=meta, seed=3)
    return replace(episode, wall_ns=START + times, monotonic_ns=7 + times, **changes)


def make(root: Path, *episodes: Episode, added: tuple[str, ...] = ADDED) -> Dataset:
    dataset = Dataset.create(
        root, SPEC, STATES, CAMERAS, image_size=SIZE, fps=10, robot_type="test", added=added
    )
    for episode in episodes:
        dataset.append(episode)
    return dataset


def ticks_of(dataset: Dataset, index: int) -> pa.Table:
    return pq.read_table(episode_file(dataset.root, DATA_PATH, index))


def hash_of(dataset: Dataset, index: int) -> str:
    return episode_hash(dataset.root, dataset.identity, index)


def test_the_clocks_come_back_to_the_nanosecond(tmp_path: Path) -> None:
    made = timed()
    dataset = make(tmp_path / "d", made)
    found = Dataset.open(tmp_path / "d").episode(0)
    assert_same_episode(found, made)
    assert found.wall_ns is not None
    assert found.monotonic_ns is not None
    assert np.array_equal(found.wall_ns, made.wall_ns)
    assert np.array_equal(found.monotonic_ns, made.monotonic_ns)
    assert dataset.columns(["wall_ns"])[0]["wall_ns"][0] == START
    assert check(dataset.root) == []


def test_recorded_later_the_same_is_the_same(tmp_path: Path) -> None:
    one, other = make(tmp_path / "a", timed()), make(tmp_path / "b", timed(late=10**15))
    assert hash_of(one, 0) == hash_of(other, 0)
    assert episode_hash(one.root, one.identity, 0, ["wall_ns"]) != episode_hash(
        other.root, other.identity, 0, ["wall_ns"]
    )
    for file in (STATS, INFO, Path(EPISODE_PATH.format(chunk_index=0, file_index=0))):
        assert (one.root / file).read_bytes() == (other.root / file).read_bytes(), file


def test_where_nobody_looked_at_a_clock_the_columns_say_so(tmp_path: Path) -> None:
    dataset = make(tmp_path / "d", make_episode(5))
    assert set(ticks_of(dataset, 0)["wall_ns"].to_pylist()) == {-1}
    assert dataset.episode(0).wall_ns is None
    assert check(dataset.root) == []


def test_the_residual_is_what_it_added_to_the_frozen_policy(tmp_path: Path) -> None:
    made = timed()
    first, second = made.decisions
    residual = np.array(ticks_of(make(tmp_path / "d", made), 0)[RESIDUAL].to_pylist(), np.float32)
    assert np.isnan(residual[0]).all()  # before the first decision
    assert np.allclose(residual[1:5], (first.final - first.base)[:4], atol=1e-6)
    assert np.allclose(residual[5:], (second.final - second.base)[:3], atol=1e-6)
    assert np.isnan(residual_at(make_episode(4))).all()


def test_a_decision_says_nothing_about_ticks_beyond_its_chunk() -> None:
    made = make_episode(20, decisions=[make_decision(2, 8, planned=8)])
    known = ~np.isnan(residual_at(made)).any(axis=1)
    assert np.flatnonzero(known).tolist() == list(range(2, 10))


def test_operator_and_profile_are_columns_of_the_row(tmp_path: Path) -> None:
    dataset = make(tmp_path / "d", timed())
    row = pq.read_table(episode_file(dataset.root, EPISODE_PATH, 0), columns=list(NAMED)).to_pylist()[0]
    assert row == {"bora/operator": "somebody", "bora/profile_hash": "f00"}


def test_a_dataset_of_an_earlier_version_goes_on_as_it_was(tmp_path: Path) -> None:
    old = make(tmp_path / "old", timed(), added=())
    assert "columns" not in read_json(old.root / "meta/bora.json")
    dataset = Dataset.open(old.root)
    dataset.append(timed())
    assert check(old.root) == []
    assert not {*ADDED} & {*ticks_of(dataset, 1).column_names}
    assert dataset.episode(1).wall_ns is None
    assert dataset.summary()["missing_columns"] == list(ADDED)
    assert dataset.summary()["missing_columns"] != make(tmp_path / "new").summary()["missing_columns"]
    delete(old.root, [0])
    assert Dataset.open(old.root).identity.added == ()


def test_merging_old_with_new_fills_in_what_follows_and_says_what_nobody_knows(tmp_path: Path) -> None:
    old, new = make(tmp_path / "old", timed(), added=()), make(tmp_path / "new", timed())
    merge([old.root, new.root], tmp_path / "both")
    both = Dataset.open(tmp_path / "both")
    assert check(both.root) == []
    assert both.identity.added == ADDED
    assert both.episode(0).wall_ns is None
    assert both.episode(1).wall_ns is not None
    first, second = ticks_of(both, 0), ticks_of(both, 1)
    assert first.schema.equals(second.schema)
    assert np.array_equal(column_array(first[RESIDUAL]), column_array(second[RESIDUAL]), equal_nan=True)
    assert hash_of(both, 0) == hash_of(both, 1) == hash_of(old, 0)
    rows = [pq.read_schema(episode_file(both.root, EPISODE_PATH, i)) for i in (0, 1)]
    assert {*rows[0].names} == {*rows[1].names}


def test_an_import_keeps_clocks_that_its_source_has(tmp_path: Path) -> None:
    made = timed()
    theirs = make(tmp_path / "theirs", made).root
    (theirs / "meta/bora.json").unlink()  # what others see of it
    options = ImportOptions(spec=SPEC)
    mine = import_source(LeRobotDataset.open(theirs), tmp_path / "mine", options, kind="LeRobot v3.0")
    found = mine.episode(0)
    assert np.array_equal(np.asarray(found.wall_ns), np.asarray(made.wall_ns))
    assert np.array_equal(np.asarray(found.monotonic_ns), np.asarray(made.monotonic_ns))
    assert check(mine.root) == []


def clock(name: str, make_values: Any) -> Any:
    return column(DATA, name, lambda c: make_values(c.to_numpy().copy()))


def put(at: int, value: int) -> Any:
    def change(times: np.ndarray) -> pa.Array:
        times[at] = value
        return pa.array(times)

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (clock("wall_ns", put(3, -1)), "1 ticks have no wall_ns, first tick 3; expected all or none."),
        (clock("monotonic_ns", put(4, 9)), "monotonic_ns goes back from 300000007 to 9 at tick 4."),
    ],
)
def test_the_check_warns_of_odd_clocks(tmp_path: Path, damage: Any, said: str) -> None:
    root = make(tmp_path / "d", timed(), timed()).root
    damage(root)
    found = [(finding.severity, finding.episode, finding.message) for finding in check(root)]
    assert found == [("warning", 1, said)]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (table(DATA, lambda t: t.drop_columns("wall_ns")), "wall_ns"),
        (clock("wall_ns", lambda times: pa.array(times.astype(np.float32))), "wall_ns"),
    ],
)
def test_a_clock_that_is_lost_costs_no_episode(tmp_path: Path, damage: Any, said: str) -> None:
    root = make(tmp_path / "d", timed(), timed()).root
    damage(root)
    assert any(f.severity == "error" and said in f.message for f in check(root))
    report = repair(root)
    assert "wall_ns is lost." in [step.message for step in report.steps]
    assert report.episodes == 2
    assert check(root) == []
    found = Dataset.open(root).episode(1)
    assert found.wall_ns is None
    assert found.monotonic_ns is not None
    assert found.meta["repaired"] == ["wall_ns is lost."]


def test_a_wrong_residual_is_found_and_computed_again(tmp_path: Path) -> None:
    root = make(tmp_path / "d", timed(), timed()).root
    before = hash_of(Dataset.open(root), 1)

    def zero(column: pa.ChunkedArray) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(3 * len(column), np.float32)), 3)

    column(DATA, RESIDUAL, zero)(root)
    assert any(f"{RESIDUAL} is" in finding.message for finding in check(root))
    repair(root)
    assert check(root) == []
    assert hash_of(Dataset.open(root), 1) == before


def test_columns_of_a_later_version_are_refused(tmp_path: Path) -> None:
    root = make(tmp_path / "d").root
    text = (root / "meta/bora.json").read_text()
    (root / "meta/bora.json").write_text(text.replace('"wall_ns"', '"heart_rate"'))
    (finding,) = check(root)
    assert "columns has 'heart_rate'; expected some of action.residual, wall_ns" in finding.message
