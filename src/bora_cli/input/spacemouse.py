"""A six-axis cap (SpaceMouse) as a device, read by a thread of its own.

Why a thread: the kernel keeps 64 reports per open device and, when they are not fetched, drops the *newest*.  A loop
that looks ten times a second is seconds behind, and the report that says "released" is the one that is lost: the cap
rests, sends nothing more, and the last thing heard is full deflection.  Therefore

- the thread fetches everything every 2 ms, and stamps what it fetches;
- an axis that is deflected and was not reported for 100 ms counts as released, each axis by its own reports;
- after a backlog nothing that was fetched is believed, because what came after it may be lost.

Axes are those of ROS (`bora_cli.input.device.AXES`), in the frame of whoever sits before the device.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from bora_cli.input.device import AXES, FINGERS, GRIP, STILL, DeviceSample, Frame
from bora_cli.input.mapping import Shaping, shape, size, zero_offset

PERIOD_S = 0.002
"""Seconds between two looks of the thread."""
STALE_S = 0.1
"""Seconds after which a deflected axis that is not reported counts as released."""
SILENT_S = 0.5
"""Seconds of that after which it is called trouble: the cap is held still, out of reach, or its release was lost."""
RING = 64
"""Reports that the kernel keeps."""
BACKLOG = 48
"""Reports in one look that are too many to be recent."""
SETTLE_S = 0.4
"""Seconds at rest in which the zero offset is learned."""
PRESS_S = 0.25
"""Seconds after which a button press that nobody read is forgotten."""
BUTTONS = (GRIP, FINGERS)
"""What the first buttons ask for."""


class HidHandle(Protocol):
    """An open device as `easyhid` gives it: one report per read, empty if there is none; raises when it is gone."""

    def open(self) -> None: ...
    def close(self) -> None: ...
    def set_nonblocking(self, enable_nonblocking: int) -> Any: ...
    def read(self, size: int = 64, timeout: int | None = None) -> Any: ...


class _Tap:
    """A handle that tells which report came: the parser's state does not."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self.report: bytes = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def read(self, size: int = 64, timeout: int | None = None) -> Any:
        """Read a report, and remember it."""
        data = self._handle.read(size) if timeout is None else self._handle.read(size, timeout)
        self.report = bytes(data or b"")
        return data


class SpaceMouse:
    """A cap that is read in the background.

    info: pyspacemouse's specification of the device, in its own axes; they are converted.  handle: of `easyhid`.
    buttons: what the device's buttons ask for, in order.  clock: monotonic seconds.  stale_s: how long a deflected axis
    is believed, where that is less than `STALE_S`.  Opens the device; `start` begins the thread.
    """

    frame: Frame = "view"

    def __init__(
        self,
        info: Any,
        handle: HidHandle,
        *,
        clock: Callable[[], float],
        shaping: Shaping | None = None,
        buttons: Sequence[str] = BUTTONS,
        stale_s: float = STALE_S,
        name: str = "spacemouse",
    ) -> None:
        from easyhid import HIDException
        from pyspacemouse import AxisConvention, SpaceMouseDevice, apply_axis_convention

        converted = apply_axis_convention(info, AxisConvention.ROS)
        self._lost_by = (HIDException, OSError, RuntimeError)
        self._tap = _Tap(handle)
        self._mouse = SpaceMouseDevice(converted, self._tap)
        self._channels = [converted.mappings[axis].channel for axis in AXES]
        self.name, self._clock, self._asks = name, clock, tuple(buttons)
        self._shaping, self._stale_s = shaping or Shaping(), min(stale_s, STALE_S)
        self._lock = threading.Lock()
        self._raw, self._since = STILL.copy(), np.full(6, -np.inf)
        self._offset = STILL
        self._heard = -np.inf
        self._down: list[int] = []
        self._pressed: deque[tuple[str, float]] = deque(maxlen=16)
        self._moving = False
        self._lost = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.malformed = self.backlogs = 0
        self._mouse.open()
        self._tap.set_nonblocking(True)

    # -- before and after ----------------------------------------------------------------------------------------------

    def settle(self, sleep: Callable[[float], None], seconds: float = SETTLE_S) -> None:
        """Learn what the device reports at rest; raises DeviceError if it is pushed meanwhile."""
        end, seen = self._clock() + seconds, []
        while self._clock() < end:
            if self.drain():
                seen.append(self._raw.copy())
            sleep(PERIOD_S)
        self._offset = zero_offset(np.array(seen).reshape(-1, 6))

    def start(self) -> None:
        """Begin to read in the background."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading and let the device go."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)
            self._thread = None
        self._mouse.close()

    # -- as a device ---------------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why it cannot be obeyed: it was unplugged, or is deflected and silent."""
        with self._lock:
            if self._lost:
                return self._lost
            age = self._clock() - self._since
            silent = (np.abs(self._raw - self._offset) > self._shaping.enter) & (age > SILENT_S)
        return "deflected, but silent: let go of the cap and touch it again" if silent.any() else ""

    def begin(self) -> None:
        """Forget which buttons were pressed."""
        with self._lock:
            self._pressed.clear()

    def read(self, now: float) -> DeviceSample | None:
        """Return the newest deflection, shaped; None once it is lost or nothing is young enough."""
        with self._lock:
            young = now - self._since <= self._stale_s
            raw = np.where(young, self._raw, self._offset)
            pressed = tuple(ask for ask, t in self._pressed if now - t <= PRESS_S)
            self._pressed.clear()
            heard, lost = self._heard, self._lost
        twist, self._moving = shape(raw, self._moving, self._shaping, self._offset)
        if lost or not (self._moving or pressed):
            return None
        return DeviceSample(heard, twist, pressed)

    def drain(self) -> int:
        """Fetch and parse every report that is there; returns how many there were.  The thread's work."""
        count = 0
        while count < 4 * RING and not self._lost:
            self._tap.report = b""
            try:
                state = self._mouse.read()
            except IndexError:  # a report too short for the buttons it should carry
                self.malformed += 1
                count += 1
                continue
            except self._lost_by as error:
                with self._lock:
                    self._lost = f"unplugged or asleep ({error})"
                break
            report = self._tap.report
            if not report:
                break
            count += 1
            self._take(state, report[0])
        if count >= BACKLOG:
            with self._lock:
                self.backlogs += 1
                self._since[:] = -np.inf
                self._raw[:] = self._offset
                self._pressed.clear()
        return count

    def _take(self, state: Any, channel: int) -> None:
        """Copy what a report changed.  `state` is the one object that pyspacemouse keeps changing."""
        now = self._clock()
        with self._lock:
            self._heard = now
            for number, axis in enumerate(AXES):
                if self._channels[number] == channel:
                    self._raw[number], self._since[number] = getattr(state, axis), now
            down = [number for number, held in enumerate(state.buttons) if held]
            for number in down:
                if number not in self._down and number < len(self._asks):
                    self._pressed.append((self._asks[number], now))
            self._down = down

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S) and not self._lost:
            self.drain()

    @property
    def deflection(self) -> float:
        """Size of the raw deflection that was heard last, 0 .. 1 and a little more."""
        return size(self._raw - self._offset)
