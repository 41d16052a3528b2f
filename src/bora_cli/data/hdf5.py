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

from bora_cli.data.untrusted import malformed
from bora_cli.errors import ConfigError, CorruptEpisode, DataError

U8 = NDArray[np.uint8]
_REMEDY = "Leave the episode out with --episodes, or restore the file from a copy."
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
        with self._open() as file, malformed(path, _LAYOUT):
            self._refuse_links(file)
            if "data" not in file:
                raise DataError(
                    f"{path} has no group 'data'; it has {', '.join(file) or 'nothing'}.", _LAYOUT
                )
            if not isinstance(file["data"], self._h5py.Group):
                raise DataError(f"{path}: 'data' is no group.", _LAYOUT)
            self._names = sorted((name for name in file["data"] if name.startswith("demo_")), key=_number)
            if not self._names:
                raise DataError(f"{path} has no demonstration data/demo_0.", _LAYOUT)
            about = _environment(file["data"].attrs.get("env_args"))
            self.fps = _rate(about)
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
            return {name: np.asarray(self._rows(group, name, index)[()]) for name in names}

    def frames(self, index: int, camera: str, ticks: Sequence[int]) -> U8:
        """Return images at rising ticks, uint8 [len(ticks), H, W, 3]."""
        with self._demonstration(index) as group:
            return np.asarray(self._rows(group, camera, index)[list(ticks)], np.uint8)

    @contextmanager
    def _demonstration(self, index: int) -> Iterator[Any]:
        """Give the group of an episode.  Raises CorruptEpisode where the file is damaged inside."""
        with self._open() as file, malformed(f"{self.root}: {self._names[index]}", _REMEDY):
            try:
                yield file["data"][self._names[index]]
            except RecursionError:
                raise
            except (OSError, RuntimeError) as error:
                raise CorruptEpisode(
                    f"{self.root}: {self._names[index]} cannot be read: {error}.", _REMEDY
                ) from None

    def _rows(self, group: Any, name: str, index: int) -> Any:
        if name not in group:
            raise CorruptEpisode(f"{self.root}: {self._names[index]} has no '{name}'.", _LAYOUT)
        rows = group[name]
        if not isinstance(rows, self._h5py.Dataset) or rows.dtype.kind not in "fiub" or not rows.ndim:
            raise CorruptEpisode(
                f"{self.root}: {self._names[index]}/{name} holds no numbers per tick.", _REMEDY
            )
        if len(rows) != self.lengths[index]:
            raise CorruptEpisode(
                f"{self.root}: {self._names[index]}/{name} has {len(rows)} ticks; actions have"
                f" {self.lengths[index]}.",
                "Leave the episode out with --episodes.",
            )
        return rows

    def _length(self, file: Any, name: str) -> int:
        with malformed(f"{self.root}: data/{name}", _LAYOUT):
            group = file["data"][name]
            actions = group.get("actions") if isinstance(group, self._h5py.Group) else None
            if not isinstance(actions, self._h5py.Dataset) or actions.ndim != 2 or not len(actions):
                raise DataError(f"{self.root}: data/{name} has no actions [ticks, numbers].", _LAYOUT)
            return len(actions)

    def _refuse_links(self, file: Any) -> None:
        """Raise DataError where an import would read another file than this one."""

        def follow(name: bytes, link: Any) -> str | None:
            inside = link.type in (self._h5py.h5l.TYPE_HARD, self._h5py.h5l.TYPE_SOFT)
            return None if inside else name.decode(errors="replace")

        def look(name: str, item: Any) -> str | None:
            stored = isinstance(item, self._h5py.Dataset)
            return name if stored and (item.external or item.is_virtual) else None

        found = file.id.links.visit(follow, info=True) or file.visititems(look)
        if found:
            raise DataError(
                f"{self.root}: '{found}' leads to another file, which bora does not read.",
                "Copy everything into one file, for instance with h5repack or h5py.",
            )

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


def _rate(about: dict[str, Any]) -> float:
    """Return the control rate in Hz that a file states, 0 for none or for what is no number."""
    kwargs = about.get("env_kwargs")
    rate = kwargs.get("control_freq") if isinstance(kwargs, dict) else None
    try:
        return float(rate) if isinstance(rate, int | float) else 0.0
    except OverflowError:
        return 0.0


def _environment(text: Any) -> dict[str, Any]:
    try:
        about = json.loads(text) if text is not None else {}
    except (ValueError, TypeError, RecursionError):
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
