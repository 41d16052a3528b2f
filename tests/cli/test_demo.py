"""The whole demo: it ends with a report, and being killed on the way changes no number of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from demo_driver import MOMENTS, SEED

from bora_cli.cli.app import main
from bora_cli.cli.pipeline import Job, Pipeline
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError

METHODS = {"cp_base", "filtered_bc", "bora_offline", "bc_interventions", "bora_full"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the two runs of `demo_driver`."""
    scratch = tmp_path_factory.mktemp("demo")
    driver = Path(__file__).with_name("demo_driver.py")
    done = subprocess.run(
        [sys.executable, driver, scratch],
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    ends = [line.rsplit(" ", 1) for line in done.stdout.splitlines()]
    logs = "\n".join(log.read_text() for log in sorted(scratch.glob("*/*.log")))
    whole = [["uninterrupted", "0"], ["printed commands", "0"]]
    expected = [*whole, *([moment, str(int(signal.SIGKILL))] for moment in MOMENTS)]
    assert ends == [*expected, ["to the end", "0"]], logs[-3000:] + done.stderr
    return scratch


def summary_of(run: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return summary


@pytest.mark.slow
def test_a_run_ends_with_a_report(runs: Path) -> None:
    run = runs / "broken" / "run"
    summary = summary_of(run)
    assert {c["method"] for c in summary["cells"]} == METHODS
    assert {c["setting"] for c in summary["cells"]} == {"standard", "unseen"}
    assert len(summary["stages"]) == 9  # the tenth writes the summary
    assert len(summary["rounds"]) == 1
    assert summary["preset"] == "quick"
    assert "A quick run: its numbers are too small to mean anything." in summary["caveats"]
    assert set(summary["hashes"]) == METHODS
    page = (run / "report.html").read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "data:image/webp;base64," in page
    assert "<svg" in page or "data:image/png;base64," in page
    assert "http" not in page.split("<body", 1)[0]  # nothing is loaded from elsewhere
    assert len(Dataset.open(run / "demos")) == 3
    assert len(Dataset.open(run / "online" / "episodes")) == 2
    results = pl.read_parquet(run / "results.parquet")
    assert len(results) == 20
    assert set(results["scene_seed"]) == {1000 * SEED, 1000 * SEED + 1}


@pytest.mark.slow
def test_killed_in_every_stage_it_gives_the_numbers_of_an_uninterrupted_run(runs: Path) -> None:
    whole, broken = runs / "whole" / "run", runs / "broken" / "run"
    assert pl.read_parquet(whole / "results.parquet").equals(pl.read_parquet(broken / "results.parquet"))
    one, other = summary_of(whole), summary_of(broken)
    for part in ("cells", "comparisons", "human", "rounds", "critic", "residual", "hashes", "caveats"):
        assert one[part] == other[part], part
    for file in whole.glob("**/*.safetensors"):
        assert file.read_bytes() == (broken / file.relative_to(whole)).read_bytes(), file


@pytest.mark.slow
def test_what_was_done_is_not_done_again(runs: Path) -> None:
    logs = [(runs / "broken" / f"attempt-{i}.log").read_text() for i in range(len(MOMENTS) + 1)]
    assert "done before" not in logs[0]
    assert [log.count("done before") for log in logs] == [0, 0, 2, 4, 5, 6, 7, 8, 9]
    assert "[9/10] Ask the critic: done before" in logs[-1]
    assert "BORA-Full succeeded in" in " ".join(logs[-1].split())


@pytest.mark.slow
def test_the_printed_commands_make_the_same_again(runs: Path) -> None:
    """Each was given as it was printed, after the run: equal weights and equal episodes, in a folder beside it."""
    run, again = runs / "whole" / "run", runs / "whole" / "run-again"
    made = sorted(f.relative_to(again) for f in again.glob("**/*.safetensors"))
    assert made == sorted(f.relative_to(run) for f in run.glob("**/*.safetensors"))
    for file in made:
        assert (again / file).read_bytes() == (run / file).read_bytes(), file
    for dataset in ("demos", "rollouts", "online/episodes"):
        one, other = (Dataset.open(folder / dataset).summary() for folder in (run, again))
        aside = {"root", "size_bytes"}  # the run's datasets have tokens beside them
        assert {k: v for k, v in one.items() if k not in aside} == {
            k: v for k, v in other.items() if k not in aside
        }
    numbers = [json.loads((folder / "analysis" / "critic.json").read_text()) for folder in (run, again)]
    assert numbers[0] == numbers[1]
    log = (runs / "whole" / "again.log").read_text()
    assert log.count("of 2 succeeded") == 10


# --------------------------------------------------------------------------------------------- refusals


def demo(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["demo", *(str(a) for a in arguments)])
    return int(leaving.value.code or 0), capsys.readouterr().err


def claimed(root: Path, task: str = "press_button", seed: int = 0, quick: bool = True) -> Pipeline:
    pipeline = Pipeline(root, Job.make(task, seed, "deployment", quick), None, lambda *_: None)
    pipeline.claim()
    return pipeline


def test_another_demo_in_the_same_directory_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    run = tmp_path / "run"
    claimed(run)
    code, err = demo(capsys, "--quick", "--task", "press_button", "--seed", 1, "--out", run, "--workers", 1)
    assert code == 3
    assert "holds another demo (task press_button, seed 0, gap deployment, quick True)" in err
    assert "this one is task press_button, seed 1" in err
    with pytest.raises(ConfigError, match="quick False"):
        claimed(run, quick=False)
    claimed(run)


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    with pytest.raises(
        ConfigError, match="is not empty and holds no demo; expected a new or empty directory"
    ):
        claimed(tmp_path)


def test_a_demo_killed_while_it_claimed_its_directory_goes_on(tmp_path: Path) -> None:
    (tmp_path / "demo.json.tmp").write_text("{")
    claimed(tmp_path)
    assert json.loads((tmp_path / "demo.json").read_text())["task"] == "press_button"


def test_a_seed_that_would_run_out_of_scenes_later_is_refused_now(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Seed 100 .* is outside the release scenes"):
        claimed(tmp_path / "run", seed=100)
    assert not (tmp_path / "run").exists()


def test_every_stage_names_commands_that_do_the_same(tmp_path: Path) -> None:
    stages = list(claimed(tmp_path / "run").stages())
    assert [s.key.partition("-")[0] for s in stages] == [str(i) for i in range(1, 11)]
    commands = [c for s in stages for c in s.commands]
    assert all(c.startswith("bora ") for c in commands)
    assert sum(c.startswith("bora eval ") for c in commands) == 10
    assert sum("--record" in c for c in commands) == 1
    online = next(c for c in commands if c.startswith("bora online"))
    assert "--gap deployment" in online
    assert str(tmp_path) in online
