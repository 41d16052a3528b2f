"""What `bora compare` can read: evaluations, demo runs, online runs and recorded datasets, as one list of trials.

A trial is one episode of one system on one scene under one condition.  Two trials are a pair when condition,
training seed and scene are the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bora_cli.analysis.summary import METHOD_TITLES, method_title
from bora_cli.data.dataset import Dataset
from bora_cli.errors import DataError
from bora_cli.evaluate.evaluate import EvalResult

UNSEEDED = 0


@dataclass(frozen=True)
class Condition:
    """Under what episodes ran; only equal conditions can be compared.  profile: hash of the hardware profile."""

    task: str
    setting: str = "standard"
    gap: str = "none"
    assisted: bool = False
    profile: str = ""

    def __str__(self) -> str:
        help_ = ", with a person beside the robot" if self.assisted else ""
        return f"{self.task}, {self.setting} objects, gap {self.gap}{help_}"


@dataclass(frozen=True)
class Trial:
    """One episode.

    system: a name for people; identity: what the system really is, so that two policies of one name stay apart.
    seed: training seed of the system (0 where it is not known).  ticks, human_ticks: counts.
    """

    system: str
    condition: Condition
    seed: int
    scene: int
    success: bool
    ticks: int
    human_ticks: int = 0
    takeovers: int = 0
    identity: str = ""


def together(sources: Sequence[Sequence[Trial]], names: Sequence[str]) -> list[Trial]:
    """Join the trials of several sources; different systems of one name get the name of their source instead.

    names: of the sources.  Methods of several demo runs are pooled, each run being one training seed.
    Raises DataError where fewer than two systems were found.
    """
    seen: set[tuple[str, Condition, int, int]] = set()
    identities: dict[str, str] = {}
    clash = False
    for source in sources:
        keys = {(t.system, t.condition, t.seed, t.scene) for t in source}
        clash |= bool(keys & seen)
        clash |= any(identities.setdefault(t.system, t.identity) != t.identity for t in source)
        seen |= keys
    joined = []
    for source, name in zip(sources, names, strict=True):
        several = len({t.system for t in source}) > 1
        renamed = {t.system: f"{name}: {t.system}" if several else name for t in source}
        joined += [replace(t, system=renamed[t.system]) if clash else t for t in source]
    found = list(dict.fromkeys(t.system for t in joined))
    if len(found) < 2:
        raise DataError(
            f"There is one system to compare, {found[0]}." if found else "There is nothing to compare.",
            "Name two or more evaluations, or a demo run, which holds several methods.",
        )
    return joined


def load_run(path: Path) -> list[Trial]:
    """Return the trials of one source.  Raises DataError if it is none of the kinds that can be compared."""
    if path.is_file():
        return evaluation_trials(_document(path), path)
    if not path.is_dir():
        raise DataError(f"There is nothing at {path}.", "Name an evaluation, a run or a dataset that exists.")
    if (path / "demo.json").is_file():
        return demo_trials(path)
    if (path / "job.json").is_file() and (path / "episodes").is_dir():
        return dataset_trials(path / "episodes", path.resolve().name)
    if (path / "meta" / "info.json").is_file():
        return dataset_trials(path, path.resolve().name)
    raise DataError(
        f"{path} holds nothing to compare; expected an evaluation, a demo run, an online run or a dataset.",
        "Make an evaluation with `bora eval CHECKPOINT --task TASK --json > FILE.json`.",
    )


def evaluation_trials(
    data: dict[str, Any], path: Path, system: str = "", seed: int = UNSEEDED
) -> list[Trial]:
    """Return the trials of a document that `bora eval --json` printed; system "" is the checkpoint's name."""
    try:
        result = EvalResult.from_json(data)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not an evaluation: {error}.", "Give the output of `bora eval --json`."
        ) from error
    job = result.job
    condition = Condition(job.task, job.setting, job.gap, profile=job.profile_hash)
    share = "" if job.lam is None else f" at lambda {job.lam:g}"
    name = system or Path(job.checkpoint).name + share
    identity = system or f"{job.checkpoint_hash}{share}"
    return [
        Trial(name, condition, seed, t.scene_seed, t.success, t.ticks, identity=identity)
        for t in result.trials
    ]


def demo_trials(root: Path) -> list[Trial]:
    """Return the trials of all methods that a demo run has evaluated so far."""
    seed = int(_document(root / "demo.json").get("seed", UNSEEDED))
    trials = []
    files = sorted((root / "evaluations").glob("*.json"), key=_order)
    for file in files:
        method = file.stem.rpartition("-")[0]
        trials += evaluation_trials(_document(file), file, method_title(method), seed)
    if not trials:
        raise DataError(
            f"The demo run {root} has evaluated nothing yet.", "Give its `bora demo` command again to go on."
        )
    return trials


def dataset_trials(root: Path, system: str) -> list[Trial]:
    """Return one trial per recorded episode.  Raises DataError if the episodes do not say their scene."""
    trials = []
    for row in Dataset.open(root).rows():
        if "scene_seed" not in row.meta or not {"task", "env"} & row.meta.keys():
            raise DataError(
                f"Episode {row.index} of {root} does not say its task and scene, so it has no counterpart.",
                "Compare recordings of `bora collect`, `bora eval --record` or `bora online`.",
            )
        human = row.human_ticks
        condition = Condition(
            str(row.meta.get("task", row.meta.get("env"))),
            str(row.meta.get("setting", "standard")),
            str(row.meta.get("gap", "none")),
            assisted=row.meta.get("operator", "none") != "none",
            profile=str(row.meta.get("profile_hash", "")),
        )
        trials.append(
            Trial(
                system,
                condition,
                UNSEEDED,
                int(row.meta["scene_seed"]),
                row.success,
                row.length,
                human,
                int(row.meta.get("takeovers", 0)),
                str(root.resolve()),
            )
        )
    if not trials:
        raise DataError(f"{root} has no episode.", "Record some first.")
    return trials


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart, file suffixes left out."""
    full = [p.resolve().with_suffix("") if p.is_file() else p.resolve() for p in paths]
    longest = max((len(p.parts) for p in full), default=1)
    for depth in range(1, longest + 1):
        ends = ["/".join(p.parts[-depth:]) for p in full]
        if len(set(ends)) == len(ends):
            return ends
    return [f"{p} ({i})" for i, p in enumerate(full, 1)]


def conditions(trials: Iterable[Trial]) -> list[Condition]:
    """Return the conditions in order of first appearance."""
    return list(dict.fromkeys(t.condition for t in trials))


def _order(file: Path) -> tuple[int, str]:
    method, _, setting = file.stem.rpartition("-")
    known = list(METHOD_TITLES)
    return (known.index(method) if method in known else len(known), setting)


def _document(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not valid JSON: {error}.", "Give the output of `bora eval --json`."
        ) from error
    if not isinstance(data, dict):
        raise DataError(f"{path} holds a {type(data).__name__}; expected an object.", "Is it an evaluation?")
    return data
