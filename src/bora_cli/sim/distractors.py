"""Objects of other tasks that stand around: fixed to the table, out of the hand's way.

A distractor is whatever another task would put on the table, without its joints.  It keeps 8 cm between its
outline and the target's, and as much from the way that the hand takes seen from above.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.seeds import stream
from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Vec3
from bora_cli.sim.tasks import TASKS, get_task
from bora_cli.sim.tasks.base import draw_streams

F64 = NDArray[np.float64]

KEEP_OUT = 0.08
"""Free space between a distractor and the target, or the way of the tool point, m."""
BETWEEN = 0.02
"""Free space between two distractors, m."""
AREA_LOW, AREA_HIGH = (0.30, -0.30), (0.66, 0.30)
"""Where distractors may stand, x and y in m: on the table and in the picture."""
NEAR = 0.12
"""What of a task's objects counts as one: the bodies this close to where the hand would act, m."""
TRIES = 200
PREFIX = "distractor"


@dataclass(frozen=True)
class Distractor:
    """An object of another task.  x, y: m, where its centre stands; radius: m, of its outline from above."""

    task: str
    item: Any
    x: float
    y: float
    radius: float


def draw_distractors(
    task: str, item: Any, tool_start: Vec3, count: int, hue: str, scene_seed: int
) -> tuple[Distractor, ...]:
    """Draw up to `count` objects of other tasks; fewer where the table has no room for more.

    Their kinds are those of the standard setting, so that nothing held out is ever seen in passing; hue:
    see `SceneOptions`.
    """
    if count == 0:
        return ()
    rng = stream("distractors", scene_seed)
    others = [name for name in TASKS if name != task]
    order = [others[int(i)] for i in rng.permutation(len(others))]
    way, taken = _needed(task, item, tool_start)
    placed: list[Distractor] = []
    for i in range(count):
        other = order[i % len(order)]
        streams = draw_streams(scene_seed, hue, f"distractor {i} ")
        drawn = get_task(other).draw(streams, "standard")
        _, model, data = _alone(other, drawn)
        _, radius = _outline(model, data, range(model.ngeom))
        for _ in range(TRIES):
            at = rng.uniform(AREA_LOW, AREA_HIGH)
            if (
                all(np.linalg.norm(at - centre) >= room + radius + KEEP_OUT for centre, room in taken)
                and _distance(at, way) >= radius + KEEP_OUT
                and all(np.hypot(*(at - (p.x, p.y))) >= p.radius + radius + BETWEEN for p in placed)
            ):
                placed.append(Distractor(other, drawn, float(at[0]), float(at[1]), radius))
                break
    return tuple(placed)


def add_distractors(spec: Any, distractors: tuple[Distractor, ...]) -> None:
    """Add the distractors to a MjSpec, after the task's own object; their names begin with `distractor`."""
    for i, distractor in enumerate(distractors):
        part, model, data = _alone(distractor.task, distractor.item)
        centre, _ = _outline(model, data, range(model.ngeom))
        at = [distractor.x - float(centre[0]), distractor.y - float(centre[1]), 0.0]
        spec.attach(part, prefix=f"{PREFIX}{i}_", frame=spec.worldbody.add_frame(pos=at))


def _alone(task: str, item: Any) -> tuple[Any, mujoco.MjModel, mujoco.MjData]:
    """Return the object of a task without joints, as MjSpec, model and forwarded data."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    get_task(task).add_to(spec, item)
    for element in (*spec.equalities, *spec.actuators, *spec.tendons, *spec.sensors, *spec.joints):
        spec.delete(element)
    model, data = _forward(spec)
    target = data.site("target").xpos
    far = [b for b in spec.worldbody.bodies if np.linalg.norm(data.body(b.name).xpos[:2] - target[:2]) > NEAR]
    for body in far:
        spec.delete(body)
    return (spec, *(_forward(spec) if far else (model, data)))


def _forward(spec: Any) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    return model, data


def _outline(model: mujoco.MjModel, data: mujoco.MjData, geoms: Iterable[int]) -> tuple[F64, float]:
    """Return centre [2] and radius in m of a circle, seen from above, that holds these geoms."""
    corners = []
    for i in geoms:
        middle, half = model.geom_aabb[i, :3], model.geom_aabb[i, 3:]
        signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
        turned = (middle + signs * half) @ data.geom_xmat[i].reshape(3, 3).T + data.geom_xpos[i]
        corners.append(turned[:, :2])
    points = np.concatenate(corners)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    return centre, float(np.linalg.norm(points - centre, axis=1).max())


def _needed(task: str, item: Any, tool_start: Vec3) -> tuple[F64, list[tuple[F64, float]]]:
    """Return the hand's way from above, [n, 2] m, and a circle around each object that the task needs."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    rules = get_task(task)
    rules.add_to(spec, item)
    model, data = _forward(spec)
    phases = rules.plan(item, data.site("target").xpos.copy(), rules.yaw(model, data), 0.0)
    way = np.array([tool_start[:2], *(phase.goal[:2] for phase in phases)])
    roots = model.body_rootid[model.geom_bodyid]
    return way, [_outline(model, data, np.flatnonzero(roots == root)) for root in np.unique(roots)]


def _distance(point: F64, way: F64) -> float:
    """Return the distance in m from a point [2] to a polyline [n, 2]."""
    start, step = way[:-1], np.diff(way, axis=0)
    length = np.maximum((step**2).sum(axis=1), 1e-12)
    share = np.clip(((point - start) * step).sum(axis=1) / length, 0.0, 1.0)
    return float(np.linalg.norm(start + share[:, None] * step - point, axis=1).min())
