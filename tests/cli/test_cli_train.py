"""`bora train` and `bora online` take the options that the method uses, and refuse the others first."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bora_cli.checkpoint import tiny_backbone_path
from bora_cli.cli import online as cli_online
from bora_cli.cli import train as cli_train
from bora_cli.cli.app import main
from bora_cli.cli.options import METHODS, ONLINE_METHODS, RESIDUALS
from bora_cli.errors import ConfigError
from bora_cli.train import offline, online
from bora_cli.train.pretrain import PretrainConfig

ONLINE_VALUES = {"--data": "demos", "--preset": "paper", "--residual": "mlp"}
VALUES = {"--backbone": "owner/name", "--init": "policy", "--updates": "5", "--preset": "sim"}
VALUES |= {"--validate": "demos", "--advantages": "flipped", "--adapt": "lora@4", "--critic": "ranked"}
VALUES |= {"--warm-up": "gated"}
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
    assert tuple(cli_online.TAKES) == ONLINE_METHODS
    assert {o for options in cli_online.TAKES.values() for o in options} == set(ONLINE_VALUES)
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
        given = calls[0][
            "held_out" if option == "--validate" else option.removeprefix("--").replace("-", "_")
        ]
        assert str(given[0] if isinstance(given, (list, tuple)) else given) == VALUES[option]
    else:
        assert code == 3
        assert err.startswith(f"error: {method} has no use for {option}; of --backbone, ")
        assert not calls
    assert sorted(world.rglob("*")) == before


@pytest.mark.parametrize("method", ["cp", "filtered_bc"])
def test_init_is_explained_where_it_is_refused(capsys: pytest.CaptureFixture[str], method: str) -> None:
    code, err = run(capsys, method, *COMMON, "--init", "policy")
    assert code == 3
    assert err == (
        f"error: {method} has no use for --init; of --backbone, --updates, --preset, --validate, --adapt,"
        " --advantages, --init, --critic, --warm-up it takes --backbone, --updates, --preset, --validate, --adapt.\n"
        "hint: Leave it out. --init names the policy that bora improves, or that bc_interventions corrects.\n"
    )


def test_all_that_is_refused_is_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, err = run(capsys, "bc_interventions", *COMMON, "--updates", "5", "--preset", "sim")
    assert code == 3
    assert err == (
        "error: bc_interventions has no use for --updates, --preset;"
        " of --backbone, --updates, --preset, --validate, --adapt, --advantages, --init, --critic, --warm-up"
        " it takes --init.\n"
        "hint: Leave them out.\n"
    )


def test_the_next_command_names_the_task(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for task, named in (("open_box", "open_box"), ("open_box, pick_toy", "TASK")):
        monkeypatch.setattr(offline, "train", lambda *_, task=task, **__: {"task": task})
        code, err = run(capsys, "cp", *COMMON)
        assert code == 0
        assert f"next: bora eval out --task {named}\n" in err


# ---------------------------------------------------------------------------------------------- online


@pytest.mark.parametrize("method", ONLINE_METHODS)
@pytest.mark.parametrize("option", ONLINE_VALUES)
def test_an_online_option_is_used_or_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, world: Path, method: str, option: str
) -> None:
    asked: dict[str, Any] = {}

    def run_rounds(checkpoint: Path, **options: Any) -> dict[str, Any]:
        asked.update(options)
        return {"policy": "run/policy", "rounds": [{"index": 1, "released": True}], "warnings": []}

    monkeypatch.setattr(online, "run_rounds", run_rounds)
    value = ONLINE_VALUES[option]
    words = ("online", "policy", "--task", "pick_toy", "--method", method, "--out", "run", option, value)
    with pytest.raises(SystemExit) as leaving:
        main(words)
    err = capsys.readouterr().err
    if option in cli_online.TAKES[method]:
        assert not leaving.value.code
        assert asked[option.removeprefix("--").replace("-", "_")] == (
            [Path(value)] if option == "--data" else value
        )
    else:
        assert leaving.value.code == 3
        assert err == (
            f"error: {method} has no use for {option}; of --data, --preset, --residual it takes"
            f" {', '.join(cli_online.TAKES[method])}.\n"
            "hint: Leave it out.\n"
        )
        assert not asked
    assert not (world / "run").exists()


@pytest.mark.parametrize("residual", RESIDUALS)
def test_every_residual_reaches_the_online_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, toy_policy: Path, residual: str
) -> None:
    """The job, which a continued run has to repeat, holds preset and residual."""
    jobs: list[Any] = []

    def claim(out: Path, job: Any, unknown: Any) -> None:
        jobs.append(job)
        raise ConfigError("enough", "")

    monkeypatch.setattr(online, "claim", claim)
    words = ("online", str(toy_policy), "--task", "press_button", "--out", "run")
    with pytest.raises(SystemExit):
        main([*words, "--preset", "paper", "--residual", residual])
    assert "error: enough" in capsys.readouterr().err
    (job,) = jobs
    assert (job.preset, job.residual) == ("paper", residual)
    assert (job.profile, job.image_size) == ("sim", 64)


def test_pretraining_by_default_makes_the_backbone_that_is_shipped() -> None:
    report = json.loads((tiny_backbone_path() / "pretrain.json").read_text())
    assert report["config"] == asdict(PretrainConfig())
    defaults = {k: p.default for k, p in inspect.signature(cli_train.pretrain_command).parameters.items()}
    for name in ("scenes", "updates", "seed"):
        assert defaults[name] == report["config"][name], name
