"""The swap table: in some states of some episodes, what the critic says about other chunks than the executed one.

One row per state and chunk, stored as Parquet:

    episode  int32    episode of the trace table
    tick     int32    first tick of the chunk
    kind     str      "executed"; a kind of `critic_tests.bad_chunks`; or "part": one joint or finger is offset
    part     str      which part of the action, "" unless kind is "part"
    offset   float32  added to that part in every tick of the chunk, command units (1 = half the range), clipped
    q        float32  action value, mean over the ticks of the chunk
    q_std    float32  standard deviation over the critic ensemble
    differs  bool     the chunk really is another one
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bora_cli.analysis.critic_tests import bad_chunks, differs
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.types import F32, ActionSpec

if TYPE_CHECKING:
    from bora_cli.analysis.recordings import Judged

SCHEMA: dict[str, pl.DataType] = {
    "episode": pl.Int32(),
    "tick": pl.Int32(),
    "kind": pl.String(),
    "part": pl.String(),
    "offset": pl.Float32(),
    "q": pl.Float32(),
    "q_std": pl.Float32(),
    "differs": pl.Boolean(),
}
OFFSETS = tuple(round(0.1 * i, 1) for i in range(-5, 6))
"""Offsets of a part, command units."""

Score = Callable[[F32], tuple[F32, F32]]
"""Chunks float32 [n, H, A] of the same n states, in the same order -> action value and ensemble spread, [n] each."""


def parts(spec: ActionSpec) -> dict[str, list[int]]:
    """Return what can be offset: every dimension by its name, and every finger as a whole.

    A finger is two or more dimensions of the group "hand" whose names begin with the same word.
    """
    found = {name: [i] for i, name in enumerate(spec.names)}
    fingers: dict[str, list[int]] = {}
    start, stop = spec.groups.get("hand", (0, 0))
    for i in range(start, stop):
        finger, _, rest = spec.names[i].partition("_")
        if rest:
            fingers.setdefault(finger, []).append(i)
    return found | {f"whole {f}": dims for f, dims in fingers.items() if len(dims) > 1}


def swap_table(
    chunks: F32,
    episodes: NDArray[np.int64],
    ticks: NDArray[np.int64],
    spec: ActionSpec,
    score: Score,
    *,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Score bad chunks and offsets of every part in the states of `chunks`.

    chunks: float32 [n, H, A], executed, physical units.  episodes, ticks: [n].
    Raises DataError without a state.
    """
    if not len(chunks):
        raise DataError(
            "There is no state to swap chunks in.", "Analyse episodes longer than one chunk, with images."
        )
    tables = [_rows(episodes, ticks, "executed", "", 0.0, *score(chunks), np.ones(len(chunks), bool))]
    kinds = bad_chunks(chunks, episodes, spec, rng=rng) if len(np.unique(episodes)) > 1 else {}
    for kind, bad in kinds.items():
        tables.append(_rows(episodes, ticks, kind, "", 0.0, *score(bad), differs(chunks, bad, spec)))
    for part, dims in parts(spec).items():
        for offset in OFFSETS:
            bad = chunks.copy()
            bad[..., dims] += np.float32(offset) * spec.half_range[dims]
            bad = spec.clip(bad)
            tables.append(
                _rows(episodes, ticks, "part", part, offset, *score(bad), differs(chunks, bad, spec))
            )
    return pl.concat(tables)


def pictured_swaps(
    buffer: Judged,
    q: Callable[[NDArray[np.int64], F32, F32], tuple[F32, F32]],
    spec: ActionSpec,
    pictured: Mapping[int, Collection[int]],
    *,
    rng: np.random.Generator,
) -> pl.DataFrame | None:
    """Return the swap table of the states that have a picture and a full chunk after it; None without any.

    q: rows of the buffer, chunks [n, H, A] and mask [n, H] -> action value and spread, [n].
    pictured: episode -> ticks.
    """
    w = buffer.windows
    full = np.flatnonzero(np.isin(w.episode, list(pictured)) & (w.e == w.action.shape[1]))
    chosen = w.take(
        full[[int(t) in pictured[int(e)] for e, t in zip(w.episode[full], w.t[full], strict=True)]]
    )
    if not len(chosen):
        return None
    rows = np.asarray(buffer.first[chosen.episode] + chosen.t, np.int64)
    return swap_table(
        chosen.action,
        np.asarray(chosen.episode, np.int64),
        np.asarray(chosen.t, np.int64),
        spec,
        lambda chunks: q(rows, chunks, chosen.mask),
        rng=rng,
    )


def _rows(
    episodes: NDArray[np.int64],
    ticks: NDArray[np.int64],
    kind: str,
    part: str,
    offset: float,
    q: F32,
    q_std: F32,
    other: NDArray[np.bool_],
) -> pl.DataFrame:
    n = len(q)
    columns = {
        "episode": episodes,
        "tick": ticks,
        "kind": [kind] * n,
        "part": [part] * n,
        "offset": np.full(n, offset),
        "q": q,
        "q_std": q_std,
        "differs": other,
    }
    return pl.DataFrame(columns).select(pl.col(name).cast(dtype) for name, dtype in SCHEMA.items())


def read_swaps(path: Path) -> pl.DataFrame:
    """Read a swap table.  Raises DataError if there is none, or if it is another table."""
    if not path.is_file():
        raise DataError(
            f"There is no swap table at {path}.",
            "Run `bora analyze` with a critic of actions, on episodes with images.",
        )
    try:
        table = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path} is not a readable Parquet file: {error}.", "Run `bora analyze` again."
        ) from error
    if dict(table.schema) != SCHEMA:
        raise SchemaMismatch(
            f"{path} has the columns {', '.join(table.columns)}; expected {', '.join(SCHEMA)}.",
            "Run `bora analyze` again with this version.",
        )
    return table


def state(swaps: pl.DataFrame, episode: int, tick: int) -> pl.DataFrame:
    """Return the rows of the state nearest to a tick.  Raises DataError if the episode has none."""
    here = swaps.filter(pl.col("episode") == episode)
    if here.is_empty():
        raise DataError(f"No chunk of episode {episode} was swapped.", "Choose another episode.")
    nearest = min(here["tick"].unique().to_list(), key=lambda t: abs(t - tick))
    return here.filter(pl.col("tick") == nearest)


def wins(swaps: pl.DataFrame, tie: float = 1e-6) -> pl.DataFrame:
    """Return per kind of bad chunk in how many states the executed one scores higher (ties count half).

    Columns: kind, n, win_rate, drop (mean of Q executed minus Q swapped).
    """
    executed = swaps.filter(pl.col("kind") == "executed").select("episode", "tick", best="q")
    gap = pl.col("best") - pl.col("q")
    return (
        swaps.filter(~pl.col("kind").is_in(["executed", "part"]) & pl.col("differs"))
        .join(executed, on=["episode", "tick"])
        .group_by("kind", maintain_order=True)
        .agg(
            n=pl.len(),
            win_rate=pl.when(gap.abs() <= tie).then(0.5).otherwise((gap > 0).cast(pl.Float64)).mean(),
            drop=gap.mean(),
        )
    )
