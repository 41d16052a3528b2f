"""`--env`: collect, evaluate and replay in a Gymnasium environment, and what does not go with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bora_cli.cli.app import main
from bora_cli.data.dataset import Dataset
from tiny_env import write_profile

EXPERT = ("--operator", "tiny_env:Expert")


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, err = run(capsys, *arguments, "--json", "--quiet")
    assert code == 0, err
    return json.loads(out)


@pytest.fixture
def point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_profile(tmp_path)


def test_the_whole_way(capsys: pytest.CaptureFixture[str], point: Path, toy_backbone: Path) -> None:
    made = document(capsys, "collect", "--env", point, *EXPERT, "--episodes", 2, "--out", "demos")
    assert (made["episodes"], made["success"]["n"]) == (2, 2)
    replayed = document(capsys, "replay", "demos", "--env", point, "--all")
    assert (replayed["episodes"], replayed["successes"], replayed["same_outcome"]) == (2, 2, 2)
    again = document(
        capsys, "collect", "--env", point, "--replay", "demos", "--out", "again", "--image-size", 64
    )
    assert (again["episodes"], again["success"]["n"]) == (2, 2)
    code, _, err = run(
        capsys,
        "train",
        "cp",
        "--data",
        "again",
        "--out",
        "policy",
        "--backbone",
        toy_backbone,
        "--updates",
        8,
    )
    assert (code, err.splitlines()[-1]) == (0, "next: bora eval policy --env PROFILE")
    counted = document(capsys, "eval", "policy", "--env", point, "--episodes", 2, "--record", "seen")
    assert (counted["episodes"], counted["profile"], counted["gap"]) == (2, "point", "none")
    assert len(Dataset.open("seen")) == 2


def test_people_read_sentences(capsys: pytest.CaptureFixture[str], point: Path) -> None:
    run(capsys, "collect", "--env", point, *EXPERT, "--episodes", 1, "--out", "demos")
    code, out, err = run(capsys, "replay", "demos", "--env", point, "--episode", 0, "--video", "film.webp")
    assert code == 0
    assert out.splitlines() == [
        "1 of 1 succeeded (100 %, 95 % interval 21 to 100 %)",
        "recorded as successes: 1; same outcome: 1 of 1",
    ]
    assert "film: film.webp" in err
    assert Path("film.webp").stat().st_size > 100


def test_recordings_are_imported(capsys: pytest.CaptureFixture[str], tmp_path: Path, point: Path) -> None:
    np.savez(
        "demos.npz",
        lengths=np.array([9]),
        observations=np.zeros((9, 3)),
        actions=np.ones((9, 3)),
        successes=np.array([False]),
        init_position=np.array([[0.2, 0.2]]),
    )
    document(capsys, "data", "import", "demos.npz", "--profile", point, "--out", "raw")
    replayed = document(capsys, "replay", "raw", "--env", point, "--all")
    assert (replayed["successes"], replayed["recorded_successes"]) == (1, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("collect", "--out", "x"), 2, "Missing option '--task' (or '--env' for a Gymnasium environment)"),
        (
            ("collect", "--task", "pick_toy", "--env", "point.toml", "--out", "x"),
            2,
            "--task has no meaning with --env",
        ),
        (
            ("collect", "--env", "point.toml", "--out", "x", "--gap", "bias"),
            2,
            "--gap has no meaning with --env",
        ),
        (
            ("collect", "--env", "point.toml", "--out", "x", "--workers", "2"),
            2,
            "--workers has no meaning with --env",
        ),
        (
            ("collect", "--task", "pick_toy", "--out", "x", "--replay", "d"),
            2,
            "--replay has no meaning without --env",
        ),
        (
            ("collect", "--env", "point.toml", "--out", "x"),
            3,
            "Give --replay DIR, or --operator MODULE:NAME.",
        ),
        (("collect", "--env", "point.toml", "--out", "x", "--replay", "d"), 3, "No dataset at d"),
        (
            ("collect", "--env", "CartPole-v1", "--out", "x"),
            3,
            "No profile describes the environment 'CartPole-v1'",
        ),
        (("collect", "--env", "other.toml", "--out", "x"), 3, "No hardware profile at other.toml"),
        (("replay", "d", "--all"), 2, "--all has no meaning without --env"),
        (
            ("replay", "d", "--env", "point.toml", "--all", "--episode", "1"),
            2,
            "--all and --episode exclude each other",
        ),
        (("replay", "d", "--env", "point.toml"), 3, "No dataset at d"),
    ],
)
def test_what_does_not_go_together_is_said(
    capsys: pytest.CaptureFixture[str], point: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    got, _, err = run(capsys, *arguments)
    assert text in " ".join(err.replace("│", " ").split())
    assert got == code
    assert not Path("x").exists()
