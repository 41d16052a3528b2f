"""Read any dataset in the LeRobot v3.0 layout, whoever recorded it: many episodes per file, PNG or video."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.data import png, video
from bora_cli.data.files import read_json, read_table
from bora_cli.data.schema import CODEBASE_VERSION, INFO, TASKS
from bora_cli.data.tables import column_array
from bora_cli.data.untrusted import malformed
from bora_cli.errors import CorruptEpisode, DataError

if TYPE_CHECKING:
    import pyarrow as pa

U8 = NDArray[np.uint8]
_NUMBERS = ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
_LARGEST = 1 << 26
"""Numbers in one row of one column beyond which a shape is a mistake."""
_PLACE = re.compile(r"\{(chunk_index|file_index|video_key)(:0?\d{1,2}d)?\}")
"""What may stand between braces in the path of a file."""
_LONGEST = 400
"""Letters of such a path."""
_RESTORE = "Restore the file from a copy."


@dataclass(frozen=True)
class Feature:
    """One column: dtype of NumPy, shape of a row; images are uint8 [H, W, 3]."""

    dtype: str
    shape: tuple[int, ...]
    stored: str


class LeRobotDataset:
    """Episodes of a v3.0 directory, read only; made by `open`.

    features: numeric columns and cameras.  lengths: int64 [N], ticks.  tasks: instruction of each episode.
    fps: ticks per second.  The file with an episode's ticks and the place of its videos come from its row.
    """

    def __init__(self, root: Path, info: dict[str, Any], rows: list[dict[str, Any]]) -> None:
        self.root = root
        self.fps = float(info["fps"])
        self.features: dict[str, Feature] = _features(info)
        self.lengths = np.array([row["length"] for row in rows], np.int64)
        self.tasks = [row["tasks"][0] for row in rows]
        self._rows = rows
        self._paths = {"data": info["data_path"], "video": info.get("video_path")}

    @classmethod
    def open(cls, root: Path | str) -> LeRobotDataset:
        """Open a directory.  Raises DataError with file, value and remedy for what cannot be read."""
        root = Path(root)
        info = read_json(root / INFO)
        with malformed(root / INFO, _RESTORE):
            _require_info(info)
            features = _features(info)
        rows = _episode_rows(root)
        with malformed(root / "meta/episodes", _RESTORE):
            _require_rows(info, features, rows)
            found = cls(root, info, rows)
        known = set(_task_texts(root))
        for row in rows:
            if not row["tasks"] or row["tasks"][0] not in known:
                raise DataError(
                    f"{TASKS} lacks the instruction {row['tasks'][:1]} of episode {row['episode_index']}.",
                    _RESTORE,
                )
        for index in (0, len(rows) - 1) if rows else ():
            found.files(index)
        return found

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def cameras(self) -> list[str]:
        """Columns that hold images."""
        return [name for name, f in self.features.items() if f.stored in ("image", "video")]

    @property
    def shapes(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Column -> (NumPy dtype, shape of one row)."""
        return {name: (f.dtype, f.shape) for name, f in self.features.items()}

    @property
    def numeric(self) -> list[str]:
        """Columns that hold numbers."""
        return [name for name, f in self.features.items() if f.stored == "number"]

    def files(self, index: int) -> list[Path]:
        """Return the files that hold an episode.  Raises DataError for a path outside the dataset."""
        videos = [self._video(index, name) for name in self.cameras if self.features[name].stored == "video"]
        return [self._data(index), *videos]

    def columns(self, index: int, names: list[str]) -> dict[str, NDArray[Any]]:
        """Return numeric columns of an episode, name -> [T, ...].

        Raises CorruptEpisode where the file is torn, lacks a column or has another number of ticks.
        """
        table = self._table(index, names)
        out = {}
        for name in names:
            feature = self.features[name]
            with malformed(f"{self._data(index)}: {name}", _RESTORE):
                values = column_array(table[name])
            shape = (len(values), *feature.shape)
            if values.dtype != feature.dtype or values.size != math.prod(shape):
                raise CorruptEpisode(
                    f"{self._data(index)}: {name} of episode {index} is {values.dtype} {list(values.shape[1:])};"
                    f" expected {feature.dtype} {list(feature.shape)}.",
                    _RESTORE,
                )
            out[name] = values.reshape(shape)
        return out

    def frames(self, index: int, camera: str, ticks: Sequence[int]) -> U8:
        """Return images of one camera at rising ticks, uint8 [len(ticks), H, W, 3].

        Raises CorruptEpisode for files that are torn, too short or of another size.
        """
        feature = self.features[camera]
        size = (feature.shape[0], feature.shape[1])
        if feature.stored == "video":
            start = float(self._rows[index][f"videos/{camera}/from_timestamp"])
            return video.decode(self._video(index, camera), size, start, ticks, self.fps)
        stored = self._table(index, [camera])[camera]
        with malformed(f"{self._data(index)}: {camera}", _RESTORE):
            return png.decode([stored[int(t)].as_py()["bytes"] or b"" for t in ticks], size)

    def _table(self, index: int, names: list[str]) -> pa.Table:
        import pyarrow.compute as pc

        path = self._data(index)
        table = read_table(path, [*names, "episode_index"], only=("episode_index", index))
        table = table.filter(pc.equal(table["episode_index"], index))
        if table.num_rows != self.lengths[index]:
            raise CorruptEpisode(
                f"{path} has {table.num_rows} ticks of episode {index}; its row says {self.lengths[index]}.",
                _RESTORE,
            )
        return table

    def _data(self, index: int) -> Path:
        row = self._rows[index]
        return self._inside(self._paths["data"], row["data/chunk_index"], row["data/file_index"])

    def _video(self, index: int, camera: str) -> Path:
        row = self._rows[index]
        chunk, file = row[f"videos/{camera}/chunk_index"], row[f"videos/{camera}/file_index"]
        return self._inside(self._paths["video"], chunk, file, camera)

    def _inside(self, template: str, chunk: int, file: int, camera: str = "") -> Path:
        left = _PLACE.sub("", template)
        if len(template) > _LONGEST or any(sign in left for sign in "{}\0"):
            raise DataError(f"{INFO}: path {template!r:.200} cannot be filled in.", _RESTORE)
        try:
            path = self.root / template.format(chunk_index=chunk, file_index=file, video_key=camera)
            inside = path.resolve().is_relative_to(self.root.resolve())
        except (KeyError, ValueError, IndexError, AttributeError, OSError) as error:
            raise DataError(
                f"{INFO}: path {template!r:.200} cannot be filled in: {error!s:.200}.", _RESTORE
            ) from None
        if not inside:
            raise DataError(
                f"{INFO}: path {template!r:.200} leads to {path}, outside the dataset.",
                "Do not use this dataset.",
            )
        return path


