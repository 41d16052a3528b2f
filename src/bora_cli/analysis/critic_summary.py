"""`critic.json`: what `bora analyze` measured about a critic, as the report and the notebooks read it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from bora_cli.errors import SchemaMismatch

T = TypeVar("T")


@dataclass(frozen=True)
class AurocPoint:
    """AUROC of V at normalised time t (0..1) over n episodes with a 95 % interval; None where undefined."""

    t: float
    n: int
    value: float | None
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class EffectPoint:
    """Cohen's d between the values of successes and failures at normalised time t, as `AurocPoint`."""

    t: float
    n: int
    value: float | None
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class SwapScore:
    """How often the critic prefers the executed chunk over a bad one of this kind (ties count half)."""

    kind: str
    n: int
    win_rate: float
    lo: float
    hi: float
    effect: float | None
    effect_lo: float | None = None
    effect_hi: float | None = None


@dataclass(frozen=True)
class ReliabilityBin:
    """Ticks of similar V: their number, mean V, mean return really collected, and its 95 % interval."""

    n: int
    v_mean: float
    return_mean: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class WarningPoint:
    """An alarm with this margin: false alarms among successes, failures found, median ticks before their end."""

    margin: float
    false_alarms: float
    detected: float
    lead: float | None
    detected_lo: float | None = None
    detected_hi: float | None = None
    lead_lo: float | None = None
    lead_hi: float | None = None


@dataclass(frozen=True)
class EarlyWarning:
    """The alarm on V at five per cent of false alarms, with 95 % intervals, and the curve over all margins."""

    margin: float
    false_alarms: float
    detected: float
    detected_lo: float
    detected_hi: float
    lead: float | None
    lead_lo: float | None
    lead_hi: float | None
    successes: int
    failures: int
    curve: tuple[WarningPoint, ...] = ()
    false_alarms_lo: float | None = None
    false_alarms_hi: float | None = None


@dataclass(frozen=True)
class CounterfactualKind:
    """Futures that began with another chunk: how many, how many it spoiled and saved.

    agree: of those that ended differently, the share in which Q preferred the better chunk; None without one.
    """

    kind: str
    n: int
    spoiled: int
    saved: int
    agree: float | None
    lo: float | None
    hi: float | None


@dataclass(frozen=True)
class Counterfactual:
    """What came of executing other chunks in the same states (`bora_cli.analysis.counterfactual`).

    states, episodes: from which futures were run.  successor: who acted after the chunk.  executed_success: successes
    among the futures of the recorded chunk; repeated: of those futures, how many ended as the record did.
    agree: share of the pairs with different outcomes (`differing`) in which Q preferred the better chunk.  The same
    for pairs whose returns differ clearly: return_agree of return_differing.  95 % intervals over episodes.
    """

    states: int
    episodes: int
    successor: str
    executed_success: int
    repeated: int
    kinds: tuple[CounterfactualKind, ...]
    differing: int
    agree: float | None
    lo: float | None
    hi: float | None
    return_differing: int
    return_agree: float | None
    return_lo: float | None
    return_hi: float | None


@dataclass(frozen=True)
class OcclusionScore:
    """What the critic says when a part of its images is changed (`bora_cli.analysis.occlusion`).

    n: states, of so many episodes.  area: mean share of the pixels that changed.  v_change, q_change: mean absolute
    change in standard deviations.  auroc: of the episodes' mean V.  95 % intervals over episodes.
    """

    kind: str
    n: int
    episodes: int
    area: float
    v_change: float | None
    v_change_lo: float | None
    v_change_hi: float | None
    q_change: float | None
    q_change_lo: float | None
    q_change_hi: float | None
    auroc: float | None
    auroc_lo: float | None
    auroc_hi: float | None


@dataclass(frozen=True)
class OpePolicy:
    """A policy: n measured episodes with k successes (Wilson interval), and the value that the critic predicted."""

    name: str
    n: int
    k: int
    lo: float
    hi: float
    value: float
    value_lo: float
    value_hi: float


@dataclass(frozen=True)
class Ope:
    """Predicted against measured over policies (`bora_cli.analysis.ope`): rank correlation and MMRV with intervals."""

    policies: tuple[OpePolicy, ...]
    states: int
    spearman: float
    lo: float
    hi: float
    mmrv: float
    mmrv_lo: float | None = None
    mmrv_hi: float | None = None


