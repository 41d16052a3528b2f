"""The stages of `bora demo`: what each one runs, what it leaves behind, and the command that does just that.

A stage that has its mark under RUN/stages is done.  A stage without one is run again from what it left: collecting,
recorded evaluation and online rounds continue where they were, the rest starts afresh.  All random numbers come from
the seed, so a run that was killed ends with the numbers of one that was not.

The commands read what the run holds and write to RUN-again, a folder beside it: a command repeats its stage without
touching the run, and can be given as it is printed once the stages before it are done.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bora_cli.errors import ConfigError

Progress = Callable[..., None]

OFFLINE = ("cp_base", "filtered_bc", "bora_offline")
ONLINE = ("bc_interventions", "bora_full")
SETTINGS = ("standard", "unseen")


@dataclass(frozen=True)
class Job:
    """What a demo run is; `updates` None means the preset's number."""

    task: str
    seed: int
    gap: str
    quick: bool
    demonstrations: int
    updates: int | None
    evaluation_episodes: int
    rounds: int
    online_episodes: int

    @classmethod
    def make(cls, task: str, seed: int, gap: str, quick: bool) -> Job:
        """Return the sizes of the full demo, or of the smoke test."""
        if quick:
            return cls(task, seed, gap, True, 16, 120, 4, 1, 3)
        return cls(task, seed, gap, False, 100, None, 100, 2, 10)

    @property
    def first_scene(self) -> int:
        """First evaluation scene; each seed has a thousand of its own."""
        return 1000 * self.seed


@dataclass(frozen=True)
class Stage:
    """One step: its commands, and the function that does the same."""

    key: str
    name: str
    commands: tuple[str, ...]
    run: Callable[[], None]


