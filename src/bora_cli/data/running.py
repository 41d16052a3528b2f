"""Statistics over all episodes of a dataset, kept up to date while it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bora_cli.data.rows import histogram_column
from bora_cli.data.schema import IMAGE_PREFIX, Identity
from bora_cli.data.stats import I64, RunningStats, image_stats
from bora_cli.data.tables import column_array

if TYPE_CHECKING:
    import pyarrow as pa


class DatasetStats:
    """The content of meta/stats.json in a form that episodes can be added to."""

    def __init__(self, identity: Identity) -> None:
        shapes = identity.features
        self._columns = {name: RunningStats(shapes[name]["shape"][0]) for name in identity.described}
        self._images: dict[str, I64] = {camera: np.zeros((3, 256), np.int64) for camera in identity.cameras}

    def add(self, data: pa.Table, rows: pa.Table) -> None:
        """Add episodes.  data: their ticks, at least the numeric columns.  rows: their row files."""
        for name, running in self._columns.items():
            running.update(column_array(data[name]))
        for camera, histogram in self._images.items():
            counts = np.asarray(rows[histogram_column(camera)].to_pylist(), np.int64)
            self._images[camera] = histogram + counts.sum(0).reshape(histogram.shape)

    def to_json(self) -> dict[str, Any]:
        """Return LeRobot's layout: feature -> min, max, mean, std, count, q01 ..; images in 0 .. 1."""
        out = {name: running.result().to_json() for name, running in self._columns.items()}
        for camera, histogram in self._images.items():
            out[IMAGE_PREFIX + camera] = image_stats(histogram).to_json((3, 1, 1))
        return out
