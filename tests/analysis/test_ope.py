"""Ranking policies by what the critic expects of their first chunk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.analysis.analyze import analyze
from bora_cli.analysis.ope import Measured, condition_of, measured, mmrv, ope_summary
from bora_cli.analysis.ope_figure import ope_scatter
from bora_cli.checkpoint import load_trained, save_trained
from bora_cli.errors import CheckpointError, DataError
from bora_cli.evaluate.evaluate import EvalJob, EvalResult, Trial, checkpoint_hash
from toy_world import TASK, toy_dataset, toy_demonstrations

CONDITION = (TASK, "standard", "none@1.0")


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def policy(name: str, k: int, n: int = 50) -> Measured:
    return Measured(name, Path(name), None, np.arange(n) < k)


def test_a_critic_that_knows_ranks_as_success_does_and_a_perverse_one_the_other_way() -> None:
    policies = [policy("bad", 5), policy("middling", 25), policy("good", 45)]
    values = np.array([[0.1], [0.4], [0.9]]) + 0.01 * rng().standard_normal((3, 40))
    knows, perverse = (ope_summary(policies, v, rng=rng()) for v in (values, -values))
    assert (knows.spearman, knows.lo, knows.hi, knows.mmrv) == (1.0, 1.0, 1.0, 0.0)
    assert (perverse.spearman, perverse.hi) == (-1.0, -1.0)
    assert perverse.mmrv == pytest.approx((0.8 + 0.4 + 0.8) / 3)
    guess = ope_summary(policies, rng().standard_normal((3, 40)), rng=rng())
    assert guess.lo < guess.hi
    assert guess.mmrv_lo <= guess.mmrv <= guess.mmrv_hi
    assert guess.mmrv_lo < guess.mmrv_hi
    ope_scatter(guess)
    with pytest.raises(DataError, match="values are not finite"):
        ope_summary(policies, values * np.nan, rng=rng())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=8))
def test_the_rank_violation_is_no_larger_than_the_range_and_zero_for_the_truth(
    pairs: list[tuple[int, int]],
) -> None:
    value, rate = np.array(pairs).T / 10
    assert mmrv(rate, rate) == 0
    assert 0 <= mmrv(value, rate) <= np.ptp(rate) + 1e-9
    assert mmrv(3 * value, rate) == mmrv(value, rate)


def evaluated(checkpoint: Path, file: Path, k: int, gap: str = "none@1.0") -> Path:
    job = EvalJob(str(checkpoint), checkpoint_hash(checkpoint), TASK, "standard", gap, 64)
    trials = [Trial(i, i < k, i < k, 9) for i in range(10)]
    file.write_text(json.dumps(EvalResult(job, trials, "toy").to_json()))
    return file


@pytest.fixture
def run(toy_policy: Path, tmp_path: Path) -> Path:
    """Folder with three policies and their evaluations."""
    (tmp_path / "run" / "evaluations").mkdir(parents=True)
    for k in (2, 5, 9):
        trained = load_trained(toy_policy)
        other = replace(trained, provenance=trained.provenance | {"number": k})
        checkpoint = save_trained(tmp_path / "run" / f"p{k}", other)
        evaluated(checkpoint, tmp_path / "run" / "evaluations" / f"p{k}.json", k)
    return tmp_path / "run"


def test_analyze_ranks_policies(
    run: Path, toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bora_cli.analysis.analyze.draw", lambda *_: {})
    episodes = toy_demonstrations(4)
    for e in episodes:
        e.meta["gap"] = "none@1.0"
    data = toy_dataset(tmp_path / "data", episodes).root
    out = tmp_path / "out"
    result = analyze(toy_policy, data=[data], out=out, occlusion=0, ope=[run])
    assert [(p["name"], p["k"], p["n"]) for p in result["ope"]["policies"]] == [
        ("p2", 2, 10),
        ("p5", 5, 10),
        ("p9", 9, 10),
    ]
    assert len({p["value"] for p in result["ope"]["policies"]}) == 1  # one policy three times: one value
    assert (result["ope"]["states"], result["ope"]["spearman"]) == (4, 0.0)
    assert any("It ranks 3 policies" in s for s in result["says"])
    assert "--ope" in (out / "report.html").read_text()


def test_what_cannot_be_ranked(run: Path, tmp_path: Path) -> None:
    files = sorted((run / "evaluations").iterdir())
    assert [p.success.sum() for p in measured(files, CONDITION)] == [2, 5, 9]
    again = evaluated(run / "p2", tmp_path / "again.json", 3)
    assert [p.success.size for p in measured([*files, again], CONDITION)] == [20, 10, 10]
    with pytest.raises(
        DataError, match=r"2 policies were evaluated on press_button, standard, none@1\.0; ranking needs 3"
    ):
        measured(files[:2], CONDITION)
    with pytest.raises(DataError, match="0 policies were evaluated on press_button, standard, bias"):
        measured(files, (TASK, "standard", "bias@1.0"))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="There is no evaluation in"):
        measured([empty], CONDITION)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(DataError, match="is not an evaluation"):
        measured([tmp_path / "other.json"], CONDITION)
    changed = load_trained(run / "p2")
    save_trained(run / "p2", replace(changed, lam=0.5, provenance={"number": 0}))
    with pytest.raises(
        CheckpointError, match=r"p2 with hash \w+, is not found\. .*p2 have other hashes\. Evaluate"
    ):
        measured([run], CONDITION)
    episodes = toy_demonstrations(2)
    with pytest.raises(DataError, match="are of 1 conditions, or do not say theirs"):
        condition_of(episodes)
