"""Files that are wholly there or not at all."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bora_cli.errors import ConfigError, CorruptEpisode, DataError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

TEMPORARY = ".tmp"
"""Suffix of a file that is still being written.  Readers look for *.parquet and *.json and never see it."""

Tracer = Callable[[str], None]
"""Called with a short label between every two file operations; tests kill the process in it."""


def no_trace(label: str) -> None:
    """Do nothing; the `Tracer` of normal operation."""


def write_bytes(path: Path, data: bytes, trace: Tracer = no_trace) -> None:
    """Write a file so that a crash leaves either the old content or the new one.

    The bytes go to a temporary name, are synced, and are renamed; then the directory is synced, so that the
    name survives a power cut too.
    """
    make_directory(path.parent, trace)
    temporary = path.with_name(path.name + TEMPORARY)
    with open(temporary, "wb") as file:
        trace(f"opened {temporary.name}")
        file.write(data)
        file.flush()
        trace(f"wrote {temporary.name}")
        os.fsync(file.fileno())
    trace(f"synced {temporary.name}")
    os.replace(temporary, path)
    trace(f"renamed to {path.name}")
    sync_directory(path.parent)
    trace(f"synced directory of {path.name}")


def write_json(path: Path, data: Any, trace: Tracer = no_trace) -> None:
    """Write JSON atomically, indented for people."""
    write_bytes(path, (json.dumps(data, indent=2) + "\n").encode(), trace)


def write_table(path: Path, table: pa.Table, trace: Tracer = no_trace, **options: Any) -> None:
    """Write one Parquet file atomically.  options: passed to `pyarrow.parquet.write_table`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    write_bytes(path, sink.getvalue().to_pybytes(), trace)


def read_table(path: Path, columns: list[str] | None = None, only: tuple[str, int] | None = None) -> pa.Table:
    """Return columns of one Parquet file.

    only: a column and a value; row groups whose statistics exclude that value are skipped.
    Raises CorruptEpisode where the file is missing, torn or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            missing = [c for c in columns or () if c not in file.schema_arrow.names]
            if missing:
                raise CorruptEpisode(
                    f"{path} has no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}.",
                    "Restore the file from a copy.",
                )
            if only is None:
                return file.read(columns, use_threads=False)
            groups = _groups_with(file, *only)
            return file.read_row_groups(groups, columns, use_threads=False)
    except FileNotFoundError:
        raise CorruptEpisode(f"{path} is missing.", "Restore the file from a copy.") from None
    except (pa.ArrowException, OSError) as error:
        why = str(error).rstrip(". ")
        raise CorruptEpisode(f"{path} cannot be read: {why}.", "Restore the file from a copy.") from None


def _groups_with(file: Any, column: str, value: int) -> list[int]:
    """Return the row groups of an open Parquet file that may hold a value of a flat column."""
    leaf = next(i for i in range(len(file.schema)) if file.schema.column(i).path == column)
    found = []
    for group in range(file.num_row_groups):
        known = file.metadata.row_group(group).column(leaf).statistics
        if known is None or not known.has_min_max or known.min <= value <= known.max:
            found.append(group)
    return found


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.  Raises DataError where it is missing or not JSON."""
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path} is no file.", "Restore the file from a copy.")
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", "Check the path of the dataset.") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.", "Restore the file from a copy.") from None
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}.", "Restore the file from a copy."
        ) from None


def in_use(directory: Path) -> bool:
    """Return whether a directory holds anything but what an interrupted write left behind."""
    return directory.is_dir() and any(not p.name.endswith(TEMPORARY) for p in directory.iterdir())


def make_directory(path: Path, trace: Tracer = no_trace) -> None:
    """Create a directory and its parents, and sync the entries that are new."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        trace(f"made {directory.name}")
        sync_directory(directory.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Make everything below a directory durable: contents first, then names."""
    for folder, _, files in os.walk(path, topdown=False):
        for name in files:
            with open(Path(folder, name), "rb") as file:
                os.fsync(file.fileno())
        sync_directory(Path(folder))


@contextmanager
def directory_written(path: Path, *, keep: bool = False) -> Iterator[Path]:
    """Yield a new directory that takes the place of `path`, wholly or not at all, when the block ends.

    It is filled beside `path`, synced, and renamed.  A directory cannot be renamed over a full one, so the old
    one is moved aside for a moment; `recover_directory` brings it back where that moment was the last.
    keep: begin with a copy of what `path` holds, instead of nothing.
    """
    path = path.resolve()
    make_directory(path.parent)
    recover_directory(path)
    fresh, old = _beside(path)
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    if keep and path.is_dir():
        shutil.copytree(path, fresh)
    else:
        fresh.mkdir()
    try:
        yield fresh
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    sync_tree(fresh)
    sync_directory(path.parent)
    if path.exists() and not _is_empty(path):
        os.replace(path, old)
    os.replace(fresh, path)
    sync_directory(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_directory(path: Path) -> None:
    """Bring a directory back that `directory_written` had moved aside when it was killed; usually does nothing."""
    if not path.exists() or _is_empty(path):
        path = path.resolve()
        old = _beside(path)[1]
        if old.is_dir():
            logger.info("Restoring %s from %s, left by an interrupted write", path, old)
            os.replace(old, path)
            sync_directory(path.parent)


def copy_directory(source: Path, target: Path) -> Path:
    """Copy a directory to `target`, in the place of what is there, wholly or not at all."""
    with directory_written(target) as fresh:
        shutil.copytree(source, fresh, dirs_exist_ok=True)
    return target


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _beside(path: Path) -> tuple[Path, Path]:
    """Return the names under which a directory is written and under which the old one waits."""
    return path.with_name(f".{path.name}.writing"), path.with_name(f".{path.name}.old")


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold a directory, made where it is missing, so that no other process claims it meanwhile.

    The operating system gives the claim back when the process dies, however it dies.  A directory that was made
    here and stayed empty is removed again.  Raises ConfigError at once if another process holds the claim.
    """
    while True:
        made = not directory.exists()
        make_directory(directory)
        with _locked_directory(directory) as mine:
            if not mine:
                raise ConfigError(
                    f"Another process is working on {directory}.",
                    "Wait until it has finished, or choose another --out.",
                )
            if mine == _identity(directory):  # not removed, or replaced, between opening and locking
                try:
                    yield
                finally:
                    if made:
                        with suppress(OSError):  # not empty
                            directory.rmdir()
                return


@contextmanager
def _locked_directory(directory: Path) -> Iterator[tuple[int, int] | None]:
    """Yield the identity (device, inode) of the directory that is now locked, None if another process has it."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        except OSError as error:  # some network file systems lock no directories
            logger.warning("%s cannot be locked (%s); start nothing else there meanwhile.", directory, error)
        found = os.fstat(descriptor)
        yield found.st_dev, found.st_ino
    finally:
        os.close(descriptor)


def _identity(directory: Path) -> tuple[int, int] | None:
    with suppress(FileNotFoundError):
        found = directory.stat()
        return found.st_dev, found.st_ino
    return None


@contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold the only write lock tied to an existing file; yields False if another writer holds it.

    patience: seconds to wait for it; a reader that looks whether somebody writes holds the lock for an instant.
    The operating system gives the lock back when the process dies, however it dies.
    """
    until = time.monotonic() + patience
    with open(path, "rb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    yield False
                    return
                time.sleep(0.005)
        yield True
