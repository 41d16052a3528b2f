"""Random numbers: no scene is used for two purposes, and no stream moves another."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError
from bora_cli.seeds import BLOCK, RANGES, scene_seeds, seed_sequence, stream

HELD_OUT = 900_000
blocked = st.sampled_from([p for p in RANGES if p != "eval"])


def test_ranges_are_disjoint_and_leave_the_held_out_scenes_alone() -> None:
    for (_, first), (_, second) in combinations(RANGES.items(), 2):
        assert first[1] <= second[0] or second[1] <= first[0]
    assert max(high for _, high in RANGES.values()) <= HELD_OUT


def test_evaluation_scenes_are_the_ones_that_were_named() -> None:
    assert scene_seeds("eval", 7, 3) == [7, 8, 9]
    assert scene_seeds("eval", 7, 2, start=3) == [10, 11]
    assert scene_seeds("eval", 900_123, 1) == [900_123]


@given(purpose=blocked, seed=st.integers(0, 400), start=st.integers(0, 1100), count=st.integers(0, 1100))
def test_scenes_stay_inside_their_purpose_and_their_block(
    purpose: str, seed: int, start: int, count: int
) -> None:
    low, high = RANGES[purpose]
    fits = low + (seed + 1) * BLOCK <= high and start + count <= BLOCK
    if not fits:
        with pytest.raises(ConfigError, match=f"outside the {purpose} scenes"):
            scene_seeds(purpose, seed, count, start)
        return
    seeds = scene_seeds(purpose, seed, count, start)
    assert len(seeds) == len(set(seeds)) == count
    assert all(low + seed * BLOCK <= s < low + (seed + 1) * BLOCK for s in seeds)


def test_two_runs_of_one_purpose_share_no_scene() -> None:
    assert not set(scene_seeds("collect", 0, BLOCK)) & set(scene_seeds("collect", 1, BLOCK))


def test_rounds_follow_each_other() -> None:
    whole = scene_seeds("online", 3, 20)
    assert whole == scene_seeds("online", 3, 10) + scene_seeds("online", 3, 10, start=10)


def test_messages_say_what_is_possible() -> None:
    with pytest.raises(ConfigError, match="Seed -1 is negative; expected 0 or more"):
        scene_seeds("collect", -1, 1)
    with pytest.raises(
        ConfigError, match=r"Seed 100 with episodes 0\.\.19 .* a seed below 100 and at most 1000"
    ):
        scene_seeds("release", 100, 20)


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_streams_differ_by_purpose_and_by_instance(a: int, b: int) -> None:
    def draw(name: str, *entropy: int) -> list[int]:
        return stream(name, *entropy).integers(0, 2**62, 4).tolist()

    assert draw("layout", a, b) == draw("layout", a, b)
    assert draw("layout", a) != draw("physics", a)
    assert draw("layout", a, 1) != draw("layout", a, 2)
    if a != b:
        assert draw("layout", a) != draw("layout", b)


def test_streams_are_the_same_on_every_machine_and_in_every_process() -> None:
    """A change here changes every scene: data, results and weights of the past could not be repeated."""
    assert stream("layout", 0).integers(0, 1000, 5).tolist() == [773, 538, 447, 334, 375]
    assert int(seed_sequence("torch", 1).generate_state(1)[0]) == 1_298_655_290


def test_drawing_does_not_touch_the_global_generator() -> None:
    before = np.random.get_state(legacy=False)["state"]["key"].copy()  # noqa: NPY002 - the legacy generator is what must not move
    stream("policy", 5).normal(size=100)
    assert (np.random.get_state(legacy=False)["state"]["key"] == before).all()  # noqa: NPY002
