"""What the online stage is worth: BORA-Full beside its base and its controls, under execution gaps and without one.

    python benchmarks/online.py --tasks pick_toy open_box --seeds 0 1 2 --offline runs/offline --out runs/online \\
        --gaps none bias@0.5 friction@0.5 deployment friction latency

Every (task, seed, gap) is one base policy (BORA-Offline, from OFFLINE as `benchmarks/offline.py` leaves it, or made
here), two rounds of ten episodes per method, each method with episodes of its own, and unaided evaluation on scenes
that nothing else uses.  Beside the robot stands the simulated person: he takes over when the hand comes no closer, or
the object stops moving or slips, 0.2 to 0.4 s later, at most twice per episode, and lets go when it helped or after a
few seconds (`bora_cli.sim.watcher.RULES`).  A policy that is its base, because nothing was released, has the base's
evaluation.  What is there is not made again, so the command can be interrupted, and asked for more later; the tables,
also in OUT/tables.md, know every (task, seed, gap) of which all rows are there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from cells import SCENES, SETTINGS, demonstrations, evaluated, read, slug
from offline import ROWS as OFFLINE
from offline import policy_of
from online_tables import BASE, NO_GAP, Facts, Run, report

from bora_cli.analysis.online import read_metrics
from bora_cli.analysis.tables import write_results
from bora_cli.checkpoint import package_versions
from bora_cli.control.arbiter import Phase
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import claimed, write_bytes, write_json
from bora_cli.errors import BoraError, ConfigError
from bora_cli.evaluate.evaluate import checkpoint_hash
from bora_cli.evaluate.guard import sim_profile
from bora_cli.evaluate.metrics import Result
from bora_cli.evaluate.workers import Workers
from bora_cli.seeds import scene_seeds
from bora_cli.sim.gaps import parse_gap
from bora_cli.sim.tasks import TASKS
from bora_cli.train.online import run_rounds
from bora_cli.types import F32, Episode


@dataclass(frozen=True)
class Row:
    """One way to learn from the rounds: what `bora online` is told."""

    method: str
    options: dict[str, Any] = field(default_factory=dict)


ROWS: dict[str, Row] = {
    "bc_interventions": Row("bc_interventions"),
    "hg_dagger": Row("hg_dagger"),
    "resfit": Row("resfit"),
    "bora_full": Row("bora"),
    "bc_interventions, constant": Row("bc_interventions", {"residual": "constant"}),
    "bora_full, constant": Row("bora", {"residual": "constant"}),
}
DEFAULT = ("bc_interventions", "hg_dagger", "resfit", "bora_full")
STAGES = {"round": "collect", "release": "test", "evaluate": "evaluate"}
"""First word of what progress is told of -> stage; every other word is of learning."""


@dataclass(frozen=True)
class Place:
    """One task with one seed: its base policy, the demonstrations behind that, and where its runs go."""

    task: str
    seed: int
    base: Path
    data: Path
    out: Path


class Clock:
    """Knows how many seconds every stage has taken, also before an interruption; told as any progress is.

    seconds: stage -> [wall, processor]; the second counts this process only, not those of --workers.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.seconds: dict[str, list[float]] = json.loads(file.read_text()) if file.is_file() else {}
        self._last = _now()

    def __enter__(self) -> Clock:
        self._last = _now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._write()

    def _write(self) -> None:
        write_json(self._file, {k: [round(s, 1) for s in v] for k, v in self.seconds.items()})

    def __call__(self, label: str, done: int, total: int) -> None:
        """Count the time since the last call to the stage that has just gone on."""
        now, stage = _now(), STAGES.get(label.partition(" ")[0], "learn")
        so_far = self.seconds.get(stage, [0.0, 0.0])
        self.seconds[stage] = [s + n - before for s, n, before in zip(so_far, now, self._last, strict=True)]
        self._last = now
        if done == total:  # a process that is killed says nothing later
            self._write()


def _now() -> list[float]:
    return [time.monotonic(), time.process_time()]


