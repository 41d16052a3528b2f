"""What a critic knows: the token+action critic beside one of pixels and one that is blind to actions.

    python benchmarks/critics.py --tasks pick_toy --seeds 0 1 2 --out runs/offline

Takes demonstrations and CP Base of `benchmarks/offline.py` (made if they are not there), trains each critic on the
demonstrations, and asks all of them about the same unaided episodes of CP Base, which none of them was trained on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from bora_cli.analysis.analyze import analyze
from bora_cli.evaluate.collect import collect
from bora_cli.evaluate.evaluate import evaluate
from bora_cli.evaluate.workers import Workers
from bora_cli.train.offline import train

CRITICS = {"bora": "tokens and action", "decoupled": "pixels and action", "decoupled_value": "pixels alone"}
KINDS = ("other_state", "noise_0.3", "reversed", "flipped_xyz", "open_hand")


def main() -> None:
    """Make what is missing and print a table per task as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=["pick_toy"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=list(CRITICS), default=list(CRITICS))
    parser.add_argument("--episodes", type=int, default=100, help="unaided episodes that the critics judge")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/offline"))
    arguments = parser.parse_args()
    with Workers(arguments.workers) as pool:
        for task in arguments.tasks:
            found = {
                s: judged(arguments.out / f"{task}-{s}", task, s, arguments, pool) for s in arguments.seeds
            }
            print(table(task, found), flush=True)


def judged(
    root: Path, task: str, seed: int, arguments: argparse.Namespace, pool: Workers
) -> dict[str, dict[str, Any]]:
    """Return what `bora analyze` says about each critic of one seed."""
    demonstrations, base, rollouts = root / "demos", root / "policies" / "cp", root / "rollouts"
    collect(task=task, episodes=100, out=demonstrations, quality="mixed", seed=seed, workers=pool)
    if not (base / "config.json").is_file():
        train("cp", data=[demonstrations], out=base, seed=seed)
    evaluate(base, task=task, episodes=arguments.episodes, seed=1000 * seed, record=rollouts, workers=pool)
    numbers = {}
    for method in arguments.methods:
        policy, folder = root / "policies" / method, root / "analysis" / method
        if not (policy / "config.json").is_file():
            train(method, data=[demonstrations], out=policy, init=base, seed=seed)
        if not (folder / "critic.json").is_file():
            analyze(policy, data=[rollouts], out=folder, seed=seed)
        numbers[method] = json.loads((folder / "critic.json").read_text())
        print(f"{task} {seed} {method}: done", flush=True)
    return numbers


def table(task: str, found: dict[int, dict[str, dict[str, Any]]]) -> str:
    """Return a row per seed and critic: AUROC of V early and late, swap win rates, sensitivity to the action."""
    kinds = [
        k for k in KINDS if any(k == s["kind"] for n in found.values() for m in n.values() for s in m["swap"])
    ]
    head = ["critic", "seed", "successes", "AUROC of V, middle", "end", *(f"swap: {k}" for k in kinds)]
    lines = ["", f"### {task}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for method, title in CRITICS.items():
        for seed, numbers in found.items():
            if method not in numbers:
                continue
            n = numbers[method]
            swaps = {s["kind"]: s for s in n["swap"]}
            auroc = [_span(point) for point in (n["auroc"][5], n["auroc"][-1])] if n["auroc"] else ["-", "-"]
            rates = [_span({**swaps[k], "value": swaps[k]["win_rate"]}) if k in swaps else "-" for k in kinds]
            episodes = f"{n['successes']}/{n['successes'] + n['failures']}"
            lines.append("| " + " | ".join([title, str(seed), episodes, *auroc, *rates]) + " |")
    return "\n".join(lines)


def _span(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.2f} ({estimate['lo']:.2f}-{estimate['hi']:.2f})"


if __name__ == "__main__":
    main()
