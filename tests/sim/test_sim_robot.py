"""The robot: golden kinematics, joint ranges, inverse kinematics, rotations."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    add_robot,
    hand_control,
)
from bora_cli.sim.rotations import orthonormal, rotation_from_vector, vector_from_rotation


@pytest.fixture(scope="module")
def robot() -> mujoco.MjModel:
    spec = mujoco.MjSpec()
    spec.compiler.degree = False
    add_robot(spec)
    return spec.compile()


def tips_in_hand(model: mujoco.MjModel, posture: str) -> dict[str, np.ndarray]:
    """Return finger tip -> position in the hand frame [3], mm."""
    data = mujoco.MjData(model)
    command = np.array(POSTURES[posture])
    for name, angle in zip(ACTUATED, command, strict=True):
        data.joint(name).qpos = angle
    for finger, angle in zip(FINGERS, DISTAL_COUPLING * command[5::2], strict=True):
        data.joint(f"{finger}_distal").qpos = angle
    mujoco.mj_kinematics(model, data)
    hand = data.body("hand")
    rotation = hand.xmat.reshape(3, 3)
    return {
        tip: 1000.0 * rotation.T @ (data.site(f"tip_{tip}").xpos - hand.xpos) for tip in ("thumb", "index")
    }


def test_tool_at_home_points_down() -> None:
    position, rotation = ArmKinematics().forward(np.array(ARM_HOME))
    np.testing.assert_allclose(position, [0.4876, 0.0060, 0.2963], atol=1e-4)
    np.testing.assert_allclose(rotation, NEUTRAL, atol=2e-3)


@pytest.mark.parametrize(
    ("posture", "thumb", "index"),
    [("open", (91, -12, 164), (13, -33, 182)), ("close", (13, -12, 152), (63, -33, 153))],
)
def test_free_finger_tips(
    robot: mujoco.MjModel, posture: str, thumb: tuple[int, ...], index: tuple[int, ...]
) -> None:
    tips = tips_in_hand(robot, posture)
    np.testing.assert_allclose(tips["thumb"], thumb, atol=0.6)
    np.testing.assert_allclose(tips["index"], index, atol=0.6)


def test_joint_ranges_are_radians(robot: mujoco.MjModel) -> None:
    np.testing.assert_allclose(robot.joint("arm_1").range, [-2.8973, 2.8973])
    np.testing.assert_allclose(robot.joint("index_proximal").range, [-0.2, 1.6])


def test_robot_comes_first_and_actuators_follow_their_joints(robot: mujoco.MjModel) -> None:
    assert robot.nq == 23
    assert robot.nu == 23
    for i in range(robot.nu):
        assert robot.actuator(i).trnid[0] == robot.joint(robot.actuator(i).name).id


def test_postures_are_within_the_command_range() -> None:
    for posture in POSTURES.values():
        assert np.all(np.array(posture) >= HAND_LOW)
        assert np.all(np.array(posture) <= HAND_HIGH)


def test_distal_joints_follow_the_middle_ones() -> None:
    command = np.array(POSTURES["close"])
    control = hand_control(command)
    np.testing.assert_allclose(control[12:], DISTAL_COUPLING * command[[5, 7, 9, 11]])


@settings(max_examples=25, deadline=None)
@given(st.floats(0.35, 0.60), st.floats(-0.2, 0.2), st.floats(0.05, 0.3), st.floats(-0.6, 0.6))
def test_inverse_kinematics_reaches_the_work_space(x: float, y: float, z: float, yaw: float) -> None:
    arm = ArmKinematics()
    rotation = rotation_from_vector(np.array([0.0, 0.0, yaw])) @ NEUTRAL
    joints = arm.solve(np.array(ARM_HOME), np.array([x, y, z]), rotation, iterations=60)
    position, reached = arm.forward(joints)
    np.testing.assert_allclose(position, [x, y, z], atol=2e-3)
    np.testing.assert_allclose(reached, rotation, atol=2e-2)


@given(st.lists(st.floats(-1.7, 1.7), min_size=3, max_size=3))
def test_rotation_vector_round_trip(values: list[float]) -> None:
    vector = np.array(values)
    rotation = rotation_from_vector(vector)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(rotation_from_vector(vector_from_rotation(rotation)), rotation, atol=1e-6)
    np.testing.assert_allclose(orthonormal(rotation * 1.0001), rotation, atol=1e-9)


def test_half_turn_has_a_rotation_vector() -> None:
    for axis in np.eye(3):
        rotation = rotation_from_vector(math.pi * axis)
        np.testing.assert_allclose(rotation_from_vector(vector_from_rotation(rotation)), rotation, atol=1e-9)