def main() -> None:
    """Make what is missing, print the tables as Markdown and write every episode to OUT/results-TASK.parquet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments = parse(parser)
    try:
        check(arguments)
        failed = [] if arguments.only_tables else make(arguments)
    except BoraError as error:
        parser.exit(error.exit_code, f"{error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "interrupted; the same command goes on\n")
    print(tables(arguments))
    if failed:
        parser.exit(1, "\n".join(["failed; the same command tries again:", *failed, ""]))


def parse(parser: argparse.ArgumentParser, words: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what was asked for; ends the program for a word that is none."""
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["pick_toy"], metavar="TASK")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--gaps", type=known_gap, nargs="+", default=[known_gap("deployment")], help="as `bora online --gap`"
    )
    parser.add_argument("--methods", nargs="+", choices=list(ROWS), default=list(DEFAULT))
    parser.add_argument(
        "--base", choices=[n for n, row in OFFLINE.items() if row.method == "bora"], default="bora"
    )
    parser.add_argument(
        "--offline", type=Path, help="OUT of benchmarks/offline.py; without it all is made in --out"
    )
    parser.add_argument("--demonstrations", type=int, default=100, help="where they are made here")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--collect", type=int, default=10, help="episodes per round")
    parser.add_argument(
        "--episodes", type=int, default=100, help="evaluation scenes per row, setting and seed"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/online"))
    parser.add_argument("--only-tables", action="store_true", help="make nothing, show what is there")
    arguments = parser.parse_args(words)
    arguments.methods = [name for name in ROWS if name in arguments.methods]
    return arguments


def known_gap(text: str) -> str:
    """Return the identity of the gap that a word names."""
    try:
        return parse_gap(text).identity
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def check(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for numbers or directories that cannot be, before anything runs."""
    for name, most in (("rounds", 10), ("collect", SCENES), ("episodes", SCENES)):
        if not 1 <= getattr(arguments, name) <= most:
            raise ConfigError(f"--{name} {getattr(arguments, name)}; expected 1 to {most}.")
    for seed in arguments.seeds:
        scene_seeds("online", seed, arguments.rounds * arguments.collect)
        scene_seeds("release", seed, 1)
        for task in arguments.tasks if arguments.offline else ():
            policy = arguments.offline / f"{task}-{seed}" / "policies" / slug(arguments.base)
            if not (policy / "config.json").is_file():
                raise ConfigError(
                    f"There is no policy at {policy}.",
                    f'Run `benchmarks/offline.py --tasks {task} --seeds {seed} --methods "{arguments.base}"'
                    f" --out {arguments.offline}`, or leave --offline out.",
                )
    file = arguments.out / "online.json"
    asked = {name: getattr(arguments, name) for name in ("base", "rounds", "collect")}
    before = json.loads(file.read_text()) if file.is_file() else asked
    if before != asked:
        raise ConfigError(
            f"{arguments.out} holds runs with {before}; asked for are {asked}.", "Choose another --out."
        )
    if not arguments.only_tables:
        write_json(file, asked)


def make(arguments: argparse.Namespace) -> list[str]:
    """Make all runs that are missing, seed by seed so that a part of it is balanced; returns what failed."""
    failed = []
    with Workers(arguments.workers) as pool:
        for seed in arguments.seeds:
            for task in arguments.tasks:
                out = arguments.out / f"{task}-{seed}"
                with claimed(out):
                    place = prepared(task, seed, out, arguments, pool)
                    for gap in dict.fromkeys([NO_GAP, *arguments.gaps]):
                        names = arguments.methods if gap in arguments.gaps else []
                        failed += cell(place, gap, names, arguments, pool)
                        write_tables(arguments)
    return failed


def prepared(task: str, seed: int, out: Path, arguments: argparse.Namespace, pool: Workers) -> Place:
    """Return a task and seed with its base policy, which is trained if nobody has."""
    if arguments.offline:
        there = arguments.offline / f"{task}-{seed}"
        return Place(task, seed, there / "policies" / slug(arguments.base), there / "demos", out)
    data = demonstrations(out, task, seed, episodes=arguments.demonstrations, pool=pool)
    policy_of("cp", out, data, seed)
    return Place(task, seed, policy_of(arguments.base, out, data, seed), data, out)


def cell(
    place: Place, gap: str, names: Sequence[str], arguments: argparse.Namespace, pool: Workers
) -> list[str]:
    """Make what is missing of one (task, seed, gap) and return what failed of it: the other rows go on."""
    failed = []
    for name in (BASE, *names):
        try:
            row(place, gap, name, arguments, pool)
        except BoraError as error:
            failed.append(f"{place.task} {place.seed} {gap} {name}: {error}")
            print(failed[-1], flush=True)
            if name == BASE:
                break
    return failed


def row(place: Place, gap: str, name: str, arguments: argparse.Namespace, pool: Workers) -> None:
    """Run the rounds of one method and evaluate what they released, or evaluate the base."""
    out, policy = place.out / gap, place.base
    with Clock(out / f"{slug(name)}-seconds.json") as clock:
        if name != BASE:
            facts = rounds(place, out / slug(name), gap, ROWS[name], arguments, pool, clock)
            if not facts.released:
                return
            policy = out / slug(name) / "policy"
        for setting in SETTINGS:
            evaluated(
                policy,
                evaluation(out, name, setting, arguments.episodes),
                f"{gap}, {name}",
                task=place.task,
                setting=setting,
                seed=place.seed,
                episodes=arguments.episodes,
                gap=gap,
                pool=pool,
                progress=clock,
            )


def rounds(
    place: Place, out: Path, gap: str, how: Row, arguments: argparse.Namespace, pool: Workers, clock: Clock
) -> Facts:
    """Return what happened in the rounds of one run, which are run or read."""
    file = out.with_name(f"{out.name}.json")
    base = checkpoint_hash(place.base)
    if not file.is_file():
        run_rounds(
            place.base,
            task=place.task,
            gap=gap,
            rounds=arguments.rounds,
            episodes=arguments.collect,
            seed=place.seed,
            method=how.method,
            data=[place.data],
            out=out,
            workers=pool,
            progress=clock,
            **how.options,
        )
        write_json(file, asdict(facts_of(out, base)))
    found = Facts(**json.loads(file.read_text()))
    if found.base != base:
        raise ConfigError(
            f"{out} began with the policy {found.base}; {place.base} is {base}.", "Choose another --out."
        )
    return found


def facts_of(out: Path, base: str) -> Facts:
    """Return the numbers of a finished online run.  base: hash of the policy it began with."""
    told = [json.loads(f.read_text()) for f in sorted(out.glob("round-*/round.json"))]
    last = read_metrics(out).select("round", "phase", "update").group_by("round", "phase").max()
    step = sim_profile("sim").takeover_step
    jumps = [jump(e, step) for e in Dataset.open(out / "episodes").episodes(images=False)]
    return Facts(
        base=base,
        rounds=len(told),
        released=sum(r["released"] for r in told),
        updates=int(last["update"].sum()),
        jump_mm=max(mm for mm, _ in jumps),
        jump_of_limit=max(share for _, share in jumps),
        **{name: sum(r[name] for r in told) for name in ("episodes", "ticks", "human_ticks", "takeovers")},
    )


def jump(episode: Episode, limit: F32) -> tuple[float, float]:
    """Return the largest change of the executed command from one tick to the next while a person takes over.

    As the change of the translation, mm per tick, and of any action as a share of `limit`, [A].  The blend counts, and
    the first tick after it; a takeover at the first tick of an episode has nothing before it.
    """
    taking = episode.phase == Phase.TAKING
    after = np.concatenate([[False], taking[:-1]]) & (episode.phase == Phase.HUMAN)
    at = np.flatnonzero((taking | after)[1:]) + 1
    if not at.size:
        return 0.0, 0.0
    change = np.abs(episode.action[at] - episode.action[at - 1])
    return 1e3 * float(np.linalg.norm(change[:, :3], axis=1).max()), float((change / limit).max())


def evaluation(out: Path, name: str, setting: str, episodes: int) -> Path:
    """Return where the unaided episodes of a row are kept.  out: directory of the gap."""
    return out / "evaluations" / f"{slug(name)}-{setting}-{episodes}.json"


def found_run(out: Path, task: str, seed: int, gap: str, name: str, episodes: int) -> Run | None:
    """Return a row of one (task, seed, gap) as it is on disk, None if a part is missing.  out: directory of the gap."""
    facts, source = None, BASE
    if name != BASE:
        file, seconds = out / f"{slug(name)}.json", out / f"{slug(name)}-seconds.json"
        if not file.is_file():
            return None
        facts = Facts(**json.loads(file.read_text()))
        facts = replace(facts, seconds=json.loads(seconds.read_text()) if seconds.is_file() else {})
        source = name if facts.released else BASE
    files = [evaluation(out, source, setting, episodes) for setting in SETTINGS]
    if not all(file.is_file() for file in files):
        return None
    results = [result for file in files for result in read(file, name, seed)]
    return Run(task, seed, gap, name, results, facts)


def found_runs(arguments: argparse.Namespace) -> list[Run]:
    """Return all rows that are there."""
    runs = [
        found_run(arguments.out / f"{task}-{seed}" / gap, task, seed, gap, name, arguments.episodes)
        for task in arguments.tasks
        for seed in arguments.seeds
        for gap in dict.fromkeys([NO_GAP, *arguments.gaps])
        for name in (BASE, *arguments.methods)
    ]
    return [run for run in runs if run is not None]


def tables(arguments: argparse.Namespace) -> str:
    """Return the tables of what is there."""
    return report(found_runs(arguments), arguments.methods, arguments.gaps)


def write_tables(arguments: argparse.Namespace) -> None:
    """Write OUT/tables.md and, per task, all evaluated episodes."""
    runs = found_runs(arguments)
    for task in {run.task for run in runs}:
        episodes: list[Result] = [r for run in runs if run.task == task for r in run.results]
        write_results(arguments.out / f"results-{task}.parquet", episodes)
    text = report(runs, arguments.methods, arguments.gaps)
    versions = "Versions: " + json.dumps(package_versions())
    write_bytes(arguments.out / "tables.md", f"{text}\n\n{versions}\n".encode())


if __name__ == "__main__":
    main()
