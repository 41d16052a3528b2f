"""The simulated arm and hand as a robot that knows nothing of tasks; what proves the drivers' side without one."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bora_cli.robot.frames import vector_of
from bora_cli.robot.protocol import CameraSpec, Reading, RobotSpec, Target, require_joints
from bora_cli.sim.arm_hand import ArmKinematics
from bora_cli.sim.simulation import CAMERAS, Simulation

F64 = NDArray[np.float64]


class SimRobot:
    """A simulation behind the seam of a robot.

    Time passes only with commands: each that is in time is one tick of the simulation.  Its limits are the
    simulation's own.  scene_seed: which scene every reset builds.  profile_hash: of the profile it was set up with.
    clock: s, for stamps and deadlines.
    """

    def __init__(
        self,
        sim: Simulation,
        *,
        scene_seed: int = 0,
        profile_hash: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sim = sim
        self._kinematics = ArmKinematics()
        self._scene_seed = scene_seed
        self._clock = clock
        sim.prepare(scene_seed)  # a robot can be looked at before it is reset
        hand = sim.action_spec.slice("hand")
        side = sim.image_size
        self.spec = RobotSpec(
            name="sim",
            joints=sim.action_spec.names[hand],
            low=tuple(float(x) for x in sim.action_spec.low[hand]),
            high=tuple(float(x) for x in sim.action_spec.high[hand]),
            dt=sim.dt,
            cameras=tuple(CameraSpec(name, side, side) for name in CAMERAS),
            profile_hash=profile_hash,
        )

    def reset(self) -> Reading:
        """Build the scene afresh."""
        self._sim.prepare(self._scene_seed)
        return self.observe(images=False)

    def observe(self, images: bool = True) -> Reading:
        """Return the exact state of the simulation."""
        now = self._clock()
        seen, truth = self._sim.observe(images), self._sim.privileged()
        joints = len(self.spec.joints)
        return Reading(
            t=now,
            position=truth.tool_position,
            rotation=truth.tool_rotation,
            hand=seen.state[-2 * joints : -joints].astype(np.float64),
            target=self._in_force(),
            images=seen.images,
            stamps=dict.fromkeys(seen.images, now),
            arm=truth.arm,
        )

    def arm_along(self, positions: F64, rotations: F64) -> F64:
        """Return the joints that the arm is told to hold, and those along a way of the tool, [1 + K, 7] rad."""
        return self._kinematics.along(self._sim.privileged().arm_command, positions, rotations)

    def command(self, target: Target, *, deadline: float) -> Target:
        """Step the simulation towards a target, by as much as one tick allows."""
        require_joints(target, self.spec)
        at = self._in_force()
        if target.sound and self._clock() <= deadline:
            turn = vector_of(target.rotation @ at.rotation.T)
            row = np.concatenate([target.position - at.position, turn, target.hand])
            self._sim.step(row.astype(np.float32))
        return self._in_force()

    def hold(self) -> None:
        """Keep the commanded pose; without a command no time passes."""

    def close(self) -> None:
        """Release the renderer."""
        self._sim.close()

    def _in_force(self) -> Target:
        truth = self._sim.privileged()
        return Target(truth.commanded_position, truth.commanded_rotation, truth.hand_command)
