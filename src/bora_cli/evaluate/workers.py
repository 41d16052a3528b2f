"""Run independent episodes in a few processes, in order and repeatably.

Every job carries its own seeds, so the result does not depend on the number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


def default_workers() -> int:
    """Return the number of processes to use: the cores this process may run on, at most 8."""
    return max(
        1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    )


class Workers:
    """A pool of `count` processes; with one worker the jobs run in this process.

    Processes are spawned, never forked (a GL context does not survive a fork), start with one numerical thread,
    leave Ctrl-C to the parent and end themselves when the parent disappears.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = default_workers() if count is None else max(1, count)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the processes; jobs not started are dropped."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def map(self, run: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield run(job) for each job, in the order of the jobs; at most a few results wait in memory."""
        if self.count == 1:
            for job in jobs:
                yield run(job)
            return
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            with _single_threaded_children():
                self._pool = ProcessPoolExecutor(self.count, mp_context=context, initializer=_start_worker)
        pending: list[Future[Result]] = []
        source = iter(jobs)
        try:
            pending.extend(self._submit(run, job) for job in islice(source, 2 * self.count))
            while pending:
                result = pending.pop(0).result()
                pending.extend(self._submit(run, job) for job in islice(source, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()

    def _submit(self, run: Callable[[Job], Result], job: Job) -> Future[Result]:
        assert self._pool is not None
        with _single_threaded_children():
            return self._pool.submit(run, job)


class _single_threaded_children:
    """Environment in which spawned processes use one numerical thread each."""

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

    def __enter__(self) -> None:
        self.before = {name: os.environ.get(name) for name in self.names}
        os.environ.update(dict.fromkeys(self.names, "1"))

    def __exit__(self, *_: object) -> None:
        for name, value in self.before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def leave_with_parent() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
