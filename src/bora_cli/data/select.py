"""Merge, split and delete: make datasets of some of the episodes of others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bora_cli.data.copy import Progress, Source, common_identity, copy_episodes, no_progress, require_sound
from bora_cli.data.dataset import Dataset
from bora_cli.data.exchange import new_directory, rewrite
from bora_cli.data.files import Tracer, no_trace
from bora_cli.data.schema import Identity
from bora_cli.errors import ConfigError
from bora_cli.seeds import stream


def merge(
    roots: Sequence[Path], out: Path, *, progress: Progress = no_progress, trace: Tracer = no_trace
) -> int:
    """Write all episodes of several datasets into a new one, in the order given; returns how many.

    Raises SchemaMismatch naming the field in which the datasets differ, DataError for damaged sources.
    """
    identity = require_mergeable(roots)
    sources = [Source(root, index) for root in roots for index in range(len(Dataset.open(root)))]
    extra = {**identity.extra, "merged_from": [root.name for root in roots]}
    with new_directory(out, trace) as fresh:
        copy_episodes(fresh, replace(identity, extra=extra), sources, progress)
    return len(sources)


def require_mergeable(roots: Sequence[Path]) -> Identity:
    """Return what the merger of several datasets would be.  Raises what `merge` raises, before it begins."""
    if len({root.resolve() for root in roots}) != len(roots):
        raise ConfigError("A dataset was named twice; its episodes would be doubled.", "Name each once.")
    identity = common_identity(roots)
    for root in roots:
        require_sound(root)
    return identity


def split(
    root: Path,
    parts: Mapping[str, Sequence[int]],
    out: Path,
    *,
    progress: Progress = no_progress,
    trace: Tracer = no_trace,
) -> None:
    """Write parts of a dataset as datasets out/NAME; all of them appear at once.

    parts: name -> episodes.  Raises ConfigError if an episode is in two parts, DataError for damaged ones.
    """
    chosen = [index for part in parts.values() for index in part]
    twice = sorted({index for index in chosen if chosen.count(index) > 1})
    if twice:
        raise ConfigError(f"Episodes {twice} are in more than one part.", "Let the parts be disjoint.")
    require_sound(root, chosen)
    identity = common_identity([root])
    with new_directory(out, trace) as fresh:
        for name, part in parts.items():
            extra = {**identity.extra, "split_from": {"dataset": root.name, "episodes": list(part)}}
            sources = [Source(root, index) for index in part]
            copy_episodes(fresh / name, replace(identity, extra=extra), sources, progress)


def delete(
    root: Path,
    episodes: Sequence[int],
    *,
    keep_backup: bool = True,
    progress: Progress = no_progress,
    trace: Tracer = no_trace,
) -> Path | None:
    """Take episodes out of a dataset; the others move up.  Returns where the old dataset is kept.

    Raises DataError, with nothing changed, for damaged episodes that would stay.
    """
    root = root.resolve()
    identity = common_identity([root])

    def fill(fresh: Path) -> None:
        kept = sorted(set(range(len(Dataset.open(root)))) - set(episodes))
        require_sound(root, kept)
        copy_episodes(fresh, identity, [Source(root, index) for index in kept], progress)

    return rewrite(root, fill, keep_backup=keep_backup, trace=trace)


def fractions(episodes: int, shares: Sequence[float], seed: int) -> list[list[int]]:
    """Return a random division of episodes 0 .. N-1 into parts of given shares, each in rising order.

    shares: positive, adding up to at most 1; where they add up to 1 no episode is left out.
    The sizes are the differences of the rounded running sums, so each is within one of share * N.
    """
    total = sum(shares)
    if not shares or min(shares) <= 0 or total > 1 + 1e-9:
        raise ConfigError(
            f"Fractions {list(shares)} add up to {total:g}; expected positive numbers up to 1 in all.",
            "For example 0.8,0.2.",
        )
    order = stream("split", seed).permutation(episodes)
    edges = np.rint(np.cumsum([0.0, *shares]) * episodes).astype(int)
    return [sorted(order[a:b].tolist()) for a, b in itertools.pairwise(edges)]
