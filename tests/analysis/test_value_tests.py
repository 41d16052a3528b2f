import made_up
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.analysis.traces import EpisodeTrace, build_traces
from bora_cli.analysis.value_tests import (
    auroc,
    auroc_over_time,
    calibration,
    episode_means,
    first_above,
    late_drop,
    monotonicity,
    separation,
    spearman,
)
from bora_cli.errors import DataError


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_auroc_is_the_brute_force_definition(rows):
    scores, labels = (np.array(c) for c in zip(*rows, strict=True))
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    if pairs:
        assert auroc(scores, labels) == pytest.approx(np.mean(pairs), abs=1e-12)
        assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)
    else:
        with pytest.raises(DataError, match="needs some of both"):
            auroc(scores, labels)


def test_auroc_of_ties_is_one_half():
    assert auroc([1, 1, 1, 1], [True, False, True, False]) == 0.5
    with pytest.raises(DataError, match="NaN among the scores"):
        auroc([1, np.nan], [True, False])


def test_means_per_bin_belong_to_their_episode():
    table = build_traces(
        [
            EpisodeTrace(v=[0, 0, 1, 1], success=True, controller=[0] * 4),
            EpisodeTrace(v=[5, 7], success=False, controller=[0] * 2),
        ]
    )
    shuffled = pl.concat([table.filter(pl.col("episode") == e) for e in (1, 0)])
    means, success, centres = episode_means(shuffled, bins=2)
    assert success.tolist() == [True, False]
    assert means.tolist() == [[0, 1], [5, 7]]
    assert centres.tolist() == [0.25, 0.75]
    means, _, centres = episode_means(table, bins=3, align="end", width=1)
    assert centres.tolist() == [-2, -1, 0]
    np.testing.assert_equal(means, [[0, 1, 1], [np.nan, 5, 7]])


def test_auroc_rises_with_foresight_and_stays_at_chance_without():
    rng = np.random.default_rng(0)
    seeing = auroc_over_time(made_up.traces(40), rng=rng, resamples=200)
    assert [p.t for p in seeing] == pytest.approx(np.arange(0.05, 1, 0.1))
    assert seeing[-1].value > 0.95
    assert seeing[0].value < 0.8
    assert all(p.lo <= p.value <= p.hi and p.n == 40 for p in seeing)
    assert 0.4 < first_above(seeing) < 0.9
    blind = auroc_over_time(made_up.traces(40, foresight=0), rng=rng, resamples=200)
    assert sum(p.lo <= 0.5 <= p.hi for p in blind) >= 8
    assert first_above(blind, 0.9) is None


def test_auroc_aligned_to_the_end_has_no_value_where_episodes_are_too_short():
    table = made_up.traces(20)
    points = auroc_over_time(table, rng=np.random.default_rng(0), bins=25, align="end", resamples=50)
    assert points[-1].t == -0.5
    assert points[-1].value > 0.95
    assert points[0].value is None
    assert points[0].n < 20


def test_one_outcome_is_refused_with_a_remedy():
    table = made_up.traces(6).filter(pl.col("success"))
    for question in (
        lambda t: separation(t, rng=np.random.default_rng(0)),
        lambda t: auroc_over_time(t, rng=np.random.default_rng(0)),
        late_drop,
    ):
        with pytest.raises(DataError, match=r"All 3 episodes succeeded; .* Analyse more episodes"):
            question(table)
    with pytest.raises(DataError, match="All 3 episodes failed"):
        separation(made_up.traces(6).filter(~pl.col("success")), rng=np.random.default_rng(0))


def test_separation_is_cohens_d():
    a, b = [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]
    table = build_traces(
        [EpisodeTrace(v=[v], success=s, controller=[0]) for s, g in ((1, a), (0, b)) for v in g]
    )
    s = separation(table, bins=1, rng=np.random.default_rng(0))
    assert s.points[0].value == pytest.approx(1.0)
    assert s.area.value == pytest.approx(1.0)
    assert s.area.lo < 1 < s.area.hi
    made = separation(made_up.traces(30), rng=np.random.default_rng(0))
    assert made.points[-1].lo > 2
    assert made.points[0].lo < 0 < made.points[0].hi
    assert all(p.lo <= p.value <= p.hi for p in made.points)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20))
def test_spearman_is_pearson_of_midranks(rows):
    x, y = (np.array(c, float) for c in zip(*rows, strict=True))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert spearman(x, y) == 0
        return
    ranks = [[np.mean(np.flatnonzero(np.sort(z) == v)) for v in z] for z in (x, y)]
    assert spearman(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-9)
    assert spearman(x, x**3) == pytest.approx(1)


def test_monotonicity_looks_at_successes_only():
    rising = [EpisodeTrace(v=np.arange(9.0), success=True, controller=[0] * 9)]
    falling = [EpisodeTrace(v=-np.arange(9.0), success=False, controller=[0] * 9)]
    m = monotonicity(build_traces(rising * 4 + falling), rng=np.random.default_rng(0))
    assert (m.value, m.n) == (1, 4)
    with pytest.raises(DataError, match="No successful episode of three or more ticks"):
        monotonicity(build_traces(falling), rng=np.random.default_rng(0))


def test_late_drop_counts_falls_in_the_last_third():
    early = EpisodeTrace(v=[1, 0, 0, 0, 0, 0, 0, 0, 0], success=False, controller=[0] * 9)
    late = EpisodeTrace(v=[0, 0, 0, 0, 0, 0, 0.5, 0.4, 0.1], success=False, controller=[0] * 9)
    good = EpisodeTrace(v=np.arange(9.0), success=True, controller=[0] * 9)
    table = build_traces([early, late, late, good])
    assert late_drop(table).value == pytest.approx(2 / 3)
    assert late_drop(table).n == 3
    assert late_drop(table, threshold=0.5).value == 0
    assert late_drop(table, success=True).value == 0


def test_calibration_of_a_perfect_and_of_a_shifted_value():
    rng = np.random.default_rng(0)
    returns = [rng.random(30) for _ in range(20)]

    def table(shift):
        return build_traces(
            EpisodeTrace(v=g + shift, mc_return=g, success=i % 2 == 0, controller=[0] * 30)
            for i, g in enumerate(returns)
        )

    exact = calibration(table(0.0), rng=rng, resamples=100)
    assert exact.ece == pytest.approx(0, abs=1e-6)
    assert (exact.slope, exact.intercept) == pytest.approx((1, 0), abs=1e-5)
    assert exact.table.height == 10
    assert exact.table["n"].sum() == 600
    assert exact.intervals["slope"] == pytest.approx((1, 1), abs=1e-5)
    shifted = calibration(table(0.1), rng=rng, resamples=100)
    assert shifted.intervals["ece"] == pytest.approx((0.1, 0.1), abs=1e-5)
    assert shifted.ece == pytest.approx(0.1, abs=1e-5)
    assert shifted.bias.value == pytest.approx(0.1, abs=1e-5)


def test_calibration_ignores_unknown_returns_and_needs_one():
    known = EpisodeTrace(v=[0.5, 0.5], mc_return=[0.5, np.nan], success=True, controller=[0, 0])
    assert calibration(build_traces([known]), rng=np.random.default_rng(0)).table["n"].to_list() == [1]
    unknown = EpisodeTrace(v=[0.5], success=True, controller=[0])
    with pytest.raises(DataError, match="No tick has a known return"):
        calibration(build_traces([unknown]), rng=np.random.default_rng(0))
