"""Execute the other chunk and see: where the outcome changes, does Q know the better chunk?

The swap test assumes that a swapped chunk is worse.  Here it is executed: from the same state of the simulator, with
the same successor and the same noise, once the recorded chunk and once another one.  Where the two futures end
differently, a critic of actions should prefer the chunk that ended better; one that is blind to them gets one half.

Running futures is dear and asks no critic, scoring them is cheap: `run_futures` makes a table that any critic can
score (`score_futures`), `counterfactual_summary` counts.  One row per future:

    episode  int32    episode of the buffer
    tick     int32    where the future branches off
    kind     str      "executed", "resampled" (the policy's own, other noise), or another of KINDS
    chunk    list     float32 [H * A], physical units
    execute  int32    ticks of it that are executed before the successor acts
    success  bool     outcome
    ticks    int32    from the branch to the end
    ret      float64  discounted sum of the raw rewards from the branch on
    repeats  bool     of the recorded chunk: outcome and length are the record's
    successor  str    who acts after the chunk
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bora_cli.analysis.bootstrap import ratio_estimate
from bora_cli.analysis.critic_summary import Counterfactual, CounterfactualKind
from bora_cli.analysis.critic_tests import bad_chunks, differs
from bora_cli.analysis.states import spread_states
from bora_cli.errors import DataError
from bora_cli.evaluate.futures import (
    EXECUTED,
    RESAMPLED,
    Branch,
    Future,
    Successor,
    branch,
    futures,
    successor_of,
)
from bora_cli.evaluate.workers import Workers
from bora_cli.seeds import stream
from bora_cli.types import F32, ActionSpec

if TYPE_CHECKING:
    from bora_cli.analysis.recordings import Judged

Progress = Callable[[str, int, int], None]
Rows = NDArray[np.int64]

LATER = "later"
"""Kind of the chunk that the same episode executed next: right, but too early."""
KINDS = (RESAMPLED, "other_state", LATER, "noise_0.3", "noise_1", "reversed", "flipped_xyz", "open_hand")
CLEAR = 0.05
"""Returns that differ by more than this, in value units (a success is worth 1), differ clearly."""

SCHEMA: dict[str, pl.DataType] = {
    "episode": pl.Int32(),
    "tick": pl.Int32(),
    "kind": pl.String(),
    "chunk": pl.List(pl.Float32()),
    "execute": pl.Int32(),
    "success": pl.Boolean(),
    "ticks": pl.Int32(),
    "ret": pl.Float64(),
    "repeats": pl.Boolean(),
    "successor": pl.String(),
}


def run_futures(
    buffer: Judged,
    spec: ActionSpec,
    count: int,
    *,
    gamma: float,
    execute: int = 4,
    successor: Successor | None = None,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Execute other chunks in `count` recorded states, and return what came of them.

    States are decisions of unaided episodes that were executed as planned (of demonstrations every tick), half of them
    from successes where there are enough, from as many episodes as possible.  execute: ticks of a chunk, where there
    is no decision that says so.  successor: who acts after the chunk; None: the recorded policy, if it is where it was
    (`successor_of` looks for one that was moved).
    Raises DataError for episodes that were not simulated here, or if there is no such state, CheckpointError if the
    recorded policy is not found.
    """
    chosen, length = _states(buffer, count, execute, stream("counterfactual states", seed))
    if not len(chosen):
        raise DataError(
            "No chunk of an unaided episode was executed to its end; there is nothing to execute instead of it.",
            "Analyse episodes of `bora eval --record` or `bora collect`.",
        )
    w = buffer.windows.take(chosen)
    owners = np.unique(w.episode)
    next_acts = successor or successor_of([buffer.episodes[i] for i in owners])
    chunks = _chunks(buffer, chosen, length, spec, stream("counterfactual chunks", seed), kinds)
    branches = [
        branch(
            buffer.episodes[e],
            int(t),
            {kind: c[i] for kind, (c, valid) in chunks.items() if valid[i]},
            execute=int(length[i]),
            successor=next_acts,
            resample=RESAMPLED in kinds,
            gamma=gamma,
        )
        for i, (e, t) in enumerate(zip(w.episode, w.t, strict=True))
    ]
    tables = []
    for i, made in enumerate((workers or Workers(1)).map(futures, branches)):
        tables.append(_rows(int(w.episode[i]), int(w.t[i]), branches[i], made, buffer))
        if progress is not None:
            progress("execute other chunks", i + 1, len(branches))
    return pl.concat(tables)


def score_futures(
    table: pl.DataFrame, buffer: Judged, q: Callable[[Rows, F32, F32], tuple[F32, F32]]
) -> pl.DataFrame:
    """Return the table with columns q and q_std, what a critic says about every chunk (`Scorer.q`)."""
    horizon, width = buffer.windows.action.shape[1:]
    flat = np.stack([np.asarray(c, np.float32) for c in table["chunk"].to_list()])
    rows = buffer.first[table["episode"].to_numpy()] + table["tick"].to_numpy()
    mask = (np.arange(horizon) < table["execute"].to_numpy()[:, None]).astype(np.float32)
    value, spread = q(np.asarray(rows, np.int64), flat.reshape(-1, horizon, width), mask)
    return table.with_columns(q=pl.Series(value, dtype=pl.Float32), q_std=pl.Series(spread, dtype=pl.Float32))


