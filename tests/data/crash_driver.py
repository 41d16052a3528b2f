"""Kill an append between every two of its file operations.  usage: crash_driver.py PREPARED SCRATCH

Forks a child per file operation, which copies the prepared dataset, appends an episode to the copy and kills
itself with SIGKILL at that operation.  Prints the label of each operation, one per line.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

from episode_factory import make_decision, make_episode

from bora_cli.data.dataset import Dataset


def die_at(root: Path, operation: int, report: int) -> None:
    """Append in this process and die at the given operation, whose label goes to the descriptor `report`."""
    count = 0

    def trace(label: str) -> None:
        nonlocal count
        if count == operation:
            os.write(report, label.encode())
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    episode = make_episode(5, prompt="a new instruction", decisions=[make_decision(0, 4)], seed=99)
    Dataset.open(root).append(episode, trace)


def main(prepared: Path, scratch: Path) -> None:
    for operation in range(1000):
        root = scratch / f"{operation:03d}"
        shutil.copytree(prepared, root)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            die_at(root, operation, writer)
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        label = os.read(reader, 1000).decode()
        os.close(reader)
        if not os.WIFSIGNALED(status):
            print("finished", os.waitstatus_to_exitcode(status), flush=True)
            return
        print(label, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
