"""Read datasets in the LeRobot v2.1 layout: one file per episode, tables as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bora_cli.data.files import read_json
from bora_cli.data.lerobot import LeRobotDataset
from bora_cli.data.schema import INFO
from bora_cli.data.untrusted import malformed
from bora_cli.errors import DataError

VERSIONS = ("v2.0", "v2.1")
EPISODES = Path("meta/episodes.jsonl")
TASK_LINES = Path("meta/tasks.jsonl")
_RESTORE = "Restore the file from a copy."


def open_v21(root: Path) -> LeRobotDataset:
    """Open a directory.  Raises DataError with file, value and remedy for what cannot be read."""
    info = read_json(root / INFO)
    with malformed(root / INFO, _RESTORE):
        return _open(root, info)


def _open(root: Path, info: Any) -> LeRobotDataset:
    for key in ("codebase_version", "fps", "features", "data_path", "chunks_size"):
        if not isinstance(info, dict) or key not in info:
            raise DataError(f"{root / INFO} has no key '{key}'.", _RESTORE)
    if info["codebase_version"] not in VERSIONS:
        raise DataError(
            f"{root / INFO}: codebase_version is {info['codebase_version']!r}; expected {' or '.join(VERSIONS)}.",
            "Give a dataset of LeRobot v2.1 or v3.0.",
        )
    if not isinstance(info["features"], dict):
        raise DataError(f"{root / INFO}: features is {info['features']!r:.60}; expected an object.", _RESTORE)
    per_chunk = info["chunks_size"]
    if not isinstance(per_chunk, int) or per_chunk < 1 or not _is_rate(info["fps"]):
        raise DataError(
            f"{root / INFO}: chunks_size is {per_chunk!r} and fps {info['fps']!r}; expected positive numbers.",
            _RESTORE,
        )
    rows = []
    for i, line in enumerate(_lines(root / EPISODES, ("episode_index", "length", "tasks"))):
        if line["episode_index"] != i or type(line["length"]) is not int or line["length"] < 1:
            raise DataError(
                f"{root / EPISODES}, line {i + 1}: episode {line['episode_index']!r} of {line['length']!r} ticks;"
                f" expected episode {i} with at least one.",
                _RESTORE,
            )
        if not isinstance(line["tasks"], list) or not line["tasks"] or not isinstance(line["tasks"][0], str):
            raise DataError(f"{root / EPISODES}, line {i + 1}: the episode has no instruction.", _RESTORE)
        rows.append(_row(i, line, i // per_chunk, list(info["features"])))
    return LeRobotDataset(root, {**info, **_templates(info)}, rows)


def _row(index: int, line: dict[str, Any], chunk: int, features: list[str]) -> dict[str, Any]:
    """Return what a v3.0 row would say: every episode has files of its own that begin with it."""
    row = {**line, "data/chunk_index": chunk, "data/file_index": index}
    for name in features:
        row |= {
            f"videos/{name}/chunk_index": chunk,
            f"videos/{name}/file_index": index,
            f"videos/{name}/from_timestamp": 0.0,
        }
    return row


def _templates(info: dict[str, Any]) -> dict[str, Any]:
    def renamed(template: Any) -> Any:
        if not isinstance(template, str):
            return template
        return template.replace("{episode_chunk", "{chunk_index").replace("{episode_index", "{file_index")

    return {key: renamed(info.get(key)) for key in ("data_path", "video_path")}


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 16_384


def _lines(path: Path, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        texts = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}.", _RESTORE) from None
    out = []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is not JSON: {error}.", _RESTORE) from None
        missing = [key for key in keys if not isinstance(line, dict) or key not in line]
        if missing:
            raise DataError(f"{path}, line {number} has no '{missing[0]}'.", _RESTORE)
        out.append(line)
    return out
