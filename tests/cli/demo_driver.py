"""Run a small demo without interruption, and again killed at several moments.  usage: demo_driver.py SCRATCH

SCRATCH/whole and SCRATCH/broken each get a run called `run`; in SCRATCH/whole every command that the demo printed is
given once more, as it was printed, which makes `run-again`.  Everything is imported once; every attempt is a forked
child that runs `bora demo --quick` with fewer episodes and updates, writes its messages to attempt-K.log, and kills
itself with SIGKILL where it is told to.  Before every attempt but the first, the broken run is moved to another folder
and named in another way.  Prints one line per attempt: the moment, and how the child ended.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.analysis import analyze, run_report
from bora_cli.cli import pipeline
from bora_cli.cli.app import main
from bora_cli.control.loop import roll_out
from bora_cli.data.dataset import Dataset
from bora_cli.evaluate import evaluate, film, workers
from bora_cli.train import offline, online, residual

SEED = 3
"""The second of its first three demonstrations succeeds."""
MOMENTS: dict[str, tuple[Any, str, int]] = {
    "between two demonstrations": (Dataset, "append", 3),
    "when a policy is to be saved": (offline, "save_trained", 2),
    "after a recorded episode": (evaluate, "trial_of", 1),
    "between training and release test": (online, "_release_test", 1),
    "when the control is to be saved": (offline, "save_trained", 1),
    "in the second evaluation": (evaluate, "unaided", 3),
    "when the analysis is to be drawn": (analyze, "draw", 1),
    "when the report is to be written": (run_report, "write_report", 1),
}


def shrink() -> None:
    """Make the run as short as it can be with every stage still doing something."""

    def make(task: str, seed: int, gap: str, quick: bool) -> pipeline.Job:
        return pipeline.Job(task, seed, gap, quick, 3, 16, 2, 1, 2)

    pipeline.Job.make = make  # type: ignore[method-assign]
    online.RELEASE_SCENES = 1
    residual.OnlineConfig = partial(OnlineConfig, updates=20, min_takeovers=1)  # type: ignore[misc,assignment]
    workers.default_workers = lambda: 1
    evaluate.roll_out = film.roll_out = partial(roll_out, max_ticks=24)
    run_report.film = partial(run_report.film, size=48)


def skip_pictures() -> None:
    """Leave films and the figures of the critic out; numbers do not depend on them."""
    run_report._films = lambda *_: {}
    run_report.draw = analyze.draw = lambda *_: {}


def die_at(owner: Any, name: str, call: int) -> None:
    """Let this process kill itself when a function is called for the n-th time."""
    real: Callable[..., Any] = getattr(owner, name)
    calls: list[None] = []

    def die(*args: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)

    setattr(owner, name, die)


def attempt(folder: Path, number: int, moment: str | None, pictures: bool, out: str = "run") -> int:
    """Run the demo in a child and return its wait status."""
    task = ("--task", "press_button", "--seed", str(SEED))
    demo = ["demo", "--quick", "--workers", "1", "--out", out, *task]
    return in_child(folder, f"attempt-{number}.log", [demo], moment, pictures)


def repeat(folder: Path) -> int:
    """Give the commands that the demo printed in attempt 0 to a child and return its wait status."""
    printed = re.findall(r"^  \$ bora (.*)$", (folder / "attempt-0.log").read_text(), re.MULTILINE)
    return in_child(folder, "again.log", [shlex.split(line) for line in printed], None, pictures=False)


def in_child(folder: Path, log: str, commands: list[list[str]], moment: str | None, pictures: bool) -> int:
    """Run commands in a child until one fails and return its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    os.chdir(folder)
    to = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(to, 1)
    os.dup2(to, 2)
    shrink()
    if not pictures:
        skip_pictures()
    if moment is not None:
        die_at(*MOMENTS[moment])
    code = 0 if commands else 99
    for command in commands:
        try:
            main(command)
        except SystemExit as leaving:
            code = code or int(leaving.code or 0)
    sys.stdout.flush()
    os._exit(code)


def run(scratch: Path) -> None:
    whole, broken = scratch / "whole", scratch / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    print("uninterrupted", attempt(whole, 0, None, pictures=False), flush=True)
    print("printed commands", repeat(whole), flush=True)
    places = ("run", "./moved", str(broken / "run"), "../broken/moved")
    for number, moment in enumerate((*MOMENTS, None)):
        out = places[number % 4]
        if number:
            (broken / Path(places[(number - 1) % 4]).name).rename(broken / Path(out).name)
        how = attempt(broken, number, moment, pictures=moment is None, out=out)
        print(moment or "to the end", how, flush=True)
    (broken / Path(out).name).rename(broken / "run")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
