"""Workers: results in the order of the jobs, errors where they belong, and no orphans."""

from __future__ import annotations

import math
import operator
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bora_cli.evaluate.workers import Workers, default_workers


@pytest.fixture(scope="module")
def pool() -> Iterator[Workers]:
    with Workers(2) as workers:
        yield workers


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_the_jobs(pool: Workers, count: int) -> None:
    workers = pool if count == 2 else Workers(1)
    assert list(workers.map(operator.neg, range(50))) == [-i for i in range(50)]
    assert list(workers.map(operator.neg, [])) == []


def test_one_worker_is_this_process_and_two_are_not(pool: Workers) -> None:
    me = os.path.realpath("/proc/self")
    assert set(Workers(1).map(os.path.realpath, ["/proc/self"] * 3)) == {me}
    assert me not in set(pool.map(os.path.realpath, ["/proc/self"] * 3))


def test_workers_compute_with_one_thread_and_leave_the_environment_alone(
    pool: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with Workers(2) as fresh:
        assert list(fresh.map(os.getenv, ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])) == ["1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("count", [1, 2])
def test_results_before_a_failure_are_kept_and_the_pool_survives(pool: Workers, count: int) -> None:
    workers = pool if count == 2 else Workers(1)
    results = workers.map(math.sqrt, [4.0, 9.0, -1.0, 16.0])
    assert [next(results), next(results)] == [2.0, 3.0]
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        next(results)
    assert list(workers.map(math.sqrt, [25.0])) == [5.0]


@pytest.mark.parametrize("count", [1, 2])
def test_jobs_are_taken_as_they_are_needed(pool: Workers, count: int) -> None:
    """Recorded episodes are large: a few may wait, a thousand may not."""
    workers = pool if count == 2 else Workers(1)
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    results = workers.map(operator.neg, jobs())
    assert next(results) == 0
    assert len(taken) <= 6
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 6


def test_a_sensible_number_of_processes() -> None:
    assert 1 <= default_workers() <= 8
    assert Workers().count == default_workers()
    assert Workers(0).count == Workers(-3).count == 1


PARENT = """
import os, sys, time
from bora_cli.evaluate.workers import Workers
if __name__ == "__main__":
    with Workers(2) as pool:
        print(*sorted(set(pool.map(os.path.realpath, ["/proc/self"] * 8))), flush=True)
        list(pool.map(time.sleep, [60, 60]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """A killed run must not leave processes that compute for nobody."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [Path(p) for p in parent.stdout.readline().split()]
    assert workers
    assert all(w.exists() for w in workers)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while any(w.exists() and "Z" not in _state(w) for w in workers):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.05)


def _state(process: Path) -> str:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"