@dataclass(frozen=True)
class CriticSummary:
    """How well the critic tells good from bad on held-out episodes in which nobody took over.

    auroc, auroc_end: over normalised time and over ticks to the end (negative).  effect, separation: Cohen's d over
    normalised time, and the mean distance of the two outcomes' mean curves in value units.  late_drop, and
    late_drop_success: share of the failures, and of the successes, whose V falls late.  spread: mean standard
    deviation of the ensemble in standard deviations of Q.  spread_error: rank correlation of that spread with the
    distance of Q from the collected return.  demonstrations: how many of the episodes are.  notes: what was left
    out, and why.  intervals: 95 % intervals over episodes of the numbers that have their name.
    """

    successes: int
    failures: int
    auroc: tuple[AurocPoint, ...] = ()
    swap: tuple[SwapScore, ...] = ()
    spearman: float | None = None
    late_drop: float | None = None
    late_drop_success: float | None = None
    ece: float | None = None
    bias: float | None = None
    action_sensitivity: float | None = None
    auroc_end: tuple[AurocPoint, ...] = ()
    effect: tuple[EffectPoint, ...] = ()
    separation: float | None = None
    reliability: tuple[ReliabilityBin, ...] = ()
    slope: float | None = None
    intercept: float | None = None
    spread: float | None = None
    spread_error: float | None = None
    warning: EarlyWarning | None = None
    counterfactual: Counterfactual | None = None
    occlusion: tuple[OcclusionScore, ...] = ()
    ope: Ope | None = None
    demonstrations: int = 0
    notes: tuple[str, ...] = ()
    intervals: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CriticSummary:
        """Parse `critic.json`.  Raises SchemaMismatch for unknown or missing keys."""
        d = dict(data)
        for key, kind in (
            ("auroc", AurocPoint),
            ("auroc_end", AurocPoint),
            ("effect", EffectPoint),
            ("swap", SwapScore),
        ):
            d[key] = build_all(kind, d.get(key), f"critic.{key}")
        d["occlusion"] = build_all(OcclusionScore, d.get("occlusion"), "critic.occlusion")
        d["notes"] = tuple(d.get("notes") or ())
        d["reliability"] = build_all(ReliabilityBin, d.get("reliability"), "critic.reliability")
        if d.get("warning") is not None:
            warning = dict(d["warning"])
            warning["curve"] = build_all(WarningPoint, warning.get("curve"), "critic.warning.curve")
            d["warning"] = build(EarlyWarning, warning, "critic.warning")
        if d.get("counterfactual") is not None:
            futures = dict(d["counterfactual"])
            kinds = build_all(CounterfactualKind, futures.get("kinds"), "critic.counterfactual.kinds")
            d["counterfactual"] = build(Counterfactual, futures | {"kinds": kinds}, "critic.counterfactual")
        if d.get("ope") is not None:
            policies = build_all(OpePolicy, d["ope"].get("policies"), "critic.ope.policies")
            d["ope"] = build(Ope, d["ope"] | {"policies": policies}, "critic.ope")
        d["intervals"] = {k: (v[0], v[1]) for k, v in (d.get("intervals") or {}).items()}
        return build(cls, d, "critic")

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; NaN and infinity become null."""
        done: dict[str, Any] = finite(asdict(self))
        return done


def finite(value: Any) -> Any:
    """Return JSON values with null in the place of NaN and infinity."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def build_all(kind: type[T], rows: list[dict[str, Any]] | None, where: str) -> tuple[T, ...]:
    """Return records from JSON rows; see `build`."""
    return tuple(build(kind, row, f"{where}[{i}]") for i, row in enumerate(rows or ()))


def build(kind: type[T], row: dict[str, Any], where: str) -> T:
    """Return a record from a JSON object.  Raises SchemaMismatch for unknown or missing keys."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(row) - known)
    if unknown:
        raise SchemaMismatch(
            f"Unknown key '{unknown[0]}' in {where} of the run summary.",
            f"Known keys: {', '.join(sorted(known))}.",
        )
    try:
        return kind(**row)
    except TypeError as error:
        raise SchemaMismatch(
            f"{where} of the run summary is incomplete: {error}.", "Run the command again."
        ) from error
