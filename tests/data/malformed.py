"""Datasets with one thing wrong each: name -> (kind of dataset, how it is damaged, what the check must say)."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Damage = Callable[[Path], object]
DATA = "data/chunk-000/file-001.parquet"
ROW = "meta/episodes/chunk-000/file-001.parquet"
FIRST = "data/chunk-000/file-000.parquet"
LOG = "decisions/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.scene/chunk-000/file-001.mp4"


def key(name: str, value: Any) -> Damage:
    """Set a key of meta/bora.json; a dotted name goes into an object."""

    def change(root: Path) -> None:
        file = root / "meta/bora.json"
        data = json.loads(file.read_text())
        inner, *last = name.split(".")
        if last:
            data[inner][last[0]] = value
        else:
            data[inner] = value
        file.write_text(json.dumps(data))

    return change


def without(name: str) -> Damage:
    def change(root: Path) -> None:
        file = root / "meta/bora.json"
        data = json.loads(file.read_text())
        del data[name]
        file.write_text(json.dumps(data))

    return change


def info(name: str, value: Any) -> Damage:
    def change(root: Path) -> None:
        file = root / "meta/info.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))

    return change


def statistic(feature: str, name: str, value: Any) -> Damage:
    """Set one entry of meta/stats.json."""

    def change(root: Path) -> None:
        file = root / "meta/stats.json"
        stats = json.loads(file.read_text())
        stats[feature][name] = value
        file.write_text(json.dumps(stats))

    return change


def text(path: str, content: str) -> Damage:
    return lambda root: (root / path).write_text(content)


def content(path: str, data: bytes) -> Damage:
    return lambda root: (root / path).write_bytes(data)


def cut(path: str, share: float) -> Damage:
    def change(root: Path) -> None:
        whole = (root / path).read_bytes()
        (root / path).write_bytes(whole[: int(share * len(whole))])

    return change


def folder(path: str) -> Damage:
    def change(root: Path) -> None:
        (root / path).unlink()
        (root / path).mkdir()

    return change


def gone(path: str) -> Damage:
    return lambda root: (root / path).unlink()


def copied(source: str, target: str) -> Damage:
    return lambda root: shutil.copy(root / source, root / target)


def table(path: str, change: Callable[[pa.Table], pa.Table]) -> Damage:
    def apply(root: Path) -> None:
        pq.write_table(change(pq.read_table(root / path)), root / path)

    return apply


def column(path: str, name: str, make: Callable[[pa.ChunkedArray], Any]) -> Damage:
    """Replace one column by what `make` returns for it."""
    return table(path, lambda t: t.set_column(t.column_names.index(name), name, make(t[name])))


def values(path: str, name: str, change: Callable[[np.ndarray], Any]) -> Damage:
    """Change the numbers of a scalar column."""
    return column(path, name, lambda c: pa.array(change(c.to_numpy().copy()), c.type))


def vectors(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    """Change the numbers of a column of rows."""

    def make(column: pa.ChunkedArray) -> pa.Array:
        width = column.type.list_size
        new = change(column.combine_chunks().flatten().to_numpy().reshape(-1, width).copy())
        return pa.FixedSizeListArray.from_arrays(pa.array(new.ravel()), new.shape[1])

    return column(DATA, name, make)


def put(at: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[at] = value
        return array

    return change


def row(name: str, value: Any) -> Damage:
    """Set a value in the row of episode 1."""
    return column(ROW, name, lambda c: pa.array([value], None if isinstance(value, str) else c.type))


def pixels(data: bytes) -> Damage:
    def make(column: pa.ChunkedArray) -> pa.Array:
        files = column.to_pylist()
        files[0] = {"bytes": data, "path": None}
        return pa.array(files, column.type)

    return column(DATA, "observation.images.scene", make)


def claims(width: int, height: int) -> bytes:
    """Return a PNG file whose header says a size, and which holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def video(shape: tuple[int, int, int, int]) -> Damage:
    def change(root: Path) -> None:
        from bora_cli.data.video import encode

        (root / VIDEO).write_bytes(encode(np.zeros(shape, np.uint8), "h264", 10))

    return change


