"""A run without everything that a report needs is refused before anything is written."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bora_cli.analysis.run_report import report
from bora_cli.cli.app import main
from bora_cli.cli.pipeline import Job
from bora_cli.data.files import claimed
from bora_cli.errors import DataError


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A run that was stopped after its first evaluation."""
    root = tmp_path / "a run"
    (root / "evaluations").mkdir(parents=True)
    (root / "demo.json").write_text(json.dumps(asdict(Job.make("pick_toy", 3, "bias", True))))
    return root


def test_an_unfinished_run_is_told_how_to_go_on_and_left_alone(unfinished: Path) -> None:
    before = sorted(unfinished.rglob("*"))
    with pytest.raises(DataError, match=r"is not finished: it has no online/rounds.json yet") as told:
        report(unfinished)
    assert f"bora demo --task pick_toy --seed 3 --gap bias --quick --out '{unfinished}'" in told.value.hint
    assert sorted(unfinished.rglob("*")) == before


def test_other_directories_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"There is no run at .*nowhere"):
        report(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"is not a demo run: it has no demo\.json"):
        report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_in_work_is_not_touched(unfinished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with claimed(unfinished), pytest.raises(SystemExit) as leaving:
        main(["report", str(unfinished)])
    assert leaving.value.code == 3
    assert "Another process is working on" in capsys.readouterr().err
