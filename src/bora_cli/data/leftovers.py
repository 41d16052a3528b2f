"""What an append that was interrupted leaves behind: found by anybody, put aside by whoever writes next."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from bora_cli.data.exchange import QUARANTINE
from bora_cli.data.files import TEMPORARY, Tracer, locked, make_directory, no_trace, read_json, sync_directory
from bora_cli.data.images import unfinished
from bora_cli.data.rows import later_rows
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
)
from bora_cli.errors import CorruptEpisode, DataError

logger = logging.getLogger(__name__)


def leftovers(root: Path, identity: Identity, episodes: int) -> list[Path]:
    """Return what lies where the next episode of a dataset will lie, and temporary files."""
    files = [episode_file(root, path, episodes) for path in (DATA_PATH, DECISION_PATH)]
    for path in (EPISODE_PATH, DATA_PATH, DECISION_PATH):
        file = episode_file(root, path, episodes)
        files.append(file.with_name(file.name + TEMPORARY))
    files += unfinished(root, identity, episodes)
    files += [root / (str(path) + TEMPORARY) for path in (IDENTITY, INFO, STATS, TASKS)]
    return [file for file in files if file.exists()]


def counted_episodes(root: Path) -> int:
    """Return how many episodes meta/info.json counts, 0 where it does not say."""
    try:
        count = read_json(root / INFO)["total_episodes"]
    except (DataError, KeyError, TypeError):
        return 0
    return count if isinstance(count, int) and not isinstance(count, bool) else 0


def require_leftovers(root: Path, episodes: int, left: Sequence[Path]) -> None:
    """Raise CorruptEpisode if the files are those of an episode that only lost its row."""
    if not any(file.suffix != TEMPORARY for file in left):
        return
    counted = counted_episodes(root)
    beyond = next(later_rows(root, episodes), None)
    if beyond is not None:
        why = f"episode {beyond} exists"
    elif counted > episodes:
        why = f"{INFO} counts {counted} episodes"
    else:
        return
    raise CorruptEpisode(
        f"{root}: {why}, but {EPISODE_PATH.split('/chunk')[0]} has no episode {episodes}; nothing was removed.",
        "Restore the missing file from a copy, or let `bora data repair` compute it again.",
    )


def report_leftovers(root: Path, identity: Identity, episodes: int) -> None:
    """Log what an interrupted append left, unless one is going on; changes nothing."""
    left = leftovers(root, identity, episodes)
    if not left:
        return
    with locked(root / IDENTITY) as mine:
        if not mine:
            return
    try:
        require_leftovers(root, episodes, left)
    except CorruptEpisode as error:
        logger.warning("%s %s", error.message, error.hint)
        return
    logger.warning("%s: ignored what an interrupted append left (%s)", root, _names(root, left))


def put_aside(root: Path, left: Sequence[Path], episodes: int, trace: Tracer) -> None:
    """Move leftovers into the quarantine folder; temporary files are removed.  The caller holds the lock."""
    kept = [file for file in left if file.suffix != TEMPORARY]
    for file in left:
        if file.suffix == TEMPORARY:
            file.unlink()
            trace(f"removed {file.name}")
    if kept:
        folder = new_folder(root, root, f"episode-{episodes:06d}")
        trace(f"made {folder.name}")
        (folder / "reason.txt").write_text("Its recording was interrupted before it was committed.\n")
        for file in kept:
            file.rename(folder / quarantined(root, file))
            trace(f"moved {file.name}")
        sync_directory(folder)
    logger.warning(
        "%s: put aside what an interrupted append left of episode %d (%s)", root, episodes, _names(root, left)
    )


def new_folder(root: Path, target: Path, name: str) -> Path:
    """Make a folder in the quarantine of `target` beside those that earlier repairs left in `root`."""
    number = 1
    unique = name
    while any((place / QUARANTINE / unique).exists() for place in (root, target)):
        number += 1
        unique = f"{name}-{number}"
    make_directory(target / QUARANTINE / unique, no_trace)
    return target / QUARANTINE / unique


def quarantined(root: Path, file: Path) -> str:
    """Return the name that a file of a dataset has in the quarantine folder."""
    return file.relative_to(root).as_posix().replace("/", "--")


def _names(root: Path, files: Sequence[Path]) -> str:
    return ", ".join(str(file.relative_to(root)) for file in files)