def counterfactual_summary(
    scored: pl.DataFrame, *, rng: np.random.Generator, tie: float = 1e-6
) -> Counterfactual:
    """Count how often Q prefers the chunk that ended better, over pairs of the executed chunk and another one.

    Pairs that end alike say nothing and are left out; values closer than `tie` count half.  Raises DataError without
    a future or where a value is not finite.
    """
    if scored.is_empty() or not scored["q"].is_finite().all():
        raise DataError(
            f"{scored.filter(~pl.col('q').is_finite()).height} of {scored.height} futures have no finite value.",
            "Check that training did not diverge, and run at least one future.",
        )
    key = ["episode", "tick"]
    executed = scored.filter(pl.col("kind") == EXECUTED)
    pairs = (
        scored.filter(pl.col("kind") != EXECUTED)
        .join(executed.select(*key, s0="success", r0="ret", q0="q"), on=key, maintain_order="left")
        .with_columns(
            gap=pl.col("q") - pl.col("q0"),
            won=pl.col("success").cast(pl.Int8) - pl.col("s0").cast(pl.Int8),
            more=pl.col("ret") - pl.col("r0"),
        )
    )
    by_success = pairs.filter(pl.col("won") != 0).with_columns(better=pl.col("won") > 0)
    by_return = pairs.filter(pl.col("more").abs() > CLEAR).with_columns(better=pl.col("more") > 0)
    found = []
    for kind in pairs["kind"].unique(maintain_order=True):
        rows = pairs.filter(pl.col("kind") == kind)
        share = _agreement(by_success.filter(pl.col("kind") == kind), rng, tie)
        spoiled, saved = int((rows["won"] < 0).sum()), int((rows["won"] > 0).sum())
        found.append(CounterfactualKind(kind, rows.height, spoiled, saved, *share))
    order = {kind: i for i, kind in enumerate(KINDS)}
    success, returns = _agreement(by_success, rng, tie), _agreement(by_return, rng, tie)
    return Counterfactual(
        executed.height,
        executed["episode"].n_unique(),
        str(scored["successor"][0]),
        int(executed["success"].sum()),
        int(executed["repeats"].sum()),
        tuple(sorted(found, key=lambda k: order.get(k.kind, len(order)))),
        by_success.height,
        *success,
        by_return.height,
        *returns,
    )


def _agreement(
    pairs: pl.DataFrame, rng: np.random.Generator, tie: float
) -> tuple[float | None, float | None, float | None]:
    """Return in which share of the pairs Q prefers the better chunk, with a bootstrap interval over episodes."""
    if pairs.is_empty():
        return None, None, None
    gap, better = pairs["gap"].to_numpy(), pairs["better"].to_numpy()
    right = np.where(np.abs(gap) <= tie, 0.5, (gap > 0) == better)
    _, group = np.unique(pairs["episode"].to_numpy(), return_inverse=True)
    estimate, _ = ratio_estimate(
        np.bincount(group, right).astype(np.float64), np.bincount(group).astype(np.float64), rng=rng
    )
    return estimate.value, estimate.lo, estimate.hi


def _states(
    buffer: Judged, count: int, execute: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Return windows of the buffer to branch from, and how many ticks of each are executed."""
    w = buffer.windows
    planned = np.zeros(len(w), np.int64)
    for i, episode in enumerate(buffer.episodes):
        mine = w.episode == i
        if episode.intervened.any():
            continue
        if not episode.decisions:
            planned[mine] = execute
        for d in episode.decisions:
            if not d.shadow and d.executed == d.planned:
                planned[mine & (w.t == d.t_start)] = d.planned
    found = np.flatnonzero((planned > 0) & (w.e >= planned))
    chosen = spread_states(found, w.episode, w.success, count, rng)
    return chosen, planned[chosen]


def _chunks(
    buffer: Judged,
    chosen: NDArray[np.intp],
    length: NDArray[np.int64],
    spec: ActionSpec,
    rng: np.random.Generator,
    kinds: Sequence[str],
) -> dict[str, tuple[F32, NDArray[np.bool_]]]:
    """Return per kind the chunks [n, H, A] and where they really are others in the ticks that are executed."""
    w = buffer.windows
    recorded, owner = w.action[chosen], w.episode[chosen]
    others = bad_chunks(recorded, owner, spec, rng=rng) if len(np.unique(owner)) > 1 else {}
    mine = np.flatnonzero(np.isin(w.episode, owner))
    at = {(int(e), int(t)): i for i, e, t in zip(mine, w.episode[mine], w.t[mine], strict=True)}
    here = zip(owner, w.t[chosen] + length, strict=True)
    following = np.array([at.get((int(e), int(t)), -1) for e, t in here])
    others[LATER] = np.where((following >= 0)[:, None, None], w.action[following], recorded)
    first = (np.arange(recorded.shape[1]) < length[:, None])[..., None]
    found = {EXECUTED: (recorded, np.ones(len(chosen), bool))}
    for kind in kinds:
        if kind in others:
            valid = differs(np.where(first, recorded, 0), np.where(first, others[kind], 0), spec)
            found[kind] = (others[kind], valid)
    return found


def _rows(episode: int, tick: int, item: Branch, made: Sequence[Future], buffer: Judged) -> pl.DataFrame:
    recorded, rows = buffer.episodes[episode], []
    for future in made:
        same = future.success == recorded.success and tick + future.ticks == len(recorded)
        rows.append(
            {
                "episode": episode,
                "tick": tick,
                "kind": future.kind,
                "chunk": future.chunk.ravel().tolist(),
                "execute": item.execute,
                "success": future.success,
                "ticks": future.ticks,
                "ret": future.ret,
                "repeats": future.kind == EXECUTED and same,
                "successor": item.successor.name,
            }
        )
    return pl.DataFrame(rows, schema=SCHEMA)
