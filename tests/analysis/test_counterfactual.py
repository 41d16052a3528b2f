"""Executing other chunks: which states, which chunks, and how the critic's order is counted."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.analysis.analyze import analyze
from bora_cli.analysis.counterfactual import (
    KINDS,
    SCHEMA,
    counterfactual_summary,
    run_futures,
    score_futures,
)
from bora_cli.analysis.critic_summary import CriticSummary
from bora_cli.analysis.swap_figures import counterfactual_bars
from bora_cli.checkpoint import load_trained
from bora_cli.errors import CheckpointError, DataError
from bora_cli.evaluate.futures import Branch, Future
from bora_cli.sim.limits import action_spec
from bora_cli.train.buffer import Buffer, load_buffer
from toy_world import toy_dataset, toy_demonstrations


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def futures(*rows: tuple[int, str, bool, float, float]) -> pl.DataFrame:
    """Return a scored table from (episode, kind, success, return, q)."""
    columns = ("episode", "kind", "success", "ret", "q")
    full = [
        dict(zip(columns, row, strict=True))
        | {"tick": 4, "chunk": [0.0], "execute": 4, "ticks": 9, "repeats": row[1] == "executed"}
        | {"successor": "expert"}
        for row in rows
    ]
    return pl.DataFrame(full, schema=SCHEMA | {"q": pl.Float32()})


def outcomes(seed: int, q: Any) -> pl.DataFrame:
    """Return futures of thirty episodes with random outcomes; q: (return, generator) -> value."""
    draw = np.random.default_rng(seed)
    rows = []
    for episode in range(30):
        for kind in ("executed", "reversed", "noise_1"):
            success = bool(draw.random() < 0.5)
            ret = float(success) - draw.random() / 2
            rows.append((episode, kind, success, ret, q(ret, draw)))
    return futures(*rows)


def test_an_oracle_gets_one_a_deaf_critic_one_half_and_a_perverse_one_zero() -> None:
    for q, expected in ((lambda r, _: r, 1.0), (lambda *_: 0.3, 0.5), (lambda r, _: -r, 0.0)):
        c = counterfactual_summary(outcomes(1, q), rng=rng())
        assert c.agree == c.return_agree == expected
        assert (c.lo, c.hi) == (expected, expected)
        assert c.differing == sum(k.spoiled + k.saved for k in c.kinds) > 10
    guess = counterfactual_summary(outcomes(1, lambda _, g: g.random()), rng=rng())
    assert guess.lo is not None
    assert guess.hi is not None
    assert guess.lo < 0.5 < guess.hi
    assert [k.kind for k in guess.kinds] == ["noise_1", "reversed"]


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.floats(0.1, 50), st.floats(-5, 5))
def test_only_the_order_of_q_counts(seed: int, scale: float, shift: float) -> None:
    table = outcomes(seed, lambda _, g: round(g.random(), 2))
    other = table.with_columns(q=(scale * pl.col("q") + shift).cast(pl.Float32))
    assert counterfactual_summary(table, rng=rng()) == counterfactual_summary(other, rng=rng())


def test_pairs_that_end_alike_say_nothing() -> None:
    table = futures((0, "executed", True, 0.9, 0.0), (0, "reversed", True, 0.88, 1.0))
    c = counterfactual_summary(table, rng=rng())
    assert (c.differing, c.agree, c.return_differing, c.return_agree) == (0, None, 0, None)
    assert (c.states, c.executed_success, c.repeated) == (1, 1, 1)
    counterfactual_bars(c)
    with pytest.raises(DataError, match="1 of 2 futures have no finite value"):
        counterfactual_summary(table.with_columns(q=pl.Series([0.0, np.nan], dtype=pl.Float32)), rng=rng())


@pytest.fixture
def buffer(toy_policy: Path, tmp_path: Path) -> Buffer:
    episodes = toy_demonstrations(8)
    for e in episodes:
        e.meta["gap"] = "none"
    backbone = load_trained(toy_policy).load_backbone()
    return load_buffer(
        [toy_dataset(tmp_path / "data", episodes).root], backbone, horizon=8, gamma=0.97, copies=1
    )


def reached(item: Branch) -> list[Future]:
    """Stand in for the simulator: the return is how far the chunk goes in x."""
    found = []
    for kind, chunk in item.chunks.items():
        x = float(chunk[: item.execute, 0].sum())
        found.append(Future(kind, chunk, x > 0, 5, x))
    return found


def test_states_are_spread_over_outcomes_and_episodes(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bora_cli.analysis.counterfactual.futures", reached)
    told: list[int] = []
    table = run_futures(buffer, action_spec(), 8, gamma=0.97, progress=lambda _, done, n: told.append(done))
    states = table.filter(pl.col("kind") == "executed")
    assert told == list(range(1, 9))
    assert states.height == 8
    assert states["episode"].n_unique() == 8
    good = [buffer.episodes[e].success for e in states["episode"]]
    assert good.count(True) == 4
    assert set(table["kind"]) <= {"executed", *KINDS}
    assert set(table["kind"]) >= {"executed", "other_state", "later", "reversed", "flipped_xyz"}
    again = run_futures(buffer, action_spec(), 8, gamma=0.97)
    assert table.equals(again)
    for row in table.filter(pl.col("kind") != "executed").iter_rows(named=True):
        here = buffer.episodes[row["episode"]].action[row["tick"] : row["tick"] + 4]
        assert np.abs(np.reshape(row["chunk"], (8, 18))[:4] - here).max() > 1e-4
    scored = score_futures(table, buffer, lambda _, c, m: ((c[..., 0] * m).sum(1), m.sum(1)))
    assert scored["q"].to_list() == pytest.approx(table["ret"].to_list(), abs=1e-5)
    assert set(scored["q_std"]) == {4.0}
    assert counterfactual_summary(scored, rng=rng()).agree == 1.0


def test_analyze_executes_other_chunks_and_says_what_it_found(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bora_cli.analysis.counterfactual.futures", reached)
    monkeypatch.setattr("bora_cli.analysis.analyze.draw", lambda *_: {})
    episodes = toy_demonstrations(8)
    data = toy_dataset(tmp_path / "real", episodes).root
    with pytest.raises(DataError, match="does not say its gap; only a state of the simulator"):
        analyze(toy_policy, data=[data], out=tmp_path / "none", counterfactual=4)
    assert not (tmp_path / "none").exists()
    for e in episodes:
        e.meta["gap"] = "none"
    data = toy_dataset(tmp_path / "simulated", episodes).root
    out = tmp_path / "analysis"
    result = analyze(toy_policy, data=[data], out=out, counterfactual=4)
    table = pl.read_parquet(out / "counterfactual.parquet")
    assert dict(table.schema) == SCHEMA | {"q": pl.Float32(), "q_std": pl.Float32()}
    found = result["counterfactual"]
    assert found["states"] == 4
    assert found["successor"] == "expert"
    assert any("changed the outcome when" in s for s in result["says"])
    page = (out / "report.html").read_text()
    assert "--counterfactual 4" in page
    read = CriticSummary.from_json({k: result[k] for k in asdict(CriticSummary(1, 1))})
    assert read.counterfactual is not None
    assert read.counterfactual.differing == found["differing"]


def test_a_policy_that_is_gone_is_told_before_anything_is_encoded(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encoded(*_: object, **__: object) -> None:
        raise AssertionError("encoded")

    monkeypatch.setattr("bora_cli.analysis.analyze.load_recordings", encoded)
    episodes = toy_demonstrations(2)
    for e in episodes:
        e.meta |= {"gap": "none", "checkpoint": "gone/cp", "checkpoint_hash": "0123"}
    data = toy_dataset(tmp_path / "data", episodes).root
    with pytest.raises(CheckpointError, match=r"gone/cp with hash 0123, is not found.*--then CHECKPOINT"):
        analyze(toy_policy, data=[data], out=tmp_path / "out", counterfactual=4)
    with pytest.raises(AssertionError, match="encoded"):
        analyze(toy_policy, data=[data], out=tmp_path / "out", counterfactual=4, then="expert")
