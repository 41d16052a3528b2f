"""What an execution gap does to a compiled model; delay, bias and scale act in `Simulation.step` instead."""

from __future__ import annotations

from bora_cli.sim.arm_hand import ARM_HOME
from bora_cli.sim.engine import mujoco
from bora_cli.sim.gaps import Gap

LOADED_BODY = "hand"


def apply_gap(model: mujoco.MjModel, gap: Gap) -> None:
    """Change friction, scene camera, load and hand of a fresh model as the gap says; nothing else moves."""
    if gap.friction_scale != 1.0:
        model.geom_friction[:, 0] *= gap.friction_scale
    if any(gap.camera_shift):
        model.cam_pos[model.camera("scene").id] += gap.camera_shift
    if gap.payload:
        _load(model, gap.payload)
    if gap.hand_force != 1.0:
        hand = slice(len(ARM_HOME), None)
        model.actuator_gainprm[hand, 0] *= gap.hand_force
        model.actuator_biasprm[hand, 1] *= gap.hand_force
        model.actuator_forcerange[hand] *= gap.hand_force


def _load(model: mujoco.MjModel, mass: float) -> None:
    """Add kg at the hand's centre of mass; gravity compensation goes on carrying the old mass only."""
    hand = model.body(LOADED_BODY).id
    before = float(model.body_mass[hand])
    model.body_mass[hand] = before + mass
    model.body_gravcomp[hand] *= before / (before + mass)
    mujoco.mj_setConst(model, mujoco.MjData(model))
