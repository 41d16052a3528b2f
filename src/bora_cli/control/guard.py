"""A robot behind its envelope and its watchdogs; whoever holds it sees a robot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bora_cli.control.envelope import Envelope, MotionState, Wish, advance, begin
from bora_cli.control.flight import FlightRecorder
from bora_cli.control.joints import ArmLimits, Watch, advance_within, ticks_to_rest
from bora_cli.errors import LimitViolation, RobotFault
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.frames import vector_of
from bora_cli.robot.protocol import Foreseeing, Reading, Robot, RobotSpec, Target, require_joints

F64 = NDArray[np.float64]
LOGGER = logging.getLogger(__name__)

BURST = 2.0
"""Targets that may come without a pause between them; over any time one per tick, and these."""
LEAP = 1.05
"""Share of the largest step beyond which a target that the driver placed by itself stops the robot."""
SAME = 1e-4
"""Largest difference (m, rad) between a target sent and the one accepted that counts as none."""


@dataclass(frozen=True)
class Watchdogs:
    """How old, in s, what the robot acts on may be: a command, the robot's own measurement, a camera image."""

    command: float
    robot: float = np.inf
    cameras: float = np.inf

    @classmethod
    def from_profile(cls, profile: HardwareProfile) -> Self:
        """Return the watchdogs that a hardware profile asks for."""
        limits = profile.limits
        return cls(limits.watchdog, limits.watchdog_robot or np.inf, limits.watchdog_cameras or np.inf)


