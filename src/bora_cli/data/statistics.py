"""Statistics of a dataset computed afresh from its files, beside those that are stored with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.data.files import read_json, read_table
from bora_cli.data.rows import histogram_column
from bora_cli.data.running import DatasetStats
from bora_cli.data.schema import DATA_PATH, EPISODE_PATH, STATS, episode_file
from bora_cli.errors import DataError

if TYPE_CHECKING:
    from bora_cli.data.dataset import Dataset

EXACT = ("min", "max", "mean", "std")
_TOLERANCE = 1e-6
_QUANTILE = 2e-3
"""Tolerated difference of a quantile, in ranges of the data: both come from histograms."""
_FLOOR = 1e-9
_BINS = 10


def recompute(dataset: Dataset) -> dict[str, Any]:
    """Return what meta/stats.json should hold.  Raises CorruptEpisode for a damaged episode."""
    total = DatasetStats(dataset.identity)
    histograms = [histogram_column(camera) for camera in dataset.cameras]
    for index in range(len(dataset)):
        row = read_table(episode_file(dataset.root, EPISODE_PATH, index), ["episode_index", *histograms])
        data = read_table(episode_file(dataset.root, DATA_PATH, index), dataset.identity.described)
        total.add(data, row)
    return total.to_json()


def differences(stored: Any, fresh: dict[str, Any]) -> list[str]:
    """Return the features whose stored statistics are missing or differ from fresh ones."""
    if not isinstance(stored, dict):
        return sorted(fresh)
    return sorted(name for name in {*stored, *fresh} if not _agree(stored.get(name), fresh.get(name)))


def _agree(stored: Any, fresh: dict[str, Any] | None) -> bool:
    if not isinstance(stored, dict) or fresh is None or stored.keys() != fresh.keys():
        return False
    if stored["count"] != fresh["count"]:
        return False
    span = np.ravel(np.subtract(fresh["max"], fresh["min"]))
    for key in fresh.keys() - {"count"}:
        try:
            a, b = (np.ravel(np.asarray(values[key], np.float64)) for values in (stored, fresh))
        except (TypeError, ValueError):  # texts, or lists of several lengths
            return False
        slack = _TOLERANCE * (span + np.abs(b)) if key in EXACT else _QUANTILE * span
        if a.shape != b.shape or not (np.abs(a - b) <= slack + _FLOOR).all():
            return False
    return True


def describe(dataset: Dataset) -> dict[str, Any]:
    """Return the statistics of a dataset as JSON values.

    episodes, ticks, success, human_share: counts and shares.  lengths: min, median, max and a histogram of
    episode lengths in ticks (counts[i] episodes have edges[i] to edges[i + 1] - 1).  columns: "action" and
    "observation.state" -> one entry per dimension: name, unit, mean, std, min, q01, q50, q99, max, for actions
    also low and high (limits) and at_limit (share of ticks within 0.1 % of a limit).  normalisation: the mean
    and std that are stored, the largest difference to fresh ones in std, and the features that differ.
    """
    from bora_cli.data.summary import summarise

    fresh = recompute(dataset)
    summary = summarise(dataset)
    try:
        stored = read_json(dataset.root / STATS)
    except DataError as error:
        stored = {}
        stale = [f"all: {error.message}"]
    else:
        stale = differences(stored, fresh)
    return {
        "root": summary["root"],
        "episodes": summary["episodes"],
        "ticks": summary["ticks"],
        "success": summary["success"],
        "human_share": summary["human_share"],
        "controllers": summary["controllers"],
        "lengths": _lengths([row.length for row in dataset.rows()]),
        "columns": {
            name: _dimensions(dataset, name, fresh[name]) for name in ("action", "observation.state")
        },
        "stored": {"agrees": not stale, "differs": stale},
    }


def _lengths(lengths: list[int]) -> dict[str, Any] | None:
    if not lengths:
        return None
    shortest, longest = min(lengths), max(lengths)
    width = -(-(longest - shortest + 1) // _BINS)
    counts = np.bincount((np.array(lengths) - shortest) // width)
    return {
        "min": shortest,
        "median": float(np.median(lengths)),
        "max": longest,
        "counts": counts.tolist(),
        "edges": (shortest + width * np.arange(len(counts) + 1)).tolist(),
    }


def _dimensions(dataset: Dataset, column: str, about: dict[str, Any]) -> list[dict[str, Any]]:
    spec = dataset.spec
    action = column == "action"
    names = spec.names if action else dataset.state_names
    at_limit = _at_limit(dataset) if action else None
    out = []
    for d, name in enumerate(names):
        entry: dict[str, Any] = {"name": name}
        if action:
            entry["unit"] = spec.units[d]
        entry |= {key: about[key][d] for key in ("mean", "std", "min", "q01", "q50", "q99", "max")}
        if at_limit is not None:
            entry |= {"low": float(spec.low[d]), "high": float(spec.high[d]), "at_limit": float(at_limit[d])}
        out.append(entry)
    return out


def _at_limit(dataset: Dataset) -> NDArray[np.float64]:
    """Return the share of ticks with an action at a limit, float64 [A]; actions of nobody count too."""
    import polars as pl

    spec = dataset.spec
    slack = 1e-3 * spec.half_range
    files = [episode_file(dataset.root, DATA_PATH, index) for index in range(len(dataset))]
    if not files:
        return np.zeros(spec.dim)
    value = [pl.col("action").arr.get(d) for d in range(spec.dim)]
    shares = [
        ((v <= float(spec.low[d] + slack[d])) | (v >= float(spec.high[d] - slack[d]))).mean().alias(str(d))
        for d, v in enumerate(value)
    ]
    found = pl.scan_parquet(files).select(shares).collect()
    return np.asarray(found.row(0), np.float64)
