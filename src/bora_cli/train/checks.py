"""What a method needs of its data, asked before anything is encoded or trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, DataError
from bora_cli.train.tokens import content_of
from bora_cli.types import Episode

JUDGES = ("awr", "bora", "decoupled", "decoupled_value")
"""Methods that learn which actions were better, from rewards."""


def require_learnable(method: str, paths: Sequence[Path]) -> list[str]:
    """Return what a reader of the result should know about the data; images are not looked at.

    Raises ConfigError for a dataset given twice; DataError for numbers that are not finite; for methods that judge,
    where all rewards are zero or no episode succeeded; for filtered cloning, where none succeeded.
    """
    require_distinct(paths)
    successes = episodes = 0
    rewarded = False
    for path in paths:
        dataset = Dataset.open(path)
        for index in range(len(dataset)):
            episode = dataset.episode(index, images=False)
            require_finite(episode, f"Episode {index} of {path}")
            episodes += 1
            successes += episode.success
            rewarded |= bool(episode.reward.any())
    if not episodes:
        raise DataError(f"No episodes in {', '.join(map(str, paths))}.", "Collect some with `bora collect`.")
    if method == "filtered_bc" and not successes:
        raise DataError("No successful episode to imitate.", "Collect better demonstrations.")
    if method not in JUDGES:
        return []
    if not rewarded:
        raise DataError(
            f"The data has no rewards: all of them are 0 in {episodes} episodes, and {method} learns from rewards.",
            "Record with a reward, give one when importing (`bora data import --help`), or train cp.",
        )
    if not successes:
        raise DataError(
            f"None of {episodes} episodes succeeded; {method} learns what success takes by comparison with failure.",
            "Add successful episodes, or train cp.",
        )
    if successes == episodes:
        return [f"All {episodes} episodes succeeded: a critic can only learn from them what was faster."]
    return []


def require_distinct(paths: Sequence[Path]) -> None:
    """Raise ConfigError where two paths lead to the same dataset, or to copies with the same episodes."""
    seen: set[Path] = set()
    alike: dict[tuple[tuple[int, bool], ...], list[Path]] = {}
    for path in paths:
        if path.resolve() in seen:
            raise ConfigError(f"{path} was named twice; its episodes would be doubled.", "Name it once.")
        seen.add(path.resolve())
        if rows := tuple((row.length, row.success) for row in Dataset.open(path).rows()):
            alike.setdefault(rows, []).append(path)
    for group in (g for g in alike.values() if len(g) > 1):
        contents: dict[str, Path] = {}
        for path in group:
            earlier = contents.setdefault(content_of(Dataset.open(path)), path)
            if earlier != path:
                raise ConfigError(
                    f"{path} has the same episodes as {earlier}; they would be doubled.", "Name one of them."
                )


def require_finite(episode: Episode, name: str) -> None:
    """Raise DataError, naming column and tick, where a state, action or reward is NaN or infinite."""
    for column in ("state", "action", "reward"):
        bad = ~np.isfinite(getattr(episode, column))
        if bad.any():
            tick = int(np.argwhere(bad)[0][0])
            raise DataError(
                f"{name} has {int(bad.sum())} values of {column} that are not finite, the first at tick {tick}.",
                "Find all of them with `bora data check`; leave the episode out with `bora data delete`.",
            )
