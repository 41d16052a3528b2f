"""Copy episodes from datasets into a new one, bit for bit, under new numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bora_cli.data import stats, tables
from bora_cli.data.check import Finding, check
from bora_cli.data.content import episode_hash
from bora_cli.data.dataset import Dataset
from bora_cli.data.exchange import link_or_copy
from bora_cli.data.files import make_directory, read_json, read_table, write_table
from bora_cli.data.rows import ROW_OPTIONS, completed_row, read_row
from bora_cli.data.schema import (
    ADDED,
    DATA_PATH,
    DECISION_PATH,
    EPISODE_PATH,
    FILES_PER_CHUNK,
    IDENTITY,
    TASKS,
    Identity,
    episode_file,
    video_file,
)
from bora_cli.data.tasks import write_tasks
from bora_cli.errors import CorruptEpisode, DataError, SchemaMismatch

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[str, int, int], None]
NUMBERED = ("episode_index", "index", "task_index")
"""Columns of a data file that depend on where the episode stands."""
FIELDS = ("robot_type", "fps", "state_names", "cameras", "image_size", "video")


def no_progress(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Source:
    """One episode of a dataset on disk."""

    root: Path
    index: int


def copy_episodes(
    target: Path, identity: Identity, sources: Sequence[Source], progress: Progress = no_progress
) -> None:
    """Make a dataset of some episodes in an empty directory, in the order given, and verify every one.

    Raises DataError if the result is not sound or differs from its sources; the caller removes it then.
    """
    create(target, identity)
    known: dict[str, int] = {}
    first = 0
    for index, source in enumerate(sources):
        row = read_row(source.root, source.index)
        task = known.setdefault(row.prompt, len(known))
        _copy(source, target, identity, Place(index, first, task))
        first += row.length
        progress("copy", index + 1, len(sources))
    if known:
        write_tasks(target / TASKS, known)
    complete(target)
    verify(target, identity, sources, progress)


def complete(target: Path) -> None:
    """Write what is derived from the episodes of a dataset, and gather their rows, so that it opens at once."""
    dataset = Dataset.open(target)
    dataset.repair()
    dataset.rows()


def create(target: Path, identity: Identity) -> Dataset:
    """Make an empty dataset with an identity."""
    return Dataset.create(
        target,
        identity.spec,
        identity.state_names,
        identity.cameras,
        image_size=identity.image_size,
        fps=identity.fps,
        robot_type=identity.robot_type,
        extra=identity.extra,
        video=identity.video,
        added=identity.added,
    )


@dataclass(frozen=True)
class Place:
    """Where an episode stands: its index, the ticks of all earlier ones, the number of its instruction."""

    index: int
    first: int
    task: int


def _copy(source: Source, target: Path, identity: Identity, place: Place) -> None:
    data_file = episode_file(source.root, DATA_PATH, source.index)
    row_file = episode_file(source.root, EPISODE_PATH, source.index)
    log_file = episode_file(source.root, DECISION_PATH, source.index)
    row = read_row(source.root, source.index)
    heads = read_table(data_file, list(NUMBERED))
    if row.length == 0 or heads.num_rows != row.length:
        raise CorruptEpisode(
            f"{data_file} has {heads.num_rows} ticks; its row says {row.length}.",
            "`bora data repair` sorts this out.",
        )
    stands = Place(source.index, row.first_index, heads["task_index"][0].as_py())
    files = [(data_file, DATA_PATH), (row_file, EPISODE_PATH)]
    if row.decisions:
        files.insert(0, (log_file, DECISION_PATH))
    for camera in identity.cameras if identity.video else ():
        link_file(video_file(source.root, camera, source.index), video_file(target, camera, place.index))
    theirs = _identity(source.root)
    complete = set(identity.added) <= set(theirs.added)
    if stands == place and complete:
        for file, template in files:
            link_file(file, episode_file(target, template, place.index))
        return
    if row.decisions:
        log = read_table(log_file)
        log = _with(log, "episode_index", np.full(log.num_rows, place.index))
        path = episode_file(target, DECISION_PATH, place.index)
        write_table(path, log, compression="zstd", use_dictionary=False)
    data, about = read_table(data_file), read_table(row_file)
    if not complete:
        data = tables.completed(data, Dataset.open(source.root).episode(source.index, images=False), identity)
        about = completed_row(about, data, identity.added)
    data = renumbered(data, place)
    write_table(episode_file(target, DATA_PATH, place.index), data, **tables.write_options(identity))
    write_row(target, moved_row(about, data, place), place.index)


def _identity(root: Path) -> Identity:
    return Identity.from_json(read_json(root / IDENTITY))


def link_file(file: Path, copy: Path) -> None:
    """Give a file of a dataset a second name in another one.  Raises CorruptEpisode where it is missing."""
    if not file.exists():
        raise CorruptEpisode(f"{file} is missing.", "`bora data repair` sorts this out.")
    make_directory(copy.parent)
    link_or_copy(file, copy)


def renumbered(data: pa.Table, place: Place) -> pa.Table:
    """Return the ticks of an episode as they read at another place."""
    ticks = np.arange(data.num_rows)
    data = _with(data, "episode_index", ticks * 0 + place.index)
    data = _with(data, "index", ticks + place.first)
    return _with(data, "task_index", ticks * 0 + place.task)


def moved_row(row: pa.Table, data: pa.Table, place: Place) -> pa.Table:
    """Return the row of an episode as it reads at another place; data: its ticks, renumbered."""
    import pyarrow as pa

    values: dict[str, Any] = row.to_pylist()[0]
    chunk, file = place.index // FILES_PER_CHUNK, place.index % FILES_PER_CHUNK
    values |= {
        "episode_index": place.index,
        "data/chunk_index": chunk,
        "data/file_index": file,
        "dataset_from_index": place.first,
        "dataset_to_index": place.first + data.num_rows,
        "meta/episodes/chunk_index": chunk,
        "meta/episodes/file_index": file,
    }
    for key in values:
        if key.startswith("videos/") and key.endswith(("/chunk_index", "/file_index")):
            values[key] = chunk if key.endswith("/chunk_index") else file
    for column in NUMBERED:
        described = stats.exact_stats(tables.column_array(data[column])).to_json()
        values |= {k: described[k.rpartition("/")[2]] for k in values if k.startswith(f"stats/{column}/")}
    return pa.Table.from_pylist([values], row.schema)


def write_row(root: Path, row: pa.Table, index: int) -> None:
    """Write the row file of an episode; from then on it exists."""
    options: dict[str, Any] = ROW_OPTIONS
    write_table(episode_file(root, EPISODE_PATH, index), row, **options)


def _with(table: pa.Table, column: str, values: Any) -> pa.Table:
    import pyarrow as pa

    place = table.column_names.index(column)
    return table.set_column(place, table.schema.field(column), pa.array(values, pa.int64()))


def verify(
    root: Path, identity: Identity, sources: Sequence[Source], progress: Progress = no_progress
) -> None:
    """Raise DataError unless a dataset is sound and its episodes say what their sources say."""
    require_sound(root)
    clocks = {source.root: _identity(source.root).clocks for source in sources}
    for index, source in enumerate(sources):
        times = clocks[source.root]
        mine = episode_hash(root, identity, index, times)
        if mine != episode_hash(source.root, identity, source.index, times):
            raise DataError(
                f"Episode {index} of the copy differs from episode {source.index} of {source.root}.",
                "The copy was removed and nothing was changed; check the disk.",
            )
        progress("verify", index + 1, len(sources))


def require_sound(root: Path, indices: Sequence[int] | None = None, *, name: Path | None = None) -> None:
    """Raise DataError for the first error of a dataset.

    indices: episodes that matter, default all.  name: what the error calls it, where a person does not know `root`.
    """
    wanted = None if indices is None else set(indices)
    for finding in check(root):
        if finding.severity == "error" and (
            wanted is None or finding.episode is None or finding.episode in wanted
        ):
            raise DataError(f"{_where(name or root, finding)}: {finding.message}", _REMEDY)


_REMEDY = "Nothing was changed. Try `bora data repair`, or leave the episode out."


def _where(root: Path, finding: Finding) -> str:
    return str(root) if finding.episode is None else f"{root}, episode {finding.episode}"


def common_identity(roots: Sequence[Path]) -> Identity:
    """Return the identity of datasets that agree in everything that learning needs.

    Of `extra`, what is the same everywhere is kept; columns that only some have are filled in for the others.
    Raises SchemaMismatch naming the first field that differs.
    """
    opened = [Dataset.open(root).identity for root in roots]
    first = opened[0]
    for root, other in zip(roots[1:], opened[1:], strict=True):
        between = f"{roots[0]} and {root}"
        first.spec.require_same(other.spec, between)
        for name in FIELDS:
            mine, theirs = getattr(first, name), getattr(other, name)
            if mine != theirs:
                raise SchemaMismatch(
                    f"{between} differ in {name}: {mine!r} against {theirs!r}.",
                    "Only datasets of one robot, one rate and the same cameras can be one dataset.",
                )
    extra = {
        key: value
        for key, value in first.extra.items()
        if key != "job" and all(other.extra.get(key) == value for other in opened)
    }
    added = tuple(name for name in ADDED if any(name in other.added for other in opened))
    return replace(first, extra=extra, added=added)
