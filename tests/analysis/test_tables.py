import made_up
import numpy as np
import polars as pl
import pytest

from bora_cli.analysis.bootstrap import Estimate
from bora_cli.analysis.critic_summary import SwapScore
from bora_cli.analysis.tables import (
    cells,
    comparisons,
    critic_summary,
    human,
    read_results,
    write_results,
)
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import Result


def results() -> list[Result]:
    rng = np.random.default_rng(0)
    luck = rng.random(40)
    return [
        Result(method, setting, "none", 0, scene, bool(luck[scene] < rate), 30)
        for setting, drop in (("standard", 0.0), ("unseen", 0.2))
        for method, rate in (("cp_base", 0.4 - drop), ("bora_full", 0.8 - drop))
        for scene in range(40)
    ]


def test_results_round_trip(tmp_path):
    write_results(tmp_path / "r" / "results.parquet", results())
    assert read_results(tmp_path / "r" / "results.parquet") == results()
    write_results(tmp_path / "empty.parquet", [])
    assert read_results(tmp_path / "empty.parquet") == []


def test_reading_explains_what_is_wrong(tmp_path):
    path = tmp_path / "results.parquet"
    with pytest.raises(DataError, match=r"no evaluation results at .* Run `bora eval` first"):
        read_results(path)
    path.write_bytes(b"no")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_results(path)
    pl.DataFrame({"method": ["a"]}).write_parquet(path)
    with pytest.raises(DataError, match="has the columns method; expected method, setting"):
        read_results(path)


def test_cells_and_paired_comparisons():
    counted = cells(results())
    assert [(c.method, c.setting, c.n) for c in counted] == [
        ("cp_base", "standard", 40),
        ("bora_full", "standard", 40),
        ("cp_base", "unseen", 40),
        ("bora_full", "unseen", 40),
    ]
    made = comparisons(results(), rng=np.random.default_rng(0))
    assert [(c.method, c.against, c.setting) for c in made] == [
        ("bora_full", "cp_base", "standard"),
        ("bora_full", "cp_base", "unseen"),
    ]
    assert made[0].n == 40
    assert made[0].difference == pytest.approx((counted[1].k - counted[0].k) / 40)
    assert made[0].lo < made[0].difference < made[0].hi


def test_methods_without_common_scenes_are_not_compared():
    apart = [Result("cp_base", "s", "none", 0, 1, True), Result("bora_full", "s", "none", 0, 2, True)]
    assert comparisons(apart, rng=np.random.default_rng(0)) == ()


def test_human_counts():
    h = human([np.array([0, 1, 1, 0, 1], np.uint8), np.zeros(5, np.uint8)])
    assert (h.episodes, h.ticks, h.human_ticks, h.takeovers) == (2, 10, 3, 2)


def test_critic_summary_uses_unaided_episodes_only():
    table = made_up.traces(24)
    score = SwapScore("other_state", 9, 0.7, 0.6, 0.8, 0.5)
    c = critic_summary(
        table, rng=np.random.default_rng(0), swap=[score], action_sensitivity=Estimate(0.2, 0.1, 0.3, 9)
    )
    assert (c.successes, c.failures) == (8, 12)
    assert len(c.auroc) == 10
    assert c.swap == (score,)
    assert c.spearman is not None
    assert c.spearman > 0.9
    assert c.late_drop == 1
    assert c.ece is not None
    assert c.action_sensitivity == 0.2
    assert c.intervals["action_sensitivity"] == (0.1, 0.3)
    assert {"ece", "slope", "spread", "separation"} <= c.intervals.keys()


def test_critic_summary_leaves_out_what_it_cannot_know():
    table = made_up.traces(24).filter(pl.col("success")).with_columns(mc_return=pl.lit(np.nan, pl.Float32))
    c = critic_summary(table, rng=np.random.default_rng(0))
    assert (c.auroc, c.late_drop, c.ece, c.bias) == ((), None, None, None)
    failed = critic_summary(made_up.traces(24).filter(~pl.col("success")), rng=np.random.default_rng(0))
    assert (failed.auroc, failed.late_drop) == ((), None)  # nothing to compare with
    with pytest.raises(DataError, match="A person had a share in every traced episode"):
        critic_summary(table.with_columns(intervened=True), rng=np.random.default_rng(0))
