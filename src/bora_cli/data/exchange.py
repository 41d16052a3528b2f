"""Put a new dataset in the place of an old one so that at every moment one of them is whole.

The new dataset grows in a hidden directory beside its place.  When it is complete and checked, the old one
is renamed to NAME.backup-K and the new one gets the name.  A process killed before that leaves the old
dataset as it was; one killed between the two renames leaves both, and `recover` gives the old one its name
back.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bora_cli.data.files import Tracer, claimed, locked, no_trace, sync_directory
from bora_cli.data.schema import IDENTITY
from bora_cli.errors import DataError

KNOWN = ("meta", "data", "decisions", "videos", "cache")
"""What a rewrite makes anew, or drops (the cache is numbered by episode); anything else is carried over."""


QUARANTINE = "quarantine"
"""Where `bora data repair` keeps what it took out of a dataset."""


def aside(place: Path) -> Path:
    """Return the hidden directory in which the dataset for a place is made."""
    return place.with_name(f".{place.name}.unfinished")


@contextmanager
def new_directory(place: Path, trace: Tracer = no_trace) -> Iterator[Path]:
    """Give a directory to fill; it gets the name `place` when the block ends without an error.

    Raises DataError if `place` already holds something.
    """
    place = place.absolute()
    if place.exists() and not (place.is_dir() and not any(place.iterdir())):
        raise DataError(f"{place} already exists; expected a new directory.", "Choose another --out.")
    with _filled(aside(place)) as fresh:
        yield fresh
        trace(f"made {fresh.name}")
        fresh.rename(place)
    sync_directory(place.parent)


def rewrite(
    root: Path, fill: Callable[[Path], None], *, keep_backup: bool = True, trace: Tracer = no_trace
) -> Path | None:
    """Replace a dataset by what `fill` writes into an empty directory; returns where the old one is kept.

    Files that are no part of the dataset are carried over.  While it runs nobody can append.
    Raises whatever `fill` raises, with the dataset unchanged; DataError if another process appends.
    """
    root = root.resolve()
    with locked(root / IDENTITY) if (root / IDENTITY).exists() else _unlocked() as mine:
        if not mine:
            raise DataError(
                f"Another process is appending to {root}.", "Wait until it has finished; nothing was changed."
            )
        with _filled(aside(root)) as fresh:
            fill(fresh)
            _carry_over(root, fresh)
            trace(f"filled {fresh.name}")
            backup = _exchange(root, fresh, trace)
    if keep_backup:
        return backup
    trace("exchanged")
    shutil.rmtree(backup)
    return None


def backups(root: Path) -> list[Path]:
    """Return the directories kept by earlier rewrites, oldest first."""
    prefix = f"{root.name}.backup-"
    found = [p for p in root.absolute().parent.glob(f"{prefix}*") if p.name.removeprefix(prefix).isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(prefix)))


def recover(root: Path) -> Path | None:
    """Give the newest backup its name back if a rewrite was killed between its two renames.

    Returns the backup that was renamed, or None where nothing had to be done.
    """
    root = root.absolute()
    backup = interrupted(root)
    if backup is not None:
        backup.rename(root)
        sync_directory(root.parent)
        shutil.rmtree(aside(root), ignore_errors=True)
    return backup


def interrupted(root: Path) -> Path | None:
    """Return the backup that `recover` would give its name back, None where nothing has to be done."""
    kept = backups(root)
    return kept[-1] if kept and not root.exists() and aside(root.absolute()).exists() else None


def _exchange(root: Path, fresh: Path, trace: Tracer) -> Path:
    numbers = [int(path.name.rpartition("-")[2]) for path in backups(root)]
    backup = root.with_name(f"{root.name}.backup-{max(numbers, default=0) + 1}")
    root.rename(backup)
    try:
        trace(f"renamed {root.name} to {backup.name}")
        fresh.rename(root)
    except BaseException:
        backup.rename(root)
        raise
    sync_directory(root.parent)
    return backup


def _carry_over(root: Path, fresh: Path) -> None:
    for path in root.iterdir():
        if path.name in KNOWN:
            continue
        copy = link_or_copy if path.name == QUARANTINE else shutil.copy2
        if path.is_dir():
            shutil.copytree(path, fresh / path.name, copy_function=copy, dirs_exist_ok=True)
        else:
            copy(path, fresh / path.name)


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """Give a file a second name, or copy it where the file system cannot; a dataset writes no file in place."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def _filled(directory: Path) -> Iterator[Path]:
    """Give an empty directory that no other process fills meanwhile; it is removed if the block fails.

    Raises ConfigError if another process is filling it.
    """
    with claimed(directory):
        for left in directory.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield directory
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise


@contextmanager
def _unlocked() -> Iterator[bool]:
    yield True
