"""What lies where in a dataset directory, and which columns it has.

    meta/bora.json                              identity: action spec, state names, cameras; never rewritten
    meta/info.json                              LeRobot v3 header with the totals; derived, can be rebuilt
    meta/stats.json                             statistics over all episodes; derived, can be rebuilt
    meta/tasks.parquet                          instruction -> task_index
    meta/episodes/chunk-000/file-007.parquet    one row: episode 7 exists.  This file is the commit point.
    data/chunk-000/file-007.parquet             the ticks of episode 7
    decisions/chunk-000/file-007.parquet        its decision log, where it has one
    videos/CAMERA/chunk-000/file-007.mp4        its images, in a dataset that keeps them as video

Episode i is file i % 1000 of chunk i // 1000 in all places; episode indices are 0 .. N-1 without gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bora_cli.data import video
from bora_cli.errors import SchemaMismatch
from bora_cli.types import ActionSpec, Episode

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
VIDEO_FORMAT = 2
"""Format of a dataset whose images are video, so that a version of bora that knows none says so."""
CODEBASE_VERSION = "v3.0"
FILES_PER_CHUNK = 1000
IDENTITY = Path("meta/bora.json")
INFO = Path("meta/info.json")
STATS = Path("meta/stats.json")
TASKS = Path("meta/tasks.parquet")
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODE_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DECISION_PATH = "decisions/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
IMAGE_PREFIX = "observation.images."

VECTORS = {
    "observation.state": "state",
    "action": "action",
    "action.proposed": "proposed",
    "action.human": "human",
}
"""Column -> field of Episode, float32 rows."""
SCALARS = {
    "controller": ("uint8", "controller"),
    "phase": ("uint8", "phase"),
    "next.reward": ("float32", "reward"),
    "terminated": ("bool", "terminated"),
    "truncated": ("bool", "truncated"),
}
"""Column -> (dtype, field of Episode)."""
DERIVED = {
    "intervention": "bool",
    "next.done": "bool",
    "next.success": "bool",
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
    "decision_id": "int64",
    "inner_index": "int64",
}
"""Columns computed from the episode when it is written; for other readers of the files, never read back."""
RESIDUAL = "action.residual"
"""Column computed like those, float32 rows."""
CLOCKS = ("wall_ns", "monotonic_ns")
"""Columns and fields of Episode of one name, int64: when a tick was recorded.  They are part of no statistics and no
content hash, so that recording the same twice gives the same."""
PREFIX = "bora/"
"""Of our columns in the row of an episode."""
NAMED = (PREFIX + "operator", PREFIX + "profile_hash")
"""Columns of a row that repeat what `Episode.meta` says, for other readers."""
ADDED = (RESIDUAL, *CLOCKS, *NAMED)
"""Columns of data files and rows that datasets made by earlier versions do not have."""


@dataclass(frozen=True)
class Identity:
    """What all episodes of a dataset have in common; fixed when the dataset is created.

    image_size: (height, width) in pixels of every camera.  fps: ticks per second, also of the images.
    extra: anything else worth keeping, JSON values only (e.g. the hardware profile's hash).
    video: the codec of the images (`video.CODECS`), "" where they are PNG files in the data table.
    added: which columns of `ADDED` its files have; none in datasets of versions that did not know them.
    """

    spec: ActionSpec
    state_names: tuple[str, ...]
    cameras: tuple[str, ...]
    image_size: tuple[int, int]
    fps: float
    robot_type: str
    extra: dict[str, Any] = field(default_factory=dict)
    video: str = ""
    added: tuple[str, ...] = ADDED

    def to_json(self) -> dict[str, Any]:
        return {
            "format": VIDEO_FORMAT if self.video else FORMAT,
            **({"video": self.video} if self.video else {}),
            **({"columns": list(self.added)} if self.added else {}),
            "robot_type": self.robot_type,
            "fps": self.fps,
            "action_spec": self.spec.to_json(),
            "state_names": list(self.state_names),
            "cameras": list(self.cameras),
            "image_size": list(self.image_size),
            "extra": self.extra,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Identity:
        """Parse `meta/bora.json`.  Raises DataError for a missing key, an unknown format or an impossible value."""
        from bora_cli.data.identity import parse_identity

        return parse_identity(data)

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """The feature table of `meta/info.json`: column -> dtype, shape, names."""
        names = {"observation.state": list(self.state_names)}
        out: dict[str, dict[str, Any]] = {}
        for column in (*VECTORS, *(name for name in self.added if name == RESIDUAL)):
            labels = names.get(column, list(self.spec.names))
            out[column] = {"dtype": "float32", "shape": [len(labels)], "names": labels}
        for camera in self.cameras:
            shape = [*self.image_size, 3]
            out[IMAGE_PREFIX + camera] = {
                "dtype": "video" if self.video else "image",
                "shape": shape,
                "names": ["height", "width", "channels"],
            }
            if self.video:
                about = video.feature_info(self.video, self.image_size, self.fps)
                out[IMAGE_PREFIX + camera]["info"] = about
        scalars = {column: dtype for column, (dtype, _) in SCALARS.items()} | DERIVED
        scalars |= dict.fromkeys(self.clocks, "int64")
        for column, dtype in scalars.items():
            out[column] = {"dtype": dtype, "shape": [1], "names": None}
        return out

    @property
    def clocks(self) -> list[str]:
        """Columns of a data file that say when a tick was recorded."""
        return [name for name in CLOCKS if name in self.added]

    @property
    def numeric(self) -> list[str]:
        """Columns of a data file other than images."""
        return [name for name in self.features if not name.startswith(IMAGE_PREFIX)]

    @property
    def described(self) -> list[str]:
        """Columns other than images of which statistics are kept."""
        return [name for name in self.numeric if name not in CLOCKS]

    @property
    def image_columns(self) -> list[str]:
        """Columns of a data file that hold images; none where they are video."""
        return [] if self.video else [IMAGE_PREFIX + camera for camera in self.cameras]

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema of a data file."""
        import pyarrow as pa

        image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        scalar = {"float32": pa.float32(), "int64": pa.int64(), "uint8": pa.uint8(), "bool": pa.bool_()}
        fields = []
        for column, feature in self.features.items():
            if feature["dtype"] == "video":
                continue
            if feature["dtype"] == "image":
                kind = image
            elif column in VECTORS or column == RESIDUAL:
                kind = pa.list_(pa.float32(), feature["shape"][0])
            else:
                kind = scalar[feature["dtype"]]
            fields.append(pa.field(column, kind))
        return pa.schema(fields)

    def require_fits(self, episode: Episode) -> None:
        """Raise SchemaMismatch naming the first field of an episode with a wrong shape or type.

        In a dataset that records under a hardware profile, an episode without the profile's hash does not fit.
        """
        if self.extra.get("job", {}).get("profile_hash") and not episode.meta.get("profile_hash"):
            raise SchemaMismatch(
                "Episode.meta has no profile_hash; expected the hash of the hardware profile it was recorded under.",
                "Put the recording job's fields into the episode's meta.",
            )
        ticks, actions, states = len(episode), self.spec.dim, len(self.state_names)
        expected: dict[str, tuple[tuple[int, ...], str]] = {
            field_name: ((ticks, states if column == "observation.state" else actions), "float32")
            for column, field_name in VECTORS.items()
        }
        expected |= {field_name: ((ticks,), dtype) for dtype, field_name in SCALARS.values()}
        for name, (shape, dtype) in expected.items():
            _require(f"Episode.{name}", getattr(episode, name), shape, dtype)
        for name in CLOCKS:
            if (times := getattr(episode, name)) is not None:
                _require(f"Episode.{name}", times, (ticks,), "int64")
        if set(episode.images) != set(self.cameras):
            raise SchemaMismatch(
                f"The episode has images of {sorted(episode.images) or 'no camera'}; "
                f"expected {sorted(self.cameras) or 'none'}.",
                "Record the cameras that the dataset was created with.",
            )
        for camera, images in episode.images.items():
            _require(f"Episode.images[{camera!r}]", images, (ticks, *self.image_size, 3), "uint8")
        for i, decision in enumerate(episode.decisions):
            horizon = len(decision.base)
            for name in ("base", "residual", "final"):
                chunk = getattr(decision, name)
                _require(f"Episode.decisions[{i}].{name}", chunk, (horizon, actions), "float32")
            tokens = decision.tokens
            shape = tokens.shape if tokens.ndim == 2 else (-1, -1)
            _require(f"Episode.decisions[{i}].tokens", tokens, shape, "float16")


def episode_file(root: Path, template: str, index: int) -> Path:
    """Return the path of one of an episode's files; template: DATA_PATH, EPISODE_PATH or DECISION_PATH."""
    return root / template.format(chunk_index=index // FILES_PER_CHUNK, file_index=index % FILES_PER_CHUNK)


def video_file(root: Path, camera: str, index: int) -> Path:
    """Return the path of an episode's video of one camera."""
    template = VIDEO_PATH.replace("{video_key}", IMAGE_PREFIX + camera)
    return episode_file(root, template, index)


def header(identity: Identity, episodes: int, ticks: int, tasks: int) -> dict[str, Any]:
    """Return `meta/info.json`: what LeRobot wants to know, with the totals."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": identity.robot_type,
        "total_episodes": episodes,
        "total_frames": ticks,
        "total_tasks": tasks,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": int(identity.fps) if float(identity.fps).is_integer() else identity.fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if identity.video else None,
        "features": identity.features,
    }


def require_well_formed(episode: Episode) -> None:
    """Raise SchemaMismatch unless exactly the last tick is terminated or truncated, and not both."""
    ended = episode.terminated.astype(int) + episode.truncated.astype(int)
    if len(episode) == 0:
        raise SchemaMismatch(
            "The episode has no ticks; expected at least one.", "Record at least one action."
        )
    if ended[-1] != 1 or ended[:-1].any():
        raise SchemaMismatch(
            f"Ticks {ending_ticks(episode)} of {len(episode)} are terminated or truncated;"
            f" expected exactly one flag, at tick {len(episode) - 1}.",
            "Close the episode at its last tick with either terminated or truncated.",
        )


def ending_ticks(episode: Episode) -> list[str]:
    """Name the ticks that carry an ending flag, e.g. ["7 terminated", "7 truncated"]."""
    flags = (("terminated", episode.terminated), ("truncated", episode.truncated))
    return [f"{t} {name}" for name, flag in flags for t in flag.nonzero()[0].tolist()]


def _require(name: str, array: Any, shape: tuple[int, ...], dtype: str) -> None:
    if tuple(array.shape) != shape or array.dtype != dtype:
        raise SchemaMismatch(
            f"{name} is {array.dtype} {list(array.shape)}; expected {dtype} {list(shape)}.",
            "Record with the robot and cameras that the dataset was created with.",
        )
