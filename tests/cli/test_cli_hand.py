"""`bora hand fit`, and driving with what it found."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bora_cli.cli.app import build
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, DataError
from bora_cli.evaluate.collect import collect
from bora_cli.input.synergies import load_synergies


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hand") / "demos"
    collect(task="press_button", episodes=2, out=out, quality="expert", image_size=16)
    return out


def run(*arguments: str) -> object:
    result = CliRunner().invoke(build(), ["hand", "fit", *arguments], env={"COLUMNS": "80"})
    return result.exception or result.output


def test_what_demonstrated_hands_did_can_be_repeated(demos: Path, tmp_path: Path) -> None:
    """The synergies hold the commanded postures of the demonstrations."""
    file = tmp_path / "hand.json"
    output = str(run(str(demos), "--out", str(file)))
    assert "2 episodes" in output
    fitted = load_synergies(file)
    hand = Dataset.open(demos).episode(0, images=False).action[:, 6:]
    assert fitted.names[0] == "thumb_yaw"
    assert fitted.explained > 0.95
    error = max(np.abs(fitted.lift(fitted.project(posture)) - posture).max() for posture in hand)
    assert error < 0.15


def test_json_and_count(demos: Path, tmp_path: Path) -> None:
    file = tmp_path / "hand.json"
    output = str(run(str(demos), str(demos), "--out", str(file), "--count", "1", "--json", "--successes"))
    document = json.loads(output[: output.rindex("}") + 1])
    assert len(document["directions"]) == 1
    assert document["source"].startswith("4 episodes")


def test_mistakes_are_explained(demos: Path, tmp_path: Path) -> None:
    for arguments, kind, message in (
        (["nowhere", "--out", "hand.json"], DataError, "No dataset at nowhere"),
        ([str(demos), "--out", "hand.toml"], ConfigError, "not a .json file"),
        ([str(demos), "--out", str(tmp_path / "no" / "hand.json")], ConfigError, "cannot be a file there"),
        (
            [str(demos), "--out", str(tmp_path / "h.json"), "--count", "9"],
            ConfigError,
            "9 synergies were asked for",
        ),
    ):
        error = run(*arguments)
        assert isinstance(error, kind)
        assert message in str(error)
    assert not (tmp_path / "h.json").exists()


def test_teleop_refuses_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "hand.json").write_text("{}")
    arguments = ["teleop", "--task", "press_button", "--hand", str(tmp_path / "hand.json")]
    result = CliRunner().invoke(build(), arguments)
    assert isinstance(result.exception, ConfigError)
    assert "no file of synergies" in result.exception.message
