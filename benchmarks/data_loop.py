"""How long a call of the recorder keeps a control loop at 30 Hz; part of `benchmarks/data.py`."""

from __future__ import annotations

import gc
import os
import pickle
import resource
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from data_frames import CAMERAS, DIM, FPS, TICKS, Row, create, episode

from bora_cli.data.recorder import Recorder

LONG_MS = 2.0


class Call(NamedTuple):
    """What a call took: by the clock, of processor time, and of that inside the kernel, ms; and what came between.

    preempted, waited: times that the thread lost its processor against its will, and that it gave it up to wait for
    somebody.  faults: pages it had to be given.  stolen: ms without a processor (10 at least).  at: s, when it began.
    """

    ms: float
    cpu_ms: float
    kernel_ms: float
    preempted: float
    waited: float
    faults: float
    stolen: float
    at: float


def in_a_loop(root: Path, frames: dict[str, np.ndarray], seconds: int) -> Row:
    """Record at 30 Hz and return the longest time that a call took from the loop, in ms.

    The loop takes real-time priority where it may, as a control loop does, and freezes Python's garbage collector;
    without the priority this measures what else runs on the machine.  What the machine itself takes is measured in
    the same loop: work of the same kind and length that stays in this process, before or after the call in turns.
    Of every call that is longer than 2 ms the kernel's counters say why.
    """
    create(root)
    calls, alone = (
        array("d"),
        array("d"),
    )  # numbers, so that Python's garbage collector has nothing to look through
    row = np.zeros(DIM, np.float32)
    with Recorder(root) as recorder:
        recorder.submit(episode(frames, 20))
        recorder.wait()
        gc.freeze()
        real_time = take_priority()
        due = time.perf_counter()
        for tick in range(seconds * FPS):
            images = {camera: frames[camera][tick % TICKS] for camera in CAMERAS}
            if tick % 2:
                alone.extend(watched(lambda: work_alone(images, row)))  # noqa: B023
            calls.extend(watched(lambda: recorder.tick(images, state=row, action=row)))  # noqa: B023
            if not tick % 2:
                alone.extend(watched(lambda: work_alone(images, row)))  # noqa: B023
            if tick % 60 == 59:
                calls.extend(watched(lambda: recorder.finish(success=True, prompt="bench")))
            due += 1 / FPS
            time.sleep(max(0.0, due - time.perf_counter()))
        if real_time:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        committed = len(recorder.wait()) - 1
    out: Row = {"episodes": committed, "real_time": real_time}
    print(f"\nAt 30 Hz: episodes {committed}, real-time priority {real_time}")
    print(
        "\n| | calls | that waited | median, ms | longest, ms | over 2 ms | preempted | waited | stolen | none |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, found in (("recorder", calls), ("alone", alone)):
        out[name] = summary(found)
        print(f"| {name} | " + " | ".join(f"{v:.4g}" for v in list(out[name].values())[:-1]) + " |")
    return out


def summary(numbers: array[float]) -> Row:
    """Return counts and times of some calls, given one after the other, and the long ones."""
    calls = [Call(*row) for row in np.reshape(numbers, (-1, len(Call._fields))).tolist()]
    taken = np.array([call.ms for call in calls])
    long = [call for call in calls if call.ms > LONG_MS]
    return {
        "calls": len(calls),
        "waits": sum(call.waited > 0 for call in calls),
        "median_ms": float(np.median(taken)),
        "max_ms": float(taken.max()),
        "over_2_ms": len(long),
        "preempted": sum(call.preempted > 0 for call in long),
        "waited": sum(call.waited > 0 for call in long),
        "stolen": sum(call.stolen > 0 for call in long),
        "none": sum(not (call.preempted or call.waited or call.stolen) for call in long),
        "long": [call._asdict() for call in long],
    }


def watched(work: Callable[[], object]) -> Call:
    """Call something and return what it took; the counters are read outside the time that is measured."""
    stolen = steal_ms()
    before, cpu = resource.getrusage(resource.RUSAGE_THREAD), time.thread_time()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    cpu, after = time.thread_time() - cpu, resource.getrusage(resource.RUSAGE_THREAD)
    return Call(
        1e3 * seconds,
        1e3 * cpu,
        1e3 * (after.ru_stime - before.ru_stime),
        after.ru_nivcsw - before.ru_nivcsw,
        after.ru_nvcsw - before.ru_nvcsw,
        after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt,
        steal_ms() - stolen,
        start,
    )


def steal_ms() -> int:
    """Return for how long other virtual machines had this one's processors, as far as that is told."""
    with suppress(OSError):
        ticks = int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
        return ticks * 1000 // os.sysconf("SC_CLK_TCK")
    return 0


def work_alone(images: dict[str, np.ndarray], row: np.ndarray) -> None:
    """Copy and pickle a tick a few times; takes about as long as handing one over."""
    for _ in range(10):
        found: list[pickle.PickleBuffer] = []
        head = pickle.dumps((images, {"row": row.copy()}), protocol=5, buffer_callback=found.append)
        b"".join([head, *(buffer.raw() for buffer in found)])


def take_priority() -> bool:
    """Give this thread real-time priority; returns whether that was allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(20))
    except (PermissionError, AttributeError):
        return False
    return True
