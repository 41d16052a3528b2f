"""Examine a dataset without changing it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bora_cli.data.episode_check import Problem, decision_problems, tick_problems
from bora_cli.data.files import TEMPORARY, read_json, read_table
from bora_cli.data.images import read_frames
from bora_cli.data.rows import EpisodeRow, read_row
from bora_cli.data.schema import (
    DATA_PATH,
    DECISION_PATH,
    FILES_PER_CHUNK,
    IDENTITY,
    INFO,
    STATS,
    TASKS,
    Identity,
    episode_file,
)
from bora_cli.data.tables import column_array
from bora_cli.data.tasks import read_tasks
from bora_cli.errors import DataError

Severity = Literal["error", "warning"]
_RESTORE = "Restore the file from a copy."
_TIDY = "Nothing is lost: the next open or append puts it right."


@dataclass(frozen=True)
class Finding:
    """Something wrong with a dataset.

    severity: "error" where learning from the data would go wrong, "warning" where somebody should know.
    episode: its index, or None for the dataset as a whole.  remedy: the next step, one line.
    """

    severity: Severity
    episode: int | None
    message: str
    remedy: str


def check(root: Path | str, images_per_episode: int = 3) -> list[Finding]:
    """Return everything that is wrong with a dataset, an empty list if it is sound.

    images_per_episode: how many images per camera are decoded, spread over the episode; 0 skips them.
    Nothing is written; the dataset may be in use.
    """
    root = Path(root)
    try:
        identity = Identity.from_json(read_json(root / IDENTITY))
    except DataError as error:
        return [Finding("error", None, error.message, error.hint)]
    findings: list[Finding] = []
    indices = _indices(root)
    findings += _gaps_in(indices)
    try:
        tasks = read_tasks(root / TASKS)
    except Exception as error:  # pyarrow raises many kinds
        tasks = {}
        findings.append(Finding("error", None, f"{TASKS} cannot be read: {error}.", _RESTORE))
    rows: list[EpisodeRow] = []
    first = 0
    for index in indices:
        try:
            row = read_row(root, index)
        except DataError as error:
            findings.append(Finding("error", index, error.message, error.hint))
            continue
        if row.first_index != first and rows and rows[-1].index == index - 1:
            message = f"It starts at tick {row.first_index} of the dataset; expected {first}."
            findings.append(Finding("error", index, message, _RESTORE))
        first = row.first_index + row.length
        rows.append(row)
        problems = _episode(root, identity, row, tasks, images_per_episode)
        findings += [Finding(p.severity, index, p.message, p.remedy) for p in problems]
    findings += _derived(root, identity, len(indices), first, len(tasks))
    findings += _leftovers(root, set(indices))
    findings += _mixed(rows)
    findings += _duplicates(rows)
    return findings


def _indices(root: Path) -> list[int]:
    return sorted(_index_of(file) for file in (root / "meta/episodes").glob("chunk-*/file-*.parquet"))


def _index_of(file: Path) -> int:
    chunk = file.parent.name.removeprefix("chunk-")
    return int(chunk) * FILES_PER_CHUNK + int(file.stem.removeprefix("file-"))


def _gaps_in(indices: list[int]) -> Iterator[Finding]:
    missing = sorted(set(range(max(indices, default=-1) + 1)) - set(indices))
    if missing:
        yield Finding(
            "error",
            missing[0],
            f"Episodes {missing} are missing although episode {indices[-1]} exists; indices must have no gap,"
            f" so every reader stops at episode {missing[0]}.",
            "Restore the files from a copy.",
        )


def _episode(
    root: Path, identity: Identity, row: EpisodeRow, tasks: dict[str, int], images: int
) -> Iterator[Problem]:
    path = episode_file(root, DATA_PATH, row.index)
    try:
        data = read_table(path, identity.numeric)
        columns = {name: column_array(data[name]) for name in identity.numeric}
        if row.decisions:
            log = read_table(episode_file(root, DECISION_PATH, row.index))
            yield from decision_problems(log, row)
    except DataError as error:
        yield Problem("error", error.message, error.hint)
        return
    yield from tick_problems(columns, row, identity, tasks)
    if not images or data.num_rows != row.length:
        return
    some = np.unique(np.linspace(0, row.length - 1, images).astype(int))
    for camera in identity.cameras:
        try:
            read_frames(root, identity, row.index, camera, some.tolist())
        except DataError as error:
            yield Problem("error", error.message, error.hint)


def _derived(root: Path, identity: Identity, episodes: int, ticks: int, tasks: int) -> Iterator[Finding]:
    try:
        info = read_json(root / INFO)
        read_json(root / STATS)
    except DataError as error:
        yield Finding("warning", None, error.message, _TIDY)
        return
    totals = {"total_episodes": episodes, "total_frames": ticks, "total_tasks": tasks}
    wrong = [f"{name} {info.get(name)}, found {n}" for name, n in totals.items() if info.get(name) != n]
    if wrong:
        yield Finding("warning", None, f"{INFO} disagrees with the episodes: {'; '.join(wrong)}.", _TIDY)
    if info.get("features") != identity.features:
        yield Finding("error", None, f"{INFO} lists other features than {IDENTITY} implies.", _TIDY)


def _leftovers(root: Path, committed: set[int]) -> Iterator[Finding]:
    parts = ("meta", "data", "decisions", "videos")
    found = [file for part in parts for file in (root / part).rglob("*" + TEMPORARY)]
    for pattern in (
        "data/chunk-*/file-*.parquet",
        "decisions/chunk-*/file-*.parquet",
        "videos/*/chunk-*/file-*.mp4",
    ):
        found += [file for file in root.glob(pattern) if _index_of(file) not in committed]
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
