"""docs/environments.md is true: its environment, its profile and its commands are taken from the page and run."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from bora_cli.cli.app import main
from bora_cli.data.dataset import Dataset

PAGE = (Path(__file__).parents[1] / "docs" / "environments.md").read_text()
FEWER = {"collect": ["--episodes", "4"], "train": ["--updates", "8"], "eval": ["--episodes", "2"]}
"""Options that make the printed commands short; a later one replaces the one printed."""


def block(language: str, containing: str) -> str:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    found = [text for name, text in blocks if name == language and containing in text]
    assert len(found) == 1, containing
    return found[0]


def test_your_environment_under_our_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("my_env.py").write_text(block("python", "class Reach"))
    Path("my_env.toml").write_text(block("toml", "[env]"))
    commands = [line for line in block("", "my_env:Expert").splitlines() if line.startswith("bora ")]
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)[1:]
        with pytest.raises(SystemExit) as leaving:
            main([*words, *FEWER.get(words[0], [])])
        out, err = capsys.readouterr()
        assert not leaving.value.code, f"{command}\n{err}"
        if words[0] == "replay":
            assert "4 of 4 succeeded" in out
    assert len(Dataset.open("demos")) == 4
    sys.modules.pop("my_env")


def test_our_tasks_in_gymnasium(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {}
    exec(block("python", "gymnasium.make"), names)
    assert isinstance(names["obs"], dict)
    assert names["terminated"] is False
    names["env"].close()  # type: ignore[attr-defined]
