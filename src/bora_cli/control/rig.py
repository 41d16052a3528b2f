"""A robot as the control loop wants it: rows of actions, ticks at their time, and a person who says how it went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bora_cli.control.flight import FlightRecorder
from bora_cli.control.pace import Pacer
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.frames import rotation_of, vector_of
from bora_cli.robot.protocol import Reading, Robot, Target
from bora_cli.types import F32, U8, Observation

TICK_COST = 0.5
"""Sum of the costs per tick over a whole episode, as in the simulator."""

Verdict = Literal["", "success", "failure"]


@dataclass(frozen=True)
class Outcome:
    """What one tick came to; applied: float32 [A], what the robot accepted, as an action row."""

    applied: F32
    reward: float
    terminated: bool
    truncated: bool
    success: bool


class RobotRig:
    """A robot with a task that a person judges.

    robot: with limits of its own, i.e. a `GuardedRobot`, or a remote one whose server guards it.  judge: asked once
    per tick whether the task is over.  arrange: called with the scene seed before an episode, e.g. to wait until
    somebody has put the objects in place.  image_size: px, side of the square images that a policy sees and a dataset
    keeps, made of the middle of what the cameras give; 0 leaves images as they are.  seen: called with every
    observation.  recorder: told every tick what was asked for and what was accepted; what is below has its own.
    The state has the simulator's layout: tool position (m), the first two columns of its rotation, measured hand and
    commanded hand (rad).
    """

    backend = "robot"

    def __init__(
        self,
        robot: Robot,
        profile: HardwareProfile,
        *,
        prompt: str,
        max_ticks: int,
        judge: Callable[[], Verdict],
        arrange: Callable[[int], None] | None = None,
        pacer: Pacer | None = None,
        clock: Callable[[], float] | None = None,
        image_size: int = 0,
        seen: Callable[[Observation], None] | None = None,
        recorder: FlightRecorder | None = None,
    ) -> None:
        joints = profile.action_spec.names[6:]
        self.action_spec = profile.action_spec
        self.takeover_step = profile.takeover_step
        self.ramp_ticks = profile.ramp_ticks
        self.dt = profile.dt
        self.cameras = tuple(camera.name for camera in robot.spec.cameras)
        self.max_ticks = max_ticks
        self.state_names = (
            *(f"tool_{axis}" for axis in "xyz"),
            *(f"tool_r{row}{column}" for column in range(2) for row in range(3)),
            *(f"joint_{name}" for name in joints),
            *(f"command_{name}" for name in joints),
        )
        self.pacer = pacer or Pacer(profile.dt)
        self._clock = clock or self.pacer.now
        self._patience = profile.limits.watchdog
        self._robot = robot
        self._prompt = prompt
        self._judge = judge
        self._arrange = arrange
        self._side = image_size
        self._seen, self._recorder = seen, recorder
        self._target: Target | None = None
        self._tick = 0

    def prepare(self, scene_seed: int) -> None:
        """Let the scene be arranged, reset the robot, and begin to count ticks."""
        if self._arrange is not None:
            self._arrange(scene_seed)
        self._target = self._robot.reset().target
        self._tick = 0
        self.pacer.start()

    def step(self, action: F32) -> Outcome:
        """Send one action, float32 [A], and return at the next deadline; one that is not finite holds."""
        before = self._standing()
        row = np.asarray(action, np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            turned = rotation_of(row[3:6]) @ before.rotation
        wanted = Target(before.position + row[:3], turned, row[6:])
        self._target = None  # a fault below holds
        accepted = self._robot.command(wanted, deadline=self._clock() + self._patience)
        self._target = accepted
        applied = _row(before, accepted)
        if self._recorder is not None:
            self._recorder.note(tick=self._tick, asked=row, accepted=applied, position=accepted.position)
        self._tick += 1
        verdict = self._judge()
        success, over = verdict == "success", verdict != ""
        self.pacer.wait()
        return Outcome(
            applied=applied,
            reward=float(success) - TICK_COST / self.max_ticks,
            terminated=over,
            truncated=not over and self._tick >= self.max_ticks,
            success=success,
        )

    def observe(self, images: bool = True) -> Observation:
        """Return what a policy may see."""
        self._target = None  # a fault below holds
        reading = self._robot.observe(images)
        self._target = reading.target  # not what was sent last: whoever is below may have held meanwhile
        pictures = {name: squared(image, self._side) for name, image in reading.images.items()}
        obs = Observation(pictures, state_of(reading), self._prompt, _oldest(reading))
        if self._seen is not None:
            self._seen(obs)
        return obs

    def rest(self) -> F32:
        """Return the action that moves nothing, float32 [A]."""
        hand = self._standing().hand
        return np.concatenate([np.zeros(6), hand]).astype(np.float32)

    def hold(self) -> None:
        """Stop the robot and keep position; what comes next begins from where it then stands."""
        self._target = None
        self._robot.hold()

    def close(self) -> None:
        """Hold, and let go of the robot."""
        self._robot.close()

    def _standing(self) -> Target:
        if self._target is None:
            self._target = self._robot.observe(images=False).target
        return self._target


def state_of(reading: Reading) -> F32:
    """Return the state row float32 [9 + 2 J] of a reading."""
    r = reading.rotation
    parts = [reading.position, r[:, 0], r[:, 1], reading.hand, reading.target.hand]
    return np.concatenate(parts).astype(np.float32)


def squared(image: U8, side: int) -> U8:
    """Return the middle square of an image [H, W, 3], scaled to uint8 [side, side, 3]; side 0: the image itself."""
    height, width, _ = image.shape
    if not side or height == width == side:
        return image
    from PIL import Image

    edge = min(height, width)
    left, top = (width - edge) / 2, (height - edge) / 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX, box=box))


def _row(before: Target, after: Target) -> F32:
    turn = vector_of(after.rotation @ before.rotation.T)
    return np.concatenate([after.position - before.position, turn, after.hand]).astype(np.float32)


def _oldest(reading: Reading) -> float:
    return min([reading.t, *reading.stamps.values()])
