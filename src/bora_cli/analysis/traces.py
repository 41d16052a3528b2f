"""The value-trace table: what the critic said at every tick of every analysed episode.

One row per tick, stored as Parquet:

    episode       int32    index of the episode within the table
    tick          int32    0 .. T-1
    t_norm        float32  tick / (T - 1), 0 .. 1
    ticks_to_end  int32    T - 1 - tick
    v             float32  state value V, always finite
    q             float32  action value of what was executed, mean over the chunk; NaN without a Q critic
    q_std         float32  standard deviation over the critic ensemble; NaN without one
    mc_return     float32  discounted return really collected from this tick on; NaN where it is not known
    success       bool     outcome of the episode, the same in all its rows
    controller    uint8    `bora_cli.types.Controller`
    intervened    bool     a person had a share in the executed action
    setting       str      "standard" or "unseen"
    task          str
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.types import Controller

SCHEMA: dict[str, pl.DataType] = {
    "episode": pl.Int32(),
    "tick": pl.Int32(),
    "t_norm": pl.Float32(),
    "ticks_to_end": pl.Int32(),
    "v": pl.Float32(),
    "q": pl.Float32(),
    "q_std": pl.Float32(),
    "mc_return": pl.Float32(),
    "success": pl.Boolean(),
    "controller": pl.UInt8(),
    "intervened": pl.Boolean(),
    "setting": pl.String(),
    "task": pl.String(),
}


@dataclass(frozen=True)
class EpisodeTrace:
    """The critic's outputs along one episode of T ticks; columns as in the table, all of length T.

    v: [T].  q, q_std, mc_return: [T] or None where there is none.  controller: uint8 [T].
    """

    v: ArrayLike
    success: bool
    controller: ArrayLike
    q: ArrayLike | None = None
    q_std: ArrayLike | None = None
    mc_return: ArrayLike | None = None
    setting: str = "standard"
    task: str = ""


def build_traces(episodes: Iterable[EpisodeTrace]) -> pl.DataFrame:
    """Return the checked trace table of these episodes, numbered from 0 in the order given.

    Raises DataError for no episode, an episode without ticks, columns of different lengths, or NaN in v.
    """
    columns: dict[str, list[NDArray[np.generic]]] = {name: [] for name in (*_GIVEN, "success")}
    setting, task = [], []
    for i, e in enumerate(episodes):
        for name, column in _episode_columns(i, e).items():
            columns[name].append(column)
        setting.append(e.setting)
        task.append(e.task)
    if not setting:
        raise DataError("There is no episode to trace.", "Record or choose at least one episode.")
    ticks = np.array([len(v) for v in columns["v"]])
    episode = np.repeat(np.arange(len(ticks)), ticks)
    last = np.repeat(ticks - 1, ticks)
    tick = np.arange(len(episode)) - np.repeat(np.cumsum(ticks) - ticks, ticks)
    table = {
        "episode": episode,
        "tick": tick,
        "t_norm": (tick / np.maximum(1, last)).astype(np.float32),
        "ticks_to_end": last - tick,
        **{name: np.concatenate(columns.pop(name)) for name in list(columns)},
        "setting": pl.Series(setting, dtype=pl.String).gather(episode),
        "task": pl.Series(task, dtype=pl.String).gather(episode),
    }
    human = [Controller.HUMAN, Controller.BLENDED, Controller.ASSIST]
    table["intervened"] = np.isin(table["controller"], human)
    return check_traces(pl.DataFrame(table).select(pl.col(name).cast(kind) for name, kind in SCHEMA.items()))


_GIVEN = ("v", "q", "q_std", "mc_return", "controller")


def _episode_columns(index: int, e: EpisodeTrace) -> dict[str, NDArray[np.generic]]:
    """Return the columns _GIVEN and the outcome of an episode, all of one length."""
    v = np.array(e.v, np.float32)
    n = v.size
    if v.ndim != 1 or not n:
        raise DataError(
            f"Episode {index} has values of shape {v.shape}; expected one per tick.", "Record it again."
        )
    columns: dict[str, NDArray[np.generic]] = {"v": v}
    for name, given in (("q", e.q), ("q_std", e.q_std), ("mc_return", e.mc_return)):
        columns[name] = np.full(n, np.nan, np.float32) if given is None else np.array(given, np.float32)
    columns["controller"] = np.array(e.controller, np.uint8)
    wrong = [f"{name} {c.shape}" for name, c in columns.items() if c.shape != (n,)]
    if wrong:
        raise DataError(
            f"Episode {index} has {n} values of v but {', '.join(wrong)}; expected equal lengths.",
            "Compute every column on the same ticks.",
        )
    return columns | {"success": np.full(n, bool(e.success))}


def check_traces(traces: pl.DataFrame) -> pl.DataFrame:
    """Return the table unchanged if it is a sound trace table.

    Raises SchemaMismatch for missing columns or other types, DataError for an empty table, NaN or infinity in
    v, ticks that do not count 0..T-1, or an outcome that changes within an episode.
    """
    missing = [name for name in SCHEMA if name not in traces.columns]
    if missing:
        raise SchemaMismatch(
            f"The trace table lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}.",
            "Make it again with `bora analyze`.",
        )
    wrong = [f"{n} is {traces[n].dtype}, expected {k}" for n, k in SCHEMA.items() if traces[n].dtype != k]
    if wrong:
        raise SchemaMismatch(f"The trace table has other types: {'; '.join(wrong)}.", "Make it again.")
    if traces.is_empty():
        raise DataError("The trace table is empty.", "Analyse at least one episode.")
    bad = traces.filter(~pl.col("v").is_finite() | pl.col("v").is_null())
    if not bad.is_empty():
        raise DataError(
            f"V is not finite at tick {bad['tick'][0]} of episode {bad['episode'][0]}"
            f" ({bad.height} ticks in all).",
            "Check that training did not diverge, then analyse again.",
        )
    per_episode = traces.group_by("episode", maintain_order=True).agg(
        sound=(pl.col("tick") == pl.int_range(pl.len())).all()
        & (pl.col("ticks_to_end") == pl.len() - 1 - pl.col("tick")).all()
        & (pl.col("success").n_unique() == 1)
    )
    broken = per_episode.filter(~pl.col("sound"))
    if not broken.is_empty():
        raise DataError(
            f"Episode {broken['episode'][0]} of the table has missing or disordered ticks, or two outcomes.",
            "Make the table again from the recorded episodes.",
        )
    return traces


def write_traces(path: Path, traces: pl.DataFrame) -> None:
    """Check the table and write it as Parquet, whole or not at all."""
    check_traces(traces)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    traces.select(list(SCHEMA)).write_parquet(temporary, compression="zstd")
    temporary.replace(path)


def read_traces(path: Path) -> pl.DataFrame:
    """Read and check a trace table.  Raises DataError if there is none, or if the file is damaged."""
    if not path.is_file():
        raise DataError(f"There is no trace table at {path}.", "Run `bora analyze` on the run first.")
    try:
        traces = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path} is not a readable Parquet file: {error}.", "Run `bora analyze` again."
        ) from error
    return check_traces(traces)


def autonomous(traces: pl.DataFrame) -> pl.DataFrame:
    """Keep the episodes in which nobody took over; demonstrations, which a person drove throughout, are among them."""
    return traces.filter(~pl.col("intervened").any().over("episode"))


def outcomes(traces: pl.DataFrame) -> pl.DataFrame:
    """Return one row per episode: episode, ticks, success, intervened (any tick), setting, task."""
    return traces.group_by("episode", maintain_order=True).agg(
        ticks=pl.len(),
        success=pl.col("success").first(),
        intervened=pl.col("intervened").any(),
        setting=pl.col("setting").first(),
        task=pl.col("task").first(),
    )