CASES: dict[str, tuple[str, Damage, str]] = {
    # who made it
    "no identity": ("png", gone("meta/bora.json"), "meta/bora.json does not exist"),
    "identity is empty": ("png", text("meta/bora.json", ""), "meta/bora.json is not valid JSON"),
    "identity is torn": ("png", cut("meta/bora.json", 0.5), "meta/bora.json is not valid JSON"),
    "identity is no text": (
        "png",
        content("meta/bora.json", b"\xff\xfe\x00"),
        "meta/bora.json is not valid JSON",
    ),
    "identity is a list": (
        "png",
        text("meta/bora.json", "[1]"),
        "meta/bora.json holds [1]; expected a JSON object",
    ),
    "later format": ("png", key("format", 99), "the dataset has format 99; expected 1"),
    "format is a text": ("png", key("format", "1"), "the dataset has format '1'"),
    "no fps": ("png", without("fps"), "meta/bora.json has no key 'fps'"),
    "no action spec": ("png", without("action_spec"), "meta/bora.json has no key 'action_spec'"),
    "fps zero": ("png", key("fps", 0), "fps is 0; expected ticks per second"),
    "fps not a number": ("png", key("fps", float("nan")), "fps is nan"),
    "fps a text": ("png", key("fps", "ten"), "fps is 'ten'"),
    "fps beyond a float": ("png", key("fps", 10**400), "fps is 1000"),
    "identity nested": ("png", text("meta/bora.json", "[" * 100_000), "meta/bora.json is not valid JSON"),
    "identity is a directory": ("png", folder("meta/bora.json"), "meta/bora.json is no file"),
    "fps absurd": ("png", key("fps", 1e12), "fps is 1000000000000.0"),
    "image size absurd": ("png", key("image_size", [10**9, 10**9]), "image_size is [1000000000, 1000000000]"),
    "image size negative": ("png", key("image_size", [-6, 8]), "image_size is [-6, 8]"),
    "image size of three": ("png", key("image_size", [6, 8, 3]), "image_size is [6, 8, 3]"),
    "camera escapes": (
        "png",
        key("cameras", ["../../etc", "wrist"]),
        "cameras is '../../etc'; expected names",
    ),
    "camera twice": (
        "png",
        key("cameras", ["scene", "scene"]),
        "cameras is ['scene', 'scene']; expected a list",
    ),
    "camera no text": ("png", key("cameras", [1, 2]), "cameras is [1, 2]"),
    "limits swapped": ("png", key("action_spec.low", [9, 9, 9]), "action_spec is 'dx from 9 to 0.1'"),
    "limits too few": (
        "png",
        key("action_spec.low", [0]),
        "action_spec cannot be read: Action spec has 3 names",
    ),
    "spec without units": ("png", key("action_spec", {"names": ["a"]}), "action_spec has no key 'units'"),
    "spec a number": ("png", key("action_spec", 7), "action_spec cannot be read"),
    "extra a list": ("png", key("extra", []), "extra is []; expected a JSON object"),
    "unknown codec": ("png", key("video", "divx"), "video is 'divx'; expected one of h264-lossless"),
    "codec missing": ("video", without("video"), "video is ''; expected one of h264-lossless"),
    # the header
    "no header": ("png", gone("meta/info.json"), "it has no meta/info.json"),
    "header a list": ("png", text("meta/info.json", "[]"), "meta/info.json holds []"),
    "foreign version": (
        "png",
        info("codebase_version", "v2.1"),
        "codebase_version is 'v2.1'; expected 'v3.0'",
    ),
    "other fps": ("png", info("fps", 30), "meta/info.json: fps is 30; expected 10"),
    "path escapes": (
        "png",
        info("data_path", "../{chunk_index}.parquet"),
        "data_path is '../{chunk_index}.parquet'",
    ),
    "video path escapes": (
        "video",
        info("video_path", "/etc/{video_key}"),
        "video_path is '/etc/{video_key}'",
    ),
    "other features": (
        "png",
        info("features", {}),
        "meta/info.json lists other features than meta/bora.json",
    ),
    "statistics empty": ("png", text("meta/stats.json", "{}"), "meta/stats.json is wrong about action, "),
    "statistics a list": ("png", text("meta/stats.json", "[]"), "meta/stats.json is wrong about action, "),
    "statistics of other data": (
        "png",
        statistic("action", "mean", [0.0, 0.0, 9.0]),
        "meta/stats.json is wrong about action.",
    ),
    "statistics of texts": (
        "png",
        statistic("next.reward", "std", ["a"]),
        "meta/stats.json is wrong about next.reward.",
    ),
    "statistics not a number": (
        "png",
        statistic("observation.state", "q50", [float("nan"), 0.0]),
        "meta/stats.json is wrong about observation.state.",
    ),
    "statistics of other images": (
        "video",
        statistic("observation.images.wrist", "max", [[[7.0]]] * 3),
        "meta/stats.json is wrong about observation.images.wrist.",
    ),
    # the rows
    "row torn": ("png", cut(ROW, 0.6), "file-001.parquet cannot be read"),
    "row empty": ("png", content(ROW, b""), "file-001.parquet cannot be read"),
    "row missing": ("png", gone(ROW), "Episodes [1] are missing although episode 3 exists"),
    "row of another episode": (
        "png",
        copied(ROW.replace("1.p", "0.p"), ROW),
        "describes episodes [0]; expected [1]",
    ),
    "row twice": (
        "png",
        table(ROW, lambda t: pa.concat_tables([t, t])),
        "describes episodes [1, 1]; expected [1]",
    ),
    "row without length": ("png", table(ROW, lambda t: t.drop_columns(["length"])), "has no column 'length'"),
    "row with another name": (
        "png",
        copied(ROW, ROW.replace("file-001", "copy")),
        "chunk-000/copy.parquet is not the",
    ),
    "length wrong": ("png", row("length", 6), "It has 7 ticks on disk; its row says 6"),
    "length zero": ("png", row("length", 0), "length, first tick and decisions are [0, 6, 0]"),
    "length absurd": ("png", row("length", 10**15), "It has 7 ticks on disk; its row says 1000000000000000"),
    "start wrong": ("png", row("dataset_from_index", 99), "It starts at tick 99 of the dataset; expected 6"),
    "decisions wrong": ("png", row("bora/decisions", 3), "file-001.parquet is missing"),
    "meta broken": ("png", row("bora/meta", "{"), "file-001.parquet cannot be understood"),
    "meta a list": ("png", row("bora/meta", "[]"), "meta must be an object"),
    "no task": ("png", row("tasks", []), "file-001.parquet cannot be understood"),
    "task unknown": ("png", row("tasks", ["fly"]), "Instruction 'fly' is not in the table of tasks"),
    # the tasks
    "tasks torn": ("png", cut("meta/tasks.parquet", 0.5), "meta/tasks.parquet cannot be read"),
    "tasks of other columns": (
        "png",
        table("meta/tasks.parquet", lambda t: t.rename_columns(["task_index", "words"])),
        "meta/tasks.parquet cannot be read",
    ),
    # the ticks
    "data torn": ("png", cut(DATA, 0.9), "file-001.parquet cannot be read"),
    "data empty": ("png", content(DATA, b""), "file-001.parquet cannot be read"),
    "data no parquet": (
        "png",
        content(DATA, b"PAR1" + bytes(100) + b"PAR1"),
        "file-001.parquet cannot be read",
    ),
    "data missing": ("png", gone(DATA), "data/chunk-000/file-001.parquet is missing"),
    "data of another episode": ("png", copied(DATA.replace("1.p", "2.p"), DATA), "It has 4 ticks on disk"),
    "episode twice": (
        "png",
        copied(DATA.replace("1.p", "3.p"), DATA),
        "episode_index is 3 at tick 0; expected 1",
    ),
    "column missing": ("png", table(DATA, lambda t: t.drop_columns(["action"])), "has no column 'action'"),
    "images missing": (
        "png",
        table(DATA, lambda t: t.drop_columns(["observation.images.wrist"])),
        "has no column 'observation.images.wrist'",
    ),
    "column of doubles": (
        "png",
        column(DATA, "next.reward", lambda c: pc.cast(c, pa.float64())),
        "Column next.reward is float64 with 1 numbers per tick; expected float32",
    ),
    "column of texts": (
        "png",
        column(DATA, "next.reward", lambda c: pc.cast(c, pa.string())),
        "Column next.reward is object with 1 numbers per tick; expected float32",
    ),
    "column too wide": (
        "png",
        vectors("action", lambda a: np.tile(a, 2)),
        "Column action is float32 with 6 numbers per tick; expected float32 with 3",
    ),
    "column with nulls": (
        "png",
        column(DATA, "next.reward", lambda c: pa.array([None, *c.to_pylist()[1:]], c.type)),
        "A column holds nulls",
    ),
    "a tick lost": ("png", table(DATA, lambda t: t.slice(1)), "It has 6 ticks on disk; its row says 7"),
    "gap in indices": (
        "png",
        values(DATA, "frame_index", put(3, 4)),
        "frame_index is 4 at tick 3; expected 3",
    ),
    "gap in time": (
        "png",
        values(DATA, "timestamp", put(slice(3, None), 9)),
        "Time goes from 0.2 s to 9 s at tick 3",
    ),
    "time of another fps": (
        "png",
        values(DATA, "timestamp", lambda t: t / 3),
        "Time goes from 0 s to 0.0333333 s at tick 1; expected steps of 0.1 s",
    ),
    "state not a number": (
        "png",
        vectors("observation.state", put((2, 0), np.nan)),
        "1 NaN or infinite numbers",
    ),
    "action infinite": ("png", vectors("action.proposed", put((2, 0), np.inf)), "1 NaN or infinite numbers"),
    "action beyond limits": (
        "png",
        vectors("action", put((2, 2), 99)),
        "finger is 99 rad; expected 0 to 1.5",
    ),
    "controller unknown": ("png", values(DATA, "controller", put(2, 200)), "Controllers [200] are unknown"),
    "ends twice": (
        "png",
        values(DATA, "terminated", put(0, True)),
        "Found terminated at tick 0, terminated at tick 6",
    ),
    "never ends": ("png", values(DATA, "terminated", put(6, False)), "Found no ending"),
    "task number wrong": (
        "png",
        values(DATA, "task_index", put(0, 9)),
        "task_index is 9 at tick 0; expected 0",
    ),
    "image torn": (
        "png",
        pixels(b"\x89PNG\r\n\x1a\nhalf"),
        "camera scene, tick 0: Image 0 cannot be decoded",
    ),
    "image without bytes": (
        "png",
        column(DATA, "observation.images.scene", lambda c: pa.array([{"path": "x"}] * len(c))),
        "camera scene, tick 0: KeyError: 'bytes'",
    ),
    "image huge": ("png", pixels(claims(60_000, 60_000)), "camera scene, tick 0: Image 0 cannot be decoded"),
    "image missing": ("png", pixels(b""), "camera scene, tick 0: Image 0 cannot be decoded"),
    # the decision log
    "log missing": ("png", gone(LOG), "decisions/chunk-000/file-000.parquet is missing"),
    "log torn": ("png", cut(LOG, 0.5), "decisions/chunk-000/file-000.parquet cannot be read"),
    "log too short": ("png", table(LOG, lambda t: t.slice(1)), "It has 1 decisions on disk; its row says 2"),
    "log beyond the end": ("png", values(LOG, "t_start", put(1, 60)), "Decisions start at ticks [0, 60]"),
    # what follows from the rest, and what no recording can say
    "phase unknown": ("png", values(DATA, "phase", put(1, 200)), "phase is 200 at tick 1; expected 0 to 4"),
    "intervention lies": ("png", values(DATA, "intervention", np.invert), "intervention is True at tick 0"),
    "done lies": ("png", values(DATA, "next.done", np.invert), "next.done is True at tick 0; expected False"),
    "success lies": ("png", values(DATA, "next.success", np.invert), "next.success is True at tick 0"),
    "decision unknown": (
        "png",
        values(FIRST, "decision_id", put(1, 99)),
        "decision_id is 99 at tick 1; expected 0",
    ),
    "place unknown": ("png", values(FIRST, "inner_index", put(1, 77)), "inner_index is 77 at tick 1"),
    "late clock": (
        "png",
        values(DATA, "timestamp", lambda t: t + 1000),
        "Time starts at 1000 s; expected 0 s",
    ),
    "half a command": (
        "png",
        vectors("action.human", put((5, 1), np.nan)),
        "action.human has 1 NaN at tick 5",
    ),
    "log weight": ("png", values(LOG, "lam", put(0, np.nan)), "NaN or infinite numbers in 'lam'"),
    "log executed": (
        "png",
        values(LOG, "executed", put(0, 99)),
        "Decision 0 executed 99 ticks; expected 0 to 4",
    ),
    "log executed less": ("png", values(LOG, "executed", put(0, -1)), "Decision 0 executed -1 ticks"),
    "log planned": ("png", values(LOG, "planned", put(0, 0)), "Decision 0 plans 0 ticks; expected 1 to 8"),
    "log numbers": (
        "png",
        values(LOG, "decision_id", put(1, 0)),
        "decision_id of the decision log is [0, 0]",
    ),
    "log of another episode": (
        "png",
        values(LOG, "episode_index", lambda a: a + 3),
        "episode_index of the decision log is [3, 3]; expected [0, 0]",
    ),
    "log lacks a column": ("png", table(LOG, lambda t: t.drop_columns(["closed"])), "has no column 'closed'"),
    "log of texts": (
        "png",
        column(LOG, "t_start", lambda c: pa.array(["a"] * len(c))),
        "Column t_start of the decision log is string; expected int64",
    ),
    "log closed": (
        "png",
        column(LOG, "closed", lambda c: pa.array(["banana"] * len(c))),
        "Decisions closed with 'banana'; expected one of horizon",
    ),
    "log too narrow": (
        "png",
        column(LOG, "base", lambda c: pa.array([[1.0]] * len(c), c.type)),
        "The decision log cannot be read: cannot reshape",
    ),
    "log tokens": (
        "png",
        column(LOG, "tokens_shape", lambda c: pa.array([[999, 999]] * len(c), c.type)),
        "The decision log cannot be read: cannot reshape",
    ),
    "tasks twice": (
        "png",
        table("meta/tasks.parquet", lambda t: pa.concat_tables([t, t])),
        "meta/tasks.parquet has 2 rows for 1 instructions and 1 numbers",
    ),
    "groups beyond": (
        "png",
        key("action_spec.groups", {"arm": [0, 99]}),
        "meta/bora.json: group 'arm' of action_spec is actions 0 to 99; there are 3",
    ),
    "row without statistics": (
        "png",
        column(ROW, "stats/action/mean", lambda c: pa.nulls(1, c.type)),
        "Its row is wrong about action",
    ),
    "row of other statistics": (
        "png",
        column(ROW, "stats/action/mean", lambda c: pa.array([[99.0] * 3], c.type)),
        "Its row is wrong about action",
    ),
    "header of texts": ("png", info("total_episodes", "four"), "total_episodes is 'four'; expected 4"),
    "header below zero": ("png", info("total_frames", -4), "meta/info.json: total_frames is -4; expected 24"),
    "video longer than its rows": ("video", video((30, 6, 8, 3)), "has 30 frames; expected 7"),
    # videos
    "video missing": ("video", gone(VIDEO), "file-001.mp4 is missing"),
    "video torn": ("video", cut(VIDEO, 0.5), "file-001.mp4 cannot be decoded"),
    "video empty": ("video", content(VIDEO, b""), "file-001.mp4 cannot be decoded"),
    "video shorter than its rows": (
        "video",
        video((4, 6, 8, 3)),
        "file-001.mp4 has no frame at 0.6 s (tick 6)",
    ),
    "video of another size": ("video", video((7, 32, 48, 3)), "has frames of 48 x 32 pixels; expected 8 x 6"),
}
