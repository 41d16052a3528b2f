"""A desk, a clock and keys without a person."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from bora_cli.evaluate.teleoperate import Driver, Scene, TeleopJob
from bora_cli.input.device import Device
from bora_cli.input.keyboard import Keyboard
from bora_cli.input.keys import KeyPress
from bora_cli.profiles import load_profile


@dataclass
class FakeTime:
    """Time passes only while somebody sleeps."""

    now: float = 100.0
    slept: int = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1


@dataclass
class FakeDesk:
    """Presses keys at times (seconds since the first look), or as `typist` says when it is looked at."""

    time: FakeTime
    script: Sequence[tuple[float, str]] = ()
    typist: Callable[[], Iterable[str]] = tuple
    picture_size: int = 0
    gone_at: float = 1e9
    scenes: list[Scene] = field(default_factory=list)
    _done: int = 0

    @property
    def elapsed(self) -> float:
        return self.time.now - 100.0

    @property
    def gone(self) -> bool:
        return self.elapsed >= self.gone_at

    def pressed(self) -> list[KeyPress]:
        due = [key for t, key in self.script[self._done :] if t <= self.elapsed]
        self._done += len(due)
        return [KeyPress(key, self.time.now) for key in (*due, *self.typist())]

    def show(self, scene: Scene) -> None:
        self.scenes.append(scene)


def job(task: str = "press_button", seed: int = 3, limit_s: float = 30.0) -> TeleopJob:
    return TeleopJob("sim", load_profile("sim").hash, task, "standard", "none", seed, 16, limit_s)


def driver(desk: FakeDesk, *devices: Device) -> Driver:
    keyboard = Keyboard(tuple(load_profile("sim").postures))
    return Driver(desk, keyboard, devices or (keyboard,), desk.time.clock, desk.time.sleep)
