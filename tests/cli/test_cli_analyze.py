"""`bora analyze`: options that belong together, and what reaches the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bora_cli.cli.analyze import ANALYSED
from bora_cli.cli.app import main


@pytest.fixture(autouse=True)
def wide_plain_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["analyze", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--then", "expert"], 2, "--then belongs to --counterfactual."),
        (["--masks", "m.npz", "--box", "object:scene=1,1,2,2"], 2, "--masks and --box exclude each other."),
        (["--occlusion", 0, "--box", "object:scene=1,1,2,2"], 2, "have no meaning with --occlusion 0."),
        (
            ["--counterfactual", 4, "--then", "nobody"],
            3,
            "No checkpoint at nobody: there is no such directory.",
        ),
    ],
)
def test_options_that_contradict_each_other(
    capsys: pytest.CaptureFixture[str],
    toy_policy: Path,
    toy_demos: Path,
    options: list[object],
    code: int,
    says: str,
) -> None:
    found, out, err = run(capsys, toy_policy, "--data", toy_demos, "--out", "x", *options)
    assert (found, out) == (code, "")
    assert says in " ".join(err.replace("│", " ").split())
    assert not Path("x").exists()


def test_everything_that_was_asked_for_reaches_the_library(
    capsys: pytest.CaptureFixture[str], toy_policy: Path, toy_demos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def analyze(checkpoint: Path, **options: Any) -> dict[str, Any]:
        given.update(options, checkpoint=checkpoint)
        numbers: dict[str, Any] = dict.fromkeys(ANALYSED)
        return {
            **numbers,
            "checkpoint": "p",
            "successes": 1,
            "failures": 2,
            "ece": 0.1,
            "intervals": {"ece": (0.05, 0.2), "spearman": (None, None)},
            "says": ["It says."],
            "notes": ["Left out."],
            "report": "r.html",
        }

    monkeypatch.setattr("bora_cli.analysis.analyze.analyze", analyze)
    options = ["--occlusion", 3, "--box", "hand:scene=1,1,2,2", "--counterfactual", 5, "--then", "expert"]
    code, out, err = run(
        capsys,
        toy_policy,
        "--data",
        toy_demos,
        "--out",
        "x",
        *options,
        "--ope",
        "a",
        "--ope",
        "b",
        "--workers",
        1,
    )
    assert code == 0, err
    assert given["occlusion"] == 3
    assert given["boxes"] == ["hand:scene=1,1,2,2"]
    assert (given["counterfactual"], given["then"]) == (5, "expert")
    assert given["ope"] == [Path("a"), Path("b")]
    assert given["workers"].count == 1
    assert "It says." in out
    assert ["ece", "0.100", "[0.050,", "0.200]"] in [line.split() for line in out.splitlines()]
    assert out.startswith("Left out.\n")
