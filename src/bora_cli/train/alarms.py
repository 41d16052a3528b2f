"""Which numbers of a run say that something is wrong with it, whatever its loss looks like.

A rule looks at one number of one kind of phase.  It speaks where the number has left its range in three reports in a
row, or in the only one there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bora_cli.algos.bora_offline import OfflineConfig

IN_A_ROW = 3
FEW = 0.25
"""Below this share of the preset's updates, numbers out of their range are no surprise."""
SEE = "docs/training.md"


@dataclass(frozen=True)
class Rule:
    """A range that a number should stay in.  phase: how the name of the phase begins.  so: what it means otherwise."""

    phase: str
    name: str
    low: float
    high: float
    so: str


def rules(config: OfflineConfig, unit: float) -> list[Rule]:
    """Return the rules for a run.  unit: the largest reward, of which values are multiples."""
    share = float(np.interp(config.tau, [0.5, 0.7, 0.9], [0.5, 0.37, 0.2]))
    found = [
        Rule("critic", "target_clipped", 0.0, 0.05, "the critic's targets leave its range"),
        Rule(
            "critic", "q_above_v", share - 0.15, share + 0.15, "v is not the expectile of q that it should be"
        ),
        Rule("critic probe", "q_over", -np.inf, 0.25 * unit, "q promises more than followed"),
        Rule(
            "critic probe",
            "demo_rand_gap",
            1e-6,
            np.inf,
            "the critic does not prefer the data's actions to any",
        ),
        Rule(
            "critic probe",
            "ens_ratio",
            1.2,
            np.inf,
            "the ensemble is as sure of random actions as of the data's",
        ),
        Rule(
            "value probe",
            "explained",
            1e-6,
            np.inf,
            "the values know nothing of what follows, so the actor was told the outcomes of episodes instead",
        ),
        Rule("improve", "clip_fraction", 0.0, 0.5, "most ratios are clipped: the policy moves too fast"),
        Rule("improve", "ratio_p99", 0.0, 3.0, "the policy moves too fast between two snapshots"),
        Rule(
            "improve probe",
            "rep_drift",
            -np.inf,
            0.3,
            "the backbone no longer says what it was pre-trained to say",
        ),
        Rule("clone", "ess", 0.1, 1.0, "few ticks carry all the weight"),
        Rule("clone", "w_clipped", 0.0, 0.2, "many weights are clipped"),
    ]
    if config.advantage != "constant":
        found.append(Rule("improve", "adv_positive", 0.1, 0.9, "nearly all advantages have one sign"))
        if config.gate == "window":
            found.append(
                Rule("improve", "gate_rate", 0.1, 0.9, "the gate chooses nearly nothing, or nearly all")
            )
    return found


def alarms(
    rows: Sequence[Mapping[str, Any]], config: OfflineConfig, unit: float = 1.0, share: float = 1.0
) -> list[str]:
    """Return a sentence for every number that left its range.

    rows: lines of a metrics file.  unit: see `rules`.  share: of the preset's updates that the run took.
    """
    said = []
    advice = f" Few updates: this means little. See {SEE}." if share < FEW else f" See {SEE}."
    for rule in rules(config, unit):
        phases = dict.fromkeys(row["phase"] for row in rows if _is_of(row, rule))
        for phase in phases:
            values = [
                (row["update"], row[rule.name]) for row in rows if row["phase"] == phase and rule.name in row
            ]
            outside = [not rule.low <= value <= rule.high for _, value in values]
            for i in range(len(values)):
                run = outside[max(0, i - IN_A_ROW + 1) : i + 1]
                if all(run) and len(run) == min(IN_A_ROW, len(values)):
                    update, value = values[i]
                    said.append(_sentence(rule, phase, update, value) + advice)
                    break
    return said + _worse_on_held_out(rows)


def _is_of(row: Mapping[str, Any], rule: Rule) -> bool:
    exact = " " in rule.phase
    return row["phase"] == rule.phase if exact else row["phase"].startswith(rule.phase)


def _sentence(rule: Rule, phase: str, update: int, value: float) -> str:
    bounds = f"at least {rule.low:.3g}" if np.isinf(rule.high) else f"at most {rule.high:.3g}"
    if 0 < rule.low < 1e-5:
        bounds = "more than 0"
    if not np.isinf(rule.high) and rule.low > 0:
        bounds = f"{rule.low:.3g} to {rule.high:.3g}"
    return f"{phase}, update {update}: {rule.name} is {value:.3g}, expected {bounds}; {rule.so}."


def _worse_on_held_out(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return whether held-out episodes are imitated a fifth worse at the end than before."""
    said = []
    before = [row["bc_val"] for row in rows if row["phase"] == "clone held out"]
    after = [row["bc_val"] for row in rows if row["phase"] == "improve held out"]
    if before and before[-1] > 1.2 * min(before):
        said.append(
            f"clone: held-out episodes are imitated worse at the end ({before[-1]:.3g}) than at best"
            f" ({min(before):.3g}); it learns its episodes by heart."
        )
    if before and after and after[-1] > 1.2 * before[-1]:
        said.append(
            f"improve: held-out episodes are imitated worse ({after[-1]:.3g}) than after the warm-up"
            f" ({before[-1]:.3g}); expected where many of them are failures."
        )
    return said
