"""What the cache and the reader need to know about episodes on disk, for our datasets and for LeRobot's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bora_cli.data.dataset import Dataset
from bora_cli.data.files import read_table
from bora_cli.data.images import read_frames, source_files
from bora_cli.data.lerobot import LeRobotDataset
from bora_cli.data.schema import DATA_PATH, IDENTITY, IMAGE_PREFIX, INFO, episode_file
from bora_cli.data.tables import column_array
from bora_cli.errors import CorruptEpisode, DataError

U8 = NDArray[np.uint8]
Shapes = dict[str, tuple[str, tuple[int, ...]]]


class Source(Protocol):
    """Episodes that can be read column by column.

    shapes: column -> (NumPy dtype, shape of one row), images included.  cameras: the columns that are images.
    lengths: int64 [N], ticks per episode.  tasks: instruction per episode.  fps: ticks per second.
    """

    root: Path
    fps: float
    lengths: NDArray[np.int64]
    tasks: list[str]

    @property
    def shapes(self) -> Shapes: ...
    @property
    def cameras(self) -> list[str]: ...
    def files(self, index: int) -> list[Path]: ...
    def columns(self, index: int, names: list[str]) -> dict[str, NDArray[Any]]: ...
    def frames(self, index: int, camera: str, ticks: Sequence[int]) -> U8: ...


class DatasetSource:
    """A dataset of ours as a `Source`."""

    def __init__(self, dataset: Dataset) -> None:
        rows = dataset.rows()
        self.root = dataset.root
        self.fps = float(dataset.fps)
        self.identity = dataset.identity
        self.lengths = np.array([row.length for row in rows], np.int64)
        self.tasks = [row.prompt for row in rows]
        self.cameras = [IMAGE_PREFIX + camera for camera in dataset.cameras]
        features = dataset.identity.features
        self.shapes: Shapes = {
            name: ("uint8" if name in self.cameras else about["dtype"], tuple(about["shape"]))
            for name, about in features.items()
        }

    def files(self, index: int) -> list[Path]:
        """Return the files that hold an episode."""
        return source_files(self.root, self.identity, index)

    def columns(self, index: int, names: list[str]) -> dict[str, NDArray[Any]]:
        """Return numeric columns, name -> [T, D].  Raises CorruptEpisode where the file disagrees with its row."""
        path = episode_file(self.root, DATA_PATH, index)
        table = read_table(path, names)
        if table.num_rows != self.lengths[index]:
            raise CorruptEpisode(
                f"{path} has {table.num_rows} ticks; the episode's row says {self.lengths[index]}.",
                "Restore the data file from a copy.",
            )
        return {name: column_array(table[name]).reshape(table.num_rows, -1) for name in names}

    def frames(self, index: int, camera: str, ticks: Sequence[int]) -> U8:
        """Return images at rising ticks, uint8 [len(ticks), H, W, 3]."""
        return read_frames(self.root, self.identity, index, camera.removeprefix(IMAGE_PREFIX), ticks)


def open_source(root: Path | str) -> Source:
    """Open a directory as ours or, where it has no meta/bora.json, as LeRobot's.

    Raises DataError where it is neither.
    """
    root = Path(root)
    if (root / IDENTITY).exists():
        return DatasetSource(Dataset.open(root))
    if (root / INFO).exists():
        return LeRobotDataset.open(root)
    raise DataError(f"No dataset at {root}.", "Give the directory that holds meta/ and data/.")
