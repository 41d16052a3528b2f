"""One labelled scene: objects on a table that are put into random states without any physics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.sim.arm_hand import (
    ACTUATED,
    ARM_HOME,
    DISTAL_COUPLING,
    FINGERS,
    HAND_HIGH,
    HAND_LOW,
    NEUTRAL,
    POSTURES,
    ArmKinematics,
)
from bora_cli.sim.engine import mujoco
from bora_cli.sim.labelled_language import FREE, NOUNS, Seen, side_of
from bora_cli.sim.labels import Situation, View
from bora_cli.sim.rotations import about_z, rotation_from_vector
from bora_cli.sim.scene import Appearance, Layout, build_spec
from bora_cli.sim.tasks import get_task
from bora_cli.sim.tasks.base import fold
from bora_cli.sim.tasks.open_box import OPEN_ANGLE
from bora_cli.sim.tasks.pick_place import BIN_REACH, BIN_WALL, LOW, Bin, add_bin
from bora_cli.sim.tasks.pick_toy import heading
from bora_cli.sim.tasks.press_button import PRESSED, STROKE, TIP_FROM_TOOL
from bora_cli.sim.variation import name_colour
from bora_cli.types import F32

CAMERAS = ("scene", "wrist")
NEAR_SHARE = 0.6
TIP_TO_CAP = 0.017
"""Height of the index finger's tip site above the centre of a cap that it touches, m."""
DEEPEST = 0.012
"""Penetration of the hand from which a state is drawn again, m."""
TRIES = 6

IN_BIN_SHARE = 0.2
"""How often an object lies in the bin where there is one."""
OUT_M, TIED_M = 0.03, 0.012
"""Distance of a tissue from its place from which it is out of the box, and up to which it is not, m."""

_BODIES = {
    "pick_toy": ("toy",),
    "open_box": ("box", "lid"),
    "press_button": ("housing", "cap"),
    "pick_place": ("object",),
    "pull_tissue": ("tissue", "tissue_box"),
}
_JOINT = {
    "pick_toy": "toy",
    "open_box": "lid",
    "press_button": "cap",
    "pick_place": "object",
    "pull_tissue": "tissue",
}

Rng = np.random.Generator
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Composition:
    """What stands on the table.

    objects: (task, item) pairs.  goal: the bin, if there is one.
    """

    objects: tuple[tuple[str, Any], ...]
    appearance: Appearance
    goal: Bin | None = None


