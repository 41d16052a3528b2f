"""Episodes as Arrow tables and back."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.data import png
from bora_cli.data.schema import CLOCKS, IMAGE_PREFIX, RESIDUAL, SCALARS, VECTORS, Identity
from bora_cli.errors import CorruptEpisode, DataError
from bora_cli.types import F32, Decision, Episode

if TYPE_CHECKING:
    import pyarrow as pa

I64 = NDArray[np.int64]


def decision_at(episode: Episode) -> tuple[I64, I64]:
    """Return which decision each tick belongs to and its place in that chunk, both int64 [T], -1 for none.

    A decision covers the ticks that it executed; a shadow decision covers the ticks that it planned, until
    the next decision starts.
    """
    which = np.full(len(episode), -1, np.int64)
    inner = np.full(len(episode), -1, np.int64)
    for k, decision in enumerate(episode.decisions):
        length = decision.planned if decision.shadow else decision.executed
        ticks = slice(decision.t_start, decision.t_start + length)
        which[ticks] = k
        inner[ticks] = np.arange(length)[: len(inner[ticks])]
    return which, inner


def residual_at(episode: Episode) -> F32:
    """Return what the residual added to the frozen policy's action at each tick, float32 [T, A], physical units.

    `proposed` is the frozen policy's action and this, within the limits.  NaN where no decision covers the tick,
    whoever drove.
    """
    added = np.full(episode.action.shape, np.nan, np.float32)
    for decision in episode.decisions:  # a later one takes the ticks over
        added[decision.t_start :] = np.nan
        ticks = added[decision.t_start : decision.t_start + len(decision.residual)]
        with np.errstate(over="ignore", invalid="ignore"):  # a log may say anything
            ticks[:] = np.float32(decision.lam) * decision.residual[: len(ticks)]
    return added


def data_table(
    episode: Episode, identity: Identity, episode_index: int, first_index: int, task_index: int
) -> pa.Table:
    """Return the ticks of an episode in the dataset's schema.

    first_index: number of ticks of all earlier episodes.
    """
    import pyarrow as pa

    ticks = len(episode)
    decision_id, inner_index = decision_at(episode)
    last = np.zeros(ticks, np.bool_)
    last[-1] = True
    values: dict[str, Any] = {column: getattr(episode, name) for column, name in VECTORS.items()}
    values |= {column: getattr(episode, name) for column, (_, name) in SCALARS.items()}
    values |= {column: episode.images[column.removeprefix(IMAGE_PREFIX)] for column in identity.image_columns}
    values |= {
        "intervention": episode.intervened,
        "next.done": episode.terminated | episode.truncated,
        "next.success": last & episode.success,
        "timestamp": (np.arange(ticks) / identity.fps).astype(np.float32),
        "frame_index": np.arange(ticks),
        "episode_index": np.full(ticks, episode_index),
        "index": np.arange(first_index, first_index + ticks),
        "task_index": np.full(ticks, task_index),
        "decision_id": decision_id,
        "inner_index": inner_index,
    }
    if RESIDUAL in identity.added:
        values[RESIDUAL] = residual_at(episode)
    for name in identity.clocks:
        times = getattr(episode, name)
        values[name] = np.full(ticks, -1) if times is None else times
    arrow_schema = identity.arrow_schema()
    arrays = [_to_arrow(values[field.name], field.type) for field in arrow_schema]
    return pa.Table.from_arrays(arrays, schema=arrow_schema)


def completed(data: pa.Table, episode: Episode, identity: Identity) -> pa.Table:
    """Return the ticks of an episode with every column that a dataset has.

    Columns that `data` lacks are computed from the episode (which needs no images); clocks nobody looked at say -1.
    """
    import pyarrow as pa

    fresh = data_table(episode, replace(identity, cameras=(), video=""), 0, 0, 0)
    schema = identity.arrow_schema()
    return pa.Table.from_arrays(
        [data[name] if name in data.column_names else fresh[name] for name in schema.names], schema=schema
    )


def write_options(identity: Identity) -> dict[str, Any]:
    """Return Parquet options: images are compressed already, the rest with zstd."""
    columns = [f"{c}.list.element" if c in (*VECTORS, RESIDUAL) else c for c in identity.numeric]
    codecs = dict.fromkeys(columns, "zstd")
    for column in identity.image_columns:
        codecs |= {f"{column}.bytes": "none", f"{column}.path": "none"}
    return {"compression": codecs, "use_dictionary": False, "write_statistics": columns}


def column_array(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a numeric column as one NumPy array: [T] or, for lists that all have D numbers, [T, D].

    Raises CorruptEpisode for a column with nulls, which bora never writes, and for lists of different lengths.
    """
    import pyarrow as pa

    if column.null_count:
        raise CorruptEpisode("A column holds nulls.", "Restore the data file from a copy.")
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy().reshape(len(array), array.type.list_size)
    if pa.types.is_list(array.type) and len(array):  # other writers do not say that all have the same length
        lengths = np.unique(array.value_lengths().to_numpy())
        if len(lengths) > 1:
            raise CorruptEpisode(
                f"A column holds lists of {lengths[0]} to {lengths[-1]} numbers; expected one length.",
                "Restore the data file from a copy.",
            )
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), int(lengths[0]))
    return array.to_numpy(zero_copy_only=False)


