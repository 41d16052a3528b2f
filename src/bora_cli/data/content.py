"""What an episode says, apart from where it stands: a hash that moving an episode must not change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bora_cli.data.files import read_table
from bora_cli.data.rows import read_row
from bora_cli.data.schema import (
    DATA_PATH,
    DECISION_PATH,
    SCALARS,
    VECTORS,
    Identity,
    episode_file,
    video_file,
)
from bora_cli.errors import CorruptEpisode

if TYPE_CHECKING:
    import pyarrow as pa


def episode_hash(root: Path, identity: Identity, index: int, clocks: Sequence[str] = ()) -> str:
    """Return a hash of everything that was recorded in an episode (64 hexadecimal digits).

    Left out is what follows from its place in the dataset: indices, instruction number and file numbers; and when it
    was recorded, unless `clocks` names columns of `schema.CLOCKS`.
    Raises CorruptEpisode for files that cannot be read.
    """
    row = read_row(root, index)
    digest = hashlib.sha256()
    about = {"success": row.success, "prompt": row.prompt, "meta": row.meta, "decisions": row.decisions}
    digest.update(json.dumps(about, sort_keys=True).encode())
    columns = [*VECTORS, *SCALARS, *clocks, *identity.image_columns]
    data = read_table(episode_file(root, DATA_PATH, index), columns)
    for name in data.column_names:
        _feed(digest, name, data[name])
    for camera in identity.cameras if identity.video else ():
        digest.update(f"video {camera}:".encode() + read_bytes(video_file(root, camera, index)))
    if row.decisions:
        log = read_table(episode_file(root, DECISION_PATH, index))
        for name in log.column_names:
            if name != "episode_index":
                _feed(digest, name, log[name])
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """Return a hash of the bytes of a file (128 hexadecimal digits).  Raises CorruptEpisode where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError as error:
        raise CorruptEpisode(f"{path} cannot be read: {error.strerror}.", "Restore it from a copy.") from None


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.  Raises CorruptEpisode where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CorruptEpisode(f"{path} cannot be read: {error.strerror}.", "Restore it from a copy.") from None


def _feed(digest: Any, name: str, column: pa.ChunkedArray) -> None:
    """Add a column: its name, its type and, of every leaf, the values and how they are divided into rows."""
    import pyarrow as pa

    digest.update(f"{name}:{column.type}:{len(column)};".encode())
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_struct(array.type):
        for file in array.field("bytes").to_pylist():
            digest.update(f"{len(file or b'')}:".encode() + (file or b""))
        return
    if pa.types.is_list(array.type):
        digest.update(array.value_lengths().to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_string(array.type):
        digest.update(json.dumps(array.to_pylist()).encode())
        return
    flat = array.flatten() if pa.types.is_nested(array.type) else array
    digest.update(flat.to_numpy(zero_copy_only=False).tobytes())
