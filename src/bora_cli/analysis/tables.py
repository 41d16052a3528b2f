"""Tables: evaluated episodes on disk, cells and paired comparisons out of them, Markdown for a README."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bora_cli.analysis import early_warning, value_tests
from bora_cli.analysis.bootstrap import Estimate
from bora_cli.analysis.critic_summary import CriticSummary, ReliabilityBin, SwapScore
from bora_cli.analysis.summary import Cell, Comparison, Human
from bora_cli.analysis.traces import autonomous, outcomes
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import Result, intervened, paired_difference, success_rows, takeovers
from bora_cli.types import Controller

RESULT_SCHEMA: dict[str, pl.DataType] = {
    "method": pl.String(),
    "setting": pl.String(),
    "gap": pl.String(),
    "seed": pl.Int64(),
    "scene_seed": pl.Int64(),
    "success": pl.Boolean(),
    "ticks": pl.Int32(),
    "human_ticks": pl.Int32(),
    "takeovers": pl.Int32(),
}

PAIRS: tuple[tuple[str, str], ...] = (
    ("bora_offline", "cp_base"),
    ("bora_offline", "filtered_bc"),
    ("bora_offline", "constant_advantage"),
    ("bora_full", "bora_offline"),
    ("bora_full", "bc_interventions"),
    ("bora_full", "cp_base"),
)
"""(method, against) whose difference a report states."""


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write one row per evaluated episode as Parquet, whole or not at all."""
    table = pl.DataFrame([asdict(r) for r in results], schema=RESULT_SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    table.write_parquet(temporary)
    temporary.replace(path)


def read_results(path: Path) -> list[Result]:
    """Read what `write_results` wrote.  Raises DataError if it is missing, damaged or another table."""
    if not path.is_file():
        raise DataError(f"There are no evaluation results at {path}.", "Run `bora eval` first.")
    try:
        table = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}.", "Evaluate again.") from error
    if dict(table.schema) != RESULT_SCHEMA:
        raise DataError(
            f"{path} has the columns {', '.join(table.columns)}; expected {', '.join(RESULT_SCHEMA)}.",
            "Evaluate again with this version.",
        )
    return [Result(**row) for row in table.iter_rows(named=True)]


def cells(results: Iterable[Result]) -> tuple[Cell, ...]:
    """Count successes per method, setting and gap, pooled over seeds."""
    return tuple(Cell(r.method, r.setting, r.gap, r.k, r.n, r.seeds) for r in success_rows(results))


def comparisons(
    results: Sequence[Result], *, rng: np.random.Generator, pairs: Sequence[tuple[str, str]] = PAIRS
) -> tuple[Comparison, ...]:
    """Compare methods on the (seed, scene_seed) pairs that both of them were evaluated on.

    Pairs of methods without a common scene are left out.
    """
    made = []
    for setting, gap in dict.fromkeys((r.setting, r.gap) for r in results):
        here = [r for r in results if (r.setting, r.gap) == (setting, gap)]
        success = {(r.method, r.seed, r.scene_seed): r.success for r in here}
        for method, against in pairs:
            common = [
                (seed, scene)
                for m, seed, scene in success
                if m == method and (against, seed, scene) in success
            ]
            if not common:
                continue
            d = paired_difference(
                [success[method, seed, scene] for seed, scene in common],
                [success[against, seed, scene] for seed, scene in common],
                groups=[seed for seed, _ in common],
                rng=rng,
            )
            made.append(Comparison(method, against, setting, gap, d.value, d.lo, d.hi, d.n))
    return tuple(made)


def human(controllers: Sequence[NDArray[np.uint8]]) -> Human:
    """Count what the operator did.  controllers: one uint8 [T] per online episode."""
    return Human(
        episodes=len(controllers),
        ticks=sum(c.size for c in controllers),
        human_ticks=sum(int(intervened(c).sum()) for c in controllers),
        takeovers=sum(takeovers(c) for c in controllers),
    )


def critic_summary(
    traces: pl.DataFrame,
    *,
    rng: np.random.Generator,
    swap: Sequence[SwapScore] = (),
    action_sensitivity: Estimate | None = None,
) -> CriticSummary:
    """Put the critic's marks on autonomous episodes together; what cannot be computed stays empty.

    Raises DataError if the table is unsound or holds no autonomous episode.
    """
    alone = autonomous(traces)
    if alone.is_empty():
        raise DataError("A person had a share in every traced episode.", "Analyse unaided episodes.")
    success = outcomes(alone)["success"]
    both = bool(success.any()) and not bool(success.all())
    c = value_tests.calibration(alone, rng=rng) if alone["mc_return"].is_finite().any() else None
    auroc = tuple(value_tests.auroc_over_time(alone, rng=rng)) if both else ()
    rises = value_tests.monotonicity(alone, rng=rng) if success.any() else None
    drops, falls = (value_tests.late_drop(alone, success=s) if both else None for s in (False, True))
    own = rng.spawn(2)
    apart = value_tests.separation(alone, rng=own[0]) if both else None
    spread = value_tests.ensemble_spread(alone, rng=own[1])
    told: dict[str, Estimate | None] = {
        "spearman": rises,
        "late_drop": drops,
        "late_drop_success": falls,
        "bias": c.bias if c else None,
        "separation": apart.area if apart else None,
        "spread": spread.size if spread else None,
        "spread_error": spread.error if spread else None,
        "action_sensitivity": action_sensitivity,
    }
    intervals: dict[str, tuple[float | None, float | None]] = {
        name: (e.lo, e.hi) for name, e in told.items() if e is not None
    }
    intervals.update(c.intervals if c else {})
    enough = min(int(success.sum()), int((~success).sum())) >= early_warning.LEAST
    return CriticSummary(
        successes=int(success.sum()),
        failures=int((~success).sum()),
        auroc=auroc,
        auroc_end=tuple(value_tests.auroc_over_time(alone, rng=rng, align="end")) if both else (),
        swap=tuple(swap),
        spearman=rises.value if rises else None,
        late_drop=drops.value if drops else None,
        late_drop_success=falls.value if falls else None,
        ece=c.ece if c else None,
        bias=c.bias.value if c else None,
        action_sensitivity=action_sensitivity.value if action_sensitivity else None,
        effect=apart.points if apart else (),
        separation=apart.area.value if apart else None,
        reliability=tuple(ReliabilityBin(**row) for row in c.table.iter_rows(named=True)) if c else (),
        slope=c.slope if c else None,
        intercept=c.intercept if c else None,
        spread=spread.size.value if spread else None,
        spread_error=spread.error.value if spread and spread.error else None,
        warning=early_warning.early_warning(alone, rng=rng) if enough else None,
        demonstrations=int(alone.filter(pl.col("controller") == Controller.DEMO)["episode"].n_unique()),
        intervals=intervals,
    )
