"""Write episodes in another process, so that a control loop never waits for an image encoder or a disk.

The loop copies each tick into shared memory as it happens; the process collects the ticks, encodes and appends
the episode, and answers with its number once it is committed.  There is no thread on the loop's side, which would
stop the loop for milliseconds whenever it is interrupted while it holds the interpreter lock, and no pipe, whose
lock in the kernel does the same.

If the recording process is killed, what it had committed is whole, and the loop hears of it at its next call.  If
the loop's process is killed, the recording process still commits the episodes whose end had reached it.

A loop that counts single milliseconds takes real-time priority and calls `gc.freeze()` before it begins;
`benchmarks/data.py` shows what remains then.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import queue
import signal
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

import numpy as np

from bora_cli.data.ring import Ring
from bora_cli.errors import BoraError, DataError
from bora_cli.types import F32, U8, Controller, Decision, Episode

SHARE = 0.25
"""Of the computer's memory, that ticks which are not yet on disk may take."""
NICENESS = 10
"""How much the recording process stands back behind the control loop when both want a processor."""
_START_S = 60.0
_END_S = 300.0
_PATIENCE_S = 0.002
_HINT = "Record again what is missing; every committed episode is whole."


class Recorder:
    """A dataset that is appended to by a process of its own; use it as a context manager.

    limit: bytes that may be in memory, here and in the recording process, because their episode is not yet on disk,
    the ticks of the current one among them; more than that is an error at the next `tick`, because a loop that is
    too fast cannot be helped by waiting.  None: `SHARE` of the computer's memory.  While an episode is encoded, the
    recording process needs room for a second copy of it.
    niceness: of the recording process, above that of this one.  Calls come from one thread.
    """

    def __init__(self, root: Path | str, *, limit: int | None = None, niceness: int = NICENESS) -> None:
        context = multiprocessing.get_context("spawn")
        self._ring = Ring.create()
        alive, self._alive = context.Pipe(
            duplex=False
        )  # nothing is sent: its end tells that no more ticks come
        self._answers, answers = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_serve, args=(self._ring.name, alive, answers, str(root), niceness)
        )
        self._process.start()
        alive.close()
        answers.close()
        self._limit = round(SHARE * _memory()) if limit is None else limit
        self._episode_bytes = 0
        self._unwritten: deque[int] = deque()  # bytes of every ended episode that nothing was heard of
        self._backlog: deque[memoryview] = deque()
        self._committed: list[int] = []
        self._error: BoraError | None = None
        self._submitted = 0
        self._gone = self._closed = False
        atexit.register(self.close, complain=False)
        if not self._answers.poll(_START_S):
            self._error = DataError(f"The recording process did not start in {_START_S:g} s.", "Try again.")
            self._process.kill()
        self._hear()
        if self._error is not None:
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(complain=kind is None)

    @property
    def committed(self) -> list[int]:
        """Numbers of the episodes that are known to be on disk."""
        self._hear()
        return list(self._committed)

    def tick(
        self,
        images: dict[str, U8],
        *,
        state: F32,
        action: F32,
        proposed: F32 | None = None,
        human: F32 | None = None,
        controller: int = Controller.DEMO,
        phase: int = 0,
        reward: float = 0.0,
    ) -> None:
        """Add a tick to the episode being recorded; nothing is waited for, and arrays may be used again.

        The clocks are looked at now.

        images: camera -> uint8 [H, W, 3].  state: float32 [S].  action, proposed, human: float32 [A], in the
        meaning of `Episode`; proposed is the action and human NaN where they are not given.
        Raises DataError if an earlier episode could not be written or too much is waiting.
        """
        self._raise()
        row = {
            "state": np.array(state, np.float32),
            "action": np.array(action, np.float32),
            "proposed": np.array(action if proposed is None else proposed, np.float32),
            "human": np.full(len(action), np.nan, np.float32)
            if human is None
            else np.array(human, np.float32),
            "controller": int(controller),
            "phase": int(phase),
            "reward": float(reward),
            "wall_ns": time.time_ns(),
            "monotonic_ns": time.monotonic_ns(),
        }
        size = sum(image.nbytes for image in images.values())
        held = self._episode_bytes + sum(self._unwritten)
        if held + size > self._limit:
            raise DataError(
                f"{held >> 20} MiB wait to be written, {self._episode_bytes >> 20} of them of this episode;"
                f" expected at most {self._limit >> 20}.",
                "Record smaller images, fewer ticks per second or shorter episodes, or write to a faster disk.",
            )
        self._put("tick", (images, row))

    def finish(
        self,
        *,
        success: bool,
        prompt: str,
        terminated: bool = True,
        meta: dict[str, Any] | None = None,
        decisions: Sequence[Decision] = (),
    ) -> None:
        """End the episode at its last tick and have it committed; nothing is waited for.

        terminated: the task ended; False where only the clock ran out (truncated).
        """
        self._raise()
        self._submitted += 1
        self._put("finish", (success, prompt, terminated, dict(meta or {}), list(decisions)))
        self._end()

    def discard(self) -> None:
        """Drop the ticks since the last finished episode."""
        self._put("discard", None)
        self._end()

    def submit(self, episode: Episode) -> None:
        """Have a complete episode committed; it must not be changed afterwards."""
        self._raise()
        self._submitted += 1
        self._put("episode", episode)
        self._end()

    def wait(self, timeout: float = _END_S) -> list[int]:
        """Wait until every finished episode is committed; returns their numbers.

        timeout: seconds.  Raises DataError if one could not be written.
        """
        end = time.monotonic() + timeout
        while self._error is None and len(self._committed) < self._submitted and time.monotonic() < end:
            self._pump()
            wait([self._answers], _PATIENCE_S)
            self._hear()
        self._raise()
        if len(self._committed) < self._submitted:
            raise DataError(f"{self._missing()} after {timeout:g} s.", "Look whether the disk still writes.")
        return list(self._committed)

    def close(self, complain: bool = True) -> None:
        """Commit what is finished, drop what is not, and end the process.

        complain: raise DataError if an episode could not be written.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        end = time.monotonic() + _END_S
        while self._backlog and not self._gone and time.monotonic() < end:
            self._pump()
            time.sleep(_PATIENCE_S)
        self._alive.close()  # the process commits what has reached it, and ends
        self._process.join(max(0.0, end - time.monotonic()))
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._hear()
        self._answers.close()
        self._ring.close()
        if complain:
            self._raise()

    def _put(self, kind: str, content: Any) -> None:
        """Send a message; what there is no room for is copied and waits for the next call."""
        buffers: list[pickle.PickleBuffer] = []
        head = pickle.dumps((kind, content), protocol=5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        sizes = struct.pack(f">{len(raw) + 2}Q", len(head), len(raw), *map(len, raw))
        parts = [part for part in (memoryview(sizes), memoryview(head), *raw) if len(part)]
        self._backlog.extend(parts)
        self._episode_bytes += sum(map(len, parts))
        self._pump()
        for i in range(1, min(len(parts), len(self._backlog)) + 1):
            self._backlog[-i] = memoryview(bytes(self._backlog[-i]))

    def _pump(self) -> None:
        """Write as much as there is room for."""
        while self._backlog:
            part = self._backlog[0]
            done = self._ring.write(part)
            if done < len(part):
                self._backlog[0] = part[done:]
                return
            self._backlog.popleft()

    def _end(self) -> None:
        """Count what was put since the last end until the recording process answers."""
        self._unwritten.append(self._episode_bytes)
        self._episode_bytes = 0

    def _hear(self) -> None:
        """Take the answers that are there."""
        if self._answers.closed:
            return
        try:
            while self._answers.poll():
                answer = self._answers.recv()
                if self._unwritten:
                    self._unwritten.popleft()
                if isinstance(answer, BoraError):
                    self._error = self._error or answer
                elif answer is not None:
                    self._committed.append(answer)
        except (EOFError, OSError):
            self._gone = True
            if self._error is None and len(self._committed) < self._submitted:
                self._error = DataError(f"The recording process ended; {self._missing()}.", _HINT)
            elif self._error is None and not self._closed:
                self._error = DataError("The recording process ended.", _HINT)

    def _missing(self) -> str:
        return f"{self._submitted - len(self._committed)} of {self._submitted} finished episodes are not committed"

    def _raise(self) -> None:
        self._hear()
        if self._error is not None:
            raise self._error


def _memory() -> int:
    """Return how many bytes of memory the computer has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _serve(ring: str, alive: Connection, answers: Connection, root: str, niceness: int) -> None:
    """Collect ticks and append episodes until the loop's end closes; runs in the recording process."""
    from bora_cli.data.dataset import Dataset

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(niceness)
    try:
        dataset = Dataset.open(root)
    except BoraError as error:
        answers.send(DataError(error.message, error.hint))
        return
    answers.send(None)
    arrived: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_drain, args=(Ring.attach(ring), alive, arrived), daemon=True).start()
    ticks: list[Any] = []
    while (message := arrived.get()) is not None:
        kind, content = message
        if kind == "tick":
            ticks.append(content)
            continue
        answer: Any = None
        try:
            if kind == "episode":
                answer = dataset.append(content)
            elif kind == "finish":
                answer = dataset.append(_episode(ticks, *content))
        except BoraError as error:
            answer = DataError(error.message, error.hint)
        except OSError as error:
            answer = DataError(
                f"{root} cannot be written: {error}.", "Make room on the disk, then record again."
            )
        except Exception as error:  # whatever one episode holds, those behind it are still to be committed
            why = f"{type(error).__name__}: {error}"[:200]
            answer = DataError(
                f"An episode cannot be put together ({why}).",
                "Give every tick of an episode the same cameras, image sizes and numbers.",
            )
        ticks = []
        with suppress(OSError):  # the loop's process is gone, but what it finished is still to be committed
            answers.send(answer)


