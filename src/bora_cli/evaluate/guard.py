"""The simulated robot inside the limits of a hardware profile.

The simulator enforces limits of its own (`bora_cli.sim.limits`).  A profile with just these numbers changes nothing;
one with a tighter number puts the safety envelope before the simulator; one with a wider number is refused, because
it would promise what does not happen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from bora_cli.control.arbiter import ArbiterSettings
from bora_cli.control.envelope import Envelope
from bora_cli.control.joints import ArmLimits
from bora_cli.control.planned import PlannedRig, Pose
from bora_cli.control.safety import GuardedRig, SafetyEnvelope, Standing
from bora_cli.errors import ConfigError
from bora_cli.profiles import HardwareProfile, load_profile
from bora_cli.sim.arm_hand import ARM_HIGH, ARM_LOW, ArmKinematics
from bora_cli.sim.limits import (
    DT,
    HAND_RATE,
    LEASH,
    ROTATION_LIMIT,
    TRANSLATION_LIMIT,
    WORKSPACE_HIGH,
    WORKSPACE_LOW,
    action_spec,
)
from bora_cli.sim.simulation import Simulation

F64 = NDArray[np.float64]
SLACK = 1e-6
"""Difference of two limits (m, rad, m/s, rad/s) that is rounding."""


@dataclass(frozen=True)
class _Limit:
    """One limit of a profile beside the simulator's, SI units; a lower bound where `low` is true."""

    name: str
    asked: float
    own: float
    low: bool = False

    @property
    def excess(self) -> float:
        """By how much the profile is wider; negative where it is tighter."""
        return self.own - self.asked if self.low else self.asked - self.own


def sim_profile(name_or_path: str) -> HardwareProfile:
    """Return a profile that the simulator can be driven with.

    Raises ConfigError if it is for another robot, or allows more than the simulated robot does.
    """
    profile = load_profile(name_or_path)
    if profile.robot.driver != "sim":
        raise ConfigError(
            f"Profile '{name_or_path}' is for the robot driver '{profile.robot.driver}',"
            " which this version does not have.",
            "Use --profile sim; `bora profile check` says which parts of a profile have a driver.",
        )
    own, asked = action_spec().names, profile.action_spec.names
    if asked != own or abs(profile.dt - DT) > SLACK:
        raise ConfigError(
            f"Profile '{name_or_path}' has {len(asked) - 6} hand joints at {profile.robot.control_rate:g} Hz;"
            f" the simulated robot has {', '.join(own[6:])} at {1 / DT:g} Hz.",
            "Copy hw_profiles/sim.toml and change its limits only.",
        )
    if profile.arm.joints is not None and len(profile.arm.joints) != len(ARM_LOW):
        raise ConfigError(
            f"Profile '{name_or_path}' limits {len(profile.arm.joints)} joints of the arm;"
            f" the simulated one has {len(ARM_LOW)}.",
            "List them all in arm.joints, or none.",
        )
    wide = [limit for limit in _limits(profile) if limit.excess > SLACK]
    if wide:
        detail = "; ".join(f"{w.name} {w.asked:g}, expected {w.own:g} or {_tighter(w)}" for w in wide)
        raise ConfigError(
            f"Profile '{name_or_path}' allows more than the simulated robot does ({detail}; SI units).",
            "Tighten these limits; `bora profile show sim` has the simulator's.",
        )
    return profile


def guarded(sim: Simulation, profile: HardwareProfile) -> Simulation | GuardedRig:
    """Return the simulation itself, or behind the profile's envelope if that has a tighter limit or another ramp.

    profile: one that `sim_profile` accepts.  Limits on motion (acceleration, cone, fingertips, soft start ...) are not
    the simulator's at all, so they act wherever a profile has one.
    """
    if profile.planned:
        limits, kinematics = ArmLimits.from_profile(profile), ArmKinematics()

        def along(positions: F64, rotations: F64) -> F64:
            return kinematics.along(sim.privileged().arm_command, positions, rotations)

        def pose() -> Pose:
            now = sim.privileged()
            return Pose(now.commanded_position, now.commanded_rotation, now.hand_command, now.tool_position)

        arm = None if limits is None else (limits, along)
        envelope = Envelope.from_profile(profile)
        return PlannedRig(sim, envelope, pose, profile.takeover_step, profile.ramp_ticks, arm)
    own_ramp = profile.ramp_ticks == ArbiterSettings.n_ramp
    if own_ramp and all(limit.excess > -SLACK for limit in _limits(profile)):
        return sim

    def standing() -> Standing:
        now = sim.privileged()
        return Standing(now.commanded_position, now.tool_position, now.hand_command)

    single = SafetyEnvelope.from_profile(profile)
    return GuardedRig(sim, single, standing, profile.takeover_step, profile.ramp_ticks)


def _limits(profile: HardwareProfile) -> Iterator[_Limit]:
    limits, arm = profile.limits, profile.arm
    yield _Limit("arm.translation_per_tick", arm.translation_per_tick, TRANSLATION_LIMIT)
    yield _Limit("arm.rotation_per_tick", arm.rotation_per_tick, ROTATION_LIMIT)
    yield _Limit("limits.tcp_speed", limits.tcp_speed, _diagonal(TRANSLATION_LIMIT))
    yield _Limit("limits.rotation_speed", limits.rotation_speed, _diagonal(ROTATION_LIMIT))
    yield _Limit("limits.hand_rate", limits.hand_rate, HAND_RATE)
    yield _Limit("limits.leash", limits.leash, LEASH)
    yield _Limit("limits.takeover_translation", limits.takeover_translation, TRANSLATION_LIMIT)
    yield _Limit("limits.takeover_rotation", limits.takeover_rotation, ROTATION_LIMIT)
    yield _Limit("limits.takeover_hand", limits.takeover_hand, HAND_RATE * DT)
    for axis, own_low, own_high, low, high in zip(
        "xyz", WORKSPACE_LOW, WORKSPACE_HIGH, limits.workspace_low, limits.workspace_high, strict=True
    ):
        yield _Limit(f"limits.workspace_low {axis}", low, own_low, low=True)
        yield _Limit(f"limits.workspace_high {axis}", high, own_high)
    own = action_spec()
    for joint, own_low, own_high in zip(profile.hand.joints, own.low[6:], own.high[6:], strict=True):
        yield _Limit(f"hand.joints {joint.name} low", joint.low, float(own_low), low=True)
        yield _Limit(f"hand.joints {joint.name} high", joint.high, float(own_high))
    for arm_joint, own_low, own_high in zip(
        profile.arm.joints or (), ARM_LOW, ARM_HIGH, strict=profile.arm.joints is not None
    ):
        yield _Limit(f"arm.joints {arm_joint.name} low", arm_joint.low, own_low, low=True)
        yield _Limit(f"arm.joints {arm_joint.name} high", arm_joint.high, own_high)


def _diagonal(per_axis: float) -> float:
    """Return the speed of a vector with this much on every axis per tick, rounded up as in the profile."""
    return ceil(sqrt(3) * per_axis / DT * 1e4) / 1e4


def _tighter(limit: _Limit) -> str:
    return "more" if limit.low else "less"
