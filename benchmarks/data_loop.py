"""How long a call of the recorder keeps a control loop at 30 Hz; part of `benchmarks/data.py`."""

from __future__ import annotations

import gc
import os
import pickle
import time
from pathlib import Path

import numpy as np
from data_frames import CAMERAS, DIM, FPS, TICKS, Row, create, episode, timed

from bora_cli.data.recorder import Recorder


def in_a_loop(root: Path, frames: dict[str, np.ndarray], seconds: int) -> Row:
    """Record at 30 Hz and return the longest time that a call took from the loop, in ms.

    The loop takes real-time priority where it may, as a control loop does, and freezes Python's garbage collector;
    without the priority this measures what else runs on the machine.  What the machine itself takes is measured in
    the same loop: work of the same kind and length that stays in this process, before or after the call in turns.
    """
    create(root)
    calls, alone, finishes = [], [], []
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
                alone.append(timed(lambda: work_alone(images, row)))  # noqa: B023
            calls.append(timed(lambda: recorder.tick(images, state=row, action=row)))  # noqa: B023
            if not tick % 2:
                alone.append(timed(lambda: work_alone(images, row)))  # noqa: B023
            if tick % 60 == 59:
                finishes.append(timed(lambda: recorder.finish(success=True, prompt="bench")))
            due += 1 / FPS
            time.sleep(max(0.0, due - time.perf_counter()))
        if real_time:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        committed = len(recorder.wait()) - 1
    taken = 1e3 * np.array([*calls, *finishes])
    out = {
        "ticks": len(calls),
        "episodes": committed,
        "median_ms": float(np.median(taken)),
        "p99_ms": float(np.quantile(taken, 0.99)),
        "max_ms": float(taken.max()),
        "over_2_ms": int((taken > 2).sum()),
        "alone_median_ms": 1e3 * float(np.median(alone)),
        "alone_max_ms": 1e3 * max(alone),
        "alone_over_2_ms": int((np.array(alone) > 2e-3).sum()),
        "real_time": real_time,
    }
    print("\nAt 30 Hz: " + ", ".join(f"{k} {v:.3g}" for k, v in out.items()))
    return out


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
