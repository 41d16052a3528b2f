"""A door that nobody here demonstrated: policies from 25 human recordings, counted in AdroitHandDoor-v1.

    pip install gymnasium-robotics==1.4.2
    python benchmarks/door.py door_human_demos.npz --seeds 0 1 2 --out runs/door

docs/environments.md tells where the recordings come from.  Their actions are executed again in the environment; what
happens then are the demonstrations of all methods and seeds, and one succeeded if the door passed 1.35 rad then.  They
are a quarter as many windows as in the other tables, hence half as many updates.  A dataset, policy or episode that
is there is not made again, so the command can be interrupted and continued.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cells import slug, trained

from bora_cli.analysis.tables import comparisons, write_results
from bora_cli.checkpoint import package_versions
from bora_cli.data.dataset import Dataset
from bora_cli.data.import_npz import import_npz
from bora_cli.evaluate.environments import collect_env, evaluate_env
from bora_cli.evaluate.metrics import Result, wilson
from bora_cli.profiles import EnvProfile, load_environment

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "cp": ("cp", {}),
    "filtered_bc": ("filtered_bc", {}),
    "bora": ("bora", {}),
    "bora, gated warm-up": ("bora", {"warm_up": "gated"}),
}
"""Row -> what `bora train` is told.  `bora` starts from CP Base, the gated one from its own clone."""
OPEN = 1.0
"""Hinge angle, rad, from which on the environment's own observation calls the door open."""


@dataclass(frozen=True)
class Opened:
    """One evaluated episode.  angle: how far the door was opened at most, rad."""

    result: Result
    angle: float


def main() -> None:
    """Make what is missing, print the table as Markdown and write every episode to OUT/results.parquet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("--profile", default="adroit_door_state", help="adroit_door renders what cameras see")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--updates", type=int, default=800, help="of cloning; the other phases scale with it")
    parser.add_argument("--episodes", type=int, default=100, help="evaluated per method and seed")
    parser.add_argument(
        "--first", type=int, default=0, help="first reset seed; seed S begins 1000 S further on"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/door"))
    arguments = parser.parse_args()
    profile = load_environment(arguments.profile)
    names = ["cp", *(name for name in METHODS if name in arguments.methods and name != "cp")]
    demonstrations = demonstrated(arguments.recordings, profile, arguments.out)
    opened = [
        episode
        for seed in arguments.seeds
        for episode in run(seed, names, profile, demonstrations, arguments)
    ]
    write_results(arguments.out / "results.parquet", [episode.result for episode in opened])
    print(table(opened, names, Dataset.open(demonstrations)), flush=True)


def demonstrated(recordings: Path, profile: EnvProfile, out: Path) -> Path:
    """Import the recordings, execute their actions in the environment, and return the dataset of what happened."""
    if not (out / "recorded").is_dir():
        import_npz(recordings, out / "recorded", profile)
    collect_env(profile, out=out / "demos", source=out / "recorded")
    return out / "demos"


def run(
    seed: int, names: Sequence[str], profile: EnvProfile, demonstrations: Path, arguments: argparse.Namespace
) -> list[Opened]:
    """Return the evaluated episodes of all methods with one seed."""
    root = arguments.out / f"seed-{seed}"
    hinge = profile.state.names.index("door_hinge")
    opened = []
    for name in names:
        method, options = METHODS[name]
        init = root / "policies" / "cp" if name == "bora" else None
        policy = trained(
            root,
            name,
            method,
            data=demonstrations,
            seed=seed,
            init=init,
            updates=arguments.updates,
            **options,
        )
        first = arguments.first + 1000 * seed
        record = root / f"episodes-{slug(name)}-{first}-{arguments.episodes}"
        done = evaluate_env(policy, profile, episodes=arguments.episodes, seed=first, record=record)
        episodes = Dataset.open(record).episodes(images=False)
        for trial, episode in zip(done.trials, episodes, strict=True):
            result = Result(
                name, done.job.setting, done.job.gap, seed, trial.scene_seed, trial.success, trial.ticks
            )
            opened.append(Opened(result, float(episode.state[:, hinge].max())))
        print(f"seed {seed} {name}: {done.successes}/{len(done.trials)}", flush=True)
    return opened


def table(opened: Sequence[Opened], names: Sequence[str], demonstrations: Dataset) -> str:
    """Return success per method, how far the door was opened, and paired differences, as Markdown."""
    results = [episode.result for episode in opened]
    seeds = sorted({result.seed for result in results})
    lines = ["", "| | success | of each seed | door past 1 rad | median angle |", "|---" * 5 + "|"]
    shown = [
        (e.success, float(e.state[:, demonstrations.state_names.index("door_hinge")].max()))
        for e in demonstrations.episodes(images=False)
    ]
    lines.append(_row("demonstrations, executed again", shown, ""))
    for name in names:
        mine = [episode for episode in opened if episode.result.method == name]
        each = [sum(e.result.success for e in mine if e.result.seed == seed) for seed in seeds]
        lines.append(_row(name, [(e.result.success, e.angle) for e in mine], ", ".join(map(str, each))))
    pairs = [(name, other) for i, name in enumerate(names) for other in names[:i]]
    found = comparisons(results, rng=np.random.default_rng(0), pairs=pairs)
    lines += ["", "Paired differences in points (95 % bootstrap over seeds and resets):", ""]
    lines += [
        f"- {c.method} over {c.against}: {100 * c.difference:+.0f} ({100 * c.lo:+.0f} to {100 * c.hi:+.0f})"
        for c in found
    ]
    versions = package_versions() | {
        name: importlib.metadata.version(name) for name in ("gymnasium", "gymnasium-robotics")
    }
    return "\n".join([*lines, "", f"Versions: {json.dumps(versions)}."])


def _row(name: str, episodes: Sequence[tuple[bool, float]], each: str) -> str:
    """Return one line of the table; episodes: success and largest angle, rad."""
    n, angles = len(episodes), np.array([angle for _, angle in episodes])
    k, past = sum(success for success, _ in episodes), sum(s or angle > OPEN for s, angle in episodes)
    spans = [
        f"{c}/{n} = {c / n:.2f} ({low:.2f}-{high:.2f})" for c in (k, past) for low, high in [wilson(c, n)]
    ]
    return f"| {name} | {spans[0]} | {each} | {spans[1]} | {np.median(angles):.2f} rad |"


if __name__ == "__main__":
    main()
