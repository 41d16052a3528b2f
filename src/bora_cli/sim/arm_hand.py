"""The robot of the suite: a seven-joint arm and a five-finger hand with 12 actuators, built from primitives.

Frames.  World: x away from the robot, y left, z up, arm base at the origin.  Hand: z along the fingers, x out
of the palm, index finger at -y.  The *tool point* lies between thumb and finger tips.  In the neutral tool
orientation the fingers point down, the palm faces away from the base and the thumb is on the far side.

Names in the compiled model: bodies `link1..link7`, `hand`; joints `arm_1..arm_7`, `<ACTUATED>`,
`<finger>_distal`; actuators have the name of their joint; sites `tool`, `tip_thumb`, `tip_index`, ...; camera
`wrist`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.sim.engine import mujoco
from bora_cli.sim.rotations import vector_from_rotation

F64 = NDArray[np.float64]

FINGERS = ("index", "middle", "ring", "little")
ACTUATED = (
    "thumb_yaw",
    "thumb_1",
    "thumb_2",
    "thumb_3",
    *(f"{finger}_{joint}" for finger in FINGERS for joint in ("proximal", "middle")),
)
"""The 12 actuated hand joints, in the order of the action's hand group."""
HAND_LOW = (0.0, -0.5, 0.0, 0.0, *(-0.2, 0.0) * 4)
HAND_HIGH = (1.7, 0.9, 1.2, 1.2, *(1.5, 1.6) * 4)
"""Command range of the actuated joints, rad."""
DISTAL_COUPLING = 0.7
"""Distal command = this times the command of the finger's middle joint.

The coupling lives in the control value: an equality constraint costs solver rows and grasps no better.
"""

ARM_HOME = (0.0, -0.35, 0.0, -2.35, 0.0, 2.0, 0.785)
ARM_LOW = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
ARM_HIGH = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
TOOL_IN_HAND = (0.047, -0.006, 0.170)
NEUTRAL = np.diag([1.0, -1.0, -1.0])
NEUTRAL.setflags(write=False)
"""Neutral tool orientation, world from hand [3, 3]: fingers down."""

_OPEN = (1.57, -0.32, 0.10, 0.10, *(-0.18, 0.50) * 4)
_CLOSE = (1.57, 0.35, 0.25, 0.10, *(0.50, 0.55) * 4)
_RELEASE = (1.57, -0.50, 0.0, 0.0, *(-0.20, 0.10) * 4)
_POINT = (0.60, 0.50, 0.90, 0.90, 0.0, 0.0, *(1.40, 1.50) * 3)
POSTURES: dict[str, tuple[float, ...]] = {
    "open": _OPEN,
    "close": _CLOSE,
    "release": _RELEASE,
    "point": _POINT,
}
"""Named hand commands [12] in rad: approach, grasp, let go, press."""

_SQRT_HALF = 0.7071067811865476
_PLUS_X = (_SQRT_HALF, _SQRT_HALF, 0.0, 0.0)
_MINUS_X = (_SQRT_HALF, -_SQRT_HALF, 0.0, 0.0)
_NONE = (1.0, 0.0, 0.0, 0.0)
_PALE, _GREY = (0.93, 0.93, 0.94, 1.0), (0.35, 0.36, 0.40, 1.0)
_HAND_DARK, _HAND_LIGHT = (0.16, 0.17, 0.20, 1.0), (0.45, 0.47, 0.52, 1.0)
_SHOULDER, _WRIST = (1500.0, 110.0, 87.0), (600.0, 45.0, 30.0)

