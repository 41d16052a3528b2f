"""What a person did before, as a device: the recorded commands of an episode, tick by tick.

The recording drives *relatively*, as a person would: its arm commands as twists, its hand as a glove, of which only
the change counts.  In the scene it was recorded in, from the same start, that repeats the episode; elsewhere it shows
the same motion.  `bora replay` is for the exact repetition of stored actions.  Beside a policy a recording can
take over and hand back where its person did.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bora_cli.errors import DataError
from bora_cli.input.device import F64, RELEASE, STILL, TAKE_OVER, DeviceSample, Frame
from bora_cli.types import F32, ActionSpec


class Replay:
    """A recording: one sample per read, then silence.

    human: float32 [T, A], what the person commanded; ticks in which nobody did are NaN, and are silence.
    spec: of the action.  takes_over: whether it also asks for the controls where it begins to drive, and hands back
    where it stops.  Raises DataError for a recording without a command of a person.
    """

    frame: Frame = "base"

    def __init__(
        self, human: ArrayLike, spec: ActionSpec, name: str = "replay", *, takes_over: bool = False
    ) -> None:
        commands: F32 = np.asarray(human, np.float32)
        if commands.ndim != 2 or commands.shape[1] != spec.dim:
            raise DataError(
                f"The recording has commands of shape {commands.shape}; expected (T, {spec.dim}).",
                "Name an episode of this robot.",
            )
        if not np.isfinite(commands).all(axis=1).any():
            raise DataError(
                "The recording has no command of a person; expected at least one tick that a person drove.",
                "Name an episode with demonstrations or takeovers; `bora data info` counts them.",
            )
        self.name = name
        self._commands, self._spec = commands.astype(np.float64), spec
        self._takes_over = takes_over
        self._next = 0
        self._drives = False

    @property
    def left(self) -> int:
        """Ticks that are still to come."""
        return len(self._commands) - self._next

    @property
    def trouble(self) -> str:
        """Whether the recording is over."""
        return "" if self.left else "the recording is over"

    def read(self, now: float) -> DeviceSample | None:
        """Return the next tick of the recording, or None where nobody drove or it is over."""
        row = self._commands[self._next] if self.left else None
        self._next += row is not None
        drove, self._drives = self._drives, row is not None and bool(np.isfinite(row).all())
        if row is None or not self._drives:
            return DeviceSample(now, STILL, (RELEASE,)) if drove and self._takes_over else None
        arm: F64 = row[self._spec.slice("arm")] / self._spec.high[self._spec.slice("arm")]
        asks = (TAKE_OVER,) if self._takes_over and not drove else ()
        return DeviceSample(now, np.clip(arm, -1.0, 1.0), asks, hand=row[self._spec.slice("hand")].copy())

    def begin(self) -> None:
        """Begin again at the first tick."""
        self._next, self._drives = 0, False

    def close(self) -> None:
        """There is nothing to let go of."""