def _drain(ring: Ring, alive: Connection, arrived: queue.SimpleQueue[tuple[str, Any] | None]) -> None:
    """Take messages out of the ring as fast as they come, so that there is room in it; ends with None."""

    def exactly(count: int) -> bytes | None:
        parts, missing = [], count
        while missing:
            ended = alive.poll(_PATIENCE_S) if not (part := ring.read(missing)) else False
            part = part or ring.read(missing)
            if ended and not part:
                return None
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    while (head := exactly(16)) is not None:
        length, count = struct.unpack(">2Q", head)
        lengths = exactly(8 * count)
        if lengths is None:
            break
        parts = [exactly(size) for size in (length, *struct.unpack(f">{count}Q", lengths))]
        if None in parts:  # the loop's process died in the middle
            break
        whole = [part for part in parts if part is not None]
        arrived.put(pickle.loads(whole[0], buffers=whole[1:]))
    ring.close()
    arrived.put(None)


def _episode(
    ticks: list[Any],
    success: bool,
    prompt: str,
    terminated: bool,
    meta: dict[str, Any],
    decisions: list[Decision],
) -> Episode:
    if not ticks:
        raise DataError("The episode has no ticks; expected at least one.", "Record at least one tick.")
    images, rows = [t[0] for t in ticks], [t[1] for t in ticks]
    last = np.arange(len(ticks)) == len(ticks) - 1
    return Episode(
        images={camera: np.stack([i[camera] for i in images]) for camera in images[0]},
        **{name: np.stack([r[name] for r in rows]) for name in ("state", "action", "proposed", "human")},
        controller=np.array([r["controller"] for r in rows], np.uint8),
        phase=np.array([r["phase"] for r in rows], np.uint8),
        reward=np.array([r["reward"] for r in rows], np.float32),
        wall_ns=np.array([r["wall_ns"] for r in rows], np.int64),
        monotonic_ns=np.array([r["monotonic_ns"] for r in rows], np.int64),
        terminated=last & terminated,
        truncated=last & (not terminated),
        success=success,
        prompt=prompt,
        meta=meta,
        decisions=decisions,
    )
