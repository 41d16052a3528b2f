"""The check finds every kind of damage, says where, and touches nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episode_factory import SPEC, H, P, make_dataset, make_decision, make_episode
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.data import decision_check
from bora_cli.data.check import Finding, check
from bora_cli.data.dataset import Dataset
from bora_cli.data.repair import repair

SEEN = {"task": "pick", "setting": "standard", "gap": "none", "renderer": "egl", "profile_hash": "aa"}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return make_dataset(
        tmp_path / "d",
        [
            make_episode(6, seed=1, meta={**SEEN, "scene_seed": 1}, decisions=[make_decision(0, 4)]),
            make_episode([P] * 3 + [H] * 4, seed=2, meta={**SEEN, "scene_seed": 2}),
            make_episode(4, seed=3, truncated=True, success=False, meta={**SEEN, "scene_seed": 3}),
        ],
    )


def rewrite(file: Path, column: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change one numeric column of a Parquet file."""
    table = pq.read_table(file)
    kind = table.schema.field(column).type
    values = table[column].combine_chunks()
    if pa.types.is_fixed_size_list(kind):
        new = change(values.flatten().to_numpy().reshape(-1, kind.list_size).copy())
        array = pa.FixedSizeListArray.from_arrays(pa.array(new.ravel()), new.shape[1])
    else:
        array = pa.array(change(values.to_numpy(zero_copy_only=False).copy()), kind)
    index = table.column_names.index(column)
    pq.write_table(table.set_column(index, column, array), file)


def data_file(dataset: Dataset, index: int) -> Path:
    return dataset.root / f"data/chunk-000/file-{index:03d}.parquet"


def only(findings: list[Finding], episode: int | None, severity: str = "error") -> str:
    """Return the message of the only finding, after looking at where it is and that it names a remedy."""
    assert [(f.severity, f.episode) for f in findings] == [(severity, episode)], findings
    assert findings[0].remedy.endswith(".")
    return findings[0].message


