"""The simulated robot: reset, step, observe, and exact snapshots.

A step takes an action in physical units and enforces the robot's limits itself, as a controller cabinet
would: the action range, the work space, a leash between commanded and measured tool point, and the speed of
the hand's joints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError, RobotFault, SchemaMismatch
from bora_cli.seeds import stream
from bora_cli.sim.arm_hand import (
    ACTUATED,
    ARM_HOME,
    DISTAL_COUPLING,
    FINGERS,
    NEUTRAL,
    POSTURES,
    ArmKinematics,
    hand_control,
)
from bora_cli.sim.engine import mujoco
from bora_cli.sim.gap_effects import apply_gap
from bora_cli.sim.gaps import Gap, parse_gap
from bora_cli.sim.limits import (
    DT,
    HAND_RATE,
    LEASH,
    ROTATION_LIMIT,
    STATE_NAMES,
    TRANSLATION_LIMIT,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    action_spec,
)
from bora_cli.sim.rotations import orthonormal, rotation_from_vector
from bora_cli.sim.scene import BYSTANDERS, TIMESTEP, Layout, build_model, draw_layout
from bora_cli.sim.scene_options import parse_setting, setting_identity
from bora_cli.sim.state import Privileged, Snapshot, StepResult
from bora_cli.sim.tasks import get_task
from bora_cli.types import F32, U8, Observation

if TYPE_CHECKING:
    from bora_cli.sim.render import Renderer

F64 = NDArray[np.float64]

__all__ = [
    "CAMERAS",
    "HAND_RATE",
    "LEASH",
    "ROTATION_LIMIT",
    "STATE_NAMES",
    "TRANSLATION_LIMIT",
    "WORKSPACE_HIGH",
    "WORKSPACE_LOW",
    "Simulation",
    "action_spec",
]

CAMERAS = ("scene", "wrist")
SETTLE_S = 0.2
TICK_COST = 0.5
"""Sum of the per-tick costs over a whole episode."""


class Simulation:
    """One task in one setting under one execution gap.

    task: a name of `bora_cli.sim.tasks.TASKS`.  setting: standard or unseen, with switches
    of the scene if wanted ("unseen,hue=any", see `parse_setting`).  gap: as `parse_gap` reads it, or a `Gap`.
    image_size: px, side of the square camera images.  backend: renderer, see `bora_cli.sim.render`; it is
    opened with the first image.  Raises ConfigError for unknown names.
    """

    dt = DT

    def __init__(
        self,
        task: str,
        *,
        setting: str = "standard",
        gap: str | Gap = "none",
        image_size: int = 64,
        backend: str = "auto",
    ) -> None:
        self._objects, self.options = parse_setting(setting)
        self._rules = get_task(task)
        self.task = task
        self.setting = setting_identity(self._objects, self.options)
        self.gap = parse_gap(gap) if isinstance(gap, str) else gap
        self.image_size = image_size
        self.action_spec = action_spec()
        self.state_names = STATE_NAMES
        self.cameras = CAMERAS
        self.max_ticks = self._rules.max_ticks
        self.instruction = ""
        self._bias = np.asarray(self.gap.action_bias, float)
        self._backend = backend
        self._renderer: Renderer | None = None
        self._kinematics = ArmKinematics()
        self._substeps = round(self.dt / TIMESTEP)
        self._scene_seed: int | None = None

    # -- episode
    # ------------------------------------------------------------------------------------------------

    def reset(self, scene_seed: int) -> Observation:
        """Build the scene of a seed and return its first observation, with images."""
        self.prepare(scene_seed)
        return self.observe()

    def prepare(self, scene_seed: int) -> None:
        """Build the scene of a seed and let it settle, without rendering."""
        self._build(scene_seed)
        model, data = self.model, self.data
        self._position = np.array(self.layout.tool_start)
        self._rotation = NEUTRAL.copy()
        self._joints = self._kinematics.solve(
            np.array(ARM_HOME), self._position, self._rotation, iterations=40
        )
        self._hand = np.array(POSTURES["open"])
        self._pending = [self._rest()] * self.gap.latency
        data.qpos[:7] = self._joints
        data.qpos[self._hand_qpos] = self._hand
        data.qpos[self._distal_qpos] = DISTAL_COUPLING * self._hand[5::2]
        data.ctrl[:] = np.concatenate([self._joints, hand_control(self._hand)])
        mujoco.mj_step(model, data, nstep=round(SETTLE_S / TIMESTEP))
        mujoco.mj_fwdPosition(model, data)
        self._start = data.site_xpos[self._target].copy()
        self._tick = 0
        self._held = 0

    def step(self, action: F32) -> StepResult:
        """Execute one tick and return what was applied and what came of it; renders nothing.

        action: float32 [18] in the units of `action_spec`.  If any number of it is not finite, the robot
        holds. Raises SchemaMismatch for another shape, RobotFault if the physics diverged.
        """
        self._require_scene()
        applied = self._limit(action).astype(np.float32).astype(np.float64)  # as recorded, to replay exactly
        self._pending.append(applied)
        command = self._pending.pop(0)
        position, self._rotation = self._moved(self._position, self._rotation, command)
        self._position = self._on_leash(position)
        self._hand = command[6:].copy()
        self._joints = self._kinematics.solve(self._joints, self._position, self._rotation)
        self.data.ctrl[:] = np.concatenate([self._joints, hand_control(self._hand)])
        self._advance()
        if not np.isfinite(self.data.qpos).all():
            raise RobotFault(
                f"The simulation of scene {self._scene_seed} diverged at tick {self._tick}; expected finite"
                " states.",
                "Report the scene seed and leave it out.",
            )
        self._tick += 1
        self._held = self._held + 1 if self._progress() >= 1.0 else 0
        success = self._held >= self._rules.hold_ticks
        terminated = success or self._rules.lost(self.data)
        return StepResult(
            applied=applied.astype(np.float32),
            reward=float(success) - TICK_COST / self.max_ticks,
            terminated=terminated,
            truncated=not terminated and self._tick >= self.max_ticks,
            success=success,
        )

    def hold(self) -> None:
        """Keep the commanded pose; without a step nothing moves, so there is nothing to do."""

    def observe(self, images: bool = True) -> Observation:
        """Return what a policy may see; without images the cameras are not rendered."""
        self._require_scene()
        rotation = self.data.site_xmat[self._tool].reshape(3, 3)
        state = np.concatenate(
            [
                self.data.site_xpos[self._tool],
                rotation[:, 0],
                rotation[:, 1],
                self.data.qpos[self._hand_qpos],
                self._hand,
            ]
        )
        pictures: dict[str, U8] = {}
        if images:
            pictures = self._open_renderer().images(self.model, self.data, CAMERAS, self.image_size)
        return Observation(
            images=pictures, state=state.astype(np.float32), prompt=self.instruction, t=self._tick * self.dt
        )

    def privileged(self) -> Privileged:
        """Return the state that only scripted operators and metrics may read."""
        self._require_scene()
        target = self.data.site_xpos[self._target].copy()
        view = self.data.cam_xpos[self.model.camera("scene").id] - target
        position, rotation = self._position.copy(), self._rotation.copy()
        for command in self._pending:
            position, rotation = self._moved(position, rotation, command)
        return Privileged(
            task=self.task,
            item=self.layout.item,
            tick=self._tick,
            dt=self.dt,
            tool_position=self.data.site_xpos[self._tool].copy(),
            tool_rotation=self.data.site_xmat[self._tool].reshape(3, 3).copy(),
            commanded_position=position,
            commanded_rotation=rotation,
            hand_command=self._newest_hand.copy(),
            target_position=target,
            target_start=self._start.copy(),
            target_yaw=self._rules.yaw(self.model, self.data),
            view=view / np.linalg.norm(view),
            progress=self._progress(),
            touching=self._touching(),
            success=self._held >= self._rules.hold_ticks,
            drift=self._bias.copy(),
            arm=self.data.qpos[:7].copy(),
            arm_command=self._joints.copy(),
            decoy=self._rules.decoy(self.data),
        )

    # -- state and pictures
    # ----------------------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return the complete state; `restore` continues from it bit by bit."""
        self._require_scene()
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        physics = np.zeros(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_getState(self.model, self.data, physics, kind)
        return Snapshot(
            task=self.task,
            setting=self.setting,
            gap=self.gap.identity,
            scene_seed=int(self._scene_seed or 0),
            physics=physics,
            position=self._position.copy(),
            rotation=self._rotation.copy(),
            joints=self._joints.copy(),
            hand=self._hand.copy(),
            start=self._start.copy(),
            tick=self._tick,
            held=self._held,
            pending=np.array(self._pending).reshape(-1, self.action_spec.dim),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Return to a snapshot of this task, setting and gap; the scene is rebuilt if it is another one.

        Raises ConfigError for a snapshot of another task, setting or gap, with the simulation unchanged.
        """
        for name, mine in (("task", self.task), ("setting", self.setting), ("gap", self.gap.identity)):
            its = getattr(snapshot, name)
            if its != mine:
                raise ConfigError(
                    f"The snapshot was taken of {name} {its}; expected {mine}.",
                    "Restore it into a Simulation with these arguments.",
                )
        if snapshot.scene_seed != self._scene_seed:
            self._build(snapshot.scene_seed)
        self._position, self._rotation = snapshot.position.copy(), snapshot.rotation.copy()
        self._joints, self._hand = snapshot.joints.copy(), snapshot.hand.copy()
        self._start, self._tick, self._held = snapshot.start.copy(), snapshot.tick, snapshot.held
        self._pending = list(snapshot.pending.copy())
        mujoco.mj_setState(self.model, self.data, snapshot.physics, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_fwdPosition(self.model, self.data)

    def frame(self, camera: str = "scene", size: int = 320, fancy: bool = True) -> U8:
        """Return a picture for people, uint8 [size, size, 3]; fancy adds shadows and finer shapes."""
        self._require_scene()
        return self._open_renderer().images(self.model, self.data, (camera,), size, fancy=fancy)[camera]

    @property
    def backend(self) -> str:
        """Name of the renderer in use; opens it."""
        return self._open_renderer().backend

    def close(self) -> None:
        """Release the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    # -- inside
    # -------------------------------------------------------------------------------------------------

    def _build(self, scene_seed: int) -> None:
        self.layout: Layout = draw_layout(self.task, self._objects, scene_seed, self.options)
        model = build_model(self.layout)
        apply_gap(model, self.gap)
        self.model, self.data = model, mujoco.MjData(model)
        self._scene_seed = scene_seed
        self._tool, self._target = model.site("tool").id, model.site("target").id
        self._hand_qpos = np.array([model.joint(name).qposadr[0] for name in ACTUATED])
        self._distal_qpos = np.array([model.joint(f"{name}_distal").qposadr[0] for name in FINGERS])
        extra = [i for i in range(model.nbody) if model.body(i).name.startswith(BYSTANDERS)]
        self._item_end = min(extra, default=model.nbody)
        self._robot_bodies = 1 + max(model.body(f"{name}_distal").id for name in FINGERS)
        wordings = self._rules.instructions(self.layout.item)
        self.instruction = wordings[int(stream("language", scene_seed).integers(len(wordings)))]

    def _moved(self, position: F64, rotation: F64, command: F64) -> tuple[F64, F64]:
        """Return the tool pose, [3] m and [3, 3], that a command [18] makes of a pose under the gap."""
        scale = self.gap.action_scale
        moved = np.clip(position + scale * command[:3] + self._bias, WORKSPACE_LOW, WORKSPACE_HIGH)
        return moved, orthonormal(rotation_from_vector(scale * command[3:6]) @ rotation)

    def _advance(self) -> None:
        """Let the physics run for one tick."""
        if self._rules.substep is None:
            mujoco.mj_step(self.model, self.data, nstep=self._substeps)
        else:
            follow = self._rules.substep(self.model, self.data)
            for _ in range(self._substeps):
                mujoco.mj_step(self.model, self.data)
                follow()
        mujoco.mj_fwdPosition(self.model, self.data)

    def _rest(self) -> F64:
        """Return the command, float64 [18], that moves nothing."""
        return np.concatenate([np.zeros(6), self._hand])

    @property
    def _newest_hand(self) -> F64:
        """The hand command given last, [12] rad, whether or not it has been executed yet."""
        return self._pending[-1][6:] if self._pending else self._hand

    def _limit(self, action: F32) -> F64:
        """Return the action, float64 [18], that the robot agrees to execute."""
        wanted = np.asarray(action, dtype=np.float64)
        if wanted.shape != (self.action_spec.dim,):
            raise SchemaMismatch(
                f"Action has shape {wanted.shape}; expected ({self.action_spec.dim},).",
                "Give one row in the order of Simulation.action_spec.names.",
            )
        if not np.isfinite(wanted).all():
            return np.concatenate([np.zeros(6), self._newest_hand])
        wanted = np.clip(wanted, self.action_spec.low, self.action_spec.high)
        goal = self._on_leash(np.clip(self._position + wanted[:3], WORKSPACE_LOW, WORKSPACE_HIGH))
        reach = HAND_RATE * self.dt
        return np.concatenate(
            [
                np.clip(goal - self._position, -TRANSLATION_LIMIT, TRANSLATION_LIMIT),
                wanted[3:6],
                np.clip(wanted[6:], self._newest_hand - reach, self._newest_hand + reach),
            ]
        )

    def _on_leash(self, position: F64) -> F64:
        """Return the commanded point [3] m, drawn in to the leash around the measured tool point.

        position: within the work space.  The result is too: where the tool itself has been pushed out, the command is
        drawn towards the nearest point inside, and where that is further away than the leash, it is that point.
        """
        measured = self.data.site_xpos[self._tool]
        inside = np.clip(measured, WORKSPACE_LOW, WORKSPACE_HIGH)
        leash = max(LEASH - float(np.linalg.norm(measured - inside)), 0.0)
        offset = position - inside
        length = float(np.linalg.norm(offset))
        return position if length <= leash else inside + offset * (leash / length)

    def _progress(self) -> float:
        return self._rules.progress(self.model, self.data, self._start)

    def _touching(self) -> bool:
        """Return whether a part of the hand touches the object (not the table)."""
        bodies = self.model.geom_bodyid[self.data.contact.geom]
        robot = (bodies > 0) & (bodies < self._robot_bodies)
        item = (bodies >= self._robot_bodies) & (bodies < self._item_end)
        return bool((robot.any(axis=1) & item.any(axis=1)).any())

    def _open_renderer(self) -> Renderer:
        if self._renderer is None:
            from bora_cli.sim.render import Renderer

            self._renderer = Renderer(backend=self._backend)
        return self._renderer

    def _require_scene(self) -> None:
        if self._scene_seed is None:
            raise ConfigError(
                "The simulation has no scene yet; expected reset() first.", "Call reset(scene_seed)."
            )
