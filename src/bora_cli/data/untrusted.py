"""What a malformed file makes Python raise becomes one error that names the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bora_cli.errors import CorruptEpisode

MALFORMED = (
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
    OverflowError,
)
"""What reading data of an unexpected type, shape, size or depth raises."""
_LONGEST = 200


@contextmanager
def malformed(source: Path | str, remedy: str = "Restore the file from a copy.") -> Iterator[None]:
    """Raise CorruptEpisode naming `source` where the block stumbles over what is in it; the cause is kept.

    For blocks that only read what somebody else wrote: an error in our own code would be hidden elsewhere.
    """
    try:
        yield
    except MALFORMED as error:
        why = f"{type(error).__name__}: {error}"[:_LONGEST]
        raise CorruptEpisode(f"{source} is malformed ({why}).", remedy) from error