def _require_info(info: Any) -> None:
    if not isinstance(info, dict):
        raise DataError(f"{INFO} holds {info!r:.60}; expected a JSON object.", _RESTORE)
    for key in ("codebase_version", "fps", "features", "data_path", "total_episodes", "total_frames"):
        if key not in info:
            raise DataError(f"{INFO} has no key '{key}'.", _RESTORE)
    if info["codebase_version"] != CODEBASE_VERSION:
        raise DataError(
            f"{INFO}: codebase_version is {info['codebase_version']!r}; expected {CODEBASE_VERSION!r}.",
            "Convert it with LeRobot's own script for that version.",
        )
    fps = info["fps"]
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= 16_384:
        raise DataError(f"{INFO}: fps is {fps!r:.80}; expected ticks per second above 0.", _RESTORE)
    if not isinstance(info["data_path"], str):
        raise DataError(f"{INFO}: data_path is {info['data_path']!r}; expected a text.", _RESTORE)


def _features(info: dict[str, Any]) -> dict[str, Feature]:
    """Return the columns that hold numbers or images; texts and depth maps are left out."""
    if not isinstance(info["features"], dict):
        raise DataError(f"{INFO}: features is {info['features']!r:.60}; expected an object.", _RESTORE)
    out = {}
    for name, about in info["features"].items():
        dtype, shape = (about.get("dtype"), about.get("shape")) if isinstance(about, dict) else (None, None)
        if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
            raise DataError(
                f"{INFO}: feature {name!r} has shape {shape!r}; expected positive numbers.", _RESTORE
            )
        if math.prod(shape) > _LARGEST:
            raise DataError(f"{INFO}: feature {name!r} has shape {shape}, too large to be meant.", _RESTORE)
        if dtype in ("image", "video"):
            if len(shape) != 3 or shape[2] not in (1, 3):
                raise DataError(
                    f"{INFO}: feature {name!r} has shape {shape}; expected [height, width, 3].", _RESTORE
                )
            if shape[2] == 3 and not (about.get("info") or {}).get("video.is_depth_map"):
                out[name] = Feature("uint8", (shape[0], shape[1], 3), dtype)
        elif dtype in _NUMBERS:
            out[name] = Feature(dtype, tuple(shape), "number")
        elif dtype not in ("string", "language"):
            raise DataError(
                f"{INFO}: feature {name!r} has dtype {dtype!r}; expected one of {', '.join(_NUMBERS)}, image, video.",
                _RESTORE,
            )
    if any(f.stored == "video" for f in out.values()) and not isinstance(info.get("video_path"), str):
        raise DataError(f"{INFO}: video_path is {info.get('video_path')!r}; expected a text.", _RESTORE)
    return out


def _episode_rows(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path in sorted((root / "meta/episodes").glob("chunk-*/file-*.parquet")):
        table = read_table(path)
        plain = [name for name in table.column_names if not name.startswith("stats/")]
        rows += table.select(plain).to_pylist()
    return sorted(rows, key=lambda row: row.get("episode_index", -1))


def _require_rows(info: dict[str, Any], features: dict[str, Feature], rows: list[dict[str, Any]]) -> None:
    needed = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    for name, about in features.items():
        if about.stored == "video":
            needed += [f"videos/{name}/{k}" for k in ("chunk_index", "file_index", "from_timestamp")]
    for i, row in enumerate(rows):
        missing = [name for name in needed if row.get(name) is None]
        if missing:
            raise DataError(f"meta/episodes: row {i} has no {missing[0]!r}.", _RESTORE)
        if row["episode_index"] != i:
            raise DataError(
                f"meta/episodes: row {i} describes episode {row['episode_index']}; expected 0 to {len(rows) - 1},"
                " each once.",
                _RESTORE,
            )
        if not isinstance(row["length"], int) or row["length"] < 1:
            raise DataError(
                f"meta/episodes: episode {i} has length {row['length']!r:.80}; expected at least 1.", _RESTORE
            )
    totals = {"total_episodes": len(rows), "total_frames": sum(row["length"] for row in rows)}
    for key, found in totals.items():
        if info[key] != found:
            raise DataError(f"{INFO}: {key} is {info[key]!r}; meta/episodes holds {found}.", _RESTORE)


def _task_texts(root: Path) -> list[str]:
    table = read_table(root / TASKS)
    texts = [name for name in table.column_names if name != "task_index"]
    if len(texts) != 1 or "task_index" not in table.column_names:
        raise DataError(
            f"{TASKS} has columns {table.column_names}; expected task_index and a text.", _RESTORE
        )
    return [str(text) for text in table[texts[0]].to_pylist()]
