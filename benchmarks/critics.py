"""What a critic knows: the token+action critic beside one of pixels and one that is blind to actions.

    python benchmarks/critics.py --tasks pick_toy --seeds 0 1 2 --out runs/offline
    python benchmarks/critics.py --out runs/offline --rollouts 'runs/demo-pick_toy-{seed}/rollouts' --name demo

Takes demonstrations and CP Base of `benchmarks/offline.py` (made if they are not there), trains each critic on the
demonstrations, and asks all of them about the same unaided episodes of CP Base, which none of them was trained on.
Other chunks are executed once per seed, and every critic judges the same futures.  What is there already is not made
again.  --rollouts names other recordings of the same robot and task; {seed} stands for the seed.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
from cells import demonstrations

from bora_cli.analysis.analyze import analyze
from bora_cli.analysis.counterfactual import counterfactual_summary, run_futures, score_futures
from bora_cli.analysis.folder import read_folder
from bora_cli.analysis.recordings import load_recordings
from bora_cli.analysis.scorers import scorer_of
from bora_cli.analysis.style import png
from bora_cli.analysis.trace_figures import value_traces
from bora_cli.checkpoint import load_trained
from bora_cli.evaluate.evaluate import evaluate
from bora_cli.evaluate.workers import Workers
from bora_cli.seeds import stream
from bora_cli.train.offline import train

CRITICS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bora": ("tokens and action", "bora", {}),
    "bora-ranked_critic": ("tokens and action, ranked", "bora", {"critic": "ranked"}),
    "decoupled": ("pixels and action", "decoupled", {}),
    "decoupled_value": ("pixels alone", "decoupled_value", {}),
}
"""Name of the policy's folder -> title in the table, method and options of `bora train`."""
KINDS = ("other_state", "noise_0.3", "reversed", "flipped_xyz", "open_hand")
COVERED = ("object_and_hand", "background_patch", "background_recoloured")
FUTURES = ("resampled", "other_state", "noise_1", "reversed", "flipped_xyz")