# Offset from the parent, rotation, mass, (kp, kv, force limit), visual capsules (end points, radius).
_LINKS: tuple[tuple[Any, ...], ...] = (
    (
        (0, 0, 0.333),
        _NONE,
        3.0,
        _SHOULDER,
        (((0, 0, -0.19, 0, 0, 0), 0.06), ((0, -0.05, 0, 0, 0.05, 0), 0.062)),
    ),
    ((0, 0, 0), _MINUS_X, 3.0, _SHOULDER, (((0, 0, 0, 0, -0.2, 0), 0.058),)),
    (
        (0, -0.316, 0),
        _PLUS_X,
        3.0,
        _SHOULDER,
        (((0, 0, -0.1, 0, 0, 0), 0.055), ((0, 0, 0, 0.0825, 0, 0), 0.05)),
    ),
    (
        (0.0825, 0, 0),
        _PLUS_X,
        3.0,
        _SHOULDER,
        (((0, 0, -0.05, 0, 0, 0.05), 0.052), ((0, 0, 0, -0.0825, 0.13, 0), 0.048)),
    ),
    ((-0.0825, 0.384, 0), _MINUS_X, 2.5, _WRIST, (((0, 0, -0.26, 0, 0, 0), 0.046),)),
    ((0, 0, 0), _PLUS_X, 1.5, _WRIST, (((0, 0, -0.03, 0, 0, 0.04), 0.05), ((0, 0, 0, 0.088, 0, 0), 0.045))),
    ((0.088, 0, 0), _PLUS_X, 0.7, _WRIST, (((0, 0, 0, 0, 0, 0.07), 0.042),)),
)
_THUMB_LENGTHS, _THUMB_RADII = (0.045, 0.036, 0.026), (0.0105, 0.010, 0.010)
_THUMB_RANGES = ((-0.5, 0.9), (0.0, 1.2), (0.0, 1.2))
_FINGER_LENGTHS, _FINGER_RADII = (0.042, 0.026, 0.020), (0.0095, 0.0092, 0.0089)
_FINGER_RANGES = ((-0.2, 1.6), (0.0, 1.6), (0.0, 1.6))
_FINGER_ROOTS = {
    "index": (-0.033, 1.0),
    "middle": (-0.011, 1.06),
    "ring": (0.011, 1.0),
    "little": (0.033, 0.88),
}
_THUMB_BITS, _HAND_BITS = (4, 3), (2, 5)
_THUMB_GAINS, _FINGER_GAINS, _DISTAL_GAINS = (3.0, 0.1, 1.2), (2.0, 0.06, 0.6), (1.2, 0.04, 0.4)
_HAND_FRICTION = (1.2, 0.01, 0.0005)


def add_robot(spec: Any, *, hand: bool = True) -> None:
    """Add arm, hand, wrist camera and actuators to a MjSpec whose compiler already counts in radians.

    hand: False leaves out the hand's joints, geoms and camera (for inverse kinematics); the tool site stays.
    The joint positions of the compiled model begin with the robot if it is added before any other joint.
    """
    base = spec.worldbody
    if hand:
        _add_visual(
            base, "arm_base", mujoco.mjtGeom.mjGEOM_CYLINDER, (0.08, 0.08, 0), _GREY, pos=(0, 0, 0.08)
        )
    body = base
    for i, (pos, quat, mass, _, capsules) in enumerate(_LINKS):
        body = body.add_body(name=f"link{i + 1}", pos=pos, quat=quat, gravcomp=1.0)
        body.explicitinertial = True
        body.mass, body.inertia = mass, (0.03, 0.03, 0.02)
        _add_joint(body, f"arm_{i + 1}", (0, 0, 1), (ARM_LOW[i], ARM_HIGH[i]), armature=0.1, damping=2.0)
        for k, (ends, radius) in enumerate(capsules if hand else ()):
            geom = _add_visual(
                body,
                f"link{i + 1}_{k}",
                mujoco.mjtGeom.mjGEOM_CAPSULE,
                (radius, 0, 0),
                (_PALE, _GREY)[k],
            )
            geom.fromto = ends
    palm = body.add_body(
        name="hand", pos=(0, 0, 0.107), quat=(0.9238795325112867, 0, 0, -0.3826834323650898), gravcomp=1.0
    )
    palm.add_site(name="tool", pos=TOOL_IN_HAND, size=[0.004, 0, 0], rgba=[0, 0, 0, 0])
    if not hand:
        palm.explicitinertial = True
        palm.mass, palm.inertia = 0.6, (0.001, 0.001, 0.001)
        return
    _add_hand(palm)
    for i, (_, _, _, gains, _) in enumerate(_LINKS):
        _add_servo(spec, f"arm_{i + 1}", gains)
    for name in ACTUATED:
        _add_servo(spec, name, _THUMB_GAINS if name.startswith("thumb") else _FINGER_GAINS)
    for finger in FINGERS:
        _add_servo(spec, f"{finger}_distal", _DISTAL_GAINS)


