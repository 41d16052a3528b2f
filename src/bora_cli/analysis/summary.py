"""`summary.json`: the numbers of one run, as the report, the README table and the notebooks read them.

    {
      "schema": 1,
      "title": "...", "task": "pick_toy", "instruction": "...", "seed": 0, "preset": "quick",
      "created": "2026-01-31T12:00:00Z", "command": "bora demo --task pick_toy",
      "cells": [{"method": "cp_base", "setting": "standard", "gap": "deployment",
                 "k": 9, "n": 50, "seeds": 1}],
      "comparisons": [{"method": "bora_full", "against": "cp_base", "setting": "standard",
                       "gap": "deployment", "difference": 0.6, "lo": 0.4, "hi": 0.8, "n": 50}],
      "stages": [{"name": "Train the base policy", "command": "bora train ...", "seconds": 61.2}],
      "human": {"episodes": 20, "ticks": 900, "human_ticks": 180, "takeovers": 14},
      "rounds": [{"index": 1, "episodes": 10, "ticks": 450, "human_ticks": 100, "takeovers": 9,
                  "base_k": 11, "residual_k": 17, "release_n": 20, "released": true}],
      "critic": {"successes": 60, "failures": 60,
                 "auroc": [{"t": 0.05, "n": 120, "value": 0.6, "lo": 0.5, "hi": 0.7}],
                 "swap": [{"kind": "other_state", "n": 800, "win_rate": 0.7, "lo": 0.6, "hi": 0.8,
                           "effect": 0.4}],
                 "spearman": 0.8, "late_drop": 0.5, "ece": 0.05, "bias": 0.02,
                 "action_sensitivity": 0.1, ...},
      "residual": {"names": ["dx"], "values": [0.02], "lam": 1.0},
      "versions": {"bora": "0.1.0"}, "hashes": {"base checkpoint": "..."},
      "machine": {"renderer": "egl"}, "caveats": ["..."]
    }

Only `task` and `seed` must be there.  `machine.robot` other than "simulation" says that the numbers are
from hardware.  Rates are fractions in 0..1; `null` stands for a number that could not be computed.  Unknown
keys are refused, so that a report never silently leaves something out.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bora_cli.analysis.critic_summary import CriticSummary, build, build_all, finite
from bora_cli.errors import DataError, SchemaMismatch

SCHEMA = 1

METHOD_TITLES: dict[str, str] = {
    "cp_base": "CP Base",
    "filtered_bc": "Filtered BC",
    "constant_advantage": "Constant advantage",
    "bora_offline": "BORA-Offline",
    "bc_interventions": "BC on interventions",
    "bora_full": "BORA-Full",
}
"""Key -> name in tables, in the order of the tables."""

METHOD_NOTES: dict[str, str] = {
    "cp_base": "imitates every demonstration, good and bad",
    "filtered_bc": "imitates the successful demonstrations only",
    "constant_advantage": "the offline update with the critic's verdict replaced by a constant",
    "bora_offline": "base policy improved from the same demonstrations by the critic",
    "bc_interventions": "frozen policy plus a residual fitted to the corrections alone",
    "bora_full": "BORA-Offline plus the residual learnt from the human takeovers",
}


def method_title(method: str) -> str:
    """Return the printed name of a method; an unknown key is its own name."""
    return METHOD_TITLES.get(method, method.replace("_", " "))


@dataclass(frozen=True)
class Cell:
    """The successes of one method in one setting: k of n episodes, pooled over `seeds` training seeds."""

    method: str
    setting: str
    gap: str
    k: int
    n: int
    seeds: int = 1


@dataclass(frozen=True)
class Comparison:
    """A paired difference of success rates (method minus against) on n common scenes; 95 % interval."""

    method: str
    against: str
    setting: str
    gap: str
    difference: float
    lo: float
    hi: float
    n: int


@dataclass(frozen=True)
class Stage:
    """One step of the run with the command that repeats it and its duration in seconds."""

    name: str
    command: str
    seconds: float


@dataclass(frozen=True)
class Human:
    """What the operator did over all online episodes; share = human_ticks / ticks."""

    episodes: int
    ticks: int
    human_ticks: int
    takeovers: int

    @property
    def share(self) -> float:
        return self.human_ticks / self.ticks if self.ticks else 0.0

    @property
    def takeovers_per_episode(self) -> float:
        return self.takeovers / self.episodes if self.episodes else 0.0


@dataclass(frozen=True)
class Round:
    """One online round: what was collected, and the paired unaided episodes that decide about the residual.

    base_k, residual_k: successes of `release_n` scenes without and with the residual.
    """

    index: int
    episodes: int
    ticks: int
    human_ticks: int
    takeovers: int
    base_k: int
    residual_k: int
    release_n: int
    released: bool


@dataclass(frozen=True)
class ResidualSummary:
    """The constant residual of each action dimension in command units (fraction of half the range)."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    lam: float = 1.0


