"""Off-policy evaluation: does the critic rank policies as their measured success does?

In the first states of recorded episodes every policy plans its first chunk, all with the same noise, and the critic
says what it expects of it.  The mean over states is the policy's predicted value; its measured success is that of an
evaluation.  A critic by which one could choose a checkpoint without executing it ranks both alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.analysis.bootstrap import F64, interval
from bora_cli.analysis.compare_sources import unique_names
from bora_cli.analysis.critic_summary import Ope, OpePolicy
from bora_cli.analysis.value_tests import spearman
from bora_cli.checkpoint import load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import read_json
from bora_cli.data.rows import EpisodeRow
from bora_cli.errors import DataError
from bora_cli.evaluate.evaluate import EvalResult
from bora_cli.evaluate.metrics import wilson
from bora_cli.evaluate.moved import find_policy
from bora_cli.seeds import stream
from bora_cli.types import F32, Episode, Observation

if TYPE_CHECKING:
    from bora_cli.analysis.recordings import Judged
    from bora_cli.analysis.scorers import Scorer

Progress = Callable[[str, int, int], None]
LEAST = 3
"""Policies without which a rank correlation says nothing."""
STATES = 100
"""First states in which the policies plan, at most."""


@dataclass(frozen=True)
class Measured:
    """A policy and how often it succeeded.  lam: share of its residual, None for its own.  success: bool [n]."""

    name: str
    checkpoint: Path
    lam: float | None
    success: NDArray[np.bool_]


def condition_of(episodes: Sequence[Episode | EpisodeRow]) -> tuple[str, str, str]:
    """Return task, setting and gap of the data.  Raises DataError where they are not known or not the same."""
    found = {tuple(str(e.meta.get(name, "")) for name in ("task", "setting", "gap")) for e in episodes}
    if len(found) != 1 or not all(next(iter(found))):
        raise DataError(
            f"The episodes are of {len(found)} conditions, or do not say theirs; policies can be ranked under one.",
            "Give data of one task, setting and gap, such as one recording of `bora eval --record`.",
        )
    task, setting, gap = found.pop()
    return task, setting, gap


def measured(
    sources: Sequence[Path], condition: tuple[str, str, str], *, near: Sequence[Path] = ()
) -> list[Measured]:
    """Return the policies of some evaluations (files of `bora eval --json`, or folders of runs that hold such files).

    condition: task, setting and gap; evaluations under another one are left out.  A policy that was evaluated several
    times under it counts once, with all its episodes.  near: where policies that were moved are looked for, besides at
    the sources, see `find_policy`.  Raises DataError for what is no evaluation, or for fewer than LEAST policies,
    CheckpointError if one of them is not found.
    """
    files = [f for s in sources for f in (_evaluations(s) if s.is_dir() else [s])]
    found: dict[tuple[str, str, float | None], list[bool]] = {}
    for file in files:
        try:
            result = EvalResult.from_json(read_json(file))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{file} is not an evaluation: {error}.", "Give the output of `bora eval --json`."
            ) from error
        job = result.job
        if (job.task, job.setting, job.gap) == condition:
            key = (job.checkpoint, job.checkpoint_hash, job.lam)
            found.setdefault(key, []).extend(t.success for t in result.trials)
    if len(found) < LEAST:
        raise DataError(
            f"{len(found)} policies were evaluated on {', '.join(condition)}; ranking needs {LEAST} or more.",
            "Evaluate more policies on what the data were recorded on, with `bora eval --json > FILE.json`.",
        )
    at = [
        find_policy(Path(c), digest, [*sources, *near], remedy="Evaluate it again.") for c, digest, _ in found
    ]
    names = unique_names([Path(c) for c, _, _ in found])
    return [
        Measured(name if lam is None else f"{name} at lambda {lam:g}", path, lam, np.array(success))
        for name, path, ((_, _, lam), success) in zip(names, at, found.items(), strict=True)
    ]


def _evaluations(folder: Path) -> list[Path]:
    files = sorted((folder / "evaluations").glob("*.json")) or sorted(folder.glob("*.json"))
    if not files:
        raise DataError(
            f"There is no evaluation in {folder}.",
            "Name a file of `bora eval --json`, or a run with evaluations.",
        )
    return files


def predicted(
    policies: Sequence[Measured],
    buffer: Judged,
    scorer: Scorer,
    data: Sequence[Path],
    *,
    progress: Progress | None = None,
) -> F64:
    """Return what the critic expects of each policy in each first state, [policies, states].

    The value is Q of the chunk that the policy plans, over the ticks that it would execute.  Raises SchemaMismatch for
    a policy of another robot.
    """
    seen = _first_observations(buffer, data)
    rows = buffer.first[[i for i, _ in seen]]
    values = []
    for done, policy in enumerate(policies):
        trained = load_trained(policy.checkpoint)
        trained.spec.action.require_same(scorer.spec, f"{policy.checkpoint} and the critic")
        acting = trained.policy()
        acting.lam = acting.own_lam if policy.lam is None else policy.lam
        chunks: list[F32] = [acting.decide(obs, stream("ope", i)).final for i, obs in seen]
        mask = np.zeros((len(rows), chunks[0].shape[0]), np.float32)
        mask[:, : acting.execute] = 1
        values.append(scorer.q(rows, np.stack(chunks), mask)[0])
        if progress is not None:
            progress("let policies plan", done + 1, len(policies))
    return np.stack(values).astype(np.float64)


def _first_observations(buffer: Judged, data: Sequence[Path]) -> list[tuple[int, Observation]]:
    count = len(buffer.episodes)
    chosen = set(np.unique(np.linspace(0, count - 1, min(count, STATES)).round().astype(int)).tolist())
    seen, start = [], 0
    for path in data:
        dataset = Dataset.open(path)
        for i in range(len(dataset)):
            if start + i in chosen:
                e = dataset.episode(i)
                first = {camera: images[0] for camera, images in e.images.items()}
                seen.append((start + i, Observation(first, e.state[0], e.prompt)))
        start += len(dataset)
    return seen


def ope_summary(
    policies: Sequence[Measured], values: F64, *, rng: np.random.Generator, resamples: int = 1000
) -> Ope:
    """Return the rank correlation of predicted value and measured success over policies, with a bootstrap interval.

    values: [policies, states].  The bootstrap draws states (the same for all policies) and the episodes of every
    evaluation; it does not draw policies, so it says how exactly these policies are ranked.  mmrv: mean over policies
    of the largest difference in success to a policy that the critic puts on the wrong side of it; 0 is a perfect order.
    Raises DataError where a value is not finite.
    Source: SIMPLER (Li et al. 2024), section on the mean maximum rank violation.
    """
    if not np.isfinite(values).all():
        raise DataError("The critic's values are not finite.", "Check that training did not diverge.")
    rates = np.array([p.success.mean() for p in policies])
    means = values.mean(1)
    states = values.shape[1]
    drawn = values[:, rng.integers(states, size=(resamples, states))].mean(2)
    successes = np.stack(
        [rng.binomial(p.success.size, p.success.mean(), resamples) / p.success.size for p in policies]
    )
    rho = np.array([spearman(drawn[:, r], successes[:, r]) for r in range(resamples)])
    lo, hi = interval(rho)
    wrong = np.array([mmrv(drawn[:, r], successes[:, r]) for r in range(resamples)])
    found = []
    for p, value, boot in zip(policies, means, drawn, strict=True):
        k, n = int(p.success.sum()), p.success.size
        v_lo, v_hi = interval(boot)
        found.append(OpePolicy(p.name, n, k, *wilson(k, n), float(value), v_lo, v_hi))
    order = mmrv(means, rates)
    return Ope(tuple(found), states, spearman(means, rates), lo, hi, order, *interval(wrong))


def mmrv(predicted_value: Any, success: Any) -> float:
    """Return the mean over policies of the worst wrongly ordered difference of success, see `ope_summary`."""
    value, rate = np.asarray(predicted_value, np.float64), np.asarray(success, np.float64)
    gap = np.abs(rate[:, None] - rate[None])
    wrong = (value[:, None] < value[None]) != (rate[:, None] < rate[None])
    return float((gap * wrong).max(1).mean())
