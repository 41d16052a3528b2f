"""Turn a finished demo run into summary.json and report.html: gather numbers, film roll-outs, draw, write."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bora_cli.analysis import figures
from bora_cli.analysis.analyze import draw
from bora_cli.analysis.critic_summary import CriticSummary
from bora_cli.analysis.folder import read_folder
from bora_cli.analysis.media import webp_film
from bora_cli.analysis.report import write_report
from bora_cli.analysis.summary import ResidualSummary, Round, RunSummary, Stage
from bora_cli.analysis.tables import cells, comparisons, human, write_results
from bora_cli.checkpoint import load_trained, package_versions, read_config
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import read_json
from bora_cli.errors import DataError
from bora_cli.evaluate.evaluate import EvalResult, checkpoint_hash
from bora_cli.evaluate.film import film
from bora_cli.evaluate.metrics import Result
from bora_cli.seeds import stream

Progress = Callable[..., None]

METHODS = ("cp_base", "filtered_bc", "bora_offline", "bc_interventions", "bora_full")
FILMED = ("cp_base", "bora_offline", "bora_full")
ROUND_FIELDS = tuple(Round.__dataclass_fields__)


def report(root: Path, progress: Progress | None = None) -> RunSummary:
    """Write summary.json, results.parquet and report.html of a demo run and return the summary.

    Raises DataError, before anything is written, if there is no run or if it is not finished.
    """
    root = Path(root)
    require_finished(root)
    evaluations = _evaluations(root)
    summary = summarise(root, evaluations)
    summary.save(root / "summary.json")
    folder = read_folder(root / "analysis")
    frames = {e: {t: folder.frame(e, t)[1] for t in ticks} for e, ticks in folder.thumbnails.items()}  # type: ignore[index]
    drawn = {"success": figures.success_bars(summary)}
    if summary.critic is not None:
        drawn |= draw(folder.traces, summary.critic, frames, summary.seed)
    if summary.rounds:
        drawn["rounds"] = figures.rounds(summary.rounds)
    if summary.residual is not None:
        drawn["residual"] = figures.residual_bars(summary.residual)
    write_report(root / "report.html", summary, drawn, _films(root, evaluations, progress))
    return summary


def require_finished(root: Path) -> None:
    """Raise DataError unless `root` is a demo run that lacks nothing but its report."""
    example = "Name the directory of a `bora demo` run, such as runs/demo-pick_toy-0."
    if not root.is_dir():
        raise DataError(f"There is no run at {root}.", example)
    if not (root / "demo.json").is_file():
        raise DataError(f"{root} is not a demo run: it has no demo.json.", example)
    parts = ("evaluations", "online/rounds.json", "analysis/critic.json", "analysis/traces.parquet")
    missing = next((p for p in parts if not (root / p).exists()), None)
    if missing is not None:
        raise DataError(
            f"The run {root} is not finished: it has no {missing} yet.",
            f"Go on with `{_command(root, read_json(root / 'demo.json'))}`; it writes the report at its end.",
        )


def _command(root: Path, job: dict[str, Any]) -> str:
    """Return the command that makes or continues a demo run."""
    quick = " --quick" if job["quick"] else ""
    where = shlex.quote(str(root))
    return f"bora demo --task {job['task']} --seed {job['seed']} --gap {job['gap']}{quick} --out {where}"


def summarise(root: Path, evaluations: dict[tuple[str, str], EvalResult]) -> RunSummary:
    """Return the numbers of a run."""
    job = json.loads((root / "demo.json").read_text())
    results = [
        Result(method, setting, e.job.gap, job["seed"], t.scene_seed, t.success, t.ticks)
        for (method, setting), e in evaluations.items()
        for t in e.trials
    ]
    write_results(root / "results.parquet", results)
    files = sorted((root / "stages").glob("*.json"), key=lambda f: int(f.stem.partition("-")[0]))
    marks = [json.loads(f.read_text()) for f in files]
    online = _json(root / "online" / "rounds.json") or {"rounds": []}
    episodes = Dataset.open(root / "online" / "episodes") if online["rounds"] else None
    critic = _json(root / "analysis" / "critic.json")
    return RunSummary(
        task=job["task"],
        seed=job["seed"],
        instruction=next(iter(Dataset.open(root / "demos").episodes(images=False))).prompt,
        preset="quick" if job["quick"] else "full",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=_command(root, job),
        cells=cells(results),
        comparisons=comparisons(results, rng=stream("bootstrap", job["seed"])),
        stages=tuple(Stage(m["name"], "\n".join(m["commands"]), m["seconds"]) for m in marks),
        human=human([e.controller for e in episodes.episodes(images=False)]) if episodes else None,
        rounds=tuple(Round(**{k: r[k] for k in ROUND_FIELDS}) for r in online["rounds"]),
        critic=CriticSummary.from_json(critic) if critic else None,
        residual=_residual(_policy(root, "bora_full")),
        versions=package_versions(),
        hashes={m: checkpoint_hash(p) for m in METHODS if (p := _policy(root, m)).is_dir()},
        machine={
            "renderer": next(iter(evaluations.values())).renderer,
            "system": platform.platform(terse=True),
            "backbone": read_config(root / "policies" / "cp_base")["backbone"]["hash"],
        },
        caveats=_caveats(job, online["rounds"]),
    )


def _evaluations(root: Path) -> dict[tuple[str, str], EvalResult]:
    found = {}
    for method in METHODS:
        for setting in ("standard", "unseen"):
            data = _json(root / "evaluations" / f"{method}-{setting}.json")
            if data is not None:
                found[method, setting] = EvalResult.from_json(data)
    if not found:
        raise DataError(
            f"{root} holds no evaluation; expected {root / 'evaluations'}.",
            "Finish the run with `bora demo`.",
        )
    return found


def _residual(policy: Path) -> ResidualSummary | None:
    """Return the constant part of the released policy's residual, or None if the base was kept."""
    if not policy.is_dir():
        return None
    trained = load_trained(policy)
    if trained.residual is None or trained.lam == 0.0:
        return None
    row = trained.residual.constant().detach()
    return ResidualSummary(trained.spec.action.names, tuple(float(v) for v in row), trained.lam)


def _policy(root: Path, method: str) -> Path:
    """Return where the run, wherever it lies now, keeps the policy of a method."""
    return root / ("online/policy" if method == "bora_full" else f"policies/{method}")


def _films(
    root: Path, evaluations: dict[tuple[str, str], EvalResult], progress: Progress | None
) -> dict[str, bytes]:
    """Return films of the first success and the first failure, in scene order, on standard objects."""
    films: dict[str, bytes] = {}
    for method in FILMED:
        evaluation = evaluations.get((method, "standard"))
        if evaluation is None:
            continue
        for label, wanted in (("success", True), ("failure", False)):
            scene = next((t.scene_seed for t in evaluation.trials if t.success == wanted), None)
            if scene is not None:
                if progress is not None:
                    progress("film", len(films), 2 * len(FILMED))
                job = replace(evaluation.job, checkpoint=str(_policy(root, method)))
                films[f"{method}/{label}"] = webp_film(film(job, [scene]))
    if progress is not None:
        progress("film", 1, 1)
    return films


def _caveats(job: dict[str, Any], rounds: list[dict[str, Any]]) -> tuple[str, ...]:
    found = []
    if job["quick"]:
        found.append("A quick run: its numbers are too small to mean anything.")
    if rounds and not any(r["released"] for r in rounds):
        found.append("No residual passed its release test: BORA-Full is the offline policy.")
    return tuple(found)


def _json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None
