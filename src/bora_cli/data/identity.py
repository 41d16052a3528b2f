"""Read `meta/bora.json` as something that anybody may have edited."""

from __future__ import annotations

from typing import Any

from bora_cli.data.schema import ADDED, FORMAT, IDENTITY, VIDEO_FORMAT, Identity
from bora_cli.data.video import CODECS
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.types import ActionSpec

_KEYS = ("robot_type", "fps", "action_spec", "state_names", "cameras", "image_size", "extra")
_LARGEST = 16_384
"""Pixels per side and ticks per second beyond which a number is a mistake."""
_RESTORE = "Restore the file from a copy."


def parse_identity(data: Any) -> Identity:
    """Return what a dataset's episodes have in common.

    Raises DataError with file, value and remedy for a missing key, another format, or a value that no
    recording can have.
    """
    if not isinstance(data, dict):
        raise DataError(f"{IDENTITY} holds {data!r:.60}; expected a JSON object.", _RESTORE)
    if data.get("format") not in (FORMAT, VIDEO_FORMAT) or isinstance(data.get("format"), bool):
        raise DataError(
            f"{IDENTITY}: the dataset has format {data.get('format')!r}; expected {FORMAT}, or {VIDEO_FORMAT}"
            " with videos.",
            "Install the version of bora that wrote it.",
        )
    for key in _KEYS:
        if key not in data:
            raise DataError(f"{IDENTITY} has no key '{key}'.", _RESTORE)
    codec = data.get("video", "")
    if (data["format"] == VIDEO_FORMAT) != (codec in CODECS) or (codec and codec not in CODECS):
        raise _wrong("video", codec, f"one of {', '.join(CODECS)} in format {VIDEO_FORMAT} only")
    fps = data["fps"]
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps <= _LARGEST:
        raise _wrong("fps", fps, f"ticks per second, above 0 and at most {_LARGEST}")
    size = data["image_size"]
    if not (_is_list(size, int) and len(size) == 2 and all(0 < n <= _LARGEST for n in size)):
        raise _wrong("image_size", size, f"[height, width] in pixels, 1 to {_LARGEST}")
    for key in ("state_names", "cameras"):
        if not _is_list(data[key], str) or len(set(data[key])) != len(data[key]):
            raise _wrong(key, data[key], "a list of distinct names")
    for camera in data["cameras"]:
        if not camera or camera.startswith(".") or set(camera) & set("/\\\0{}"):
            raise _wrong("cameras", camera, "names that can be a directory's: no slash, brace or leading dot")
    added = data.get("columns", [])  # versions that wrote no such columns did not say so
    if not _is_list(added, str) or len(set(added)) != len(added):
        raise _wrong("columns", added, "a list of distinct names")
    if unknown := [name for name in added if name not in ADDED]:
        raise DataError(
            f"{IDENTITY}: columns has '{unknown[0]}'; expected some of {', '.join(ADDED)}.",
            "Install the version of bora that wrote it.",
        )
    if not isinstance(data["extra"], dict):
        raise _wrong("extra", data["extra"], "a JSON object")
    return Identity(
        spec=_action_spec(data["action_spec"]),
        state_names=tuple(data["state_names"]),
        cameras=tuple(data["cameras"]),
        image_size=(size[0], size[1]),
        fps=fps,
        robot_type=str(data["robot_type"]),
        extra=data["extra"],
        video=codec,
        added=tuple(added),
    )


def _action_spec(data: Any) -> ActionSpec:
    try:
        spec = ActionSpec.from_json(data)
    except KeyError as error:
        raise DataError(f"{IDENTITY}: action_spec has no key {error}.", _RESTORE) from None
    except (TypeError, ValueError, AttributeError, IndexError, SchemaMismatch) as error:
        raise DataError(f"{IDENTITY}: action_spec cannot be read: {error}.", _RESTORE) from None
    bad = [i for i in range(spec.dim) if not spec.low[i] <= spec.high[i]]
    if bad:
        name, low, high = spec.names[bad[0]], spec.low[bad[0]], spec.high[bad[0]]
        raise _wrong("action_spec", f"{name} from {low:g} to {high:g}", "numbers, the lower limit first")
    return spec


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(v, kind) and not isinstance(v, bool) for v in value)


def _wrong(key: str, value: Any, expected: str) -> DataError:
    return DataError(f"{IDENTITY}: {key} is {value!r:.80}; expected {expected}.", _RESTORE)
