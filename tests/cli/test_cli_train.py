"""`bora train` takes the options that the method uses and refuses the others before anything is read or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bora_cli.cli import train as cli_train
from bora_cli.cli.app import main
from bora_cli.cli.options import METHODS
from bora_cli.train import offline

VALUES = {"--backbone": "owner/name", "--init": "policy", "--updates": "5", "--preset": "sim"}
COMMON = ("--data", "demos", "--out", "out")


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty terminal in a folder with what looks like a dataset and a checkpoint."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)
    for file in ("demos/meta/info.json", "policy/config.json"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text("{}")
    return tmp_path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `train` is called with, instead of training."""
    seen: list[dict[str, Any]] = []

    def train(method: str, **options: Any) -> dict[str, Any]:
        seen.append({"method": method, **options})
        return {}

    monkeypatch.setattr(offline, "train", train)
    return seen


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["train", *arguments])
    return int(leaving.value.code or 0), capsys.readouterr().err


def test_every_method_says_what_it_takes() -> None:
    assert tuple(cli_train.TAKES) == METHODS
    assert {option for options in cli_train.TAKES.values() for option in options} == set(VALUES)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("option", VALUES)
def test_an_option_is_used_or_refused(
    capsys: pytest.CaptureFixture[str], calls: list[dict[str, Any]], world: Path, method: str, option: str
) -> None:
    """A given option reaches the library, or ends the command; it is never dropped in silence."""
    before = sorted(world.rglob("*"))
    code, err = run(capsys, method, *COMMON, option, VALUES[option])
    if option in cli_train.TAKES[method]:
        assert code == 0, err
        assert str(calls[0][option.removeprefix("--")]) == VALUES[option]
    else:
        assert code == 3
        assert err.startswith(f"error: {method} has no use for {option}; beside --data, --out, --seed")
        assert not calls
    assert sorted(world.rglob("*")) == before


@pytest.mark.parametrize("method", ["cp", "filtered_bc"])
def test_init_is_explained_where_it_is_refused(capsys: pytest.CaptureFixture[str], method: str) -> None:
    code, err = run(capsys, method, *COMMON, "--init", "policy")
    assert code == 3
    assert err == (
        f"error: {method} has no use for --init; beside --data, --out, --seed it takes"
        " --backbone, --updates, --preset.\n"
        "hint: Leave it out. --init names the policy that bora improves, or that bc_interventions corrects.\n"
    )


def test_all_that_is_refused_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = run(capsys, "bc_interventions", *COMMON, "--updates", "5", "--preset", "sim")
    assert code == 3
    assert err == (
        "error: bc_interventions has no use for --updates, --preset; beside --data, --out, --seed it takes --init.\n"
        "hint: Leave them out.\n"
    )
