"""Recorded episodes as the analysis needs them: none is kept in memory, whatever their number.

What a critic sees of the ticks, and the windows into them, lie in temporary files; the episodes are read again when
they are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bora_cli.analysis.disk_rows import DiskRows
from bora_cli.checkpoint import Trained
from bora_cli.data.dataset import Dataset
from bora_cli.data.windows import Windows, build_windows
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.models.vlm import Backbone
from bora_cli.train.buffer import require_same_robot
from bora_cli.train.checks import require_distinct, require_finite
from bora_cli.train.tokens import encode
from bora_cli.types import U8, Episode

Progress = Callable[[str, int, int], None]

MOST, STEP = 32, 8
"""Ticks that are encoded at once, at most and in steps of."""


class Episodes(Protocol):
    """Some episodes without their images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Episode: ...

    def __iter__(self) -> Iterator[Episode]: ...


class Judged(Protocol):
    """Episodes and the windows into them, as the tests ask for them: `Recordings`, or what training loaded.

    first: int64 [E + 1], row of each episode's first tick among the M ticks of all.
    """

    @property
    def first(self) -> NDArray[np.int64]: ...

    @property
    def episodes(self) -> Episodes: ...

    @property
    def windows(self) -> Windows: ...


class EpisodesOnDisk:
    """The episodes of some datasets one after the other, without images, read each time they are asked for."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self._datasets = list(datasets)
        self._first = np.cumsum([0, *map(len, datasets)])

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int, /) -> Episode:
        i = range(len(self))[index]
        which = int(np.searchsorted(self._first, i, "right")) - 1
        return self._datasets[which].episode(i - int(self._first[which]), images=False)

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class Recordings:
    """All ticks of some episodes and the windows into them, see `Judged`; memory holds only the episodes' rows.

    columns: of `Windows`.  looks: what the critic sees of each tick, float16 [M, N, W] tokens, or uint8
    [M, C, h, w, 3] pixels for a critic without tokens.
    """

    first: NDArray[np.int64]
    episodes: EpisodesOnDisk
    columns: dict[str, DiskRows]
    states: DiskRows
    looks: DiskRows

    @property
    def windows(self) -> Windows:
        """All windows, on disk: what is read of them stays in memory as long as this object."""
        return Windows(**{name: rows.read() for name, rows in self.columns.items()})

    def take(self, which: NDArray[np.int64]) -> Windows:
        """Return some windows.  which: [n]."""
        columns = {name: rows.take(which) for name, rows in self.columns.items()}
        return Windows(**columns)

    def seen(self, rows: NDArray[np.int64]) -> Tensor:
        """Return what the critic sees at some ticks.  rows: [n]."""
        return torch.from_numpy(self.looks.take(rows))

    def state(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the robot's state at some ticks, float32 [n, S], physical.  rows: [n]."""
        return torch.from_numpy(self.states.take(rows))


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
) -> Recordings:
    """Read some datasets, and look at every tick as the critic does.

    Raises what `open_recordings` raises, and DataError for numbers that are not finite.
    """
    datasets = open_recordings(paths, trained)
    first, state = [0], DiskRows()
    columns = {f.name: DiskRows() for f in fields(Windows)}
    for dataset in datasets:
        dataset.rows()  # all at once, which is faster than one by one
        for index, episode in enumerate(dataset.episodes(images=False)):
            require_finite(episode, f"Episode {index} of {dataset.root}")
            windows = build_windows([episode], horizon=trained.spec.horizon, gamma=gamma)
            windows = replace(windows, episode=np.full_like(windows.episode, len(first) - 1))
            for name, column in columns.items():
                column.append(getattr(windows, name))
            state.append(episode.state)
            first.append(first[-1] + len(episode))
    if not len(columns["t"]):
        raise DataError(
            f"No tick of {', '.join(map(str, paths))} can be judged: every episode was cut off at once.",
            "Record longer episodes.",
        )
    seen = DiskRows()
    for index, episode in enumerate(e for d in datasets for e in d.episodes()):
        seen.append(
            pixels_of(episode, trained.spec.cameras) if trained.critic is None else _tokens(episode, backbone)
        )
        if progress is not None:
            progress("look at episodes", index + 1, len(first) - 1)
    return Recordings(np.array(first, np.int64), EpisodesOnDisk(datasets), columns, state, seen)


def pixels_of(episode: Episode, cameras: Sequence[str]) -> U8:
    """Return the images of an episode, uint8 [T, C, h, w, 3]."""
    return np.stack([episode.images[c] for c in cameras], axis=1)


def _tokens(episode: Episode, backbone: Backbone) -> NDArray[np.float16]:
    """Return the tokens of an episode, float16 [T, N, W].

    What a library keeps for every number of images that it has met would grow with the lengths of the episodes, so
    there are few such numbers: MOST, and for the rest a multiple of STEP, filled up with the last image.
    """
    images, found = pixels_of(episode, backbone.cameras), []
    for at in range(0, len(images), MOST):
        some = images[at : at + MOST]
        filled = np.concatenate([some, np.repeat(some[-1:], -len(some) % STEP, axis=0)])
        found.append(encode(backbone, filled, [episode.prompt] * len(filled))[: len(some)])
    return np.concatenate(found)


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
