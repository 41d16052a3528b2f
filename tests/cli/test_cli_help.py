"""Help: instant, one screen, an example per command, and nothing heavy imported."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from rich.cells import cell_len
from typer.testing import CliRunner

from bora_cli import __version__
from bora_cli.cli.app import COMMANDS, build

HEAVY = {
    "torch",
    "transformers",
    "safetensors",
    "matplotlib",
    "polars",
    "pyarrow",
    "mujoco",
    "gymnasium",
    "av",
    "PIL",
    "numpy",
    "pydantic",
}
ENTRIES = [entry for _, commands in COMMANDS for entry, _ in commands]
PLAIN = {**os.environ, "COLUMNS": "80", "LINES": "40", "TERM": "dumb", "NO_COLOR": "1"}


def every_command() -> Iterator[tuple[str, ...]]:
    """Yield the path of every command and of every group of commands."""
    open_ends: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(build()))]
    while open_ends:
        path, group = open_ends.pop()
        for name, command in getattr(group, "commands", {}).items():
            open_ends.append(((*path, name), command))
            yield (*path, name)


def bora(*arguments: str, env: dict[str, str] = PLAIN) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bora_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def test_help_is_one_screen() -> None:
    result = bora("--help")
    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert result.stderr == ""
    assert len(lines) <= 40
    assert max(cell_len(line) for line in lines) <= 80


def test_help_shows_every_command_with_an_example() -> None:
    text = bora("--help").stdout
    for entry in ENTRIES:
        assert re.search(rf"│ {entry.name}\s+{re.escape(entry.summary)}", text)
        assert f"$ {entry.example}" in text


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from bora_cli.cli.app import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as leaving: assert not leaving.code\n"
        "sys.stderr.write(' '.join(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=PLAIN, check=True
    )
    assert not HEAVY & set(result.stderr.split())


@pytest.mark.parametrize("path", sorted(every_command()), ids=" ".join)
def test_every_command_explains_itself_on_one_screen(path: tuple[str, ...]) -> None:
    """At most 40 lines of 80 columns, the options in a panel, and one example, of this very command."""
    result = CliRunner().invoke(build(), [*path, "--help"], env=PLAIN)
    lines = result.output.splitlines()
    assert result.exit_code == 0
    assert len(lines) <= 40
    assert max(cell_len(line) for line in lines) <= 80
    assert any(line.startswith("╭─ Options ─") for line in lines)
    examples = [line.strip() for line in lines if "Example" in line]
    assert len(examples) == 1
    assert examples[0].startswith(f"Example: bora {' '.join(path)}")


def test_the_examples_of_the_first_screen_are_those_of_the_commands() -> None:
    for entry in ENTRIES:
        output = CliRunner().invoke(build(), [entry.name, "--help"], env=PLAIN).output
        assert f"Example: {entry.example}" in " ".join(output.split())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_examples_name_options_that_exist(entry: object) -> None:
    words = shlex.split(entry.example)[1:]  # type: ignore[attr-defined]
    help_text = CliRunner().invoke(build(), [words[0], "--help"], env=PLAIN).output
    for option in (word for word in words if word.startswith("--")):
        assert option in help_text


def test_no_arguments_show_the_help() -> None:
    result = bora()
    assert "Usage: bora COMMAND" in result.stdout + result.stderr
    assert result.returncode == 2


def test_version() -> None:
    assert bora("--version").stdout == f"bora {__version__}\n"


def test_robot_driving_is_not_offered() -> None:
    assert not re.search(r"franka|spacemouse|real robot", bora("--help").stdout, re.IGNORECASE)


def test_no_colour_reaches_a_pipe() -> None:
    coloured = {k: v for k, v in PLAIN.items() if k not in ("NO_COLOR", "TERM")}
    assert "\x1b[" not in bora("--help", env=coloured).stdout
