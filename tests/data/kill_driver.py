"""Record into a dataset and be killed, again and again.  usage: kill_driver.py ROOT KILLS SEED CODEC HOW

Each time a child opens the dataset, goes on recording where it stands, and reports every episode that it was told
is committed (and, negative, the number of its recording process); after a random time it is killed with SIGKILL.
Prints one line per kill: how many episodes were acknowledged so far, and how many the dataset has when it is opened
next.  HOW is "append" (the child appends itself), "loop" (a `Recorder` appends, the loop's process is killed) or
"writer" (its recording process is killed).
"""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet  # noqa: F401  (imported once, before all forks)
from episode_factory import CAMERAS, SIZE, SPEC, STATES, make_decision, make_episode

from bora_cli.data.dataset import Dataset
from bora_cli.data.recorder import Recorder
from bora_cli.errors import DataError
from bora_cli.types import Episode

LONGEST_S = 0.12
MOST_WAITING = 10
"""Episodes that a loop which will be killed hands over ahead of those it knows to be committed."""


def episode_of(index: int) -> Episode:
    """Return the episode that belongs at a place, so that anybody can tell whether it is whole."""
    decisions = [make_decision(0, 2)] if index % 3 == 0 else []
    return make_episode(3 + index % 5, seed=index, prompt=f"task {index % 4}", decisions=decisions)


def append(root: Path, report: int) -> None:
    dataset = Dataset.open(root)
    while True:
        os.write(report, b"%d\n" % (dataset.append(episode_of(len(dataset))) + 1))


def record(root: Path, report: int, lives_s: float, kill_writer: bool) -> None:
    first = len(Dataset.open(root))
    with Recorder(root) as recorder:
        os.write(report, b"-%d\n" % (recorder._process.pid or 0))
        end = float("inf")
        index, told = first, 0
        try:
            while True:
                if kill_writer or index - first - told < MOST_WAITING:
                    recorder.submit(episode_of(index))
                    index += 1
                if len(recorder.committed) > told:
                    end = end if told else time.monotonic() + lives_s  # imports come before the first one
                    told = len(recorder.committed)
                    os.write(report, b"%d\n" % (first + told))
                if time.monotonic() > end:
                    victim = recorder._process.pid if kill_writer else os.getpid()
                    os.kill(victim or os.getpid(), signal.SIGKILL)
                time.sleep(0.01)
        except DataError:
            os.write(report, b"%d\n" % (first + len(recorder.committed)))
            os._exit(0)


def main(root: Path, kills: int, seed: int, codec: str, how: str) -> None:
    logging.disable()  # and nothing of pyarrow is used in this process: its threads would not survive a fork
    draw = random.Random(seed)
    Dataset.create(root, SPEC, STATES, CAMERAS, image_size=SIZE, fps=10, robot_type="test", video=codec)
    acknowledged = 0
    for _ in range(kills):
        lives_s = draw.uniform(0, LONGEST_S)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            if how == "append":
                append(root, writer)
            record(root, writer, lives_s, how == "writer")
        os.close(writer)
        with os.fdopen(reader) as told:
            if how == "append":
                if draw.random() < 0.8:  # else it may be killed before its first one
                    acknowledged = max(acknowledged, int(told.readline()))
                time.sleep(lives_s)
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            numbers = [int(line) for line in told.read().split()]
        acknowledged = max(acknowledged, *numbers, 0)
        for number in numbers:
            if number < 0:
                wait_for_the_end_of(-number)
        print(acknowledged, flush=True, end=" ")
        child = os.fork()
        if child == 0:
            print(len(Dataset.open(root)), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


def wait_for_the_end_of(process: int) -> None:
    """Wait for a recording process whose loop was killed; it commits first what had reached it."""
    with suppress(ProcessLookupError, FileNotFoundError):
        while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.01)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5])
