"""Write episodes in another process, so that a control loop never waits for an image encoder or a disk.

The loop hands over each tick as it happens; a thread passes it on to the process, which collects the ticks,
encodes and appends the episode, and answers with its number once it is committed.  Python threads alone would not
do: whoever holds the interpreter lock stops the loop for milliseconds.  If the recording process itself is
killed, what it had committed is whole, and the loop hears of it at its next call.  If the loop's process is
killed, the recording process still commits the episodes that were finished, and drops the one that was not.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

import numpy as np

from bora_cli.errors import BoraError, DataError
from bora_cli.types import F32, U8, Controller, Decision, Episode

logger = logging.getLogger(__name__)

LIMIT = 2 << 30
"""Bytes of images that may wait for the recording process."""
NICENESS = 10
"""How much the recording process stands back behind the control loop when both want a processor."""
_START_S = 60.0
_END_S = 300.0
_HINT = "Record again what is missing; every committed episode is whole."


class Recorder:
    """A dataset that is appended to by a process of its own; use it as a context manager.

    limit: bytes that may wait in memory; more than that is an error at the next `tick`, because a loop that
    is faster than the disk cannot be helped by waiting.  niceness: of the recording process, above that of
    this one.  Calls come from one thread.
    """

    def __init__(self, root: Path | str, *, limit: int = LIMIT, niceness: int = NICENESS) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, str(root), niceness))
        self._process.start()
        theirs.close()
        self._limit, self._put_bytes, self._sent_bytes = limit, 0, 0
        self._queue: queue.SimpleQueue[tuple[Any, int] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._committed: list[int] = []
        self._error: BoraError | None = None
        self._submitted = 0
        self._closed = False
        if not self._pipe.poll(_START_S):
            self._process.kill()
            raise DataError(f"The recording process did not start in {_START_S:g} s.", "Try again.")
        self._hear(self._pipe.recv())
        self._threads = [threading.Thread(target=f, daemon=True) for f in (self._send, self._listen)]
        for thread in self._threads:
            thread.start()
        atexit.register(self.close, complain=False)
        self._raise()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(complain=kind is None)

    @property
    def committed(self) -> list[int]:
        """Numbers of the episodes that are known to be on disk."""
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
        """Add a tick to the episode being recorded; arrays are copied, nothing is waited for.

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
        }
        copies = {camera: image.copy() for camera, image in images.items()}
        size = sum(image.nbytes for image in copies.values())
        waiting = self._put_bytes - self._sent_bytes
        if waiting + size > self._limit:
            raise DataError(
                f"{waiting >> 20} MiB wait to be written; expected at most {self._limit >> 20}.",
                "Record smaller images or fewer ticks per second, or write to a faster disk.",
            )
        self._put(("tick", (copies, row)), size)

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
        self._put(("finish", (success, prompt, terminated, dict(meta or {}), list(decisions))), 0)

    def discard(self) -> None:
        """Drop the ticks since the last finished episode."""
        self._put(("discard", None), 0)

    def submit(self, episode: Episode) -> None:
        """Have a complete episode committed; it must not be changed afterwards."""
        self._raise()
        self._submitted += 1
        self._put(("episode", episode), sum(images.nbytes for images in episode.images.values()))

    def wait(self, timeout: float = _END_S) -> list[int]:
        """Wait until every finished episode is committed; returns their numbers.

        timeout: seconds.  Raises DataError if one could not be written.
        """
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._error or len(self._committed) >= self._submitted, timeout
            )
        self._raise()
        if not done:
            raise DataError(f"{self._missing()} after {timeout:g} s.", "Look whether the disk still writes.")
        return self.committed

    def close(self, complain: bool = True) -> None:
        """Commit what is finished, drop what is not, and end the process.

        complain: raise DataError if an episode could not be written.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._queue.put(None)
        self._process.join(_END_S)
        if self._process.is_alive():
            self._process.kill()
        for thread in self._threads:
            thread.join(_START_S)
        self._pipe.close()
        if complain:
            self._raise()

    def _put(self, message: Any, size: int) -> None:
        self._put_bytes += size
        self._queue.put((message, size))

    def _send(self) -> None:
        """Pass messages on; runs in a thread."""
        try:
            while (item := self._queue.get()) is not None:
                message, size = item
                buffers: list[pickle.PickleBuffer] = []
                head = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
                self._pipe.send_bytes(pickle.dumps((len(buffers), head)))
                for buffer in buffers:
                    self._pipe.send_bytes(buffer.raw())
                self._sent_bytes += size
            self._pipe.send_bytes(pickle.dumps((0, b"")))
        except OSError:  # the process is gone: the listener says so
            return

    def _listen(self) -> None:
        """Take answers; runs in a thread."""
        while True:
            try:
                answer = self._pipe.recv()
            except (EOFError, OSError):
                answer = None
            with self._changed:
                if answer is None:
                    if len(self._committed) < self._submitted and self._error is None:
                        self._error = DataError(f"The recording process ended; {self._missing()}.", _HINT)
                    elif not self._closed and self._error is None:
                        self._error = DataError("The recording process ended.", _HINT)
                else:
                    self._hear(answer)
                self._changed.notify_all()
            if answer is None:
                return

    def _hear(self, answer: Any) -> None:
        if isinstance(answer, BoraError):
            self._error = self._error or answer
        elif answer is not None and answer != "ready":
            self._committed.append(answer)

    def _missing(self) -> str:
        return f"{self._submitted - len(self._committed)} of {self._submitted} finished episodes are not committed"

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error


def _serve(pipe: Connection, root: str, niceness: int) -> None:
    """Collect ticks and append episodes until the pipe ends; runs in the recording process."""
    from bora_cli.data.dataset import Dataset

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(niceness)
    try:
        dataset = Dataset.open(root)
    except BoraError as error:
        pipe.send(DataError(error.message, error.hint))
        return
    pipe.send("ready")
    ticks: list[Any] = []
    while True:
        try:
            count, head = pickle.loads(pipe.recv_bytes())
            if not head:
                return
            kind, content = pickle.loads(head, buffers=[pipe.recv_bytes() for _ in range(count)])
        except (EOFError, OSError):  # the loop's process is gone
            return
        if kind == "tick":
            ticks.append(content)
            continue
        try:
            if kind == "episode":
                answer: Any = dataset.append(content)
            elif kind == "finish":
                answer = dataset.append(_episode(ticks, *content))
            else:
                answer = None
        except BoraError as error:
            answer = DataError(error.message, error.hint)
        except OSError as error:
            answer = DataError(
                f"{root} cannot be written: {error}.", "Make room on the disk, then record again."
            )
        ticks = []
        if answer is not None:
            try:
                pipe.send(answer)
            except OSError:
                logger.info("Nobody hears that an episode was committed")


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
        terminated=last & terminated,
        truncated=last & (not terminated),
        success=success,
        prompt=prompt,
        meta=meta,
        decisions=decisions,
    )
