"""A growing set of episodes in one directory."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bora_cli.data import images as pictures
from bora_cli.data import tables
from bora_cli.data.files import (
    Tracer,
    locked,
    no_trace,
    read_json,
    read_table,
    write_bytes,
    write_json,
    write_table,
)
from bora_cli.data.leftovers import leftovers, put_aside, report_leftovers, require_leftovers
from bora_cli.data.row_index import GATHER, gather, read_rows
from bora_cli.data.rows import (
    ROW_OPTIONS,
    EpisodeRow,
    count_episodes,
    histogram_column,
    read_row,
    row_table,
)
from bora_cli.data.running import DatasetStats
from bora_cli.data.schema import (
    ADDED,
    DATA_PATH,
    DECISION_PATH,
    EPISODE_PATH,
    IDENTITY,
    INFO,
    SCALARS,
    STATS,
    TASKS,
    VECTORS,
    Identity,
    episode_file,
    header,
    require_well_formed,
)
from bora_cli.data.tasks import read_tasks, write_tasks
from bora_cli.data.video import require_codec
from bora_cli.errors import CorruptEpisode, DataError, SchemaMismatch
from bora_cli.types import ActionSpec, Episode

logger = logging.getLogger(__name__)

PATIENCE_S = 0.2
"""How long an append waits for somebody who only looks, s."""
_BLOCK = 256
"""Episodes whose ticks are in memory at once while statistics are made anew."""


class Dataset:
    """Episodes 0 .. N-1 in a LeRobot v3 directory.

    An episode exists from the moment its row file under meta/episodes has its name, and never changes
    afterwards.  A process killed while it appends leaves the earlier episodes as they were; what it left
    behind is ignored by readers and put aside by the next append or `repair`.  Any number of processes may read
    while one appends.
    Make one with `create` or `open`.
    """

    def __init__(self, root: Path, identity: Identity) -> None:
        self.root = root
        self.identity = identity
        self._made = _stamp(root)
        self._count = count_episodes(root)
        self._rows: dict[int, EpisodeRow] = {}
        self._stats: DatasetStats | None = None
        self._gathers = True

    @classmethod
    def create(
        cls,
        root: Path | str,
        spec: ActionSpec,
        state_names: Sequence[str],
        cameras: Sequence[str],
        *,
        image_size: int | tuple[int, int],
        fps: float,
        robot_type: str,
        extra: dict[str, Any] | None = None,
        video: str = "",
        added: Sequence[str] = ADDED,
    ) -> Self:
        """Make an empty dataset in a directory that is new or empty.

        image_size: pixels, one number for square images or (height, width).  extra: JSON values kept in
        meta/bora.json.  video: a codec of `bora_cli.data.video.CODECS`, "" for PNG files in the data table.
        added: see `Identity`; fewer for a copy of a dataset that has fewer.
        Raises DataError if the directory is already in use, ConfigError for a codec that cannot be used.
        """
        if video:
            require_codec(video)
        root = Path(root)
        if (root / IDENTITY).exists():
            raise DataError(
                f"{root} is already a dataset.", "Open it to append, or choose another directory."
            )
        if root.exists() and any(path.name != IDENTITY.parent.name for path in root.iterdir()):
            raise DataError(f"{root} is not empty; expected a new directory.", "Choose another directory.")
        size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
        kept = json.loads(json.dumps(extra or {}))
        identity = Identity(
            spec, tuple(state_names), tuple(cameras), size, fps, robot_type, kept, video, tuple(added)
        )
        write_json(root / INFO, header(identity, 0, 0, 0))
        write_json(root / STATS, {})
        write_json(root / IDENTITY, identity.to_json())
        return cls(root, identity)

    @classmethod
    def open(cls, root: Path | str, *, gather: bool = True) -> Self:
        """Open an existing dataset, which changes nothing; what a writer that died left is ignored and logged.

        gather: whether `rows` may write cache/rows.parquet, so that thousands of rows are there at once next time.
        Raises DataError where there is no dataset.
        """
        root = Path(root)
        if not (root / IDENTITY).exists():
            raise DataError(
                f"{root} is not a bora dataset: it has no {IDENTITY}.",
                "Make one of LeRobot's with `bora data import`."
                if (root / INFO).exists()
                else "Give the directory that holds meta/ and data/.",
            )
        dataset = cls(root, Identity.from_json(read_json(root / IDENTITY)))
        dataset._gathers = gather
        try:
            report_leftovers(root, dataset.identity, len(dataset))
        except OSError as error:
            logger.warning("Leftovers of an interrupted write in %s cannot be told: %s", root, error)
        return dataset

    def __len__(self) -> int:
        return self._count

    @property
    def spec(self) -> ActionSpec:
        return self.identity.spec

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.identity.state_names

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.identity.cameras

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.identity.image_size

    @property
    def fps(self) -> float:
        """Ticks per second."""
        return self.identity.fps

    @property
    def ticks(self) -> int:
        """Ticks of all episodes."""
        if not self._count:
            return 0
        last = self.row(self._count - 1)
        return last.first_index + last.length

    @property
    def info(self) -> dict[str, Any]:
        """LeRobot's header with the true totals, and the `extra` that was given to `create`."""
        return {**self.identity.extra, **self._header()}

    def row(self, index: int) -> EpisodeRow:
        """Return what is known about an episode without opening its ticks.

        Negative indices count from the end.  Raises DataError for an index outside the dataset.
        """
        if not -self._count <= index < self._count:
            raise DataError(
                f"Episode {index} does not exist; the dataset has {self._count}.",
                f"Use an index from 0 to {self._count - 1}." if self._count else "Append an episode first.",
            )
        index %= self._count
        if index not in self._rows:
            self._rows[index] = read_row(self.root, index)
        return self._rows[index]

    def rows(self) -> list[EpisodeRow]:
        """Return what is known about every episode without opening its ticks."""
        if len(self._rows) < self._count:
            self._rows = dict(enumerate(read_rows(self.root, self._count, self._gathers)))
        return [self._rows[index] for index in range(self._count)]

    def append(self, episode: Episode, trace: Tracer = no_trace) -> int:
        """Add an episode and return its index; it is wholly there or not at all.

        trace: called between every two file operations (for tests of crashes).
        Raises SchemaMismatch if the episode does not fit the dataset, DataError if another process appends or
        the dataset was rewritten since it was opened.
        """
        require_well_formed(episode)
        self.identity.require_fits(episode)
        with locked(self.root / IDENTITY, PATIENCE_S) as mine:
            if not mine:
                raise DataError(
                    f"Another process is appending to {self.root}.",
                    "Wait until it has finished, or record into another directory.",
                )
            if _stamp(self.root) != self._made:
                raise DataError(
                    f"{self.root} was rewritten after it was opened, by `bora data` for instance.",
                    "Nothing was appended; open it again.",
                )
            self._tidy(trace)
            index, first = self._count, self.ticks
            known = read_tasks(self.root / TASKS)
            if episode.prompt not in known:
                known[episode.prompt] = max(known.values(), default=-1) + 1
                write_tasks(self.root / TASKS, known, trace)
            data = tables.data_table(episode, self.identity, index, first, known[episode.prompt])
            row = row_table(episode, data, self.identity, index, first)
            if episode.decisions:
                log = tables.decision_table(episode.decisions, index)
                path = episode_file(self.root, DECISION_PATH, index)
                write_table(path, log, trace, compression="zstd", use_dictionary=False)
            pictures.write_videos(self.root, self.identity, index, episode, trace)
            options = tables.write_options(self.identity)
            write_table(episode_file(self.root, DATA_PATH, index), data, trace, **options)
            if self._stats is None:
                self._stats = self._scan_stats()
            write_table(episode_file(self.root, EPISODE_PATH, index), row, trace, **ROW_OPTIONS)
            self._count = index + 1
            self._stats.add(data, row)
            self._write_derived(trace)
        if self._count % GATHER == 0:
            with suppress(
                CorruptEpisode
            ):  # the episode is committed; whoever reads the damaged row will hear
                gather(self.root, self.rows())
        return index

    def episode(self, index: int, images: bool = True) -> Episode:
        """Return one episode as it was appended; images=False leaves them out, which takes milliseconds.

        Negative indices count from the end.  Raises DataError for an index outside the dataset,
        CorruptEpisode where files are missing, torn or disagree.
        """
        row = self.row(index)
        data = read_table(
            episode_file(self.root, DATA_PATH, row.index), [*VECTORS, *SCALARS, *self.identity.clocks]
        )
        if data.num_rows != row.length:
            raise CorruptEpisode(
                f"Episode {row.index} has {data.num_rows} ticks on disk; its row says {row.length}.",
                "Restore the data file from a copy.",
            )
        decisions = []
        if row.decisions:
            log = read_table(episode_file(self.root, DECISION_PATH, row.index))
            decisions = tables.decisions_from_table(log, self.spec.dim)
        return Episode(
            **tables.data_columns(data),
            images=pictures.read_images(self.root, self.identity, row.index, row.length) if images else {},
            success=row.success,
            prompt=row.prompt,
            meta=copy.deepcopy(row.meta),
            decisions=decisions,
        )

    def episodes(self, images: bool = True) -> Iterator[Episode]:
        """Yield all episodes in order, one in memory at a time."""
        for index in range(self._count):
            yield self.episode(index, images)

    def columns(self, names: Sequence[str]) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Return low-dimensional columns of all episodes at once, and where each episode starts.

        names: columns of the data files, e.g. "observation.state", "action", "next.reward" (not images).
        Returns ({name: [T_total] or [T_total, D]}, offsets int64 [N + 1]): episode i is rows
        offsets[i] : offsets[i + 1].  Raises SchemaMismatch for an unknown column.
        """
        import pyarrow as pa

        known = self.identity.numeric
        for name in names:
            if name not in known:
                raise SchemaMismatch(f"Unknown column '{name}'.", f"Known columns: {', '.join(known)}.")
        schema = self.identity.arrow_schema()
        pieces = [pa.schema([schema.field(name) for name in names]).empty_table()]
        for index in range(self._count):
            pieces.append(read_table(episode_file(self.root, DATA_PATH, index), list(names)))
        offsets = np.cumsum([piece.num_rows for piece in pieces])
        table = pa.concat_tables(pieces)
        return {name: tables.column_array(table[name]) for name in names}, offsets

    def summary(self) -> dict[str, Any]:
        """Return counts, shares and hashes for people, as JSON values; see `bora_cli.data.summary`."""
        from bora_cli.data.summary import summarise

        return summarise(self)

    def repair(self, trace: Tracer = no_trace) -> bool:
        """Put aside what an interrupted append left behind and rewrite derived files that are out of date.

        Returns whether anything had to be done.  Does nothing while another process appends.
        Raises CorruptEpisode, with nothing changed, where a committed episode lost its row.
        """
        with locked(self.root / IDENTITY) as mine:
            return mine and self._tidy(trace)

    def _tidy(self, trace: Tracer) -> bool:
        """Bring the directory in line with the committed episodes; the caller holds the lock."""
        before, self._count = self._count, count_episodes(self.root, self._count)
        if self._count > before:
            self._stats = None
        left = leftovers(self.root, self.identity, self._count)
        require_leftovers(self.root, self._count, left)
        if left:
            put_aside(self.root, left, self._count, trace)
        try:
            stale = read_json(self.root / INFO) != self._header() or not (self.root / STATS).exists()
        except DataError:
            stale = True
        if stale:
            self._stats = None
            self._write_derived(trace)
        return bool(left) or stale

    def _write_derived(self, trace: Tracer) -> None:
        """Write stats.json, then info.json: a header with the right totals implies current statistics."""
        if self._stats is None:
            self._stats = self._scan_stats()
        write_bytes(self.root / STATS, json.dumps(self._stats.to_json()).encode(), trace)
        write_json(self.root / INFO, self._header(), trace)

    def _header(self) -> dict[str, Any]:
        return header(self.identity, self._count, self.ticks, len(read_tasks(self.root / TASKS)))

    def _scan_stats(self) -> DatasetStats:
        """Return the statistics of all committed episodes; damaged ones are left out with a warning."""
        import pyarrow as pa

        histograms = ["episode_index", *(histogram_column(camera) for camera in self.cameras)]
        total = DatasetStats(self.identity)
        data: list[pa.Table] = []
        found: list[pa.Table] = []
        for index in range(self._count):
            try:
                row = read_table(episode_file(self.root, EPISODE_PATH, index), histograms)
                data.append(read_table(episode_file(self.root, DATA_PATH, index), self.identity.described))
                found.append(row)
            except CorruptEpisode as error:
                logger.warning("Statistics leave out episode %d: %s", index, error)
            if len(found) == _BLOCK or (found and index == self._count - 1):
                total.add(pa.concat_tables(data), pa.concat_tables(found))
                data, found = [], []
        return total


def _stamp(root: Path) -> tuple[int, int]:
    """Return what tells a dataset from one that took its place: inode and time (ns) of its identity."""
    about = (root / IDENTITY).stat()
    return about.st_ino, about.st_mtime_ns
