"""Laws of the safety envelope: whatever comes in, what goes out is inside every limit."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bora_cli.control.safety import SafetyEnvelope
from bora_cli.errors import ConfigError, RobotFault
from bora_cli.profiles import list_profiles, load_profile
from bora_cli.types import F32

ENVELOPES = {name: SafetyEnvelope.from_profile(load_profile(name)) for name in list_profiles()}
SIM = ENVELOPES["sim"]
SLACK = 1e-6

anything = arrays(np.float32, 18, elements=st.floats(width=32))
"""Any 18 float32 numbers: NaN, infinities, subnormals and the largest ones included."""
sane = arrays(np.float32, 18, elements=st.floats(-3, 3, width=32))


def point(envelope: SafetyEnvelope, where: F32) -> F32:
    """Map [3] in 0..1 into the workspace box."""
    low, high = np.array(envelope.box_low), np.array(envelope.box_high)
    return (low + where * (high - low)).astype(np.float32)


unit = arrays(np.float32, 3, elements=st.floats(0, 1, width=32))
near = arrays(np.float32, 3, elements=st.floats(-0.5, 0.5, width=32))


@pytest.mark.parametrize("name", sorted(ENVELOPES))
@settings(deadline=None)
@given(action=st.one_of(anything, sane), where=unit, lag=near, grip=st.floats(0, 1, width=32))
def test_output_is_inside_every_limit(name: str, action: F32, where: F32, lag: F32, grip: float) -> None:
    envelope = ENVELOPES[name]
    spec, group = envelope.spec, envelope.spec.slice("hand")
    target = point(envelope, where)
    measured = (target + lag * envelope.leash).astype(np.float32)
    hand = spec.low[group] + grip * (spec.high[group] - spec.low[group])
    out = envelope.apply(action, target=target, measured=measured, hand=hand).action
    assert out.dtype == np.float32
    assert (out >= spec.low).all()
    assert (out <= spec.high).all()
    moved = target + out[:3]
    assert (moved >= np.array(envelope.box_low) - SLACK).all()
    assert (moved <= np.array(envelope.box_high) + SLACK).all()
    assert np.linalg.norm(out[:3]) <= envelope.tcp_speed * envelope.dt + SLACK
    assert np.linalg.norm(out[3:6]) <= envelope.rotation_speed * envelope.dt + SLACK
    assert (np.abs(out[group] - hand) <= envelope.hand_rate * envelope.dt + SLACK).all()
    assert np.linalg.norm(moved - measured) <= max(envelope.leash, np.linalg.norm(target - measured)) + SLACK


@settings(deadline=None)
@given(action=anything, where=unit)
def test_what_is_not_a_number_holds(action: F32, where: F32) -> None:
    action = action.copy()
    action[int(where[0] * 17)] = np.nan
    hand = SIM.spec.center[6:]
    applied = SIM.apply(action, target=point(SIM, where), measured=point(SIM, where), hand=hand)
    assert np.array_equal(applied.action[:6], np.zeros(6))
    assert np.array_equal(applied.action[6:], hand)
    assert applied.reasons == ("hold: command not finite",)


@settings(deadline=None)
@given(action=sane, where=unit)
def test_applying_twice_is_applying_once(action: F32, where: F32) -> None:
    at = {"target": point(SIM, where), "measured": point(SIM, where), "hand": SIM.spec.center[6:]}
    once = SIM.apply(action, **at).action
    assert np.allclose(SIM.apply(once, **at).action, once, atol=SLACK)


def test_a_harmless_command_passes_unchanged() -> None:
    middle = point(SIM, np.full(3, 0.5, np.float32))
    action = SIM.spec.center.copy()
    action[:6] = [0.01, -0.005, 0.002, 0.03, 0.0, -0.02]
    applied = SIM.apply(action, target=middle, measured=middle, hand=SIM.spec.center[6:])
    assert np.array_equal(applied.action, action)
    assert applied.reasons == ()


def test_the_limits_that_acted_are_named() -> None:
    corner = np.array(SIM.box_high, np.float32)
    action = SIM.spec.high * 2
    applied = SIM.apply(action, target=corner, measured=corner, hand=SIM.spec.low[6:])
    assert applied.reasons == ("range", "workspace box", "hand rate")
    slow = dataclasses.replace(SIM, tcp_speed=0.1, rotation_speed=0.1, leash=0.005)
    middle = point(slow, np.full(3, 0.5, np.float32))
    applied = slow.apply(SIM.spec.high, target=middle, measured=middle, hand=SIM.spec.high[6:])
    assert applied.reasons == ("tool speed", "leash", "rotation speed")


@pytest.mark.parametrize("age", [0.201, 5.0, -0.1, np.nan, np.inf])
def test_an_old_command_holds(age: float) -> None:
    middle = point(SIM, np.full(3, 0.5, np.float32))
    applied = SIM.apply(SIM.spec.high, target=middle, measured=middle, hand=SIM.spec.center[6:], age_s=age)
    assert np.array_equal(applied.action[:6], np.zeros(6))
    assert applied.reasons == ("hold: command too old",)


def test_a_command_of_another_shape_holds() -> None:
    middle = point(SIM, np.full(3, 0.5, np.float32))
    applied = SIM.apply(np.zeros(7, np.float32), target=middle, measured=middle, hand=SIM.spec.center[6:])
    assert applied.reasons == ("hold: command not finite",)


@settings(deadline=None)
@given(action=sane, outside=arrays(np.float32, 3, elements=st.floats(-0.5, 0.5, width=32)))
def test_from_outside_the_box_it_only_moves_inwards(action: F32, outside: F32) -> None:
    low, high = np.array(SIM.box_low), np.array(SIM.box_high)
    target = (np.where(outside < 0, low, high) + outside).astype(np.float32)
    out = SIM.apply(action, target=target, measured=target, hand=SIM.spec.center[6:]).action

    def distance(x: F32) -> F32:
        return np.maximum(np.maximum(low - x, x - high), 0.0)

    assert (distance(target + out[:3]) <= distance(target) + SLACK).all()


def test_a_leash_that_is_already_too_long_gets_no_longer() -> None:
    measured = point(SIM, np.full(3, 0.5, np.float32))
    target = measured + np.array([0.1, 0, 0], np.float32)
    away, home = SIM.spec.center.copy(), SIM.spec.center.copy()
    away[:6], home[:6] = [0.025, 0, 0, 0, 0, 0], [-0.025, 0, 0, 0, 0, 0]
    hand = SIM.spec.center[6:]
    assert np.allclose(SIM.apply(away, target=target, measured=measured, hand=hand).action[:3], 0, atol=SLACK)
    assert SIM.apply(home, target=target, measured=measured, hand=hand).action[0] == pytest.approx(-0.025)


def test_a_robot_without_a_state_is_a_fault() -> None:
    middle = point(SIM, np.full(3, 0.5, np.float32))
    with pytest.raises(RobotFault, match="Robot state is not finite"):
        SIM.apply(SIM.spec.center, target=middle * np.nan, measured=middle, hand=SIM.spec.center[6:])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tcp_speed": 0.0}, "Safety limit tcp_speed is 0.0; expected a positive number"),
        ({"leash": float("nan")}, "Safety limit leash is nan"),
        ({"box_low": (1.0, 0.0, 0.0)}, "is empty in some direction"),
    ],
)
def test_senseless_limits_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        dataclasses.replace(SIM, **change)  # type: ignore[arg-type]
