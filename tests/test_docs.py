"""The commands that the documents and the demo print are commands that exist, with options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from bora_cli.cli.app import build, global_flags_first
from bora_cli.cli.pipeline import Job, Pipeline

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def printed() -> Iterator[tuple[str, str]]:
    """Yield (page, command) for every command in a fenced block."""
    for page in PAGES:
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        for language, text in blocks:
            lines = text.splitlines() if language in ("", "bash", "sh") else []
            for command in (part for line in lines for part in line.split("&&")):
                yield page.name, command.strip()


def parse(command: str) -> None:
    """Parse a `bora` command without running it; raises click's errors."""
    group: Any = typer.main.get_command(build())
    command = command.partition(" > ")[0]
    arguments = global_flags_first(shlex.split(command, comments=True)[1:])
    context = group.make_context("bora", arguments)
    while hasattr(group, "commands"):
        name, group, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        context = group.make_context(name, rest, parent=context)


COMMANDS = sorted({(page, line) for page, line in printed() if line.startswith("bora ")})


def test_the_documents_print_commands() -> None:
    assert {"README.md", "quickstart.md"} <= {page for page, _ in COMMANDS}


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_printed_commands_exist(page: str, command: str) -> None:
    parse(command)


def test_printed_scripts_exist() -> None:
    for page, line in printed():
        for script in re.findall(r"(?:notebooks|benchmarks|datasets|hw_profiles)/\S+\.\w+", line):
            assert (ROOT / script).is_file(), f"{page} prints {script}"


@pytest.mark.parametrize("quick", [False, True])
def test_the_demo_prints_commands_that_exist(quick: bool) -> None:
    pipeline = Pipeline(Path("runs/a demo"), Job.make("pick_toy", 0, "deployment", quick), None, print)
    commands = [line for stage in pipeline.stages() for line in stage.commands]
    assert len(commands) > 10
    for command in commands:
        parse(command)


def test_an_unknown_option_is_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse("bora eval policy --task pick_toy --recrod rollouts")
