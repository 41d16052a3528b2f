"""Draw single ticks with the actions that follow them, in any order, from datasets larger than memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.data.frame_cache import BUDGET, FrameCache, Layout
from bora_cli.data.sources import Source, open_source
from bora_cli.errors import ConfigError, DataError, SchemaMismatch

Item = dict[str, Any]


class ChunkReader:
    """All ticks of a dataset, each with some columns, its images and the chunk of actions that begins there.

    chunk: ticks per chunk; behind the end of the episode the last action is repeated and `action_is_pad` True.
    columns: numeric columns of the tick itself.  cameras: columns with images, None for all of them.
    budget: bytes on disk for decoded images (see `FrameCache`), 0 to decode anew each time.

    `len` and `[i]` make it a dataset for PyTorch's DataLoader as it is; it may be forked.  Memory does not grow with
    the dataset.
    """

    def __init__(
        self,
        source: Source | Path | str,
        *,
        chunk: int = 16,
        columns: Sequence[str] = ("observation.state",),
        cameras: Sequence[str] | None = None,
        budget: int = BUDGET,
        folder: Path | None = None,
    ) -> None:
        if chunk < 1:
            raise ConfigError(f"Chunk is {chunk} ticks; expected at least 1.", "Choose a positive number.")
        self.source = open_source(source) if isinstance(source, Path | str) else source
        self.chunk = chunk
        self.columns = list(columns)
        self.cameras = self.source.cameras if cameras is None else list(cameras)
        for name in (*self.columns, *self.cameras, "action"):
            if name not in self.source.shapes:
                raise SchemaMismatch(f"Unknown column '{name}'.", f"Known: {', '.join(self.source.shapes)}.")
        self.offsets = np.concatenate([[0], np.cumsum(self.source.lengths)])
        kept = list(dict.fromkeys(["action", *self.columns]))
        self.cache = FrameCache(self.source, kept, self.cameras, folder=folder, budget=budget)
        self._steps = np.arange(chunk)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def close(self) -> None:
        """Close the files of the cache."""
        self.cache.close()

    def place(self, index: int) -> tuple[int, int]:
        """Return (episode, tick) of a tick counted over the dataset.  Raises DataError outside it."""
        if not 0 <= index < len(self):
            raise DataError(
                f"Tick {index} does not exist; the dataset has {len(self)}.", "Use a smaller index."
            )
        episode = int(np.searchsorted(self.offsets, index, side="right")) - 1
        return episode, index - int(self.offsets[episode])

    def warm(self) -> int:
        """Decode every episode that fits into the cache; returns how many are in it."""
        return sum(self.cache.open(i) is not None for i in range(len(self.source.lengths)))

    def __getitem__(self, index: int) -> Item:
        """Return one tick.

        columns: arrays of their shape.  action: [H, A].  action_is_pad: bool [H].  Images: uint8 [H, W, 3].
        episode_index, frame_index: int.  task: the instruction.
        """
        one = self.batch([index])
        out: Item = {name: values[0] for name, values in one.items()}
        out["episode_index"], out["frame_index"] = int(out["episode_index"]), int(out["frame_index"])
        return out

    def batch(self, indices: Sequence[int] | NDArray[np.int64]) -> Item:
        """Return several ticks at once, the same as `[i]` with a leading axis [B]; task is a list."""
        count, shapes = len(indices), self.source.shapes
        images = {c: np.empty((count, *shapes[c][1]), np.uint8) for c in self.cameras}
        records = np.empty((count, self.chunk), self.cache.record)
        places = np.array([self.place(int(i)) for i in indices], np.int64).reshape(count, 2)
        left = self.source.lengths[places[:, 0]] - places[:, 1]
        for b, (episode, tick) in enumerate(places.tolist()):
            found = self.cache.open(episode)
            ticks = min(self.chunk, int(left[b]))
            if found is None:
                self._decode(episode, tick, records[b, :ticks], {c: x[b] for c, x in images.items()})
            else:
                self._copy(found, tick, records[b, :ticks], {c: x[b] for c, x in images.items()})
            records[b, ticks:] = records[b, ticks - 1]
        out: Item = {name: np.ascontiguousarray(records[name][:, 0]) for name in self.columns}
        out["action"] = np.ascontiguousarray(records["action"])
        out["action_is_pad"] = self._steps >= left[:, None]
        out |= images
        out["episode_index"], out["frame_index"] = places[:, 0], places[:, 1]
        out["task"] = [self.source.tasks[e] for e in places[:, 0].tolist()]
        return out

    def _copy(self, found: tuple[int, Layout], tick: int, records: NDArray[Any], images: Item) -> None:
        descriptor, layout = found
        _read(descriptor, records, layout.starts[""] + tick * records.itemsize)
        for camera, target in images.items():
            _read(descriptor, target, layout.starts[camera] + tick * target.nbytes)

    def _decode(self, episode: int, tick: int, records: NDArray[Any], images: Item) -> None:
        values = self.source.columns(episode, list(self.cache.record.names or ()))
        for name, column in values.items():
            records[name] = column[tick : tick + len(records)].reshape(records[name].shape)
        for camera, target in images.items():
            target[:] = self.source.frames(episode, camera, [tick])[0]


def _read(descriptor: int, target: NDArray[Any], offset: int) -> None:
    if os.preadv(descriptor, [target.view(np.uint8).data], offset) != target.nbytes:
        raise DataError(
            "A file of the cache is shorter than when it was opened.", "Delete cache/frames of the dataset."
        )
