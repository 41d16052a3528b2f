import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.analysis.critic_tests import (
    action_sensitivity,
    bad_chunks,
    differs,
    flipped_translation,
    frozen_hand,
    noisy,
    open_hand,
    other_state,
    swap_test,
    time_reversed,
)
from bora_cli.errors import DataError
from bora_cli.types import ActionSpec

SPEC = ActionSpec(
    names=("dx", "dy", "dz", "finger"),
    units=("m", "m", "m", "rad"),
    low=np.array([-1, -1, -1, 0], np.float32),
    high=np.array([1, 1, 1, 2], np.float32),
    groups={"arm": (0, 3), "hand": (3, 4)},
)


@pytest.fixture
def chunks():
    rng = np.random.default_rng(0)
    x = rng.uniform(-0.5, 0.5, (40, 6, 4)).astype(np.float32)
    x[..., 3] += 1
    return x


EPISODES = np.repeat(np.arange(8), 5)


def test_a_critic_that_ignores_the_action_gets_exactly_one_half(chunks):
    rng = np.random.default_rng(0)
    state_only = rng.standard_normal(40)
    scores = swap_test(
        state_only, dict.fromkeys(bad_chunks(chunks, EPISODES, SPEC, rng=rng), state_only), EPISODES, rng=rng
    )
    assert len(scores) == 8
    assert {(s.win_rate, s.lo, s.hi, s.effect) for s in scores} == {(0.5, 0.5, 0.5, 0.0)}
    deaf = action_sensitivity(np.tile(state_only[:, None], (1, 5)), EPISODES, rng=rng)
    assert (deaf.value, deaf.lo, deaf.hi) == pytest.approx((0, 0, 0))


def test_rounding_is_not_preference():
    q = np.linspace(0, 1, 10)
    (score,) = swap_test(q, {"other_state": q - 1e-8}, np.arange(10), rng=np.random.default_rng(0))
    assert score.win_rate == 0.5


def test_a_critic_that_knows_the_action_wins(chunks):
    rng = np.random.default_rng(0)
    target = chunks.copy()

    def q(candidates):
        return -np.square(candidates - target).mean((1, 2))

    bad = bad_chunks(chunks, EPISODES, SPEC, rng=rng)
    scores = {s.kind: s for s in swap_test(q(chunks), {k: q(b) for k, b in bad.items()}, EPISODES, rng=rng)}
    assert all(s.win_rate == 1 and s.effect is None for s in scores.values())
    everything = np.stack([q(b) for b in bad.values()], 1) + 10 * EPISODES[:, None]
    hears = action_sensitivity(everything, EPISODES, rng=rng)
    assert 0 < hears.lo < hears.value < 0.01
    assert action_sensitivity(np.stack([np.arange(3.0)] * 2), [0, 1], rng=rng).value == 1


def test_the_effect_of_a_swap_has_an_interval_over_episodes():
    q = np.tile([0.0, 2.0], 20)
    (even,) = swap_test(q, {"x": q - 3.0}, EPISODES, rng=np.random.default_rng(0))
    assert (even.effect, even.effect_lo, even.effect_hi) == pytest.approx((3.0, 3.0, 3.0))
    (uneven,) = swap_test(q, {"x": q - EPISODES}, EPISODES, rng=np.random.default_rng(0))
    assert uneven.effect == pytest.approx(3.5)
    assert uneven.effect_lo < 3.0
    assert uneven.effect_hi > 4.0


def test_only_valid_rows_count_and_episodes_are_drawn_whole():
    q, bad = np.zeros(40), np.where(EPISODES < 4, -1.0, 1.0)
    (all_rows,) = swap_test(q, {"x": bad}, EPISODES, rng=np.random.default_rng(0))
    assert (all_rows.win_rate, all_rows.n) == (0.5, 40)
    assert all_rows.hi - all_rows.lo > 0.4
    (first_half,) = swap_test(
        q, {"x": bad}, EPISODES, valid={"x": EPISODES < 4}, rng=np.random.default_rng(0)
    )
    assert (first_half.win_rate, first_half.n) == (1, 20)


