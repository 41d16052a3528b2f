"""Examine a dataset without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bora_cli.data.decision_check import decision_problems, log_problem
from bora_cli.data.episode_check import Problem, derived_problem, row_problem, tick_problems
from bora_cli.data.files import TEMPORARY, read_json, read_table
from bora_cli.data.images import read_frames
from bora_cli.data.rows import EpisodeRow, count_episodes, histogram_column, named_episode, read_row
from bora_cli.data.running import DatasetStats
from bora_cli.data.schema import (
    DATA_PATH,
    DECISION_PATH,
    EPISODE_PATH,
    IDENTITY,
    INFO,
    STATS,
    TASKS,
    Identity,
    episode_file,
    header,
    video_file,
)
from bora_cli.data.statistics import differences
from bora_cli.data.tables import column_array, decisions_from_table
from bora_cli.data.tasks import read_tasks
from bora_cli.data.video import frame_count
from bora_cli.errors import DataError
from bora_cli.types import Decision

Severity = Literal["error", "warning"]
_RESTORE = "Restore the file from a copy."
_TIDY = "Nothing is lost: `bora data repair` or the next append puts it right."
_FOREIGN = "If it is LeRobot's, `bora data import` makes one of ours; if it was ours, `bora data repair --like` helps."
_RENEW = "Nothing is lost: `bora data repair` computes it again."


@dataclass(frozen=True)
class Finding:
    """Something wrong with a dataset.

    severity: "error" where learning from the data would go wrong, "warning" where somebody should know.
    episode: its index, or None for the dataset as a whole.  remedy: the next step, one line.
    file: where it was found, relative to the dataset, "" where the message says so.
    """

    severity: Severity
    episode: int | None
    message: str
    remedy: str
    file: str = ""


def check(root: Path | str, images_per_episode: int | None = 3) -> list[Finding]:
    """Return everything that is wrong with a dataset, an empty list if it is sound.

    images_per_episode: how many images per camera are decoded, spread over the episode; 0 skips them, None
    takes all.  Nothing is written; the dataset may be in use.
    """
    root = Path(root)
    try:
        identity = Identity.from_json(read_json(root / IDENTITY))
    except DataError as error:
        foreign = (root / INFO).exists() and not (root / IDENTITY).exists()
        return [Finding("error", None, error.message, _FOREIGN if foreign else error.hint)]
    findings: list[Finding] = []
    indices = _indices(root)
    findings += _strangers(root)
    findings += _gaps_in(indices)
    findings += _groups(identity)
    tasks: dict[str, int] | None = None
    try:
        tasks = read_tasks(root / TASKS)
        if message := ambiguous_tasks(root):
            findings.append(Finding("error", None, message, _RENEW))
    except Exception as error:  # pyarrow raises many kinds
        findings.append(Finding("error", None, f"{TASKS} cannot be read: {error}.", _RESTORE))
    rows: list[EpisodeRow] = []
    first = 0
    known = True  # whether `first` is where the next episode must start
    totals = DatasetStats(identity)
    for index in indices:
        try:
            row = read_row(root, index)
        except DataError as error:
            findings.append(Finding("error", index, error.message, error.hint))
            known = False
            continue
        if row.first_index != first and known and len(rows) == index:
            message = f"It starts at tick {row.first_index} of the dataset; expected {first}."
            findings.append(Finding("error", index, message, _RESTORE, _name(EPISODE_PATH, index)))
            row = replace(row, first_index=first)
        problems = list(_episode(root, identity, row, tasks, images_per_episode, totals))
        findings += [
            Finding(p.severity, index, p.message, p.remedy, _name(DATA_PATH, index)) for p in problems
        ]
        known = not any(p.severity == "error" for p in problems)
        first = row.first_index + row.length
        rows.append(row)
    findings += _derived(root, identity, len(indices), first, tasks)
    if rows and not any(finding.severity == "error" for finding in findings):
        findings += _statistics(root, totals, len(rows))
    findings += _leftovers(root, set(indices))
    findings += _mixed(rows)
    findings += _duplicates(rows)
    return findings


def _name(template: str, index: int) -> str:
    return str(episode_file(Path(), template, index))


def _indices(root: Path) -> list[int]:
    files = (root / "meta/episodes").glob("*/*.parquet")
    return sorted(index for file in files if (index := named_episode(file)) is not None)


def _strangers(root: Path) -> Iterator[Finding]:
    for place in ("meta/episodes", "data", "decisions", "videos"):
        severity: Severity = "error" if place == "meta/episodes" else "warning"
        for file in sorted((root / place).rglob("*")):
            if file.suffix in (".parquet", ".mp4") and named_episode(file) is None and file.is_file():
                yield Finding(
                    severity,
                    None,
                    f"{file.relative_to(root)} is not the name of an episode; expected"
                    f" chunk-NNN/file-NNN{file.suffix}.",
                    "Move the file out of the dataset, or give it its name back.",
                )


def _gaps_in(indices: list[int]) -> Iterator[Finding]:
    missing = sorted(set(range(max(indices, default=-1) + 1)) - set(indices))
    if missing:
        yield Finding(
            "error",
            missing[0],
            f"Episodes {missing} are missing although episode {indices[-1]} exists; indices must have no gap,"
            f" so every reader stops at episode {missing[0]} (no {_name(EPISODE_PATH, missing[0])}).",
            "Restore the files from a copy.",
        )


def _episode(
    root: Path,
    identity: Identity,
    row: EpisodeRow,
    tasks: dict[str, int] | None,
    images: int | None,
    totals: DatasetStats,
) -> Iterator[Problem]:
    """Yield what is wrong with an episode; where nothing is, its numbers are added to `totals`."""
    path = episode_file(root, DATA_PATH, row.index)
    try:
        data = read_table(path, identity.numeric)
        columns = {name: column_array(data[name]) for name in identity.numeric}
        problems = list(tick_problems(columns, row, identity, tasks))
        decisions: list[Decision] = []
        if row.decisions:
            log = read_table(episode_file(root, DECISION_PATH, row.index))
            strange = log_problem(log, row.index, identity.spec.dim)
            whole = log.num_rows == row.decisions
            problems += [strange] if strange and whole else list(decision_problems(log, row))
            decisions = [] if strange else decisions_from_table(log, identity.spec.dim)
        if not _errors(problems) and (wrong := derived_problem(columns, row, identity, decisions)):
            problems.append(wrong)
        if not _errors(problems):
            stored = read_table(episode_file(root, EPISODE_PATH, row.index))
            described = {name: columns[name] for name in identity.described}
            if wrong := row_problem(stored.to_pylist()[0], described, row):
                problems.append(wrong)
            else:
                histograms = ["episode_index", *map(histogram_column, identity.cameras)]
                totals.add(data, stored.select(histograms))
        yield from problems
    except DataError as error:
        yield Problem("error", error.message, error.hint)
        return
    except (TypeError, ValueError, KeyError, AttributeError) as error:  # columns of kinds nobody thought of
        yield Problem("error", f"{path} cannot be understood: {error}.", _RESTORE)
        return
    if images == 0 or data.num_rows != row.length:
        return
    some = np.unique(np.linspace(0, row.length - 1, images or row.length).round().astype(int))
    for camera in identity.cameras:
        try:
            read_frames(root, identity, row.index, camera, some.tolist())
            frames = frame_count(video_file(root, camera, row.index)) if identity.video else row.length
            if frames != row.length:
                video = video_file(Path(), camera, row.index)
                yield Problem("error", f"{video} has {frames} frames; expected {row.length}.", _RESTORE)
        except DataError as error:
            yield Problem("error", error.message, error.hint)


def _errors(problems: list[Problem]) -> bool:
    return any(problem.severity == "error" for problem in problems)


def _groups(identity: Identity) -> Iterator[Finding]:
    spec = identity.spec
    for name, (start, stop) in spec.groups.items():
        if not 0 <= start <= stop <= spec.dim:  # a robot without a hand has an empty group
            message = f"{IDENTITY}: group '{name}' of action_spec is actions {start} to {stop};"
            yield Finding("error", None, f"{message} there are {spec.dim}.", _RESTORE)


def ambiguous_tasks(root: Path) -> str:
    """Return what makes the table of instructions ambiguous, "" where nothing does."""
    rows = read_table(root / TASKS).num_rows if (root / TASKS).exists() else 0
    tasks = read_tasks(root / TASKS)
    odd = [key for key, n in tasks.items() if not isinstance(key, str) or not isinstance(n, int) or n < 0]
    if odd:
        return f"{TASKS} has no number or no instruction in the row of {odd[0]!r}."
    if not rows == len(tasks) == len(set(tasks.values())):
        numbers = len(set(tasks.values()))
        return (
            f"{TASKS} has {rows} rows for {len(tasks)} instructions and {numbers} numbers; expected one each."
        )
    return ""


def _derived(
    root: Path, identity: Identity, episodes: int, ticks: int, tasks: dict[str, int] | None
) -> Iterator[Finding]:
    try:
        info = read_json(root / INFO)
        read_json(root / STATS)
    except DataError as error:
        yield Finding("warning", None, error.message, _TIDY)
        return
    if not isinstance(info, dict):
        yield Finding("error", None, f"{INFO} holds {info!r:.60}; expected a JSON object.", _TIDY)
        return
    expected = header(identity, episodes, ticks, len(tasks or {}))
    totals = ["total_episodes", "total_frames", "splits", *(["total_tasks"] if tasks is not None else [])]
    for name in totals:
        found = info.get(name)
        if name != "splits" and (isinstance(found, bool) or not isinstance(found, int) or found < 0):
            message = f"{INFO}: {name} is {found!r:.60}; expected {expected[name]}."
            yield Finding("error", None, message, _TIDY)
            return
    wrong = [
        f"{name} {info.get(name)}, found {expected[name]}"
        for name in totals
        if info.get(name) != expected[name]
    ]
    if wrong:
        yield Finding("warning", None, f"{INFO} disagrees with the episodes: {'; '.join(wrong)}.", _TIDY)
    for name in ("codebase_version", "fps", "robot_type", "chunks_size", "data_path", "video_path"):
        if info.get(name) != expected[name]:
            message = f"{INFO}: {name} is {info.get(name)!r}; expected {expected[name]!r}."
            yield Finding("error", None, message, _TIDY)
    if info.get("features") != expected["features"]:
        yield Finding("error", None, f"{INFO} lists other features than {IDENTITY} implies.", _TIDY)


def _statistics(root: Path, totals: DatasetStats, episodes: int) -> Iterator[Finding]:
    """Compare stats.json with statistics computed afresh from all episodes."""
    try:
        wrong = differences(read_json(root / STATS), totals.to_json())
    except DataError:
        return  # `_derived` says so
    if wrong and count_episodes(root, episodes) == episodes:  # otherwise it grew while it was examined
        yield Finding("error", None, f"{STATS} is wrong about {', '.join(wrong)}.", _RENEW, str(STATS))


def _leftovers(root: Path, committed: set[int]) -> Iterator[Finding]:
    parts = ("meta", "data", "decisions", "videos")
    found = [file for part in parts for file in (root / part).rglob("*" + TEMPORARY)]
    for pattern in (
        "data/chunk-*/file-*.parquet",
        "decisions/chunk-*/file-*.parquet",
        "videos/*/chunk-*/file-*.mp4",
    ):
        found += [file for file in root.glob(pattern) if named_episode(file) not in {None, *committed}]
    if found:
        names = ", ".join(str(file.relative_to(root)) for file in sorted(found))
        yield Finding("warning", None, f"An interrupted append left {names}.", _TIDY)


def _mixed(rows: list[EpisodeRow]) -> Iterator[Finding]:
    """Compare what should be equal in all episodes that know it."""
    for key, what in (("renderer", "render backends"), ("profile_hash", "hardware profiles")):
        groups: dict[str, list[int]] = {}
        for row in rows:
            if key in row.meta:
                groups.setdefault(str(row.meta[key]), []).append(row.index)
        if len(groups) > 1:
            counts = [f"{value}: {len(found)} from episode {found[0]}" for value, found in groups.items()]
            detail = "; ".join(counts)
            yield Finding(
                "warning",
                None,
                f"Episodes come from different {what} ({detail}).",
                "Record one dataset per rig, or be sure that the policy may see both.",
            )


def _duplicates(rows: list[EpisodeRow]) -> Iterator[Finding]:
    seen: dict[tuple[Any, ...], int] = {}
    for row in rows:
        if "scene_seed" not in row.meta:
            continue
        key = tuple(str(row.meta.get(k)) for k in ("task", "setting", "gap", "scene_seed"))
        if key in seen:
            yield Finding(
                "warning",
                row.index,
                f"Scene seed {row.meta['scene_seed']} was already used in episode {seen[key]}.",
                "Collect with another --seed, so that every episode shows a new scene.",
            )
        seen.setdefault(key, row.index)
