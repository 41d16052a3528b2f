"""Execution gaps: scaling, identity, storage, and what each does to the robot."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError
from bora_cli.seeds import stream
from bora_cli.sim.gaps import GAPS, MAX_STRENGTH, Gap, combine, get_gap, parse_gap
from bora_cli.sim.operator import CORRECTOR, SimulatedOperator
from bora_cli.sim.simulation import HAND_RATE, Simulation

names = st.sampled_from(sorted(set(GAPS) - {"latency", "none"}))
strengths = st.floats(0.0, MAX_STRENGTH)
ticks = st.integers(0, 4).map(float)
gaps = st.one_of(
    st.just(get_gap("none")),
    st.builds(get_gap, names, strengths),
    st.builds(get_gap, st.just("latency"), ticks),
    st.lists(names, unique=True, max_size=4).map(lambda n: combine([get_gap(name, 0.7) for name in n])),
)


@given(gaps)
def test_a_gap_survives_json(gap: Gap) -> None:
    assert Gap.from_json(json.loads(json.dumps(gap.to_json()))) == gap


@given(gaps)
def test_the_identity_names_the_gap(gap: Gap) -> None:
    assert parse_gap(gap.identity) == gap


@given(names, strengths, strengths)
def test_identity_tells_gaps_apart(name: str, first: float, second: float) -> None:
    same = get_gap(name, first).identity == get_gap(name, second).identity
    assert same == (first == second)


@pytest.mark.parametrize("name", GAPS)
def test_strength_one_is_the_table_and_zero_changes_nothing(name: str) -> None:
    assert get_gap(name) == GAPS[name]
    assert name == "none" or not get_gap(name, 0.0).active
    assert get_gap(name).active == (name != "none")


@given(names, strengths)
def test_factors_stay_positive(name: str, strength: float) -> None:
    gap = get_gap(name, strength)
    assert 0.0 < gap.friction_scale <= 1.0
    assert 0.0 < gap.hand_force <= 1.0
    assert 0.4 < gap.action_scale < 1.7


def test_identity_reads_as_name_at_strength() -> None:
    assert get_gap("deployment").identity == "deployment@1.0"
    assert get_gap("bias", 0.5).identity == "bias@0.5"
    assert parse_gap("latency@2+bias@0.5").identity == "bias@0.5+latency@2.0"


def test_gaps_combine_whatever_the_order() -> None:
    both = parse_gap("deployment+friction")
    assert both == parse_gap("friction+deployment")
    assert both.friction_scale == pytest.approx(0.21)
    assert both.action_bias == GAPS["bias"].action_bias
    assert parse_gap("none+bias") == get_gap("bias")
    assert parse_gap("none@1.0") == parse_gap("none") == get_gap("none")


def test_an_older_description_is_still_read() -> None:
    old = {
        "name": "deployment",
        "strength": 1.0,
        "action_bias": [0.002, -0.0015, 0.00075],
        "camera_shift": [0.0, 0.02, 0.01],
        "friction_scale": 0.7,
    }
    assert Gap.from_json(old) == get_gap("deployment")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Unknown execution gap 'wind'\. Known gaps: none, bias, friction"):
        parse_gap("bias+wind")


@pytest.mark.parametrize("strength", [-0.1, 4.1, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match=r"expected 0 to 4"):
        get_gap("bias", strength)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("latency@0.5", r"delays by 0\.5 ticks; expected a whole number"),
        ("bias+bias@2", r"Gap 'bias' is named twice"),
        ("bias@much", r"strength 'much' is not a number"),
        ("none@3", r"Gap none has no strength; got 3\. Write none"),
        ("bias+none@0", r"Gap none has no strength; got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_gap(text)


@pytest.mark.parametrize(
    "data", [{}, {"name": "bias"}, {**GAPS["bias"].to_json(), "action_bias": [1.0, 2.0]}]
)
def test_a_damaged_description_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="Not the description of an execution gap"):
        Gap.from_json(data)


def moved(gap: str, action: np.ndarray, steps: int = 6) -> np.ndarray:
    """Return how far the tool came, [3] m, when an action was repeated."""
    sim = Simulation("pick_toy", gap=gap)
    sim.prepare(630_000)
    before = sim.privileged().tool_position
    for _ in range(steps):
        sim.step(action)
    return sim.privileged().tool_position - before


def hold() -> np.ndarray:
    sim = Simulation("pick_toy")
    sim.prepare(630_000)
    return np.concatenate([np.zeros(6), sim.privileged().hand_command]).astype(np.float32)


def test_scale_and_latency_shorten_a_way() -> None:
    action = hold()
    action[0] = 0.01
    way = {gap: moved(gap, action)[0] for gap in ("none", "scale@2", "overshoot@2", "latency@2")}
    assert way["scale@2"] / way["none"] == pytest.approx(0.7, abs=0.05)
    assert way["overshoot@2"] / way["none"] == pytest.approx(1.3, abs=0.05)
    assert way["latency@2"] < 0.8 * way["none"]


def test_a_payload_pulls_the_hand_down_in_proportion() -> None:
    sag = {}
    for gap in ("none", "payload", "payload@2"):
        sim = Simulation("pick_toy", gap=gap)
        sim.prepare(630_000)
        state = sim.privileged()
        sag[gap] = float(state.commanded_position[2] - state.tool_position[2])
    assert abs(sag["none"]) < 0.0002
    assert 0.004 < sag["payload"] < 0.008
    assert sag["payload@2"] == pytest.approx(2 * sag["payload"], rel=0.1)


def test_a_late_hand_keeps_its_speed_limit() -> None:
    sim = Simulation("pick_toy", gap="latency@3")
    sim.prepare(630_000)
    fist = hold()
    fist[6:] = 5.0
    before = sim.observe(images=False).state[-12:]
    for tick in range(8):
        sim.step(fist)
        after = sim.observe(images=False).state[-12:]
        assert np.abs(after - before).max() <= HAND_RATE * sim.dt + 1e-6
        assert np.array_equal(before, after) == (tick < 3)
        before = after


def test_a_weak_hand_squeezes_less() -> None:
    torque = {}
    for gap in ("none", "weak_hand"):
        sim = Simulation("pick_toy", gap=gap)
        sim.prepare(630_001)
        operator = SimulatedOperator(CORRECTOR, stream("operator", 0))
        operator.begin(sim)
        for _ in range(19):
            sim.step(operator.act(sim)[0])
        torque[gap] = np.abs(sim.data.actuator_force[7:]).max()
    assert torque["weak_hand"] < 0.7 * torque["none"]


@pytest.mark.parametrize("gap", ["scale@2", "payload+bias", "latency@2", "weak_hand", "bias+latency"])
def test_a_person_copes_and_a_snapshot_continues_exactly(gap: str) -> None:
    sim = Simulation("press_button", gap=gap)
    sim.prepare(630_002)
    operator = SimulatedOperator(CORRECTOR, stream("operator", 0))
    operator.begin(sim)
    actions, middle, success = [], None, False
    for tick in range(sim.max_ticks):
        if tick == 6:
            middle = sim.snapshot()
        action = operator.act(sim)[0]
        result = sim.step(action)
        actions.append(result.applied)
        if result.terminated:
            success = result.success
            break
    assert success
    assert middle is not None
    end = sim.data.qpos.copy()
    other = Simulation("press_button", gap=gap)
    other.restore(middle)
    for action in actions[6:]:
        other.step(action)
    np.testing.assert_array_equal(other.data.qpos, end)
    other.prepare(630_002)
    for action in actions:  # what was applied, applied again, does the same
        np.testing.assert_array_equal(other.step(action).applied, action)
    np.testing.assert_array_equal(other.data.qpos, end)