class GuardedRobot:
    """A robot that is only given targets from which it can stop inside all limits of its profile.

    What is commanded is a wish; what is returned is the target that was sent.  One command is one tick of the
    envelope, and more than one per tick of `dt` (and a short burst) is refused, so that limits per tick are limits per
    second.  A command that is late, not a number, or based on stale measurements brakes the robot to rest inside the
    limits; commands that stop coming hold it, and so does a driver that places its target farther away than a tick may
    go.  Commands are late by the caller's deadline; a camera counts by how old its image was when it was last looked
    at.  After any stop it starts softly.

    arm: limits of the arm's joints, which the robot then has to measure.  Where it can say beforehand what it would
    send them (`Foreseeing`), nothing is sent that leads out of them; otherwise it brakes in time, as long as they go on
    as fast as they were measured.

    Raises LimitViolation if the robot stands outside its limits when it is reset or taken up after a hold.
    """

    def __init__(
        self,
        robot: Robot,
        envelope: Envelope,
        watchdogs: Watchdogs,
        *,
        arm: ArmLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        recorder: FlightRecorder | None = None,
    ) -> None:
        self._robot = robot
        self._foresees = robot if isinstance(robot, Foreseeing) else None
        ahead = 0.0 if self._foresees is not None else ticks_to_rest(envelope)
        self._watch = None if arm is None else Watch(arm, ahead)
        self._envelope = envelope
        self._watchdogs = watchdogs
        self._clock = clock
        self._recorder = recorder
        self._state: MotionState | None = None
        self._measured = np.zeros(3)
        self._read_at = -np.inf
        self._image_ages: dict[str, float] = {}
        self._commanded_at = -np.inf
        self._credit = 1.0
        self._trouble = ""
        self.changed: tuple[str, ...] = ()
        """What changed the last command, for the log of whoever is interested."""

    @classmethod
    def from_profile(
        cls,
        robot: Robot,
        profile: HardwareProfile,
        *,
        clock: Callable[[], float] = time.monotonic,
        recorder: FlightRecorder | None = None,
    ) -> GuardedRobot:
        """Return a robot inside the limits of its profile."""
        envelope, watchdogs = Envelope.from_profile(profile), Watchdogs.from_profile(profile)
        arm = ArmLimits.from_profile(profile)
        return cls(robot, envelope, watchdogs, arm=arm, clock=clock, recorder=recorder)

    @property
    def spec(self) -> RobotSpec:
        return self._robot.spec

    def reset(self) -> Reading:
        """Reset the robot, and begin from where it stands."""
        try:
            reading = self._seen(self._robot.reset())
            self._begin(reading)
            self._commanded_at = -np.inf  # nobody has commanded it since
        except Exception as error:
            self._fault(error)
            raise
        return reading

    def observe(self, images: bool = True) -> Reading:
        """Return what the robot measured.  Raises RobotFault if that is not finite."""
        try:
            return self._seen(self._robot.observe(images))
        except Exception as error:
            self._fault(error)
            raise

    def command(self, target: Target, *, deadline: float) -> Target:
        """Go towards a target as far as the limits allow in one tick, and return the target that was sent."""
        now = self._clock()
        elapsed, self._commanded_at = now - self._commanded_at, now
        self._credit = min(BURST, self._credit + max(0.0, elapsed) / self._envelope.dt)
        try:
            require_joints(target, self.spec)
            if self._state is None:
                self._begin(self._seen(self._robot.observe(images=False)))
            elif elapsed > self._watchdogs.command:
                self._state = begin(
                    self._envelope, self._state.position, self._state.rotation, self._state.hand
                )
                if np.isfinite(elapsed):
                    self._written(f"hold: no command for {elapsed:.3f} s")
            if self._credit < 1.0:
                return self._noted(target, self._in_force(), ("refused: too many commands",))
            self._credit -= 1.0
            return self._tick(target, self._trouble_of(target, deadline, now), now)
        except Exception as error:
            self._fault(error)
            raise

    def hold(self) -> None:
        """Let the driver stop the robot; the next command begins from where it then stands."""
        self._state = None
        try:
            self._robot.hold()
        except Exception:
            LOGGER.exception("The driver of %s failed to hold; use the emergency stop", self.spec.name)

    def close(self) -> None:
        """Hold, and let go of the devices."""
        self.hold()
        self._robot.close()

    def _begin(self, reading: Reading) -> None:
        target = reading.target
        where = (
            self._envelope.trespass(target.position, target.rotation) if target.sound else "target not finite"
        )
        if self._watch is not None:
            self._watch.rest()
            where = where or self._watch.outside
        if where:
            raise LimitViolation(
                f"{self.spec.name} stands outside its limits: {where}.",
                "Move it inside by hand or with the maker's own tool, then begin again.",
            )
        self._state = begin(self._envelope, target.position, target.rotation, target.hand)

    def _seen(self, reading: Reading) -> Reading:
        numbers = (reading.position, reading.rotation, reading.hand)
        if not all(np.isfinite(x).all() for x in numbers):
            raise RobotFault(
                f"{self.spec.name} measured numbers that are not finite: {reading.position} m, {reading.hand} rad.",
                "Stop the robot and check its state estimation.",
            )
        if self._watch is not None:
            self._watch.see(reading.t, self._arm_of(reading, self._watch.limits))
        self._measured, self._read_at = np.array(reading.position), reading.t
        now = self._clock()
        self._image_ages |= {camera: now - stamp for camera, stamp in reading.stamps.items()}
        return reading

    def _arm_of(self, reading: Reading, limits: ArmLimits) -> F64:
        """Return the measured joints of the arm.  Raises RobotFault where they are not what the profile limits."""
        arm, count = reading.arm, len(limits.names)
        if arm is None or arm.shape != (count,) or not np.isfinite(arm).all():
            raise RobotFault(
                f"{self.spec.name} measured {arm} as joints of its arm; the profile limits {count}.",
                "Let the driver give them (Reading.arm), or leave arm.joints out of the profile.",
            )
        return np.array(arm, np.float64)

    def _trouble_of(self, target: Target, deadline: float, now: float) -> str:
        """Return why nothing may be done about this command, "" where there is no reason."""
        dogs = self._watchdogs
        if not target.sound:
            return "hold: command not finite"
        if not now <= deadline:
            return f"hold: command {now - deadline:.3f} s late"
        if now - self._read_at > dogs.robot:
            return f"hold: robot silent for {now - self._read_at:.3f} s"
        for camera, age in self._image_ages.items():
            if age > dogs.cameras:
                return f"hold: camera {camera} silent for {age:.3f} s"
        why = "" if self._watch is None else self._watch.trouble
        return f"hold: {why}" if why else ""

    def _tick(self, target: Target, trouble: str, now: float) -> Target:
        state = self._state
        assert state is not None
        if trouble:
            wish = Wish(np.zeros(3), np.zeros(3), state.hand, np.array(True))
        else:
            turn = vector_of(target.rotation @ state.rotation.T)
            wish = Wish(target.position - state.position, turn, target.hand, np.array(False))
        if self._watch is None:
            new, changed = advance(self._envelope, state, wish, self._measured)
        elif self._foresees is None:
            if trouble:
                self._watch.stopped(self._heading(state.past[1], state.turned[1]))
            closed = np.array(not trouble and self._watch.refuses(self._heading(wish.step, wish.turn)))
            new, changed = advance(self._envelope, state, wish, self._measured, only_rest=closed)
            changed |= {"arm joints": closed}
        else:
            limits, along = self._watch.limits, self._foresees.arm_along
            new, changed = advance_within(self._envelope, state, wish, self._measured, limits, along)
        sent = Target(new.position.copy(), new.rotation.copy(), new.hand.copy())
        accepted = self._robot.command(sent, deadline=now + self._watchdogs.command)
        self._state = self._after(new, sent, accepted)
        leap = float(np.linalg.norm(accepted.position - state.position))
        if leap > LEAP * self._envelope.translation.speed:
            self.hold()  # the next command begins from where it stands
            trouble = f"hold: the driver moved the target by {1e3 * leap:.0f} mm in one tick"
        names = tuple(name for name, where in changed.items() if bool(where))
        result = self._noted(target, accepted, (trouble, *names) if trouble else names)
        if trouble and not self._trouble:
            self._written(trouble)
        self._trouble = trouble
        return result

    def _heading(self, step: F64, turn: F64) -> F64:
        """Return where a motion of one tick leads, float64 [6] in shares of full speed."""
        speeds = self._envelope.translation.speed, self._envelope.rotation.speed
        return np.concatenate([step / speeds[0], turn / speeds[1]])

    def _after(self, new: MotionState, sent: Target, accepted: Target) -> MotionState:
        """Return the state after a target was accepted: as planned, or at rest where the driver placed the tool."""
        if not accepted.sound:
            raise RobotFault(
                f"{self.spec.name} accepted a target that is not finite: {accepted.position} m, {accepted.hand} rad.",
                "Check its driver with bora_cli.testing.check_robot.",
            )
        if _near(sent.position, accepted.position) and _near(sent.rotation, accepted.rotation):
            return new if _near(sent.hand, accepted.hand) else replace(new, hand=accepted.hand.copy())
        return begin(self._envelope, accepted.position, accepted.rotation, accepted.hand)

    def _in_force(self) -> Target:
        assert self._state is not None
        return Target(self._state.position.copy(), self._state.rotation.copy(), self._state.hand.copy())

    def _noted(self, wanted: Target, sent: Target, changed: tuple[str, ...]) -> Target:
        self.changed = changed
        if self._recorder is not None:
            self._recorder.note(
                wanted_position=wanted.position,
                wanted_rotation=wanted.rotation,
                wanted_hand=wanted.hand,
                position=sent.position,
                rotation=sent.rotation,
                hand=sent.hand,
                measured=self._measured,
                read_at=self._read_at,
                image_ages=dict(self._image_ages),
                arm=None if self._watch is None else self._watch.joints,
                changed=list(changed),
            )
        return sent

    def _fault(self, error: Exception) -> None:
        self.hold()
        self._written(f"{type(error).__name__}: {error}")

    def _written(self, why: str) -> None:
        if self._recorder is not None:
            self._recorder.write(why)


def _near(sent: F64, accepted: F64) -> bool:
    return bool(np.abs(sent - accepted).max(initial=0.0) <= SAME)
