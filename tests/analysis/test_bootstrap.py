"""Draws of episodes: the same whether they are made at once or a few at a time."""

from __future__ import annotations

import numpy as np
import pytest
from made_up import traces as toy_traces

from bora_cli.analysis import bootstrap
from bora_cli.analysis.bootstrap import episode_counts, ratio_estimate, row_blocks
from bora_cli.analysis.value_tests import auroc, auroc_over_time, drawn_auroc, episode_means, separation


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_blocks_cover_all_rows_once() -> None:
    for rows, width in ((1000, 5), (1000, 5000), (3, 2**21), (7, 0)):
        covered = np.concatenate([np.arange(rows)[b] for b in row_blocks(rows, width)])
        assert covered.tolist() == list(range(rows))
        assert all(
            len(range(rows)[b]) * width <= max(bootstrap.CELLS, width) for b in row_blocks(rows, width)
        )


def test_draws_are_those_of_one_multinomial() -> None:
    whole = rng().multinomial(300, np.full(300, 1 / 300), size=50)
    assert (episode_counts(300, 50, rng()) == whole).all()
    assert episode_counts(300, 50, rng()).dtype == np.uint16


def test_few_at_a_time_gives_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    traces = toy_traces()
    sums, counts = rng().normal(size=40), rng().uniform(1, 9, 40)

    def numbers() -> list[float | None]:
        mean, samples = ratio_estimate(sums, counts, rng=rng())
        area = separation(traces, rng=rng()).area
        return [mean.lo, mean.hi, *samples.tolist(), area.lo, area.hi]

    at_once, ranked = numbers(), auroc_over_time(traces, rng=rng())
    monkeypatch.setattr(bootstrap, "CELLS", 300)
    assert numbers() == pytest.approx(at_once, rel=1e-12)  # rounded otherwise
    assert auroc_over_time(traces, rng=rng()) == ranked


def test_a_drawn_auroc_is_that_of_the_drawn_episodes() -> None:
    traces = toy_traces()
    means, success, _ = episode_means(traces)
    means = means.round(1)  # ties
    pos, neg = (m[np.isfinite(m)] for m in (means[success, 4], means[~success, 4]))
    w = [episode_counts(x.size, 200, rng()) for x in (pos, neg)]
    value, samples = drawn_auroc(pos, neg, *w)
    for drawn, p, n in (
        (value, np.ones(pos.size, int), np.ones(neg.size, int)),
        *zip(samples, *w, strict=True),
    ):
        scores = np.concatenate([np.repeat(pos, p), np.repeat(neg, n)])
        assert drawn == pytest.approx(auroc(scores, np.arange(scores.size) < p.sum()))