def put(t: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[t] = value
        return values

    return change


def test_a_sound_dataset_has_no_findings(dataset: Dataset) -> None:
    before = {p: p.read_bytes() for p in dataset.root.rglob("*") if p.is_file()}
    assert check(dataset.root) == []
    assert {p: p.read_bytes() for p in dataset.root.rglob("*") if p.is_file()} == before


def test_an_empty_dataset_is_sound(tmp_path: Path) -> None:
    make_dataset(tmp_path / "d")
    assert check(tmp_path / "d") == []


def test_no_dataset_is_one_finding(tmp_path: Path) -> None:
    assert "meta/bora.json does not exist" in only(check(tmp_path), None)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        (
            "observation.state",
            put(2, np.nan),
            "state has 2 NaN or infinite numbers, first at tick 2",
        ),
        ("next.reward", put(5, np.inf), "next.reward has 1 NaN or infinite numbers, first at tick 5"),
        ("action", put(1, 0.2), "first tick 1: dx is 0.2 m; expected -0.1 to 0.1"),
        ("timestamp", put(3, 0.2), "Time goes from 0.2 s to 0.2 s at tick 3; expected steps of 0.1 s"),
        (
            "terminated",
            put(5, False),
            "Found no ending; expected exactly one of terminated and truncated",
        ),
        ("terminated", put(2, True), "Found terminated at tick 2, terminated at tick 5"),
        ("truncated", put(5, True), "Found terminated at tick 5, truncated at tick 5"),
        ("frame_index", put(4, 9), "frame_index is 9 at tick 4; expected 4"),
        ("episode_index", put(0, 7), "episode_index is 7 at tick 0; expected 0"),
        ("index", put(3, 0), "index is 0 at tick 3; expected 3"),
        ("task_index", put(3, 5), "task_index is 5 at tick 3; expected 0"),
        ("controller", put(3, 9), "Controllers [9] are unknown; expected 0 to 5"),
    ],
)
def test_damaged_columns_are_found(
    dataset: Dataset, column: str, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    rewrite(data_file(dataset, 0), column, change)
    found = [f for f in check(dataset.root) if f.severity == "error"]
    assert message in only(found, 0)


def test_limits_may_be_touched(dataset: Dataset) -> None:
    episode = make_episode(6, seed=4)
    episode.action[:] = np.where(np.arange(6)[:, None] % 2, SPEC.low, SPEC.high)
    dataset.append(episode)
    assert check(dataset.root) == []


def test_a_success_that_was_not_terminated_is_suspicious(dataset: Dataset) -> None:
    dataset.append(make_episode(3, truncated=True, success=True))
    assert "counts as a success but was not terminated" in only(check(dataset.root), 3, "warning")


def test_human_ticks_without_a_command_are_suspicious(dataset: Dataset) -> None:
    episode = make_episode([P] * 3 + [H] * 4, seed=4)
    episode.human[:] = np.nan
    dataset.append(episode)
    assert "4 ticks driven by a person have no human command, first at tick 3" in only(
        check(dataset.root), 3, "warning"
    )


def test_missing_ticks_are_found(dataset: Dataset) -> None:
    pq.write_table(pq.read_table(data_file(dataset, 1)).slice(0, 5), data_file(dataset, 1))
    assert "It has 5 ticks on disk; its row says 7" in only(check(dataset.root), 1)


def test_a_missing_column_is_found(dataset: Dataset) -> None:
    pq.write_table(pq.read_table(data_file(dataset, 1)).drop_columns(["controller"]), data_file(dataset, 1))
    assert "has no column 'controller'" in only(check(dataset.root), 1)


def test_torn_and_missing_data_files_are_found(dataset: Dataset) -> None:
    data_file(dataset, 1).write_bytes(data_file(dataset, 1).read_bytes()[:-20])
    assert "file-001.parquet cannot be read" in only(check(dataset.root), 1)
    data_file(dataset, 1).unlink()
    assert "file-001.parquet is missing" in only(check(dataset.root), 1)


def test_a_torn_row_is_found(dataset: Dataset) -> None:
    (dataset.root / "meta/episodes/chunk-000/file-002.parquet").write_bytes(b"PAR1")
    found = check(dataset.root)
    assert any(f.severity == "error" and f.episode == 2 and "cannot be read" in f.message for f in found)


def test_a_hole_in_the_numbering_is_found(dataset: Dataset) -> None:
    (dataset.root / "meta/episodes/chunk-000/file-001.parquet").unlink()
    found = check(dataset.root)
    errors = [f for f in found if f.severity == "error"]
    assert "Episodes [1] are missing although episode 2 exists" in only(errors, 1)


def test_a_missing_decision_log_is_found(dataset: Dataset) -> None:
    (dataset.root / "decisions/chunk-000/file-000.parquet").unlink()
    assert "decisions/chunk-000/file-000.parquet is missing" in only(check(dataset.root), 0)


def test_bad_decisions_are_found(dataset: Dataset) -> None:
    bad = make_decision(9, 4)
    bad.base[0, 0] = np.nan
    dataset.append(make_episode(5, decisions=[bad]))
    messages = [f.message for f in check(dataset.root)]
    assert messages == [
        "Decisions start at ticks [9]; expected rising ticks below 5.",
        "The decision log has NaN or infinite numbers in 'base'.",
    ]


def spoil_image(dataset: Dataset, tick: int) -> None:
    """Put something else in the place of an image of episode 0."""
    table = pq.read_table(data_file(dataset, 0))
    name = "observation.images.wrist"
    files = table[name].to_pylist()
    files[tick] = {"bytes": b"not an image", "path": None}
    index = table.column_names.index(name)
    kind = table.schema.field(name).type
    pq.write_table(table.set_column(index, name, pa.array(files, kind)), data_file(dataset, 0))


def test_images_that_cannot_be_decoded_are_found(dataset: Dataset) -> None:
    spoil_image(dataset, 0)
    assert "file-000.parquet, camera wrist, tick 0: Image 0 cannot be decoded" in only(check(dataset.root), 0)
    assert check(dataset.root, images_per_episode=0) == []


@pytest.mark.parametrize("tick", range(6))
def test_every_image_is_decoded_if_wanted(dataset: Dataset, tick: int) -> None:
    spoil_image(dataset, tick)
    assert f"camera wrist, tick {tick}" in only(check(dataset.root, images_per_episode=None), 0)


def test_wrong_totals_are_a_warning_that_a_repair_cures(dataset: Dataset) -> None:
    info = json.loads((dataset.root / "meta/info.json").read_text())
    (dataset.root / "meta/info.json").write_text(json.dumps(info | {"total_frames": 3}))
    message = only(check(dataset.root), None, "warning")
    assert "disagrees with the episodes: total_frames 3, found 17" in message
    assert Dataset.open(dataset.root).info["total_frames"] == 17
    assert json.loads((dataset.root / "meta/info.json").read_text())["total_frames"] == 3
    Dataset.open(dataset.root).repair()
    assert check(dataset.root) == []


def test_a_damaged_header_is_a_warning_that_a_repair_cures(dataset: Dataset) -> None:
    (dataset.root / "meta/info.json").write_text("{")
    assert "is not valid JSON" in only(check(dataset.root), None, "warning")
    Dataset.open(dataset.root).repair()
    assert check(dataset.root) == []


@pytest.mark.parametrize(
    ("feature", "name"), [("action", "std"), ("timestamp", "count"), ("observation.images.scene", "mean")]
)
def test_wrong_statistics_are_found_and_repair_is_the_remedy(
    dataset: Dataset, feature: str, name: str
) -> None:
    file = dataset.root / "meta/stats.json"
    before = json.loads(file.read_text())
    changed = np.asarray(before[feature][name], np.float64) * 1.01
    file.write_text(json.dumps(before | {feature: before[feature] | {name: changed.tolist()}}))
    assert only(check(dataset.root), None) == f"meta/stats.json is wrong about {feature}."
    assert "`bora data repair`" in check(dataset.root)[0].remedy
    repair(dataset.root)
    assert check(dataset.root) == []
    assert json.loads(file.read_text()) == before


def test_statistics_of_an_append_that_came_meanwhile_are_not_wrong(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = decision_check.decision_problems

    def append_and_look(*about: Any) -> Iterator[Any]:
        monkeypatch.undo()
        dataset.append(make_episode(3, seed=9))
        return look(*about)

    monkeypatch.setattr("bora_cli.data.check.decision_problems", append_and_look)
    found = check(dataset.root)
    assert "total_episodes 4, found 3" in found[0].message
    assert {finding.severity for finding in found} == {"warning"}
    assert check(dataset.root) == []


@settings(max_examples=8, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=6), opened=st.sets(st.integers(0, 5)))
def test_statistics_agree_however_the_dataset_grew(lengths: list[int], opened: set[int]) -> None:
    with TemporaryDirectory() as folder:
        grown = make_dataset(Path(folder, "d"))
        for i, ticks in enumerate(lengths):
            if i in opened:  # another process goes on, with statistics made anew
                grown = Dataset.open(grown.root)
            grown.append(make_episode(ticks, seed=i, reward=[float(i**4)] * ticks))
        assert check(grown.root) == []


def test_mixed_sources_are_a_warning(dataset: Dataset) -> None:
    dataset.append(make_episode(3, meta={**SEEN, "renderer": "rays", "scene_seed": 9}))
    message = only(check(dataset.root), None, "warning")
    assert (
        message
        == "Episodes come from different render backends (egl: 3 from episode 0; rays: 1 from episode 3)."
    )


def test_repeated_scenes_are_a_warning(dataset: Dataset) -> None:
    dataset.append(make_episode(3, meta={**SEEN, "scene_seed": 2}))
    assert "Scene seed 2 was already used in episode 1" in only(check(dataset.root), 3, "warning")
    dataset.append(make_episode(3, meta={**SEEN, "setting": "unseen", "scene_seed": 1}))
    assert len(check(dataset.root)) == 1, "the same seed in another setting is another scene"