class LabelledScene:
    """A compiled composition that takes one random state after the other.

    target: index of the object that is spoken of.  What the hand is busy with is drawn without regard to it:
    otherwise the object at the hand would be the right one, whatever the instruction says.
    """

    def __init__(self, composition: Composition, kinematics: ArmKinematics) -> None:
        self.composition = composition
        self._kinematics = kinematics
        self.target = self._focus = 0
        (task, item), *others = composition.objects
        spec = build_spec(Layout(task, "standard", item, composition.appearance, (0.47, 0.0, 0.22)))
        prefixes = [""]
        for i, (other_task, other) in enumerate(others):
            part = mujoco.MjSpec()
            part.compiler.degree = False
            get_task(other_task).add_to(part, other)
            prefixes.append(f"other{i}_")
            spec.attach(part, prefix=prefixes[-1], frame=spec.worldbody.add_frame())
        if composition.goal is not None:
            add_bin(spec, composition.goal)
        model = spec.compile()
        self.model, self.data = model, mujoco.MjData(model)
        self._camera = model.camera("scene").id
        self._eye = model.cam_pos[self._camera].copy()
        self._tool = model.site("tool").id
        self._hand_qpos = np.array([model.joint(name).qposadr[0] for name in ACTUATED])
        self._distal_qpos = np.array([model.joint(f"{name}_distal").qposadr[0] for name in FINGERS])
        self._robot_bodies = 1 + max(model.body(f"{name}_distal").id for name in FINGERS)
        self._targets = [model.site(f"{prefix}target").id for prefix in prefixes]
        self._joints, self._bodies = [], []
        for prefix, (name, _) in zip(prefixes, composition.objects, strict=True):
            self._joints.append(int(model.joint(prefix + _JOINT[name]).qposadr[0]))
            self._bodies.append([model.body(prefix + body).id for body in _BODIES[name]])
        self._start = self.data.qpos.copy()
        self._command = np.array(POSTURES["open"])
        self._held = False
        self.hand_open: bool | None = True

    # -- drawing a state -------------------------------------------------------------------------------------

    def draw(self, rng: Rng) -> None:
        """Draw a state, again if the hand is deep inside something that it does not hold; then a target."""
        self._focus, self.target = (int(i) for i in rng.integers(len(self.composition.objects), size=2))
        reach = 0.01 if rng.random() < 0.5 else 0.03
        self.model.cam_pos[self._camera] = self._eye + rng.uniform(-reach, reach, 3)
        for _ in range(TRIES):
            self._draw_objects(rng)
            if rng.random() < NEAR_SHARE:
                self._draw_near(rng)
            else:
                self._put_arm(rng, _uniform(rng, (0.30, 0.68), (-0.30, 0.30), (0.05, 0.42)), _yaw(rng))
                self._draw_hand(rng, "point" if self._points(rng) else "any")
            mujoco.mj_fwdPosition(self.model, self.data)
            if self._held or self._penetration() < DEEPEST:
                return

    def _draw_objects(self, rng: Rng) -> None:
        qpos = self.data.qpos
        qpos[:] = self._start
        self._held = False
        goal = self.composition.goal
        for (task, item), joint in zip(self.composition.objects, self._joints, strict=True):
            if task == "open_box" and rng.random() < 0.5:
                qpos[joint] = rng.uniform(0.0, 1.5)
            elif task == "press_button" and rng.random() < 0.15:
                qpos[joint] = -rng.uniform(0.0, STROKE)
            elif task == "pick_place" and goal is not None and rng.random() < IN_BIN_SHARE:
                qpos[joint : joint + 2] = np.array([goal.x, goal.y]) + rng.uniform(-0.04, 0.04, 2)
                qpos[joint + 2] += 2 * BIN_WALL
                goal = None  # there is room for one
            elif task in ("pick_toy", "pick_place") and rng.random() < 0.12:
                qpos[joint + 2] = item.half_width
                qpos[joint + 3 : joint + 7] = _rolled(rng, qpos[joint + 3 : joint + 7])
        mujoco.mj_kinematics(self.model, self.data)

    def _draw_near(self, rng: Rng) -> None:
        """Put the hand near one object, or let it do what its task asks for."""
        task = self.composition.objects[self._focus][0]
        target, yaw = self._position(self._focus), self._heading(self._focus)
        acting = rng.random() < 0.4
        spread = float(rng.choice([0.006, 0.02, 0.05, 0.08], p=[0.25, 0.3, 0.25, 0.2]))
        offset = rng.normal(0.0, spread, 3)
        offset[2] = 1.3 * abs(offset[2])
        if task == "press_button":
            joint = self._joints[self._focus]
            target[2] += TIP_TO_CAP - self.data.qpos[joint]
            target -= TIP_FROM_TOOL
            self.data.qpos[joint] = 0.0
            if acting:
                self.data.qpos[joint] = -rng.uniform(0.0, STROKE)
                offset = np.array([*rng.normal(0.0, 0.006, 2), self.data.qpos[joint]])
            self._put_arm(rng, target + offset, float(rng.normal(0.0, 0.15)))
            self._draw_hand(rng, "point" if acting or self._points(rng) else "any")
        elif acting:
            self._hold(rng, target, yaw)
        else:
            goal = np.maximum(target + offset, [-1.0, -1.0, 0.02])
            self._put_arm(rng, goal, yaw + float(rng.normal(0.0, 0.25)))
            self._draw_hand(rng, "any")

    def _hold(self, rng: Rng, target: F64, yaw: float) -> None:
        """Close the hand around the handle, or around the toy or the like wherever the hand then is."""
        self._held = True
        free = self.composition.objects[self._focus][0] in FREE
        if free and rng.random() < 0.6:
            target, yaw = _uniform(rng, (0.36, 0.62), (-0.25, 0.25), (0.03, 0.30)), _yaw(rng)
        slip = rng.normal(0.0, 0.005, 3)
        self._put_arm(rng, target + slip, yaw + float(rng.normal(0.0, 0.1)))
        self._draw_hand(rng, "hold")
        if free:
            joint = self._joints[self._focus]
            centre = self.data.site_xpos[self._tool] - slip + [0.0, 0.0, 0.006]
            self.data.qpos[joint : joint + 3] = np.maximum(centre, [-1.0, -1.0, 0.02])
            turned = about_z(yaw) @ rotation_from_vector(rng.normal(0.0, 0.12, 3))
            mujoco.mju_mat2Quat(self.data.qpos[joint + 3 : joint + 7], turned.ravel())

    def _put_arm(self, rng: Rng, position: F64, yaw: float) -> None:
        rotation = rotation_from_vector(rng.normal(0.0, 0.05, 3)) @ about_z(yaw) @ NEUTRAL
        self.data.qpos[:7] = self._kinematics.solve(np.array(ARM_HOME), position, rotation, iterations=16)
        mujoco.mj_kinematics(self.model, self.data)

    def _points(self, rng: Rng) -> bool:
        return self.composition.objects[self._focus][0] == "press_button" and bool(rng.random() < 0.75)

    def _draw_hand(self, rng: Rng, posture: str) -> None:
        """Set the hand's joints and its command.

        posture: point; hold, closed around something, so that the joints stay behind the command; or any.
        """
        opened, closed = np.array(POSTURES["open"]), np.array(POSTURES["close"])
        if posture == "point":
            command = reached = np.array(POSTURES["point"])
            self.hand_open = None
        elif posture == "any" and rng.random() < 0.1:
            command = reached = np.array(POSTURES["release"])
            self.hand_open = True
        else:
            closing = 1.0 if posture == "hold" else float(np.clip(rng.uniform(-0.6, 1.4), 0.0, 1.0))
            lag = float(rng.uniform(0.45, 0.85)) if posture == "hold" else float(rng.uniform(0.8, 1.0))
            command = opened + closing * (closed - opened)
            reached = opened + lag * closing * (closed - opened)
            self.hand_open = None if 0.3 < closing < 0.7 else closing <= 0.3
        self._command = np.clip(command + rng.normal(0.0, 0.02, 12), HAND_LOW, HAND_HIGH)
        reached = np.clip(reached + rng.normal(0.0, 0.03, 12), HAND_LOW, HAND_HIGH)
        self.data.qpos[self._hand_qpos] = reached
        self.data.qpos[self._distal_qpos] = DISTAL_COUPLING * reached[5::2]

    # -- reading it ------------------------------------------------------------------------------------------

    def proprioception(self) -> F32:
        """Return float32 [33] in the order of the simulation's state."""
        rotation = self.data.site_xmat[self._tool].reshape(3, 3)
        measured = self.data.qpos[self._hand_qpos]
        tool = self.data.site_xpos[self._tool]
        parts = (tool, rotation[:, 0], rotation[:, 1], measured, self._command)
        return np.concatenate(parts).astype(np.float32)

    def tool_position(self) -> tuple[float, float, float]:
        """Return the tool point, world, m."""
        x, y, z = (float(v) for v in self.data.site_xpos[self._tool])
        return x, y, z

    def situation(self) -> Situation:
        """Return what labels are computed from, about the target."""
        rotation = self.data.site_xmat[self._tool].reshape(3, 3)
        target, goal = self.target, self.composition.goal
        task, item = self.composition.objects[target]
        return Situation(
            task=task,
            item=item,
            target=self._position(target),
            rest_height=float(self._start[self._joints[target] + 2]) if task in FREE else 0.0,
            yaw=self._heading(target),
            tool=self.data.site_xpos[self._tool].copy(),
            tool_yaw=math.atan2(rotation[1, 0], rotation[0, 0]),
            travel=0.0 if task in FREE else abs(float(self.data.qpos[self._joints[target]])),
            touching=self._touching(target),
            in_hand=self._in_hand(target),
            done=self._done(target),
            side=side_of(self.seen(), target),
            goal=None if goal is None else np.array([goal.x, goal.y]),
            views={name: self._view(name) for name in CAMERAS},
        )

    def seen(self) -> list[Seen]:
        """Return all objects as language sees them."""
        found = []
        for i, (task, item) in enumerate(self.composition.objects):
            x, y, z = (float(v) for v in self.data.site_xpos[self._targets[i]])
            found.append(
                Seen(
                    task=task,
                    noun=item.noun if task == "pick_place" else NOUNS[task],
                    colour=name_colour(item.palette.main),
                    position=(x, y, z),
                    touching=self._touching(i),
                    in_hand=self._in_hand(i),
                    done=self._done(i),
                )
            )
        return found

    def _position(self, index: int) -> F64:
        return self.data.site_xpos[self._targets[index]].copy()

    def _heading(self, index: int) -> float:
        task, item = self.composition.objects[index]
        if task not in FREE:
            return float(item.yaw)
        rotation = self.data.xmat[self._bodies[index][0]].reshape(3, 3)
        if task == "pull_tissue":
            return fold(math.atan2(rotation[1, 0], rotation[0, 0]))
        return heading(rotation)

    def _done(self, index: int) -> bool | None:
        """Return whether a lid is open, a cap pressed, an object in the bin or a tissue out of its box; None
        near the limit, and for toys."""
        task = self.composition.objects[index][0]
        if task == "pick_toy":
            return None
        if task in FREE:
            return self._moved(index)
        share = abs(float(self.data.qpos[self._joints[index]])) / (
            OPEN_ANGLE if task == "open_box" else PRESSED
        )
        return None if 0.75 < share < 1.15 else share > 1.0

    def _moved(self, index: int) -> bool | None:
        """Return whether an object lies in the bin, or a tissue is out of its box; None if hard to say."""
        here = self.data.site_xpos[self._targets[index]]
        if self.composition.objects[index][0] == "pull_tissue":
            start = self._start[self._joints[index] :][:3]
            away = float(np.linalg.norm(here - start))
            return None if TIED_M < away < OUT_M else away >= OUT_M
        goal = self.composition.goal
        if goal is None:
            return None
        inside = max(abs(here[0] - goal.x), abs(here[1] - goal.y)) < BIN_REACH
        return None if inside and here[2] >= LOW else inside

    def _in_hand(self, index: int) -> bool | None:
        """Return whether the hand holds an object; None where it could be said either way."""
        if index == self._focus and self._held:
            return True
        distance = np.linalg.norm(self.data.site_xpos[self._targets[index]] - self.data.site_xpos[self._tool])
        return False if distance > 0.04 or self.hand_open else None

    def _touching(self, index: int) -> bool:
        bodies, robot = self._contacts()
        return bool((robot.any(axis=1) & np.isin(bodies, self._bodies[index]).any(axis=1)).any())

    def _penetration(self) -> float:
        """Return the deepest overlap of the hand with anything else, m."""
        _, robot = self._contacts()
        deep = -self.data.contact.dist[robot.any(axis=1) & ~robot.all(axis=1)]
        return float(deep.max(initial=0.0))

    def _contacts(self) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Return the two bodies of every contact, [c, 2], and whether each belongs to the robot."""
        bodies = self.model.geom_bodyid[self.data.contact.geom]
        return bodies, (bodies > 0) & (bodies < self._robot_bodies)

    def _view(self, camera: str) -> View:
        i = self.model.camera(camera).id
        return View(
            position=self.data.cam_xpos[i].copy(),
            rotation=self.data.cam_xmat[i].reshape(3, 3).copy(),
            half=math.tan(math.radians(float(self.model.cam_fovy[i])) / 2),
        )


def _uniform(rng: Rng, *intervals: tuple[float, float]) -> F64:
    return np.array([rng.uniform(low, high) for low, high in intervals])


def _yaw(rng: Rng) -> float:
    return float(rng.uniform(-0.75, 0.75))


def _rolled(rng: Rng, quat: F64) -> F64:
    """Return the orientation, quaternion [4], of something that fell on its side or on its nose."""
    axis = np.array([0.0, 1.0, 0.0]) if rng.random() < 0.7 else np.array([1.0, 0.0, 0.0])
    turn, rolled = np.zeros(4), np.zeros(4)
    mujoco.mju_axisAngle2Quat(turn, axis, float(rng.choice([-1.0, 1.0]) * rng.uniform(1.2, 1.9)))
    mujoco.mju_mulQuat(rolled, quat, turn)
    return rolled
