"""Where a recorded policy lies now, by what it is instead of by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bora_cli.errors import CheckpointError
from bora_cli.evaluate.evaluate import checkpoint_hash

LEVELS = 4
"""Folders above a dataset in which its policy is looked for."""
SHOWN = 3
"""Policies that are named where none of those found is the one."""


def find_policy(recorded: Path, digest: str, near: Sequence[Path] = (), *, remedy: str) -> Path:
    """Return where the policy with a hash lies now.

    recorded: where it lay, from wherever that was.  near: the checkpoint in question, datasets, runs; tried are these,
    and in each of them and LEVELS folders above the recorded path, its ends (`policies/cp` of `runs/a/policies/cp`)
    and every folder of `policies`.  remedy: what to do where it is not found.  Raises CheckpointError then.
    """
    parts = recorded.parts
    ends = [Path(*parts[i:]) for i in range(int(recorded.is_absolute()), len(parts))]
    candidates = [recorded, *near]
    for place in dict.fromkeys(p for n in near for p in (n.resolve(), *n.resolve().parents[:LEVELS])):
        candidates += [*(place / end for end in ends), *sorted((place / "policies").glob("*"))]
    others: dict[Path, Path] = {}
    for candidate in candidates:
        if (candidate / "config.json").is_file() and (same := candidate.resolve()) not in others:
            if _is(candidate, digest):
                return candidate
            others[same] = candidate
    around = f", and in {', '.join(map(str, near))} and {LEVELS} folders above" if near else ""
    named = ", ".join(map(str, list(others.values())[:SHOWN])) + (", ..." if len(others) > SHOWN else "")
    raise CheckpointError(
        f"The policy that was recorded, {recorded} with hash {digest}, is not found. Looked there from {Path.cwd()}"
        f"{around}: " + (f"{named} have other hashes." if others else "no policy."),
        remedy,
    )


def _is(candidate: Path, digest: str) -> bool:
    try:
        return checkpoint_hash(candidate) == digest
    except CheckpointError:  # the config.json of something else
        return False
