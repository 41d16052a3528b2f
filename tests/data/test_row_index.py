"""Rows that are read together are the rows that are read one by one, whatever became of the gathered file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episode_factory import make_dataset, make_episode

from bora_cli.data import row_index
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.repair import repair
from bora_cli.data.rows import read_many, read_row
from bora_cli.data.select import merge
from bora_cli.errors import CorruptEpisode

MADE = [make_episode(n, seed=n, prompt=f"task {n}", meta={"n": [n, None], "s": "ä"}) for n in (3, 5, 2, 4)]


@pytest.fixture(autouse=True)
def gather_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_index, "GATHER", 2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    dataset = make_dataset(tmp_path / "d", MADE)
    Dataset.open(dataset.root).rows()
    assert (dataset.root / row_index.INDEX).is_file()
    return dataset.root


def one_by_one(root: Path, count: int) -> list[object]:
    return [read_row(root, index) for index in range(count)]


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_index, "read_row", None)
    monkeypatch.setattr(row_index, "read_many", None)


def test_gathered_rows_are_the_rows(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = one_by_one(root, 4)
    forbid_reading(monkeypatch)
    assert Dataset.open(root).rows() == expected


def test_a_row_that_changed_is_read_again(root: Path) -> None:
    files = root / "meta/episodes/chunk-000"
    other = make_dataset(root.parent / "e", [MADE[3], *MADE[1:]])
    os.replace(other.root / "meta/episodes/chunk-000/file-000.parquet", files / "file-000.parquet")
    assert Dataset.open(root).rows() == one_by_one(root, 4)
    assert Dataset.open(root).rows()[0].prompt == "task 4"


def with_times_of_its_own(root: Path) -> Path:
    """Return a copy as `cp -r` makes it."""
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    for file in (copy / "meta/episodes").glob("*/*"):
        os.utime(file, ns=(1, 1))
    return copy


def test_a_copy_knows_its_rows_by_their_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, expected = with_times_of_its_own(root), one_by_one(root, 4)
    forbid_reading(monkeypatch)
    assert Dataset.open(copy).rows() == expected
    monkeypatch.setattr(row_index, "file_hash", None)
    assert Dataset.open(copy).rows() == expected  # gathered anew, with the times of the copy


@pytest.mark.parametrize("place", [-1, -5])
def test_a_row_of_a_copy_with_a_wrong_byte_is_noticed(root: Path, place: int) -> None:
    copy = with_times_of_its_own(root)
    file = copy / "meta/episodes/chunk-000/file-002.parquet"
    content = bytearray(file.read_bytes())
    content[place] ^= 255
    file.write_bytes(content)
    with pytest.raises(CorruptEpisode, match=r"file-002\.parquet"):
        Dataset.open(copy).rows()


def test_what_copies_episodes_leaves_their_rows_gathered(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge([root, make_dataset(tmp_path / "e", MADE[:2]).root], tmp_path / "both")
    forbid_reading(monkeypatch)
    assert [row.length for row in Dataset.open(tmp_path / "both").rows()] == [3, 5, 2, 4, 3, 5]


def test_new_rows_come_behind(root: Path) -> None:
    dataset = Dataset.open(root)
    dataset.append(make_episode(6, seed=9))
    assert [row.length for row in dataset.rows()] == [3, 5, 2, 4, 6]


def test_a_writer_gathers_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bora_cli.data.dataset.GATHER", 2)
    dataset = make_dataset(tmp_path / "d", MADE)
    assert (dataset.root / row_index.INDEX).is_file()
    expected = one_by_one(dataset.root, 4)
    forbid_reading(monkeypatch)
    assert Dataset.open(dataset.root).rows() == expected


@pytest.mark.parametrize("content", [b"", b"PAR1 nonsense", None])
def test_a_damaged_gathered_file_is_ignored(root: Path, content: bytes | None) -> None:
    path = root / row_index.INDEX
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert Dataset.open(root).rows() == one_by_one(root, 4)


def test_a_gathered_file_of_another_make_is_ignored(root: Path) -> None:
    pq.write_table(pa.table({"index": [0, 1], "colour": ["red", "blue"]}), root / row_index.INDEX)
    assert Dataset.open(root).rows() == one_by_one(root, 4)


def test_many_rows_are_the_same_rows(root: Path) -> None:
    assert read_many(root, [3, 0, 2]) == [read_row(root, index) for index in (3, 0, 2)]
    assert read_many(root, []) == []


def test_a_worker_that_may_be_a_fork_reads_one_by_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / row_index.INDEX).unlink()
    monkeypatch.setattr(row_index, "parent_process", lambda: "a process")
    monkeypatch.setattr(row_index, "read_many", None)
    assert Dataset.open(root).rows() == one_by_one(root, 4)


def test_rows_with_other_columns_are_read_all_the_same(root: Path) -> None:
    file = root / "meta/episodes/chunk-000/file-002.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("later", pa.array([1])).drop_columns(["stats/action/min"]), file)
    assert read_many(root, range(4)) == one_by_one(root, 4)


@pytest.mark.parametrize("damage", ["torn", "missing", "of another episode", "twice"])
def test_a_damaged_row_among_many_is_named(root: Path, damage: str) -> None:
    file = root / "meta/episodes/chunk-000/file-002.parquet"
    whole = file.read_bytes()
    if damage == "torn":
        file.write_bytes(whole[:-30])
    elif damage == "missing":
        file.unlink()
    elif damage == "twice":
        pq.write_table(pa.concat_tables([pq.read_table(file)] * 2), file)
    else:
        file.write_bytes(file.with_name("file-001.parquet").read_bytes())
    with pytest.raises(CorruptEpisode, match=r"file-002\.parquet"):
        read_many(root, range(4))


@pytest.mark.parametrize(
    "stray",
    [
        "chunk-000/._file-001.parquet",
        "chunk-000/file-001 (copy).parquet",
        "chunk-000/file-0001.parquet",
        "chunk-0000/file-001.parquet",
        "chunk-old/file-000.parquet",
    ],
)
def test_what_is_not_the_name_of_an_episode_is_ignored_and_named(root: Path, stray: str) -> None:
    expected = one_by_one(root, 4)
    for part in ("meta/episodes", "data"):
        target = root / part / stray
        target.parent.mkdir(exist_ok=True)
        shutil.copy(root / part / "chunk-000/file-001.parquet", target)
    (root / row_index.INDEX).unlink()
    (root / "data/chunk-000/file-004.parquet").write_bytes(b"left by a killed append")
    dataset = Dataset.open(root)
    assert dataset.rows() == expected
    assert dataset.append(make_episode(3)) == 4
    assert [(f.severity, f.message.split(" is not")[0]) for f in check(root)] == [
        ("error", f"meta/episodes/{stray}"),
        ("warning", f"data/{stray}"),
    ]
    assert sorted(list(repair(root).steps), key=lambda step: step.message)[0].message.startswith("data/")
    assert check(root) == []
