"""How long an update takes and how much of it waits for data, on one thread and on more: docs/training.md.

    python benchmarks/training.py --data demos --threads 1 2

Every line is a few updates of every phase in a process of its own (`rehearse`), in turns, since the machine may be
busy; the shortest median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bora_cli.checkpoint import package_versions


def main() -> None:
    """Print medians of milliseconds per update as Markdown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--method", default="bora")
    parser.add_argument("--adapt", nargs="+", default=["none", "full"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--updates", type=int, default=12, help="timed updates of every phase")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(
        f"{arguments.method}, {arguments.updates} updates, {arguments.rounds} rounds, load {os.getloadavg()[0]:.1f}"
    )
    print(json.dumps(package_versions()) + "\n")
    print(
        "| adapt | phase | waits for data, ms | "
        + " | ".join(f"{t} threads, ms" for t in arguments.threads)
        + " |"
    )
    print("|---" * (3 + len(arguments.threads)) + "|")
    for adapt in arguments.adapt:
        found: dict[str, dict[int, list[tuple[float, float]]]] = {}
        for _ in range(arguments.rounds):
            for threads in arguments.threads:
                for phase in measure(arguments, adapt, threads):
                    taken = found.setdefault(phase["phase"], {}).setdefault(threads, [])
                    taken.append((phase["ms"], phase["loading_ms"]))
        for name, by_threads in found.items():
            cells = [f"{min(by_threads[t])[0]:.1f}" for t in arguments.threads]
            waits = min(by_threads[arguments.threads[0]])[1]
            print(f"| {adapt} | {name} | {waits:.2f} | {' | '.join(cells)} |", flush=True)


def measure(arguments: argparse.Namespace, adapt: str, threads: int) -> list[dict[str, Any]]:
    """Return the phases of a rehearsal in a new process."""
    code = (
        "import json, sys; from pathlib import Path; from bora_cli.train.prepare import Request;"
        "from bora_cli.train.rehearse import rehearse; a = sys.argv;"
        "asked = Request(a[1], (Path(a[2]),), adapt=a[3]);"
        "print(json.dumps(rehearse(asked, updates=int(a[4]))['phases']))"
    )
    words = [sys.executable, "-c", code, arguments.method, str(arguments.data), adapt, str(arguments.updates)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(words, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    phases: list[dict[str, Any]] = json.loads(done.stdout)
    return phases


if __name__ == "__main__":
    main()