def hand_control(command: F64) -> F64:
    """Return the 16 hand controls, actuated then distal joints, of a hand command [12] in rad."""
    return np.concatenate([command, DISTAL_COUPLING * command[5::2]])


class ArmKinematics:
    """Inverse kinematics of the arm by damped least squares on a model without hand and scene."""

    damping = 0.03
    home_pull = 0.05
    max_step = 0.15

    def __init__(self) -> None:
        spec = mujoco.MjSpec()
        spec.compiler.degree = False
        add_robot(spec, hand=False)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        self._site = self._model.site("tool").id
        self._home = np.array(ARM_HOME)
        self._low, self._high = np.array(ARM_LOW), np.array(ARM_HIGH)
        self._jac = np.zeros((6, self._model.nv))
        self._damped = self.damping**2 * np.eye(6)

    def forward(self, joints: F64) -> tuple[F64, F64]:
        """Return tool position [3] in m and orientation [3, 3] for arm joints [7] in rad."""
        self._data.qpos[:] = joints
        mujoco.mj_kinematics(self._model, self._data)
        return self._data.site_xpos[self._site].copy(), self._data.site_xmat[self._site].reshape(3, 3).copy()

    def solve(self, joints: F64, position: F64, rotation: F64, iterations: int = 3) -> F64:
        """Return arm joints [7] in rad whose tool pose approaches the target, starting from `joints`.

        position: [3] m; rotation: [3, 3] world from hand.  Every iteration moves a joint by at most 0.15 rad;
        the null space is pulled gently towards home; the result is inside the joint ranges.
        """
        joints = joints.copy()
        for _ in range(iterations):
            here, orientation = self.forward(joints)
            mujoco.mj_comPos(self._model, self._data)
            mujoco.mj_jacSite(self._model, self._data, self._jac[:3], self._jac[3:], self._site)
            error = np.concatenate([position - here, vector_from_rotation(rotation @ orientation.T)])
            rest = self.home_pull * (self._home - joints)
            gram = self._jac @ self._jac.T + self._damped
            step = self._jac.T @ np.linalg.solve(gram, error - self._jac @ rest) + rest
            step = np.minimum(
                np.maximum(step, -self.max_step), self.max_step
            )  # several times faster than np.clip
            joints = np.minimum(np.maximum(joints + step, self._low), self._high)
        return joints

    def along(self, joints: F64, positions: F64, rotations: F64) -> F64:
        """Return joints [1 + K, 7], rad: those given, then what `solve` makes of a way, [K, 3] m and [K, 3, 3]."""
        rows = [joints]
        for position, rotation in zip(positions, rotations, strict=True):
            rows.append(self.solve(rows[-1], position, rotation))
        return np.stack(rows)