class Pipeline:
    """A demo run in a directory.  workers: `bora_cli.evaluate.workers.Workers`."""

    def __init__(self, root: Path, job: Job, workers: Any, progress: Progress) -> None:
        self.root = root
        self.job = job
        self.workers = workers
        self.progress = progress

    # -- running -------------------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Create the run directory, or check that it holds this run; raises ConfigError otherwise."""
        from bora_cli.data.files import in_use, write_json
        from bora_cli.seeds import scene_seeds

        for purpose in ("collect", "online", "release"):
            scene_seeds(purpose, self.job.seed, 1)  # refuses a seed that would run out of scenes later
        file = self.root / "demo.json"
        if file.is_file():
            before = json.loads(file.read_text())
            if before != asdict(self.job):
                raise ConfigError(
                    f"{self.root} holds another demo ({_short(before)}); this one is {_short(asdict(self.job))}.",
                    "Choose another --out.",
                )
            return
        if in_use(self.root):
            raise ConfigError(
                f"{self.root} is not empty and holds no demo; expected a new or empty directory.",
                "Choose another --out.",
            )
        write_json(file, asdict(self.job))

    def done(self, stage: Stage) -> bool:
        """Whether a stage has finished."""
        return self._mark(stage).is_file()

    def execute(self, stage: Stage) -> float:
        """Run a stage, mark it as done and return its seconds."""
        from bora_cli.data.files import write_json

        started = time.monotonic()
        stage.run()
        seconds = time.monotonic() - started
        write_json(
            self._mark(stage),
            {"name": stage.name, "commands": stage.commands, "seconds": round(seconds, 1)},
        )
        return seconds

    def stages(self) -> Iterator[Stage]:
        """Yield all stages in order."""
        job, task = self.job, self.job.task
        train = "" if job.updates is None else f" --updates {job.updates}"
        yield Stage(
            "1-collect",
            "Collect demonstrations of mixed quality",
            (
                f"bora collect --task {task} --quality mixed --episodes {job.demonstrations} --seed {job.seed}"
                f" --out {self._again('demos')}",
            ),
            self._collect,
        )
        for number, (policy, method, name) in enumerate(
            (
                ("cp_base", "cp", "Imitate everything (CP Base)"),
                ("filtered_bc", "filtered_bc", "Imitate the successes (control)"),
                ("bora_offline", "bora", "Learn a critic, improve the policy (BORA-Offline)"),
            ),
            2,
        ):
            init = f" --init {self._at('policies/cp_base')}" if method == "bora" else ""
            yield Stage(
                f"{number}-{policy}",
                name,
                (
                    f"bora train {method} --data {self._at('demos')}{init} --seed {job.seed}{train}"
                    f" --out {self._again(f'policies/{policy}')}",
                ),
                lambda p=policy, m=method: self._train(p, m),  # type: ignore[misc]
            )
        yield self._evaluation("5-evaluate", "Evaluate under the execution gap", OFFLINE)
        yield Stage(
            "6-online",
            "Adapt online with takeovers (BORA-Full)",
            (
                f"bora online {self._at('policies/bora_offline')} --task {task} --gap {job.gap}"
                f" --rounds {job.rounds} --episodes {job.online_episodes} --seed {job.seed}"
                f" --data {self._at('demos')}"
                f" --out {self._again('online')}",
            ),
            self._online,
        )
        yield Stage(
            "7-control",
            "Clone the corrections only (control)",
            (
                f"bora train bc_interventions --init {self._at('policies/bora_offline')}"
                f" --data {self._at('online/episodes')} --seed {job.seed}"
                f" --out {self._again('policies/bc_interventions')}",
            ),
            self._control,
        )
        yield self._evaluation("8-evaluate", "Evaluate again, without help", ONLINE)
        yield Stage(
            "9-analyze",
            "Ask the critic",
            (
                f"bora analyze {self._at('policies/bora_offline')} --data {self._at('rollouts')}"
                f" --seed {job.seed} --out {self._again('analysis')}",
            ),
            self._analyze,
        )
        yield Stage(
            "10-report", "Film and report", (f"bora report {shlex.quote(str(self.root))}",), self._report
        )

    # -- stages --------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        from bora_cli.evaluate.collect import collect

        job = self.job
        collect(
            task=job.task,
            episodes=job.demonstrations,
            out=self.root / "demos",
            quality="mixed",
            seed=job.seed,
            workers=self.workers,
            progress=self.progress,
        )

    def _train(self, policy: str, method: str) -> None:
        from bora_cli.train.offline import train

        init = self.root / "policies" / "cp_base" if method == "bora" else None
        train(
            method,
            data=[self.root / "demos"],
            out=self.root / "policies" / policy,
            init=init,
            seed=self.job.seed,
            updates=self.job.updates,
            progress=self.progress,
        )

    def _evaluation(self, key: str, name: str, policies: tuple[str, ...]) -> Stage:
        job = self.job
        commands = tuple(
            f"bora eval {self._at(_folder(policy))} --task {job.task} --setting {setting} --gap {job.gap}"
            f" --episodes {job.evaluation_episodes} --seed {job.first_scene}"
            + (f" --record {self._again('rollouts')}" if _recorded(policy, setting) else "")
            for policy in policies
            for setting in SETTINGS
        )
        return Stage(key, name, commands, lambda: self._evaluate(policies))

    def _evaluate(self, policies: tuple[str, ...]) -> None:
        from bora_cli.data.files import write_json
        from bora_cli.evaluate.evaluate import evaluate

        job = self.job
        for policy in policies:
            for setting in SETTINGS:
                file = self.root / "evaluations" / f"{policy}-{setting}.json"
                if file.is_file():
                    continue
                result = evaluate(
                    self.root / _folder(policy),
                    task=job.task,
                    setting=setting,
                    gap=job.gap,
                    episodes=job.evaluation_episodes,
                    seed=job.first_scene,
                    record=self.root / "rollouts" if _recorded(policy, setting) else None,
                    workers=self.workers,
                    progress=self.progress,
                    label=f"{policy}, {setting}",
                )
                write_json(file, result.to_json())

    def _online(self) -> None:
        from bora_cli.data.files import write_json
        from bora_cli.train.online import run_rounds

        job = self.job
        result = run_rounds(
            self.root / "policies" / "bora_offline",
            task=job.task,
            gap=job.gap,
            rounds=job.rounds,
            episodes=job.online_episodes,
            seed=job.seed,
            data=[self.root / "demos"],
            out=self.root / "online",
            workers=self.workers,
            progress=self.progress,
        )
        write_json(self.root / "online" / "rounds.json", result)

    def _control(self) -> None:
        from bora_cli.train.offline import train

        train(
            "bc_interventions",
            data=[self.root / "online" / "episodes"],
            out=self.root / "policies" / "bc_interventions",
            init=self.root / "policies" / "bora_offline",
            seed=self.job.seed,
            progress=self.progress,
        )

    def _analyze(self) -> None:
        from bora_cli.analysis.analyze import analyze

        analyze(
            self.root / "policies" / "bora_offline",
            data=[self.root / "rollouts"],
            out=self.root / "analysis",
            seed=self.job.seed,
            progress=self.progress,
        )

    def _report(self) -> None:
        from bora_cli.analysis.run_report import report

        report(self.root, progress=self.progress)

    # -- names ---------------------------------------------------------------------------------------------------

    def _at(self, part: str) -> str:
        return shlex.quote(str(self.root / part))

    def _again(self, part: str) -> str:
        root = self.root if self.root.name not in ("", "..") else self.root.resolve()
        return shlex.quote(str(root.with_name(f"{root.name}-again") / part))

    def _mark(self, stage: Stage) -> Path:
        return self.root / "stages" / f"{stage.key}.json"


def _folder(policy: str) -> str:
    return "online/policy" if policy == "bora_full" else f"policies/{policy}"


def _recorded(policy: str, setting: str) -> bool:
    """Whether an evaluation is recorded: the critic is asked about the base policy's own episodes."""
    return (policy, setting) == ("cp_base", "standard")


def _short(job: dict[str, Any]) -> str:
    return ", ".join(f"{k} {job.get(k)}" for k in ("task", "seed", "gap", "quick"))
