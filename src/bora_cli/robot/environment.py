"""A Gymnasium environment as a robot, so that what was written for one can be driven as the other.

An environment whose steps are tasks with rewards is a rig (`bora collect --env`, docs/environments.md).  This is for
one that stands for an arm: HIL-SERL's and LeRobot's robot environments, or a simulator that a lab already has.  It is
used through what every environment has, `reset`, `step` and `close`; gymnasium itself is not imported.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import RobotFault
from bora_cli.robot.protocol import Reading, RobotSpec, Target, require_joints
from bora_cli.types import U8

F64 = NDArray[np.float64]
LOGGER = logging.getLogger(__name__)
Stand = tuple[F64, F64, F64]
"""Measured position [3] m and rotation [3, 3] of the tool in base, and hand [J] rad."""


class EnvRobot:
    """A Gymnasium environment behind the seam of a robot.

    Time passes only with commands: each that is in time is one step of the environment.  spec: what the robot is.
    stand: observation -> where it stands.  action: (target in force, target asked) -> action of the environment and the
    target that it stands for after the environment's own limits.  pictures: observation -> images by camera.  An
    environment that ends an episode by itself stands still until the next reset.  clock: s.
    """

    def __init__(
        self,
        environment: Any,
        spec: RobotSpec,
        *,
        stand: Callable[[Any], Stand],
        action: Callable[[Target, Target], tuple[Any, Target]],
        pictures: Callable[[Any], dict[str, U8]] = lambda seen: {},
        seed: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self._environment = environment
        self._stand, self._action, self._pictures = stand, action, pictures
        self._seed, self._clock = seed, clock
        self._seen: Any = None
        self._target: Target | None = None
        self._over = True
        self._closed = False

    def reset(self) -> Reading:
        """Reset the environment; it is at rest then, or should be."""
        if self._closed:
            raise RobotFault(f"{self.spec.name} is closed.", "Make it again.")
        self._seen, _ = self._environment.reset(seed=self._seed)
        self._over, self._target = False, None
        return self.observe(images=False)

    def observe(self, images: bool = True) -> Reading:
        """Return what the environment observed last."""
        if self._seen is None:
            return self.reset()
        now = self._clock()
        position, rotation, hand = (np.array(x, np.float64) for x in self._stand(self._seen))
        if self._target is None:
            self._target = Target(position, rotation, np.clip(hand, self.spec.low, self.spec.high))
        pictures = (
            {name: np.array(x, np.uint8) for name, x in self._pictures(self._seen).items()} if images else {}
        )
        return Reading(
            now,
            position.copy(),
            rotation.copy(),
            hand,
            _copy(self._target),
            pictures,
            dict.fromkeys(pictures, now),
        )

    def command(self, target: Target, *, deadline: float) -> Target:
        """Step towards a target; one that is late or nonsense, or comes after the end, does nothing."""
        require_joints(target, self.spec)
        if self._closed:
            raise RobotFault(f"{self.spec.name} is closed.", "Make it again.")
        if self._target is None:
            self.observe(images=False)
        assert self._target is not None
        if target.sound and not self._over and self._clock() <= deadline:
            action, self._target = self._action(_copy(self._target), _copy(target))
            self._seen, _, terminated, truncated, _ = self._environment.step(action)
            self._over = bool(terminated or truncated)
            if self._over:
                LOGGER.warning("%s ended its episode and stands still until it is reset", self.spec.name)
        return _copy(self._target)

    def hold(self) -> None:
        """Let what is measured be the target; without a command no time passes."""
        self._target = None

    def close(self) -> None:
        """Close the environment."""
        self.hold()
        if not self._closed:
            self._closed = True
            self._environment.close()


def _copy(target: Target) -> Target:
    return Target(target.position.copy(), target.rotation.copy(), target.hand.copy())