def test_swap_test_refuses_what_it_cannot_answer():
    rng, q = np.random.default_rng(0), np.zeros(4)
    with pytest.raises(DataError, match="1 of 4 scores of the 'x' chunks are not finite"):
        swap_test(q, {"x": [0, 0, 0, np.nan]}, np.arange(4), rng=rng)
    with pytest.raises(DataError, match=r"shape \(3,\); expected \(4,\)"):
        swap_test(q, {"x": [0, 0, 0]}, np.arange(4), rng=rng)
    with pytest.raises(DataError, match="No chunk of kind 'x' differs"):
        swap_test(q, {"x": q}, np.arange(4), valid={"x": np.zeros(4, bool)}, rng=rng)
    with pytest.raises(DataError, match="two or more states and actions"):
        action_sensitivity(np.zeros((3, 1)), [0, 1, 2], rng=rng)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=25), st.integers(0, 2**32 - 1))
def test_other_state_never_takes_its_own_episode(episodes, seed):
    rows = np.arange(len(episodes), dtype=np.float32).reshape(-1, 1, 1)
    if len(set(episodes)) < 2:
        with pytest.raises(DataError, match="two or more episodes"):
            other_state(rows, episodes, rng=np.random.default_rng(seed))
        return
    donor = other_state(rows, episodes, rng=np.random.default_rng(seed))[:, 0, 0].astype(int)
    assert all(episodes[d] != e for d, e in zip(donor, episodes, strict=True))


def test_other_state_reaches_every_row_of_the_others():
    rows = np.arange(4, dtype=np.float32).reshape(-1, 1, 1)
    rng = np.random.default_rng(0)
    drawn = {int(other_state(rows, [0, 0, 1, 1], rng=rng)[0, 0, 0]) for _ in range(40)}
    assert drawn == {2, 3}


def test_bad_chunks_stay_inside_the_limits_and_differ(chunks):
    for kind, bad in bad_chunks(chunks, EPISODES, SPEC, rng=np.random.default_rng(0)).items():
        assert bad.shape == chunks.shape
        assert bad.dtype == np.float32, kind
        assert (bad >= SPEC.low).all(), kind
        assert (bad <= SPEC.high).all(), kind
        assert differs(chunks, bad, SPEC).all(), kind
    assert not differs(chunks, chunks, SPEC).any()


def test_each_corruption_does_what_it_says(chunks):
    assert (time_reversed(chunks)[:, 0] == chunks[:, -1]).all()
    flipped = flipped_translation(chunks, SPEC)
    assert (flipped[..., :3] == -chunks[..., :3]).all()
    assert (flipped[..., 3] == chunks[..., 3]).all()
    assert (open_hand(chunks, SPEC)[..., 3] == 0).all()
    assert (open_hand(chunks, SPEC, np.array([0.5], np.float32))[..., 3] == 0.5).all()
    frozen = frozen_hand(chunks, SPEC)
    assert (frozen[..., 3] == chunks[:, :1, 3]).all()
    assert (frozen[..., :3] == chunks[..., :3]).all()
    small = noisy(chunks, 0.1, SPEC, rng=np.random.default_rng(0)) - chunks
    assert small.std((0, 1)) == pytest.approx(0.1 * chunks.std((0, 1)), rel=0.2)


def test_flipping_needs_a_translation(chunks):
    joints = ActionSpec(("a", "b", "c", "d"), ("rad",) * 4, SPEC.low, SPEC.high, {"arm": (0, 4)})
    with pytest.raises(DataError, match="No translation to flip among the actions a, b, c, d"):
        flipped_translation(chunks, joints)
    kinds = bad_chunks(chunks, EPISODES, joints, rng=np.random.default_rng(0))
    assert list(kinds) == ["other_state", "noise_0.1", "noise_0.3", "noise_1", "reversed"]
