"""A person with devices in hand, as the control loop knows an operator.

The arm follows the device's twist: full deflection is the robot's largest step.  The hand follows buttons, axes or a
glove (`bora_cli.input.hand`).  Whatever the devices do not say is rest: the arm stays, the hand stays where it is
commanded.  So taking over without moving changes nothing, and neither does a device that falls silent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bora_cli.errors import ConfigError
from bora_cli.input.device import FINGERS, GRIP, RELEASE, STILL, TAKE_OVER, Device, DeviceSample
from bora_cli.input.hand import HandMap, HandState, advance, toggled, towards
from bora_cli.input.mapping import turned
from bora_cli.types import F32, ActionSpec

Clock = Callable[[], float]
ARM, HAND = "arm", "fingers"


@dataclass(frozen=True)
class Wish:
    """Whether the person wants to drive, and why."""

    engage: bool
    reason: str = ""


class Person:
    """Somebody with one or more devices, who drives a whole episode or takes over from a policy.

    spec: of the robot.  dt: seconds per tick.  hand: what the hand can be asked.  devices: read in order;
    with two, twists add, and the second moves the fingers where it is marked in `fingers_by`.  yaw: rad, from
    the robot's base to the frame "view", asked for at the beginning of an episode.  signs: 1 or -1 for x, y,
    z, roll, pitch and yaw of a twist in that frame, where the person stands elsewhere (`operator.axis_signs`
    of a profile).  clock: monotonic seconds.  watchdog: s after which a sample is not believed, whatever the
    device itself believes.  on_motion: whether moving a device takes over from a policy,
    not only asking for it.
    """

    def __init__(
        self,
        spec: ActionSpec,
        dt: float,
        hand: HandMap,
        devices: Sequence[Device],
        *,
        clock: Clock,
        yaw: Callable[[], float] = lambda: 0.0,
        signs: Sequence[int] | None = None,
        fingers_by: int | None = None,
        watchdog: float = np.inf,
        on_motion: bool = False,
    ) -> None:
        arm, group = spec.slice("arm"), spec.slice("hand")
        if arm.stop - arm.start != 6 or group.stop - group.start != len(hand.names):
            raise ConfigError(
                f"The action has {arm.stop - arm.start} columns for the arm and {group.stop - group.start} for the"
                f" hand; expected 6 and {len(hand.names)}."
            )
        if not devices or (fingers_by is not None and not 0 <= fingers_by < len(devices)):
            raise ConfigError(
                f"Device {fingers_by} of {len(devices)} cannot move the fingers.",
                "Count devices from 0; one is needed.",
            )
        self._spec, self._dt, self._map = spec, dt, hand
        self._devices, self._fingers_by, self._on_motion = tuple(devices), fingers_by, on_motion
        self._clock, self._yaw_of, self._watchdog = clock, yaw, watchdog
        self._yaw = 0.0
        self._signs = np.ones(6) if signs is None else np.asarray(signs, np.float64)
        self._hand = HandState(spec.center[group].astype(np.float64))
        self._watching = False
        self._done = False
        self.mode = ARM
        self.driving = False
        self._samples: list[DeviceSample | None] = [None] * len(devices)
        self._heard: float | None = None

    # -- as a demonstrator -------------------------------------------------------------------------------------------

    def begin(self, rig: Any) -> None:
        """Take the controls: the hand goes on from where the robot's is commanded, the view from where it is now."""
        if not self._watching:
            for device in self._devices:
                device.begin()
            self.mode = ARM
        group = self._spec.slice("hand")
        commanded = rig.observe(images=False).state[-(group.stop - group.start) :]
        self._hand = HandState(np.asarray(commanded, np.float64))
        self._yaw = self._yaw_of()
        self._done = False

    def act(self, rig: Any) -> tuple[F32, bool]:
        """Return this tick's command, float32 [A] in units of the action, and whether the person ends the episode.

        While he takes over and every device is in trouble, the command is not a number: nobody drives.
        """
        if not self._watching:
            self._read()
        arm, axes, glove = self._wanted()
        self._hand = advance(self._hand, self._map, self._dt, axes=axes, glove=glove)
        command = np.zeros(self._spec.dim)
        group = self._spec.slice("arm")
        command[group] = arm * self._spec.high[group]
        command[self._spec.slice("hand")] = self._hand.command
        if self._watching and self.trouble:
            return np.full(self._spec.dim, np.nan, np.float32), self._done
        return self._spec.clip(command.astype(np.float32)), self._done

    def finish(self) -> None:
        """End the episode with the next command."""
        self._done = True

    # -- as a watcher ------------------------------------------------------------------------------------------------

    def watch(self) -> Watching:
        """Return this person as somebody who watches a policy and takes over; from now on this is all he does."""
        return Watching(self)

    def look(self) -> None:
        """Let go of the controls and forget what was pressed, at the beginning of an episode."""
        for device in self._devices:
            device.begin()
        self.mode, self.driving, self._watching = ARM, False, True

    def wants(self, driving: bool) -> Wish:
        """Return whether the person wants to drive at this tick.  driving: he does already."""
        self._watching = True
        self._read()
        asked = [what for sample in self._samples if sample is not None for what in sample.pressed]
        moved = any(sample is not None and sample.moving for sample in self._samples)
        if self.trouble:
            self.driving = False  # the arbiter holds; a new wish has to be a new deed
            return Wish(driving, self.trouble)
        if RELEASE in asked or (TAKE_OVER in asked and self.driving):
            self.driving = False
            return Wish(False, "handed back")
        if TAKE_OVER in asked or (self._on_motion and moved and not self.driving):
            self.driving = True
        return Wish(self.driving, "asked" if TAKE_OVER in asked else "moved" if moved else "")

    # -- state for people --------------------------------------------------------------------------------------------

    @property
    def trouble(self) -> str:
        """Why no device can be obeyed; "" while at least one is well."""
        troubles = [device.trouble for device in self._devices]
        return "; ".join(troubles) if all(troubles) else ""

    @property
    def troubles(self) -> tuple[str, ...]:
        """What is wrong with each device that something is wrong with."""
        return tuple(f"{device.name}: {device.trouble}" for device in self._devices if device.trouble)

    @property
    def age(self) -> float | None:
        """Seconds since a device last said something, None if none has."""
        return None if self._heard is None else self._clock() - self._heard

    @property
    def going_to(self) -> str:
        """Name of the posture that the hand travels to, or ""."""
        return self._hand.goal

    def close(self) -> None:
        """Let all devices go."""
        for device in self._devices:
            device.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read every device once, and obey the buttons that are about the hand."""
        now = self._clock()
        said = [device.read(now) for device in self._devices]
        self._heard = max((sample.t for sample in said if sample is not None), default=self._heard)
        self._samples = [
            sample if sample is not None and now - sample.t <= self._watchdog else None for sample in said
        ]
        for sample in self._samples:
            for asked in sample.pressed if sample is not None else ():
                if asked == FINGERS:
                    self.mode = HAND if self.mode == ARM else ARM
                elif asked == GRIP:
                    self._hand = toggled(self._hand, self._map)
                elif asked.startswith("posture "):
                    self._hand = towards(self._hand, asked.removeprefix("posture "), self._map)

    def _wanted(self) -> tuple[Any, Any, Any]:
        """Return the twist of the arm in the robot's base [6], the axes of the fingers [6] or None, a glove or None."""
        arm, axes, glove = STILL.copy(), STILL.copy(), None
        for number, (device, sample) in enumerate(zip(self._devices, self._samples, strict=True)):
            if sample is None:
                continue
            if sample.hand is not None:
                glove = sample.hand
            if self.mode == HAND or number == self._fingers_by:
                axes = axes + sample.twist
            else:
                viewed = device.frame == "view"
                arm = arm + (turned(self._signs * sample.twist, self._yaw) if viewed else sample.twist)
        return np.clip(arm, -1.0, 1.0), (np.clip(axes, -1.0, 1.0) if axes.any() else None), glove


class Watching:
    """A person while a policy acts: what the control loop calls the watcher."""

    def __init__(self, person: Person) -> None:
        self._person = person

    def begin(self, rig: Any) -> None:
        """Begin to watch: the policy drives until the person asks for it; what was pressed before is forgotten."""
        self._person.look()

    def observe(self, rig: Any, human_driving: bool) -> Wish:
        """Return whether the person wants to drive at this tick."""
        return self._person.wants(human_driving)
