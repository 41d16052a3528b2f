"""Recorded episodes as the analysis needs them: everything a critic sees lies in a temporary file, not in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bora_cli.checkpoint import Trained
from bora_cli.data.dataset import Dataset
from bora_cli.data.windows import build_windows
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.models.vlm import Backbone
from bora_cli.train.buffer import Buffer, require_same_robot
from bora_cli.train.checks import require_distinct, require_finite
from bora_cli.train.tokens import encode
from bora_cli.types import U8, Episode

Progress = Callable[[str, int, int], None]


def open_recordings(paths: Sequence[Path], trained: Trained) -> list[Dataset]:
    """Open datasets that a policy could have recorded, without reading their ticks.

    Raises SchemaMismatch for data of another robot or without the policy's cameras, DataError for empty datasets,
    ConfigError for a dataset given twice.
    """
    datasets = [_checked(Path(p), trained) for p in paths]
    require_distinct([d.root for d in datasets])
    if not any(len(d) for d in datasets):
        raise DataError(f"No episodes in {', '.join(map(str, paths))}.", "Collect some with `bora collect`.")
    return datasets


def load_recordings(
    paths: Sequence[Path],
    trained: Trained,
    backbone: Backbone,
    *,
    gamma: float,
    progress: Progress | None = None,
) -> tuple[Buffer, U8 | None]:
    """Return the windows of some datasets with the tokens that a critic of tokens sees, or without tokens the pixels.

    Tokens float16 [1, M, N, W] and pixels uint8 [M, C, h, w, 3] are backed by a file without a name that disappears
    with them: memory holds one episode's images at a time, and some 0.2 MB per episode of everything else.
    Raises what `open_recordings` raises, and DataError for numbers that are not finite.
    """
    datasets = open_recordings(paths, trained)
    lengths = [row.length for d in datasets for row in d.rows()]
    for dataset in datasets:
        for index, episode in enumerate(dataset.episodes(images=False)):
            require_finite(episode, f"Episode {index} of {dataset.root}")
    episodes: list[Episode] = []
    seen: NDArray[Any] | None = None
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    for episode in (e for d in datasets for e in d.episodes()):
        looks = (
            _tokens(episode, backbone)
            if trained.critic is not None
            else pixels_of(episode, trained.spec.cameras)
        )
        if seen is None:
            with tempfile.TemporaryFile() as file:
                seen = np.memmap(file, looks.dtype, "w+", shape=(int(first[-1]), *looks.shape[1:]))
        at = len(episodes)
        seen[first[at] : first[at + 1]] = looks
        log = [replace(d, tokens=d.tokens[:0]) for d in episode.decisions]
        episodes.append(replace(episode, images={}, decisions=log))
        if progress is not None:
            progress("look at episodes", len(episodes), len(lengths))
    windows = build_windows(episodes, horizon=trained.spec.horizon, stride=1, gamma=gamma)
    if seen is None or not len(windows):
        raise DataError(
            f"No tick of {', '.join(map(str, paths))} can be judged: every episode was cut off at once.",
            "Record longer episodes.",
        )
    of_tokens = trained.critic is not None
    buffer = Buffer(
        tokens=torch.from_numpy(seen)[None] if of_tokens else torch.zeros(1, int(first[-1]), 0, 0),
        state=torch.from_numpy(np.concatenate([e.state for e in episodes])),
        first=first,
        episodes=episodes,
        windows=windows,
    )
    return buffer, None if of_tokens else seen


def pixels_of(episode: Episode, cameras: Sequence[str]) -> U8:
    """Return the images of an episode, uint8 [T, C, h, w, 3]."""
    return np.stack([episode.images[c] for c in cameras], axis=1)


def _tokens(episode: Episode, backbone: Backbone) -> NDArray[np.float16]:
    return encode(backbone, pixels_of(episode, backbone.cameras), [episode.prompt] * len(episode))


def _checked(path: Path, trained: Trained) -> Dataset:
    """Open a dataset that a policy could have recorded; raises SchemaMismatch for any other."""
    dataset, spec = Dataset.open(path), trained.spec
    require_same_robot(spec.action, spec.state_names, spec.dt, dataset, f"The checkpoint and {path}")
    if missing := [c for c in spec.cameras if c not in dataset.cameras]:
        raise SchemaMismatch(
            f"{path} has no images of camera {', '.join(missing)}; it has {', '.join(dataset.cameras) or 'none'}.",
            "Analyse recordings with the cameras that the checkpoint was trained with.",
        )
    return dataset
