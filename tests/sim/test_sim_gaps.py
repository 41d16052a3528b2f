"""Execution gaps: scaling, identity and storage."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError
from bora_cli.sim.gaps import GAPS, MAX_STRENGTH, Gap, get_gap

names = st.sampled_from(sorted(GAPS))
strengths = st.floats(0.0, MAX_STRENGTH)


@given(names, strengths)
def test_a_gap_survives_json(name: str, strength: float) -> None:
    gap = get_gap(name, strength)
    assert Gap.from_json(json.loads(json.dumps(gap.to_json()))) == gap


@given(names, strengths, strengths)
def test_identity_tells_gaps_apart(name: str, first: float, second: float) -> None:
    same = get_gap(name, first).identity == get_gap(name, second).identity
    assert same == (first == second)


@given(names)
def test_strength_one_is_the_table_and_zero_changes_nothing(name: str) -> None:
    assert get_gap(name) == GAPS[name]
    assert not get_gap(name, 0.0).active
    assert get_gap(name).active == (name != "none")


@given(names, strengths)
def test_friction_stays_positive(name: str, strength: float) -> None:
    assert 0.0 < get_gap(name, strength).friction_scale <= 1.0


def test_identity_reads_as_name_at_strength() -> None:
    assert get_gap("deployment").identity == "deployment@1.0"
    assert get_gap("bias", 0.5).identity == "bias@0.5"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"Unknown execution gap 'wind'\. Known gaps: none, bias, friction"):
        get_gap("wind")


@pytest.mark.parametrize("strength", [-0.1, 4.1, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match=r"expected 0 to 4"):
        get_gap("bias", strength)


@pytest.mark.parametrize(
    "data", [{}, {"name": "bias"}, {**GAPS["bias"].to_json(), "action_bias": [1.0, 2.0]}]
)
def test_a_damaged_description_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="Not the description of an execution gap"):
        Gap.from_json(data)