def main() -> None:
    """Make what is missing and print two tables per task as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["pick_toy"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(CRITICS), default=list(CRITICS))
    parser.add_argument("--episodes", type=int, default=100, help="unaided episodes that the critics judge")
    parser.add_argument(
        "--states", type=int, default=24, help="states in which other chunks are executed; 0: none"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    parser.add_argument("--rollouts", default="", help="judge these recordings instead")
    parser.add_argument("--name", default="analysis", help="folder of the analyses, beside the policies")
    parser.add_argument("--figures", type=Path, help="draw the value traces of the first seed there")
    arguments = parser.parse_args()
    with Workers(arguments.workers) as pool:
        for task in arguments.tasks:
            found = {
                s: judged(arguments.out / f"{task}-{s}", task, s, arguments, pool) for s in arguments.seeds
            }
            print(asked(task, found), tried(found), sep="\n", flush=True)
            for method in arguments.methods if arguments.figures is not None else ():
                folder = arguments.out / f"{task}-{arguments.seeds[0]}" / arguments.name / method
                (arguments.figures / f"critic-{method}.png").write_bytes(pictured(folder))


def judged(
    root: Path, task: str, seed: int, arguments: argparse.Namespace, pool: Workers
) -> dict[str, dict[str, Any]]:
    """Return what `bora analyze` says about each critic of one seed, futures included."""
    recorded, base = demonstrations(root, task, seed, episodes=100, pool=pool), root / "policies" / "cp"
    if not (base / "config.json").is_file():
        train("cp", data=[recorded], out=base, seed=seed)
    rollouts = Path(arguments.rollouts.format(seed=seed)) if arguments.rollouts else root / "rollouts"
    if not arguments.rollouts:
        evaluate(
            base, task=task, episodes=arguments.episodes, seed=1000 * seed, record=rollouts, workers=pool
        )
    numbers = {}
    for method in arguments.methods:
        policy, folder = root / "policies" / method, root / arguments.name / method
        if not (policy / "config.json").is_file():
            _, learned_by, options = CRITICS[method]
            train(learned_by, data=[recorded], out=policy, init=base, seed=seed, **options)
        if not (folder / "critic.json").is_file():
            analyze(policy, data=[rollouts], out=folder, seed=seed)
        numbers[method] = json.loads((folder / "critic.json").read_text())
        if arguments.states:
            numbers[method]["counterfactual"] = executed(
                policy, rollouts, folder, seed, arguments.states, pool
            )
        print(f"{task} {seed} {method}: done", flush=True)
    return numbers


def executed(
    policy: Path, rollouts: Path, folder: Path, seed: int, states: int, pool: Workers
) -> dict[str, Any]:
    """Return what came of other chunks and whether the critic had preferred the better ones."""
    file, futures = folder / "counterfactual.json", folder.parent / "futures.parquet"
    if not file.is_file():
        trained = load_trained(policy)
        backbone = trained.load_backbone()
        gamma = float(trained.provenance.get("gamma", 0.97))
        recordings = load_recordings([rollouts], trained, backbone, gamma=gamma)
        if not futures.is_file():
            spec = trained.spec.action
            run_futures(
                recordings, spec, states, gamma=gamma, kinds=FUTURES, seed=seed, workers=pool
            ).write_parquet(futures)
        q = scorer_of(trained, backbone, recordings).q
        scored = score_futures(pl.read_parquet(futures), recordings, q)
        counted = counterfactual_summary(scored, rng=stream("bootstrap", seed))
        file.write_text(json.dumps(asdict(counted)))
    numbers: dict[str, Any] = json.loads(file.read_text())
    return numbers


def pictured(folder: Path) -> bytes:
    """Return the values along successes and failures of an analysis, with pictures of a success, as PNG."""
    read = read_folder(folder)
    shown = min(e for e in read.thumbnails if read.traces.filter(pl.col("episode") == e)["success"][0])
    return png(value_traces(read.traces, episode=shown, frames=read.strip(shown)), dpi=120)


def asked(task: str, found: dict[int, dict[str, dict[str, Any]]]) -> str:
    """Return a row per critic and seed: AUROC of V in the middle and at the end, swap win rates."""
    head = ["critic", "seed", "successes", "AUROC of V, middle", "end", *(f"swap: {k}" for k in KINDS)]
    rows = []
    for title, seed, n in _each(found):
        swaps = {s["kind"]: s for s in n["swap"]}
        episodes = f"{n['successes']}/{n['successes'] + n['failures']}"
        auroc = [_span(p, "value") for p in (n["auroc"][5], n["auroc"][-1])] if n["auroc"] else ["-", "-"]
        rows.append([title, str(seed), episodes, *auroc, *(_span(swaps.get(k), "win_rate") for k in KINDS)])
    return f"\n### {task}\n\n{_markdown(head, rows)}"


def tried(found: dict[int, dict[str, dict[str, Any]]]) -> str:
    """Return a row per critic and seed: change of V with parts covered, and the better chunk known where it showed."""
    head = [
        "critic",
        "seed",
        *(f"V moves: {k}" for k in COVERED),
        "outcomes changed",
        "Q knew",
        "by return",
        "Q knew",
    ]
    rows = []
    for title, seed, n in _each(found):
        seen = {s["kind"]: s for s in n["occlusion"]}
        c = n.get("counterfactual")
        futures = ["-"] * 4
        if c:
            futures = [
                f"{c['differing']} of {sum(k['n'] for k in c['kinds'])}",
                _span(c, "agree"),
                str(c["return_differing"]),
                _span(c, "return_agree", "return_lo", "return_hi"),
            ]
        moved = [_span(seen.get(k), "v_change", "v_change_lo", "v_change_hi") for k in COVERED]
        rows.append([title, str(seed), *moved, *futures])
    return "\n" + _markdown(head, rows)


def _each(found: dict[int, dict[str, dict[str, Any]]]) -> list[tuple[str, int, dict[str, Any]]]:
    return [
        (title, seed, numbers[method])
        for method, (title, _, _) in CRITICS.items()
        for seed, numbers in found.items()
        if method in numbers
    ]


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _span(e: dict[str, Any] | None, value: str, lo: str = "lo", hi: str = "hi") -> str:
    if e is None or e[value] is None:
        return "-"
    return f"{e[value]:.2f} ({e[lo]:.2f}-{e[hi]:.2f})"


if __name__ == "__main__":
    main()
