"""One HTML file in which episodes can be scrubbed: images, who acted, actions, rewards, what the critic said."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bora_cli.data.copy import Progress, no_progress
from bora_cli.data.dataset import Dataset
from bora_cli.errors import DataError
from bora_cli.types import Episode

LARGEST = 256
"""Pixels of the longer side beyond which pictures are scaled down."""
MOST_PICTURES = 4000
"""Pictures in one page; with more ticks, only every second, third, ... one is shown."""
_QUALITY = 80
_FACTS = (
    "task",
    "setting",
    "gap",
    "scene_seed",
    "operator",
    "quality",
    "mistake",
    "takeovers",
    "checkpoint_hash",
    "profile",
    "source",
    "source_episode",
    "repaired",
)

Values = Mapping[int, Mapping[str, ArrayLike]]


def view_page(
    dataset: Dataset, episodes: Sequence[int], values: Values | None = None, progress: Progress = no_progress
) -> str:
    """Return a self-contained HTML page; it needs no network.

    values: episode -> name -> number per tick [T], such as a critic's "v" and "q"; NaN where there is none.
    Raises DataError for values of another length, CorruptEpisode for damaged episodes.
    """
    known = values or {}
    ticks = sum(dataset.row(index).length for index in episodes)
    every = max(1, -(-ticks * max(1, len(dataset.cameras)) // MOST_PICTURES))
    spec = dataset.spec
    shown = []
    for done, index in enumerate(episodes):
        shown.append(_episode(dataset, index, known.get(index), every))
        progress("view", done + 1, len(episodes))
    actions = [
        {"name": name, "unit": unit, "low": float(low), "high": float(high)}
        for name, unit, low, high in zip(spec.names, spec.units, spec.low, spec.high, strict=True)
    ]
    document = {"fps": dataset.fps, "every": every, "actions": actions, "episodes": shown}
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = files("bora_cli.data").joinpath("view.html").read_text(encoding="utf-8")
    return template.replace("__DATA__", text)


def _episode(
    dataset: Dataset, index: int, values: Mapping[str, ArrayLike] | None, every: int
) -> dict[str, Any]:
    row, episode = dataset.row(index), dataset.episode(index)
    facts = {key: str(episode.meta[key]) for key in _FACTS if episode.meta.get(key) is not None}
    facts["decisions"] = str(len(episode.decisions))
    if episode.wall_ns is not None:
        recorded = datetime.fromtimestamp(int(episode.wall_ns.max()) // 10**9, UTC)
        facts["recorded"] = f"{recorded:%Y-%m-%d %H:%M} UTC"
    if episode.intervened.any():
        facts["human share"] = f"{episode.human_share:.0%}"
    out = {
        "index": row.index,
        "ticks": len(episode),
        "prompt": episode.prompt,
        "success": bool(episode.success),
        "ended": "terminated" if episode.terminated[-1] else "truncated",
        "facts": facts,
        "controller": episode.controller.tolist(),
        "reward": _numbers(episode.reward),
        "action": [_numbers(column) for column in episode.action.T],
        "proposed": [_numbers(column) for column in episode.proposed.T],
        "images": _images(episode, every),
    }
    if values:
        series = {name: np.asarray(numbers, np.float64) for name, numbers in values.items()}
        require_lengths(series, row.index, len(episode))
        out["values"] = {n: _numbers(v) for n, v in series.items() if np.isfinite(v).any()}
    return out


def require_lengths(values: Mapping[str, ArrayLike], index: int, ticks: int) -> None:
    """Raise DataError unless every series has a number for each tick of an episode."""
    for name, numbers in values.items():
        if np.shape(numbers) != (ticks,):
            raise DataError(
                f"'{name}' of episode {index} has {np.size(numbers)} numbers; the episode has {ticks} ticks.",
                "Give the analysis of this very dataset.",
            )


def _numbers(values: NDArray[Any]) -> list[float | None]:
    return [float(f"{x:.4g}") if np.isfinite(x) else None for x in values]


def _images(episode: Episode, every: int) -> dict[str, list[str]]:
    from PIL import Image

    out: dict[str, list[str]] = {}
    for camera, frames in episode.images.items():
        out[camera] = []
        for frame in frames[::every]:
            picture = Image.fromarray(frame)
            picture.thumbnail((LARGEST, LARGEST))
            buffer = io.BytesIO()
            picture.save(buffer, "WEBP", quality=_QUALITY, method=0)
            out[camera].append("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode())
    return out