def _add_hand(palm: Any) -> None:
    _add_visual(
        palm,
        "wrist",
        mujoco.mjtGeom.mjGEOM_CYLINDER,
        (0.032, 0.018, 0),
        _HAND_DARK,
        pos=(0, 0, 0.012),
        mass=0.1,
    )
    box = palm.add_geom(
        name="palm", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.013, 0.043, 0.036], pos=[0, 0, 0.064]
    )
    _make_contact(box, _HAND_BITS, _HAND_LIGHT, 0.25)
    palm.add_camera(
        name="wrist",
        pos=[0.11, 0.075, 0.01],
        quat=look_at((0.11, 0.075, 0.01), (0.045, -0.005, 0.19), up=(1.0, 0.0, 0.0)),
        fovy=75.0,
    )
    thumb = palm.add_body(name="thumb_root", pos=[0.006, -0.012, 0.045], gravcomp=1.0)
    _add_joint(thumb, "thumb_yaw", (0, 0, 1), (0.0, 1.7))
    _add_segment(
        thumb,
        "thumb_root",
        (0, -0.01, 0, 0, -0.055, 0.012),
        0.011,
        bits=_THUMB_BITS,
        rgba=_HAND_DARK,
        mass=0.02,
    )
    start: tuple[float, float, float] = (0.0, -0.06, 0.015)
    body = thumb
    for k in range(3):
        body = body.add_body(name=f"thumb_{k + 1}", pos=start, gravcomp=1.0)
        _add_joint(body, f"thumb_{k + 1}", (-1, 0, 0), _THUMB_RANGES[k])
        colour = (_HAND_DARK, _HAND_LIGHT, _HAND_DARK)[k]
        length = _THUMB_LENGTHS[k]
        _add_segment(
            body,
            f"thumb_{k + 1}",
            (0, 0, 0, 0, 0, length),
            _THUMB_RADII[k],
            bits=_THUMB_BITS,
            rgba=colour,
            mass=0.015,
        )
        start = (0.0, 0.0, length)
    body.add_site(name="tip_thumb", pos=start, size=[0.004, 0, 0], rgba=[0, 0, 0, 0])
    for finger, (y, scale) in _FINGER_ROOTS.items():
        body, start = palm, (0.0, y, 0.10)
        for k, joint in enumerate(("proximal", "middle", "distal")):
            name = f"{finger}_{joint}"
            body = body.add_body(name=name, pos=start, gravcomp=1.0)
            _add_joint(body, name, (0, 1, 0), _FINGER_RANGES[k])
            colour = (_HAND_DARK, _HAND_LIGHT, _HAND_DARK)[k]
            length = _FINGER_LENGTHS[k] * scale
            _add_segment(
                body,
                name,
                (0, 0, 0, 0, 0, length),
                _FINGER_RADII[k],
                bits=_HAND_BITS,
                rgba=colour,
                mass=0.015,
            )
            start = (0.0, 0.0, length)
        body.add_site(name=f"tip_{finger}", pos=start, size=[0.004, 0, 0], rgba=[0, 0, 0, 0])


def look_at(eye: Any, point: Any, up: Any = (0.0, 0.0, 1.0)) -> list[float]:
    """Return the quaternion (w, x, y, z) of a camera at `eye` that looks at `point`; parent frame, m."""
    back = np.asarray(eye, float) - np.asarray(point, float)
    back /= np.linalg.norm(back)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    matrix = np.stack([right, np.cross(back, right), back], axis=1)
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, matrix.ravel())
    return [float(x) for x in quat]


def _add_visual(
    body: Any, name: str, shape: Any, size: Any, rgba: Any, *, pos: Any = (0, 0, 0), mass: float = 0.0
) -> Any:
    return body.add_geom(
        name=name, type=shape, size=size, pos=pos, rgba=rgba, mass=mass, contype=0, conaffinity=0, group=1
    )


def _add_joint(
    body: Any,
    name: str,
    axis: Any,
    limits: tuple[float, float],
    *,
    armature: float = 0.002,
    damping: float = 0.06,
) -> None:
    joint = body.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_HINGE, axis=axis, range=limits)
    joint.limited = mujoco.mjtLimited.mjLIMITED_TRUE
    joint.armature = armature
    joint.damping = [damping, 0.0, 0.0]


def _add_segment(
    body: Any, name: str, ends: Any, radius: float, *, bits: tuple[int, int], rgba: Any, mass: float
) -> None:
    geom = body.add_geom(name=name, type=mujoco.mjtGeom.mjGEOM_CAPSULE, size=[radius, 0, 0])
    geom.fromto = ends
    _make_contact(geom, bits, rgba, mass)


def _make_contact(geom: Any, bits: tuple[int, int], rgba: Any, mass: float) -> None:
    geom.contype, geom.conaffinity = bits
    geom.condim = 4
    geom.friction = _HAND_FRICTION
    geom.rgba = rgba
    geom.mass = mass


def _add_servo(spec: Any, joint: str, gains: tuple[float, float, float]) -> None:
    stiffness, damping, limit = gains
    actuator = spec.add_actuator(name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT)
    actuator.gaintype = mujoco.mjtGain.mjGAIN_FIXED
    actuator.biastype = mujoco.mjtBias.mjBIAS_AFFINE
    actuator.gainprm = [stiffness, *[0.0] * (len(actuator.gainprm) - 1)]
    actuator.biasprm = [0.0, -stiffness, -damping, *[0.0] * (len(actuator.biasprm) - 3)]
    actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_TRUE
    actuator.forcerange = [-limit, limit]
