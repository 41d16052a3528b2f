import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import (
    Result,
    human_share,
    newcombe,
    paired_difference,
    success_rows,
    takeovers,
    takeovers_per_episode,
    wilson,
)


def test_wilson_agrees_with_published_values():
    # Newcombe 1998, table I: 81 of 263 and 15 of 148.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_rate_and_is_symmetric(kn):
    k, n = kn
    lo, hi = wilson(k, n)
    assert 0 <= lo <= k / n <= hi <= 1
    mirrored = wilson(n - k, n)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((lo, hi), abs=1e-12)
    narrow = wilson(2 * k, 2 * n)
    assert narrow[1] - narrow[0] < hi - lo


def test_wilson_refuses_impossible_counts():
    with pytest.raises(DataError, match="5 successes in 4 episodes are impossible"):
        wilson(5, 4)


def test_newcombe_agrees_with_published_values():
    # Newcombe 1998, table II, row (a): 56/70 - 48/80, method 10.
    d = newcombe(56, 70, 48, 80)
    assert (d.value, d.lo, d.hi) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_success_rows_pool_seeds():
    results = [
        Result("a", "standard", "none", seed, scene, scene < 3) for seed in (0, 1) for scene in range(4)
    ]
    results.append(Result("b", "standard", "none", 0, 0, False))
    first, second = success_rows(results)
    assert (first.k, first.n, first.seeds, first.rate) == (6, 8, 2, 0.75)
    assert (first.lo, first.hi) == wilson(6, 8)
    assert (second.method, second.k, second.n) == ("b", 0, 1)


def test_paired_difference_uses_the_pairing():
    rng = np.random.default_rng(0)
    scene = rng.random(200) < 0.5
    better = scene.copy()
    better[:20] = True
    d = paired_difference(better, scene, rng=rng)
    assert d.value == pytest.approx((better.sum() - scene.sum()) / 200)
    assert 0 < d.lo < d.value < d.hi
    unpaired = newcombe(int(better.sum()), 200, int(scene.sum()), 200)
    assert d.hi - d.lo < (unpaired.hi - unpaired.lo) / 2


def test_paired_difference_over_seeds_is_wider():
    rng = np.random.default_rng(1)
    seeds = np.repeat([0, 1, 2], 100)
    a = rng.random(300) < np.array([0.9, 0.6, 0.3])[seeds]
    b = rng.random(300) < 0.3
    together = paired_difference(a, b, rng=rng, resamples=500)
    by_seed = paired_difference(a, b, rng=rng, groups=seeds, resamples=500)
    assert by_seed.value == together.value
    assert by_seed.hi - by_seed.lo > 1.5 * (together.hi - together.lo)


def test_paired_difference_never_claims_certainty():
    d = paired_difference([1] * 10, [0] * 10, rng=np.random.default_rng(0))
    assert d.value == 1
    assert d.lo < 0.75
    same = paired_difference([1, 0], [1, 0], rng=np.random.default_rng(0))
    assert same.lo < 0 < same.hi
    steps = paired_difference([5.0, 6.0], [4.0, 5.0], rng=np.random.default_rng(0))
    assert (steps.lo, steps.hi) == (1, 1)


@pytest.mark.parametrize("n", [20, 100, 400])
@pytest.mark.parametrize("all_won", [False, True])
def test_the_first_pair_that_is_unlike_the_others_moves_no_bound_far(n, all_won):
    old = np.zeros(n) if all_won else np.arange(n) % 2
    new = np.ones(n) if all_won else old.copy()
    same = paired_difference(new, old, rng=np.random.default_rng(0))
    assert -1 <= same.lo <= same.value <= same.hi <= 1
    assert same.hi - same.lo > 2 / n  # nothing seen is not nothing there
    new[0] = old[0] if all_won else 1
    one = paired_difference(new, old, rng=np.random.default_rng(0))
    far = wilson(0, n)[1] + 1e-9
    assert abs(one.lo - same.lo) <= far
    assert abs(one.hi - same.hi) <= far
    unpaired = newcombe(n // 2, n, n // 2, n)
    assert all_won or same.hi < unpaired.hi / 1.5


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [([1], [1, 0], "same scene seeds"), ([], [], "non-empty"), ([np.nan], [0], "contain NaN")],
)
def test_paired_difference_refuses_bad_input(a, b, message):
    with pytest.raises(DataError, match=message):
        paired_difference(a, b, rng=np.random.default_rng(0))


def test_human_share_and_takeovers():
    one = np.array([0, 0, 2, 1, 1, 2, 0, 1, 0], np.uint8)
    demo = np.full(11, 4, np.uint8)
    assert takeovers(one) == 2
    assert takeovers(np.array([1, 1, 0], np.uint8)) == 1
    assert takeovers(demo) == 0
    assert human_share([one, demo]) == 5 / 20
    assert takeovers_per_episode([one, demo]) == 1
    assert human_share([]) == 0
    assert takeovers_per_episode([]) == 0
