import json
from dataclasses import asdict

import pytest

from bora_cli.analysis.critic_summary import AurocPoint, CriticSummary, SwapScore
from bora_cli.analysis.summary import (
    Cell,
    Comparison,
    Human,
    ResidualSummary,
    Round,
    RunSummary,
    Stage,
    method_title,
)
from bora_cli.errors import DataError, SchemaMismatch


def full() -> RunSummary:
    return RunSummary(
        task="pick_toy",
        seed=0,
        cells=(Cell("mine", "standard", "none", 1, 2), Cell("cp_base", "standard", "none", 0, 2, seeds=1)),
        comparisons=(Comparison("mine", "cp_base", "standard", "none", 0.5, 0.0, 1.0, 2),),
        stages=(Stage("Train", "bora train", 1.5),),
        human=Human(episodes=4, ticks=100, human_ticks=20, takeovers=3),
        rounds=(Round(1, 4, 100, 20, 3, 1, 2, 4, True),),
        critic=CriticSummary(
            2,
            2,
            (AurocPoint(0.05, 4, None, None, None), AurocPoint(0.15, 4, 0.75, 0.2, 1.0)),
            (SwapScore("other_state", 8, 0.5, 0.4, 0.6, None),),
        ),
        residual=ResidualSummary(("dx", "dy"), (0.1, -0.1)),
        versions={"bora": "0.1.0"},
        caveats=("Simulated.",),
    )


def test_json_round_trip_is_exact(tmp_path):
    full().save(tmp_path / "run" / "summary.json")
    assert RunSummary.load(tmp_path / "run" / "summary.json") == full()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["schema"] == 1


def test_task_and_seed_are_enough():
    assert RunSummary.from_json({"schema": 1, "task": "a", "seed": 3}) == RunSummary("a", 3)


def test_nan_is_written_as_null():
    data = RunSummary("a", 0, critic=CriticSummary(1, 1, ece=float("nan"), bias=float("inf"))).to_json()
    assert data["critic"]["ece"] is None
    assert data["critic"]["bias"] is None
    json.dumps(data, allow_nan=False)


def test_methods_come_in_table_order_and_strangers_last():
    s = full()
    assert s.methods() == ["cp_base", "mine"]
    assert method_title("cp_base") == "CP Base"
    assert method_title("my_own") == "my own"
    assert s.settings() == [("standard", "none")]
    assert s.cell("mine", "standard", "none") == s.cells[0]
    assert s.cell("mine", "unseen", "none") is None
    assert s.comparison("mine", "cp_base", "standard", "none") == s.comparisons[0]
    assert s.human is not None
    assert (s.human.share, s.human.takeovers_per_episode) == (0.2, 0.75)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, r"schema 2; this version reads 1. Make it again"),
        ({"colour": 1}, r"Unknown key 'colour' in the top level .* Known keys: caveats, cells"),
        ({"stages": [{"name": "a"}]}, r"stages\[0\] of the run summary is incomplete"),
        ({"cells": [asdict(Cell("a", "b", "c", 3, 2))]}, r"a/b counts 3 successes in 2 episodes"),
        ({"critic": {"successes": 1, "failures": 1, "auroc": [{"x": 1}]}}, r"'x' in critic.auroc\[0\]"),
    ],
)
def test_from_json_refuses(change, message):
    with pytest.raises(DataError, match=message):
        RunSummary.from_json(full().to_json() | change)


def test_load_explains_what_is_wrong(tmp_path):
    path = tmp_path / "summary.json"
    with pytest.raises(DataError, match=r"no run summary at .* Give the folder of a finished run"):
        RunSummary.load(path)
    path.write_text("{")
    with pytest.raises(DataError, match="not valid JSON"):
        RunSummary.load(path)
    path.write_text("[]")
    with pytest.raises(SchemaMismatch, match="holds a list"):
        RunSummary.load(path)
