"""Scenes: draw a layout from a seed, build a MuJoCo model from a layout.

Names in every compiled model: those of `arm_hand` (which come first, so qpos[:23] and qvel[:23] are the
robot), geoms `table`, `floor`, `wall`, cameras `scene` and `wrist`, light `sun`, and the site `target` where
the hand acts.  The object adds: pick_toy body and free joint `toy`; open_box bodies `box`, `lid` and hinge
`lid`; press_button bodies `housing`, `cap` and slide `cap`; pick_place bodies `object`, `decoy` (with free
joints) and `bin`; pull_tissue bodies `tissue_box`, `tissue`, `decoy_box`, `decoy` and the welds `tissue`,
`decoy`.  Bodies `distractor...` and `planks` come last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bora_cli.sim.appearance import Appearance, add_planks, add_surroundings, draw_appearance, vary
from bora_cli.sim.arm_hand import add_robot
from bora_cli.sim.distractors import Distractor, add_distractors, draw_distractors
from bora_cli.sim.engine import mujoco
from bora_cli.sim.parts import Vec3
from bora_cli.sim.scene_options import SceneOptions
from bora_cli.sim.tasks import get_task
from bora_cli.sim.tasks.base import draw_streams
from bora_cli.sim.variation import require_setting

__all__ = ["Appearance", "Layout", "build_model", "build_spec", "draw_appearance", "draw_layout"]

TIMESTEP = 0.0025
"""Physics step, s: with 4 ms and more the hand loses grasps."""
BYSTANDERS = ("distractor", "planks")
"""How the names of bodies begin that do not belong to the task; they come after all others."""
MAX_FRAME = 640
"""Largest width and height of a rendered image, px."""


@dataclass(frozen=True)
class Layout:
    """Everything drawn of a scene; `build_model` needs nothing else.

    item: what the task drew, for instance a `ToyItem`.  tool_start: where the tool begins, m.
    distractors: objects of other tasks.
    """

    task: str
    setting: str
    item: Any
    appearance: Appearance
    tool_start: Vec3
    distractors: tuple[Distractor, ...] = ()


def draw_layout(task: str, setting: str, scene_seed: int, options: SceneOptions = SceneOptions()) -> Layout:
    """Return the layout of a scene seed.

    Shape, layout, physics and appearance come from streams of their own: none of them moves another, and
    neither does any of the options.
    Raises ConfigError for an unknown task or setting.
    """
    require_setting(setting)
    streams = draw_streams(scene_seed, options.hue)
    item = get_task(task).draw(streams, setting)
    start = streams.layout.uniform((-0.04, -0.06, -0.02), (0.04, 0.06, 0.03))
    x, y, z = (float(v) for v in np.array([0.47, 0.0, 0.22]) + start)
    return Layout(
        task=task,
        setting=setting,
        item=item,
        appearance=vary(draw_appearance(streams.appearance), options, scene_seed),
        tool_start=(x, y, z),
        distractors=draw_distractors(task, item, (x, y, z), options.distractors, options.hue, scene_seed),
    )


def build_model(layout: Layout) -> mujoco.MjModel:
    """Return the compiled model of a layout; a new one each time, about 3 ms."""
    return build_spec(layout).compile()


def build_spec(layout: Layout) -> Any:
    """Return the MjSpec of a layout, to which more objects can be attached before it is compiled."""
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    _set_physics(spec)
    add_robot(spec)
    add_surroundings(spec, layout.appearance)
    get_task(layout.task).add_to(spec, layout.item)
    add_distractors(spec, layout.distractors)
    add_planks(spec, layout.appearance)
    return spec


def _set_physics(spec: Any) -> None:
    option = spec.option
    option.timestep = TIMESTEP
    option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # With a pyramidal cone and impratio 1 grasped objects slip out of the hand.
    option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0
    option.iterations = 30
    option.ls_iterations = 15
    option.ccd_tolerance = 1e-4
    option.ccd_iterations = 20
    # A diverged state must be reported, not silently replaced by the initial one.
    option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    # A fixed extent keeps the near plane, which is a multiple of it, where the wrist camera needs it.
    spec.stat.extent = 1.0
    spec.stat.center = [0.45, 0.0, 0.2]
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 12.0
    spec.visual.quality.offsamples = 0
    spec.visual.quality.numslices = 12
    spec.visual.quality.numstacks = 6
    spec.visual.global_.offwidth = MAX_FRAME
    spec.visual.global_.offheight = MAX_FRAME
