"""The nouns: specs that cannot change or be confused, episodes that know who drove."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bora_cli.errors import SchemaMismatch
from bora_cli.types import ActionSpec, Controller, Episode, content_hash

SPEC = ActionSpec(
    names=("dx", "dy", "finger"),
    units=("m", "m", "rad"),
    low=np.array([-0.1, -0.3, 0.0], np.float32),
    high=np.array([0.1, 0.1, 1.5], np.float32),
    groups={"arm": (0, 2), "hand": (2, 3)},
)
rows = arrays(np.float32, 3, elements=st.floats(-1e6, 1e6, width=32))


def episode(controller: list[int]) -> Episode:
    n = len(controller)
    zeros, no = np.zeros((n, 3), np.float32), np.zeros(n, np.bool_)
    return Episode(
        images={},
        state=zeros,
        action=zeros,
        proposed=zeros,
        human=zeros,
        controller=np.array(controller, np.uint8),
        phase=np.zeros(n, np.uint8),
        reward=np.zeros(n, np.float32),
        terminated=no,
        truncated=no,
        success=False,
        prompt="",
    )


@given(rows)
def test_clipped_actions_are_inside_and_stay_the_same_when_clipped_again(action: np.ndarray) -> None:
    clipped = SPEC.clip(action)
    assert (clipped >= SPEC.low).all()
    assert (clipped <= SPEC.high).all()
    assert np.array_equal(SPEC.clip(clipped), clipped)
    inside = (action >= SPEC.low) & (action <= SPEC.high)
    assert np.array_equal(clipped[inside], action[inside])


def test_command_units_span_the_range() -> None:
    np.testing.assert_allclose(SPEC.center - SPEC.half_range, SPEC.low, atol=1e-7)
    np.testing.assert_allclose(SPEC.center + SPEC.half_range, SPEC.high, atol=1e-7)
    assert SPEC.half_range.dtype == np.float32


def test_limits_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="read-only"):
        SPEC.high[0] = 99.0


def test_a_spec_survives_json_exactly() -> None:
    again = ActionSpec.from_json(json.loads(json.dumps(SPEC.to_json())))
    again.require_same(SPEC, "copy")
    assert again.low.dtype == np.float32
    assert np.array_equal(again.low, SPEC.low)
    assert again.groups == SPEC.groups


def test_groups_are_named() -> None:
    assert SPEC.slice("hand") == slice(2, 3)
    with pytest.raises(SchemaMismatch, match=r"Unknown action group 'leg'. Known groups: arm, hand\."):
        SPEC.slice("leg")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"units": ("m", "m", "deg")}, r"units: .*'rad'.* against .*'deg'"),
        ({"names": ("dy", "dx", "finger")}, "names: "),
        ({"high": np.array([0.1, 0.1, 1.25], np.float32)}, "high: 1.5 against 1.25 at finger"),
        ({"groups": {"arm": (0, 1), "hand": (1, 3)}}, "groups: "),
    ],
)
def test_another_robot_is_refused_with_the_difference(change: dict[str, object], said: str) -> None:
    with pytest.raises(SchemaMismatch, match=f"data and policy: action specs differ .*{said}"):
        SPEC.require_same(replace(SPEC, **change), "data and policy")  # type: ignore[arg-type]


def test_a_robot_of_another_size_is_not_listed_number_by_number() -> None:
    names = tuple(f"joint{i}" for i in range(28))
    larger = ActionSpec(
        names, ("rad",) * 28, np.zeros(28, np.float32), np.ones(28, np.float32), {"hand": (0, 28)}
    )
    with pytest.raises(SchemaMismatch) as caught:
        larger.require_same(SPEC, "data and policy")
    assert caught.value.message == (
        "data and policy: action specs differ (28 numbers, joint0 to joint27, against 3 numbers, dx to finger)."
    )


def test_limits_of_another_length_are_refused() -> None:
    with pytest.raises(SchemaMismatch, match="3 names but units/limits of other lengths"):
        replace(SPEC, low=np.zeros(2, np.float32))


def test_who_counts_as_having_intervened() -> None:
    everyone = [Controller.POLICY, Controller.HUMAN, Controller.BLENDED, Controller.ASSIST, Controller.DEMO]
    some = episode([int(c) for c in everyone])
    assert some.intervened.tolist() == [False, True, True, True, False]
    assert some.human_share == pytest.approx(0.6)
    assert episode([]).human_share == 0.0


def test_content_hashes_do_not_depend_on_the_order_of_keys() -> None:
    assert content_hash({"a": 1, "b": [2, 3]}) == content_hash({"b": [2, 3], "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})
    assert len(content_hash({})) == 12
