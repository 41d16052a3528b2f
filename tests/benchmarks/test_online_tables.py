"""The tables of benchmarks/online.py, on made-up runs, and what the benchmark refuses."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bora_cli.control.arbiter import Phase
from bora_cli.data.files import write_json
from bora_cli.evaluate.metrics import Result
from bora_cli.types import Controller, Episode

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
METHODS = ("resfit", "bora_full")


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import online

    return online


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import online_tables

    return online_tables


@pytest.fixture
def made(tables: ModuleType) -> Callable[..., Any]:
    """Return runs with so many successes on the first scenes, standard and unseen alike."""

    def run(method: str, k: int, n: int = 100, *, gap: str = "bias@1.0", seed: int = 0, **more: Any) -> Any:
        results = [
            Result(method, setting, gap, seed, 1000 * seed + i, i < k)
            for setting in ("standard", "unseen")
            for i in range(n)
        ]
        about = {"base": "b", "rounds": 2, "episodes": 20, "ticks": 1000, "human_ticks": 200, "takeovers": 10}
        about |= {"released": 1, "updates": 800, "jump_mm": 12.5, "jump_of_limit": 0.9}
        about |= {"seconds": {"collect": [60.0, 6.0], "learn": [30.0, 3.0], "evaluate": [600.0, 60.0]}}
        task = more.pop("task", "pick_toy")
        facts = None if method == tables.BASE else tables.Facts(**(about | more))
        return tables.Run(task, seed, gap, method, results, facts)

    return run


def rows(markdown: str) -> dict[str, list[str]]:
    """Return the cells of the first table by their first one."""
    cut = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if "|" in line]
    return {cells[0]: cells[1:] for cells in reversed(cut)}


def test_a_gap_is_told_with_what_was_recovered_of_it(tables: ModuleType, made: Callable[..., Any]) -> None:
    runs = [made("bora_offline", 80, gap="none@1.0")]
    runs += [made("bora_offline", 20), made("resfit", 10, released=2), made("bora_full", 60)]
    text = tables.report(runs, METHODS, ["bias@1.0"])
    found = rows(text)
    assert found["BORA-Offline"][:3] == ["20/100 = 0.20 (0.13-0.29)", "20/100 = 0.20 (0.13-0.29)", ""]
    full = found["BORA-Full"]
    assert full[0].startswith("60/100 = 0.60")
    assert full[2].startswith("0.67 (")  # 40 of the 60 points that the gap took
    assert full[4:] == ["20 %", "0.50", "12.5 mm, 0.90 of the limit", "1/2", "800", "1.5"]
    assert found["ResFiT"][2].startswith("-0.17 (")
    assert found["ResFiT"][7] == "2/2"
    assert "- over BORA-Offline, standard: +40 (" in text
    assert "- over ResFiT, unseen: +50 (" in text
    assert "Never harm" not in text  # nothing mild was run
    assert "| BORA-Full | 60 (6) | 30 (3) | 600 (60) |" in text


def test_pooled_tasks_keep_their_scenes_apart(tables: ModuleType, made: Callable[..., Any]) -> None:
    better = [made("bora_offline", 0), made("bora_full", 50)]
    same = [made("bora_offline", 50, task="open_box"), made("bora_full", 50, task="open_box")]
    text = tables.report(better + same, ["bora_full"], ["bias@1.0"])
    pooled = text.partition("#### pick_toy, open_box, seeds 0")[2].partition("####")[0]
    assert rows(pooled)["BORA-Full"][0].startswith("100/200 = 0.50")
    assert "standard: +25 (" in pooled
    assert "n = 200" in pooled


def test_what_a_gap_hardly_takes_is_not_recovered(tables: ModuleType, made: Callable[..., Any]) -> None:
    bare = [made("bora_offline", 22, gap="none@1.0")]
    here = [made("bora_offline", 20), made("bora_full", 60)]
    assert tables.recovered(here, bare, "bora_full", "standard") is None
    bare = [made("bora_offline", 60, gap="none@1.0")]
    share, low, high = tables.recovered(here, bare, "bora_full", "standard")
    assert (share, low, high) == (1.0, 1.0, 1.0)  # the same scenes succeed, whichever are drawn


def test_only_complete_rows_enter(tables: ModuleType, made: Callable[..., Any]) -> None:
    runs = [made("bora_offline", 20), made("resfit", 10), made("bora_full", 60)]
    runs += [made("bora_offline", 90, seed=1), made("bora_full", 90, seed=1)]
    assert {r.seed for r in tables.complete(runs, METHODS)} == {0}
    assert "Nothing complete yet." in tables.report(runs[3:], METHODS, ["bias@1.0"])


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        ("none@1.0", True),
        ("bias@0.25", True),
        ("bias@1.0", False),
        ("bias@0.5+friction@0.5", True),
        ("bias@0.5+latency@1.0", False),
        ("latency@0.0", True),
    ],
)
def test_mild_gaps(tables: ModuleType, gap: str, expected: bool) -> None:
    assert tables.mild(gap) is expected


def test_harm_is_counted_by_run_and_setting(tables: ModuleType, made: Callable[..., Any]) -> None:
    runs = []
    for seed, k in enumerate((80, 77, 76, 90)):  # 0, 3, 4 below the base, 10 above it
        runs += [
            made("bora_offline", 80, gap="bias@0.5", seed=seed),
            made("resfit", k, gap="bias@0.5", seed=seed),
        ]
        runs.append(made("bora_full", 80, gap="bias@0.5", seed=seed, released=0))
    runs += [made("bora_offline", 80), made("resfit", 0), made("bora_full", 0)]  # a strong gap does not count
    found = rows(tables.harm_table(runs, METHODS))
    released, standard, unseen, both, worst, mean = found["ResFiT"]
    assert released == "4/4"
    assert standard == unseen == both == "1/4 = 0.25 (0.05-0.70)"  # exactly 3 points are allowed
    assert worst == "-4.0"
    assert mean.startswith("+1 (")
    assert found["BORA-Full"][:2] == ["0/4", "0/4 = 0.00 (0.00-0.49)"]


def test_the_jump_is_that_of_a_takeover(online: ModuleType) -> None:
    n = 8
    action = np.zeros((n, 18), np.float32)
    phase = np.full(n, Phase.AUTONOMOUS, np.uint8)
    phase[3:5], phase[5:7] = Phase.TAKING, Phase.HUMAN
    action[3:, 0], action[5:, 1], action[6:, 2] = 0.003, 0.004, 1.0  # the last one is the person's own
    action[4, 7] = 0.15
    zeros, false = np.zeros(n, np.float32), np.zeros(n, bool)
    controller = np.full(n, Controller.POLICY, np.uint8)
    episode = Episode({}, action, action, action, action, controller, phase, zeros, false, false, True, "")
    limit = np.full(18, 0.3, np.float32)
    mm, share = online.jump(episode, limit)
    assert mm == pytest.approx(4.0)
    assert share == pytest.approx(0.5)
    phase[:] = Phase.AUTONOMOUS
    assert online.jump(episode, limit) == (0.0, 0.0)


def test_a_row_that_released_nothing_has_the_episodes_of_its_base(
    online: ModuleType, tables: ModuleType, made: Callable[..., Any], tmp_path: Path
) -> None:
    for method, k in (("bora_offline", 3), ("bora_full", 0)):
        for setting in online.SETTINGS:
            trials = [{"scene_seed": i, "success": i < k, "terminated": True, "ticks": 9} for i in range(4)]
            job = {"checkpoint": "", "checkpoint_hash": "", "task": "pick_toy", "setting": setting}
            job |= {"gap": "bias@1.0", "image_size": 64, "renderer": "", "warnings": [], "trials": trials}
            write_json(online.evaluation(tmp_path, method, setting, 4), job)
    facts = vars(made("bora_full", 1).facts)
    for released, k in ((0, 3), (1, 0)):
        write_json(tmp_path / "bora_full.json", facts | {"released": released})
        run = online.found_run(tmp_path, "pick_toy", 0, "bias@1.0", "bora_full", 4)
        assert sum(r.success for r in run.results) == 2 * k
        assert {r.method for r in run.results} == {"bora_full"}
    assert online.found_run(tmp_path, "pick_toy", 0, "bias@1.0", "resfit", 4) is None


def test_seconds_of_stages_outlive_an_interruption(online: ModuleType, tmp_path: Path) -> None:
    for labels in (["round 1", "release test 1, new policy"], ["round 2", "residual", "online critic"]):
        with online.Clock(tmp_path / "seconds.json") as clock:
            clock.seconds["collect"] = [clock.seconds.get("collect", [0.0])[0] + 5.0, 0.0]
            for label in labels:
                clock(label, 1, 2)
    kept = json.loads((tmp_path / "seconds.json").read_text())
    assert list(kept) == ["collect", "test", "learn"]
    assert kept["collect"][0] >= 10.0


def asked(online: ModuleType, *words: str) -> argparse.Namespace:
    return online.parse(argparse.ArgumentParser(), words)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--gaps", "wind"], "Unknown execution gap 'wind'. Known gaps: none, bias"),
        (["--gaps", "latency@0.5"], "expected a whole number"),
        (["--methods", "dagger"], "invalid choice: 'dagger'"),
    ],
)
def test_words_that_are_none(
    online: ModuleType, words: Sequence[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        asked(online, *words)
    assert reason in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--episodes", "1001"], "--episodes 1001; expected 1 to 1000."),
        (["--seeds", "-1"], "Seed -1 is negative"),
        (
            ["--offline", "nowhere"],
            "no policy at nowhere/pick_toy-0/policies/bora. Run `benchmarks/offline.py",
        ),
    ],
)
def test_refusals_come_before_anything_runs(
    online: ModuleType,
    words: Sequence[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["online.py", *words, "--out", str(out)])
    with pytest.raises(SystemExit) as end:
        online.main()
    assert end.value.code == 3
    assert reason in capsys.readouterr().err
    assert not out.exists()


def test_another_benchmark_is_not_continued(online: ModuleType, tmp_path: Path) -> None:
    online.check(asked(online, "--out", str(tmp_path)))
    assert json.loads((tmp_path / "online.json").read_text())["rounds"] == 2
    with pytest.raises(online.ConfigError, match=r"'rounds': 3.*Choose another --out"):
        online.check(asked(online, "--out", str(tmp_path), "--rounds", "3"))