def data_columns(episode_table: pa.Table) -> dict[str, Any]:
    """Return the tick-wise fields of `Episode` from a data table, without images."""
    fields: dict[str, Any] = {}
    for column, name in VECTORS.items():
        fields[name] = column_array(episode_table[column]).copy()
    for column, (_, name) in SCALARS.items():
        fields[name] = column_array(episode_table[column]).copy()
    for name in CLOCKS:
        if (
            name in episode_table.column_names
            and (times := column_array(episode_table[name]).copy()).max() >= 0
        ):
            fields[name] = times
    return fields


def decision_schema() -> pa.Schema:
    """Return the Arrow schema of a decision log: chunks and tokens flattened, their shapes beside them."""
    import pyarrow as pa

    return pa.schema(
        [
            ("episode_index", pa.int64()),
            ("decision_id", pa.int64()),
            ("t_start", pa.int64()),
            ("noise_seed", pa.int64()),
            ("base_hash", pa.string()),
            ("lam", pa.float64()),
            ("planned", pa.int64()),
            ("executed", pa.int64()),
            ("closed", pa.string()),
            ("shadow", pa.bool_()),
            ("horizon", pa.int64()),
            ("base", pa.list_(pa.float32())),
            ("residual", pa.list_(pa.float32())),
            ("final", pa.list_(pa.float32())),
            ("tokens_shape", pa.list_(pa.int64(), 2)),
            ("tokens", pa.list_(pa.float16())),
        ]
    )


_PLAIN = ("t_start", "noise_seed", "base_hash", "lam", "planned", "executed", "closed", "shadow")


def decision_table(decisions: list[Decision], episode_index: int) -> pa.Table:
    """Return the decision log of one episode, one row per decision."""
    import pyarrow as pa

    columns: dict[str, Any] = {name: [getattr(d, name) for d in decisions] for name in _PLAIN}
    columns["episode_index"] = [episode_index] * len(decisions)
    columns["decision_id"] = list(range(len(decisions)))
    columns["horizon"] = [len(d.base) for d in decisions]
    columns["tokens_shape"] = [list(d.tokens.shape) for d in decisions]
    for name, dtype in (
        ("base", np.float32),
        ("residual", np.float32),
        ("final", np.float32),
        ("tokens", np.float16),
    ):
        rows = [getattr(d, name).ravel() for d in decisions]
        offsets = np.cumsum([0, *map(len, rows)]).astype(np.int32)
        columns[name] = pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(rows).astype(dtype)))
    return pa.table(columns, schema=decision_schema())


def decisions_from_table(log: pa.Table, actions: int) -> list[Decision]:
    """Return the decisions of one episode; actions: A, the width of a chunk's rows."""
    plain = {name: log[name].to_pylist() for name in (*_PLAIN, "horizon", "tokens_shape")}
    chunks = {name: _rows(log[name]) for name in ("base", "residual", "final", "tokens")}
    out = []
    for i in range(log.num_rows):
        shape = (plain["horizon"][i], actions)
        out.append(
            Decision(
                **{name: plain[name][i] for name in _PLAIN},
                base=chunks["base"][i].reshape(shape),
                residual=chunks["residual"][i].reshape(shape),
                final=chunks["final"][i].reshape(shape),
                tokens=chunks["tokens"][i].reshape(plain["tokens_shape"][i]),
            )
        )
    return out


def meta_json(episode: Episode) -> str:
    """Return `episode.meta` as JSON text.

    NumPy scalars and arrays become numbers and lists, tuples become lists; NaN and infinity are kept.
    Raises DataError naming the key whose value cannot be stored.
    """
    for key, value in episode.meta.items():
        try:
            json.dumps({key: value}, default=_plain)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Episode.meta[{key!r}] cannot be stored as JSON: {error}.",
                "Keep numbers, texts, lists and dicts with text keys in meta.",
            ) from None
    return json.dumps(episode.meta, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _to_arrow(values: NDArray[Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        files = pa.array(png.encode(values), pa.binary())
        return pa.StructArray.from_arrays([files, pa.nulls(len(files), pa.string())], fields=list(kind))
    if pa.types.is_fixed_size_list(kind):
        flat = pa.array(np.ascontiguousarray(values).ravel())
        return pa.FixedSizeListArray.from_arrays(flat, type=kind)
    return pa.array(values, kind)


def _rows(column: pa.ChunkedArray) -> list[NDArray[Any]]:
    array = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if len(array) == 0:
        return []
    flat = array.flatten().to_numpy()
    offsets = array.offsets.to_numpy() - array.offsets[0].as_py()
    return [flat[a:b].copy() for a, b in itertools.pairwise(offsets)]