@dataclass(frozen=True)
class RunSummary:
    """Everything the report prints; see the module docstring for the JSON form."""

    task: str
    seed: int
    title: str = ""
    instruction: str = ""
    preset: str = ""
    created: str = ""
    command: str = ""
    cells: tuple[Cell, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    stages: tuple[Stage, ...] = ()
    human: Human | None = None
    rounds: tuple[Round, ...] = ()
    critic: CriticSummary | None = None
    residual: ResidualSummary | None = None
    versions: dict[str, str] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    caveats: tuple[str, ...] = ()

    def methods(self) -> list[str]:
        """Return the methods present, in table order, unknown ones last."""
        present = list(dict.fromkeys(c.method for c in self.cells))
        known = [m for m in METHOD_TITLES if m in present]
        return known + [m for m in present if m not in METHOD_TITLES]

    def settings(self) -> list[tuple[str, str]]:
        """Return the (setting, gap) pairs present, in order of first appearance."""
        return list(dict.fromkeys((c.setting, c.gap) for c in self.cells))

    def cell(self, method: str, setting: str, gap: str) -> Cell | None:
        """Return the cell of a method, or None if it was not run there."""
        same = (c for c in self.cells if (c.method, c.setting, c.gap) == (method, setting, gap))
        return next(same, None)

    def comparison(self, method: str, against: str, setting: str, gap: str) -> Comparison | None:
        """Return the paired comparison, or None if the episodes were not paired."""
        key = (method, against, setting, gap)
        return next((c for c in self.comparisons if (c.method, c.against, c.setting, c.gap) == key), None)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-ready data; NaN and infinity become null."""
        return {"schema": SCHEMA, **finite(asdict(self))}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunSummary:
        """Parse what `to_json` wrote.

        Raises DataError for another schema number, for unknown or missing keys and for impossible counts.
        """
        if data.get("schema") != SCHEMA:
            raise SchemaMismatch(
                f"The run summary has schema {data.get('schema')!r}; this version reads {SCHEMA}.",
                "Make it again with this version of bora.",
            )
        d = {k: v for k, v in data.items() if k != "schema"}
        d["cells"] = build_all(Cell, d.get("cells"), "cells")
        d["comparisons"] = build_all(Comparison, d.get("comparisons"), "comparisons")
        d["stages"] = build_all(Stage, d.get("stages"), "stages")
        d["rounds"] = build_all(Round, d.get("rounds"), "rounds")
        if d.get("human") is not None:
            d["human"] = build(Human, d["human"], "human")
        if d.get("critic") is not None:
            d["critic"] = CriticSummary.from_json(d["critic"])
        if d.get("residual") is not None:
            residual = dict(d["residual"])
            residual |= {key: tuple(residual[key]) for key in ("names", "values") if key in residual}
            d["residual"] = build(ResidualSummary, residual, "residual")
        d["caveats"] = tuple(d.get("caveats") or ())
        summary = build(cls, d, "the top level")
        for c in summary.cells:
            if not 0 <= c.k <= c.n:
                raise DataError(
                    f"The cell {c.method}/{c.setting} counts {c.k} successes in {c.n} episodes;"
                    " expected 0 <= k <= n.",
                    "Evaluate this method again.",
                )
        return summary

    def save(self, path: Path) -> None:
        """Write the summary as JSON, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_text(json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path) -> RunSummary:
        """Read a `summary.json`.  Raises DataError if it is missing or is not one."""
        if not path.is_file():
            raise DataError(
                f"There is no run summary at {path}.",
                "Give the folder of a finished run (the one that holds summary.json).",
            )
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"{path} is not valid JSON: {error}.", "Run the command that wrote it again."
            ) from error
        if not isinstance(data, dict):
            raise SchemaMismatch(
                f"{path} holds a {type(data).__name__}; expected an object.", "Is it a run summary?"
            )
        return cls.from_json(data)
