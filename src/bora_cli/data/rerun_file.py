"""Episodes as a recording for the rerun viewer (rerun.io), for whoever has it; `view` needs nothing."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bora_cli.data import png
from bora_cli.data.copy import Progress, no_progress
from bora_cli.data.dataset import Dataset
from bora_cli.data.tables import residual_at
from bora_cli.data.view import Values, require_lengths
from bora_cli.errors import ConfigError
from bora_cli.types import Episode


def write_recording(
    dataset: Dataset,
    episodes: Sequence[int],
    out: Path,
    values: Values | None = None,
    progress: Progress = no_progress,
) -> None:
    """Write a new .rrd file; every episode begins at tick 0 of the timelines "tick" and "time".

    An episode N lies under episode_N: images/CAMERA, action, proposed, human, residual, state, controller, phase,
    reward, and values/NAME.  values: as for `view_page`.
    Raises ConfigError where rerun-sdk is not installed, DataError for values of another length, CorruptEpisode for
    damaged episodes.
    """
    rerun = _rerun()
    stream = rerun.RecordingStream("bora", recording_id=secrets.token_hex(8))
    part = out.with_name(out.name + ".tmp")
    try:
        stream.save(part)
        for done, index in enumerate(episodes):
            _send(rerun, stream, dataset, index, (values or {}).get(index, {}))
            progress("view", done + 1, len(episodes))
        stream.disconnect()  # everything is on disk then
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _send(
    rerun: ModuleType, stream: Any, dataset: Dataset, index: int, values: Mapping[str, ArrayLike]
) -> None:
    row, episode = dataset.row(index), dataset.episode(index)
    require_lengths(values, row.index, len(episode))
    root = f"episode_{row.index}"
    success = "success" if episode.success else "no success"
    about = f"{episode.prompt}\n\n{success}, {len(episode)} ticks"
    stream.log(root, rerun.TextDocument(about), static=True)
    times = _times(rerun, episode, dataset.fps)
    for camera, images in episode.images.items():
        files = png.encode(images)
        columns = rerun.EncodedImage.columns(blob=files, media_type=["image/png"] * len(files))
        stream.send_columns(f"{root}/images/{camera}", indexes=times, columns=columns)
    actions = {"action": episode.action, "proposed": episode.proposed, "human": episode.human}
    for name, rows in (actions | {"residual": residual_at(episode)}).items():
        if np.isfinite(rows).any():
            _plot(rerun, stream, f"{root}/{name}", dataset.spec.names, rows, times)
    _plot(rerun, stream, f"{root}/state", dataset.state_names, episode.state, times)
    numbers: dict[str, ArrayLike] = {"controller": episode.controller, "phase": episode.phase}
    numbers |= {"reward": episode.reward} | {f"values/{name}": column for name, column in values.items()}
    for name, column in numbers.items():
        _plot(rerun, stream, f"{root}/{name}", (Path(name).name,), np.asarray(column)[:, None], times)


def _plot(
    rerun: ModuleType, stream: Any, path: str, names: Iterable[str], rows: NDArray[Any], times: list[Any]
) -> None:
    """Send rows [T, D] as D named lines."""
    stream.log(path, rerun.SeriesLines(names=list(names)), static=True)
    columns = rerun.Scalars.columns(scalars=rows.astype(np.float64))
    stream.send_columns(path, indexes=times, columns=columns)


def _times(rerun: ModuleType, episode: Episode, fps: float) -> list[Any]:
    ticks = np.arange(len(episode))
    times = [rerun.TimeColumn("tick", sequence=ticks), rerun.TimeColumn("time", duration=ticks / fps)]
    if episode.wall_ns is not None and (episode.wall_ns >= 0).all():
        times.append(rerun.TimeColumn("recorded", timestamp=episode.wall_ns.astype("datetime64[ns]")))
    return times


def _rerun() -> ModuleType:
    try:
        import rerun
    except ImportError:
        raise ConfigError(
            "Recordings for rerun need rerun-sdk, which is not installed.",
            'Install it with `pip install "bora-cli[rerun]"`, or name a .html file, which needs nothing.',
        ) from None
    module: ModuleType = rerun
    return module
