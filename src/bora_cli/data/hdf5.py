"""Read demonstrations in robomimic's HDF5 layout: data/demo_0/{obs/NAME, actions, rewards, dones}."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError, CorruptEpisode, DataError

U8 = NDArray[np.uint8]
_LAYOUT = "Give a file with groups data/demo_0, data/demo_1, ... as robomimic writes it."


class RobomimicFile:
    """Episodes of an HDF5 file as a `sources.Source`; read one at a time.

    Columns are named as in a demonstration's group: "actions", "rewards", "obs/NAME".  fps: the control rate
    that the file states, 0 where it states none.  tasks: the name of the environment, "" where there is none.
    """

    def __init__(self, path: Path) -> None:
        """Raises DataError for a file of another layout, ConfigError where h5py is not installed."""
        self.root = path
        self._h5py = _h5py()
        with self._open() as file:
            if "data" not in file:
                raise DataError(
                    f"{path} has no group 'data'; it has {', '.join(file) or 'nothing'}.", _LAYOUT
                )
            self._names = sorted((name for name in file["data"] if name.startswith("demo_")), key=_number)
            if not self._names:
                raise DataError(f"{path} has no demonstration data/demo_0.", _LAYOUT)
            about = _environment(file["data"].attrs.get("env_args"))
            self.fps = float(about.get("env_kwargs", {}).get("control_freq", 0))
            self.lengths = np.array([self._length(file, name) for name in self._names], np.int64)
            self.tasks = [str(about.get("env_name", ""))] * len(self._names)
            self.shapes = self._shapes(file["data"][self._names[0]])
        self.cameras = [
            name for name, (kind, shape) in self.shapes.items() if kind == "uint8" and shape[2:] == (3,)
        ]

    def files(self, index: int) -> list[Path]:
        """Return the file."""
        return [self.root]

    def columns(self, index: int, names: list[str]) -> dict[str, NDArray[Any]]:
        """Return numeric columns of an episode, name -> [T, ...].  Raises CorruptEpisode for a missing one."""
        with self._demonstration(index) as group:
            return {name: self._rows(group, name, index)[()] for name in names}

    def frames(self, index: int, camera: str, ticks: Sequence[int]) -> U8:
        """Return images at rising ticks, uint8 [len(ticks), H, W, 3]."""
        with self._demonstration(index) as group:
            return np.asarray(self._rows(group, camera, index)[list(ticks)], np.uint8)

    @contextmanager
    def _demonstration(self, index: int) -> Iterator[Any]:
        """Give the group of an episode.  Raises CorruptEpisode where the file is damaged inside."""
        with self._open() as file:
            try:
                yield file["data"][self._names[index]]
            except (OSError, RuntimeError) as error:
                raise CorruptEpisode(
                    f"{self.root}: {self._names[index]} cannot be read: {error}.",
                    "Leave the episode out with --episodes, or restore the file from a copy.",
                ) from None

    def _rows(self, group: Any, name: str, index: int) -> Any:
        if name not in group:
            raise CorruptEpisode(f"{self.root}: {self._names[index]} has no '{name}'.", _LAYOUT)
        if len(group[name]) != self.lengths[index]:
            raise CorruptEpisode(
                f"{self.root}: {self._names[index]}/{name} has {len(group[name])} ticks; actions have"
                f" {self.lengths[index]}.",
                "Leave the episode out with --episodes.",
            )
        return group[name]

    def _length(self, file: Any, name: str) -> int:
        group = file["data"][name]
        if "actions" not in group or group["actions"].ndim != 2:
            raise DataError(f"{self.root}: data/{name} has no actions [ticks, numbers].", _LAYOUT)
        return len(group["actions"])

    def _shapes(self, group: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
        found: dict[str, tuple[str, tuple[int, ...]]] = {}

        def visit(name: str, item: Any) -> None:
            plain = isinstance(item, self._h5py.Dataset) and item.dtype.kind in "fiub"
            if plain and not name.startswith("next_obs/") and name != "states":
                found[name] = (str(item.dtype), tuple(item.shape[1:]))

        group.visititems(visit)
        return found

    def _open(self) -> Any:
        try:
            return self._h5py.File(self.root, "r")
        except FileNotFoundError:
            raise DataError(f"There is no file {self.root}.", "Check the path.") from None
        except OSError as error:
            raise DataError(f"{self.root} is not an HDF5 file: {error}.", _LAYOUT) from None


def _number(name: str) -> int:
    digits = name.removeprefix("demo_")
    return int(digits) if digits.isdigit() else 1 << 31


def _environment(text: Any) -> dict[str, Any]:
    try:
        about = json.loads(text) if text is not None else {}
    except (json.JSONDecodeError, TypeError):
        return {}
    return about if isinstance(about, dict) else {}


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise ConfigError(
            "HDF5 files need h5py, which is not installed.", 'Install it with `pip install "bora-cli[hdf5]"`.'
        ) from None
    module: ModuleType = h5py
    return module
