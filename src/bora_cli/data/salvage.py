"""Read as much of a damaged episode as its files still tell, and put right what follows from the rest.

Nothing is invented: what was recorded (states, actions, images, rewards, endings) is taken or refused, and
only what follows from it (times, counts, statistics, numbers of its place) is computed again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bora_cli.data import tables
from bora_cli.data.copy import NUMBERED, Place, link_file, moved_row, renumbered, write_row
from bora_cli.data.decision_check import decision_problems, log_problem
from bora_cli.data.episode_check import tick_problems, wrong_statistics
from bora_cli.data.files import read_table, write_table
from bora_cli.data.images import read_frames, read_images
from bora_cli.data.rows import EpisodeRow, histogram_column, read_row, row_table
from bora_cli.data.schema import (
    DATA_PATH,
    DECISION_PATH,
    DERIVED,
    EPISODE_PATH,
    RESIDUAL,
    SCALARS,
    VECTORS,
    Identity,
    episode_file,
    require_well_formed,
    video_file,
)
from bora_cli.errors import CorruptEpisode, DataError
from bora_cli.types import Controller, Decision, Episode

if TYPE_CHECKING:
    import pyarrow as pa

REPAIRED = "repaired"
"""Key of `Episode.meta` under which a repair that lost something says what."""
_ASIDE = "Its files are kept in the quarantine folder."


@dataclass(frozen=True)
class Salvaged:
    """An episode whose ticks are right, with what was wrong.

    episode: without images.  data: its ticks in the dataset's schema, numbered as they were found.
    row: its row file, None where it has to be computed again.  log: its decisions, None where there are none.
    rewritten: whether `data` differs from the file.  notes: one line per thing put right; none for a sound one.
    """

    episode: Episode
    data: pa.Table
    row: pa.Table | None
    log: pa.Table | None
    rewritten: bool
    notes: tuple[str, ...]


def salvage(root: Path, identity: Identity, index: int, instructions: Mapping[int, str]) -> Salvaged:
    """Return what is left of an episode.

    instructions: task_index -> instruction, for an episode whose row is lost.
    Raises DataError saying why it cannot be used.
    """
    stored = read_table(episode_file(root, DATA_PATH, index))
    _require_recorded(stored, identity)
    notes: list[str] = []
    known = _known_row(root, index, notes)
    _require_own(stored, index, known)
    if known is None and not {"task_index", "next.success"} <= set(stored.column_names):
        raise CorruptEpisode("Its row and the columns that could replace it are lost.", _ASIDE)
    prompt = known.prompt if known else instructions.get(stored["task_index"][0].as_py(), "")
    if not prompt:
        raise CorruptEpisode("Its row is lost and its instruction is not in the table of tasks.", _ASIDE)
    log, decisions = _known_log(root, identity, index, known, notes)
    timed = _with_clocks(stored, identity, notes)
    meta = dict(known.meta) if known else {}
    if notes:
        meta[REPAIRED] = [*meta.get(REPAIRED, []), *notes]
    lossy = bool(notes)
    episode = Episode(
        **tables.data_columns(timed),
        images={},
        success=known.success if known else bool(stored["next.success"][-1].as_py()),
        prompt=prompt,
        meta=meta,
        decisions=decisions,
    )
    require_well_formed(episode)
    data, wrong = _with_derived(timed, episode, identity)
    if wrong:
        notes.append(f"Columns computed again: {', '.join(wrong)}.")
    row = None if known is None else read_table(episode_file(root, EPISODE_PATH, index))
    if (
        row is not None
        and known is not None
        and (lossy or not _describes(row, known, episode, data, identity))
    ):
        row = None
        notes.append("Counts and statistics of its row computed again.")
    _require_sound(root, identity, index, episode, data, log, every_image=row is None)
    return Salvaged(episode, data, row, log, bool(wrong) or timed is not stored, tuple(notes))


def write_salvaged(
    found: Salvaged, root: Path, index: int, target: Path, identity: Identity, place: Place
) -> None:
    """Write a salvaged episode of the dataset `root` to its place in a new dataset."""
    import pyarrow as pa

    for camera in identity.cameras if identity.video else ():
        link_file(video_file(root, camera, index), video_file(target, camera, place.index))
    if found.log is not None:
        column = found.log.column_names.index("episode_index")
        numbers = pa.array([place.index] * found.log.num_rows, pa.int64())
        log = found.log.set_column(column, "episode_index", numbers)
        path = episode_file(target, DECISION_PATH, place.index)
        write_table(path, log, compression="zstd", use_dictionary=False)
    data = renumbered(found.data, place)
    old, new = episode_file(root, DATA_PATH, index), episode_file(target, DATA_PATH, place.index)
    if not found.rewritten and all(data[name].equals(found.data[name]) for name in NUMBERED):
        link_file(old, new)
    else:
        write_table(new, data, **tables.write_options(identity))
    if found.row is not None:
        row = moved_row(found.row, data, place)
    else:
        pictures = read_images(root, identity, index, len(found.episode))
        whole = dataclasses.replace(found.episode, images=pictures)
        row = row_table(whole, data, identity, place.index, place.first)
    write_row(target, row, place.index)


def _require_recorded(stored: pa.Table, identity: Identity) -> None:
    """Raise CorruptEpisode unless every column that was recorded is there with its type."""
    if stored.num_rows == 0:
        raise CorruptEpisode("Its data file has no ticks.", _ASIDE)
    schema = identity.arrow_schema()
    for name in (*VECTORS, *SCALARS, *identity.image_columns):
        if name not in stored.column_names:
            raise CorruptEpisode(f"Its data file has no column '{name}'.", _ASIDE)
        if stored.schema.field(name).type != schema.field(name).type:
            raise CorruptEpisode(
                f"Column '{name}' is {stored.schema.field(name).type}; expected {schema.field(name).type}.",
                _ASIDE,
            )


def _require_own(stored: pa.Table, index: int, known: EpisodeRow | None) -> None:
    """Raise CorruptEpisode for the ticks of another episode, and where ticks are lost.

    Numbers that are wrong here and there can be put right; if all agree, or the row does, they tell a story.
    """
    if "episode_index" in stored.column_names:
        said = set(stored["episode_index"].to_pylist())
        if len(said) == 1 and said != {index}:
            raise CorruptEpisode(f"Its data file holds the ticks of episode {said.pop()}.", _ASIDE)
    if "frame_index" in stored.column_names and (known is None or known.length > stored.num_rows):
        frames = np.array(stored["frame_index"].to_pylist(), np.float64)
        if frames[-1] >= len(frames) and (np.diff(frames) > 0).all():
            lost = int(frames[-1]) + 1 - len(frames)
            raise CorruptEpisode(f"{lost} of its {int(frames[-1]) + 1} ticks are lost.", _ASIDE)


def _known_row(root: Path, index: int, notes: list[str]) -> EpisodeRow | None:
    try:
        return read_row(root, index)
    except DataError as error:
        notes.append(f"Row computed again from the ticks, without its meta data: {error.message}")
    except (ValueError, TypeError, KeyError, IndexError) as error:
        notes.append(
            f"Row computed again from the ticks, without its meta data: it cannot be read ({error})."
        )
    return None


def _known_log(
    root: Path, identity: Identity, index: int, known: EpisodeRow | None, notes: list[str]
) -> tuple[pa.Table | None, list[Decision]]:
    """Return the decision log and what it says; None where there is none or it cannot be read."""
    path = episode_file(root, DECISION_PATH, index)
    expected = path.exists() if known is None else known.decisions > 0
    if not expected:
        return None, []
    try:
        log = read_table(path, tables.decision_schema().names)
        if strange := log_problem(log, index, identity.spec.dim):
            raise CorruptEpisode(strange.message, strange.remedy)
        decisions = tables.decisions_from_table(log, identity.spec.dim)
    except (DataError, ValueError, TypeError) as error:
        notes.append(f"Decisions are lost: {error}")
        return None, []
    return (log, decisions) if decisions else (None, [])


def _with_clocks(stored: pa.Table, identity: Identity, notes: list[str]) -> pa.Table:
    """Return the ticks with a column for each clock; one that was lost says -1, which costs an episode nothing else."""
    import pyarrow as pa

    for name in identity.clocks:
        there = name in stored.column_names
        if there and stored[name].type == pa.int64() and not stored[name].null_count:
            continue
        notes.append(f"{name} is lost.")
        stored = stored.drop_columns(name) if there else stored
        stored = stored.append_column(name, pa.array([-1] * stored.num_rows, pa.int64()))
    return stored


def _with_derived(stored: pa.Table, episode: Episode, identity: Identity) -> tuple[pa.Table, list[str]]:
    """Return the ticks with every derived column as it should be, and the names of those that were not.

    The numbers of its place are kept where they are there; whoever writes the episode sets them anyway.
    """
    plain = dataclasses.replace(identity, cameras=(), video="")
    fresh = tables.data_table(episode, plain, 0, 0, 0)
    columns, wrong = [], []
    schema = identity.arrow_schema()
    for name in schema.names:
        recorded = name not in DERIVED and name != RESIDUAL
        if recorded or (name in NUMBERED and name in stored.column_names):
            columns.append(stored[name])
            continue
        right = fresh[name]
        if name not in stored.column_names or not _same(stored[name], right):
            wrong.append(name)
        columns.append(right)
    import pyarrow as pa

    return pa.Table.from_arrays(columns, schema=schema), wrong


def _same(stored: pa.ChunkedArray, right: pa.ChunkedArray) -> bool:
    if stored.type != right.type or stored.null_count:
        return False
    return np.array_equal(tables.column_array(stored), tables.column_array(right), equal_nan=True)


def _describes(
    row: pa.Table, known: EpisodeRow, episode: Episode, data: pa.Table, identity: Identity
) -> bool:
    """Return whether a row has the counts and the statistics of its ticks."""
    per_controller = np.bincount(episode.controller, minlength=len(Controller))
    counted = (known.length, known.decisions, known.controller_ticks)
    if counted != (len(episode), len(episode.decisions), tuple(per_controller.tolist())):
        return False
    values: dict[str, Any] = row.to_pylist()[0]
    if any(values.get(histogram_column(camera)) is None for camera in identity.cameras):
        return False
    names = [name for name in identity.described if name not in NUMBERED]
    return not wrong_statistics(values, {name: tables.column_array(data[name]) for name in names})


def _require_sound(
    root: Path,
    identity: Identity,
    index: int,
    episode: Episode,
    data: pa.Table,
    log: pa.Table | None,
    *,
    every_image: bool,
) -> None:
    """Raise CorruptEpisode for the first error that cannot be put right."""
    place = Place(0, 0, 0)
    data = renumbered(data, place)
    columns = {name: tables.column_array(data[name]) for name in identity.numeric}
    counts = np.bincount(episode.controller, minlength=len(Controller)).tolist()
    row = EpisodeRow(
        place.index,
        len(episode),
        place.first,
        episode.prompt,
        episode.success,
        len(episode.decisions),
        tuple(counts),
        episode.meta,
    )
    problems = [*tick_problems(columns, row, identity, {episode.prompt: place.task})]
    if log is not None:
        problems += decision_problems(log, row)
    for problem in problems:
        if problem.severity == "error":
            raise CorruptEpisode(problem.message, _ASIDE)
    last = len(episode) - 1
    ticks = range(last + 1) if every_image else np.unique(np.linspace(0, last, 3).astype(int)).tolist()
    for camera in identity.cameras:
        read_frames(root, identity, index, camera, ticks)
