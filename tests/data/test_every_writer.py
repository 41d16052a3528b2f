"""`bora data check` is asked about what every part of bora writes; a new writer joins the table with its test."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "bora_cli"
MAKERS = {"create", "open_or_create", "copy_episodes", "write_salvaged"}
"""Functions that begin a dataset, or write episodes into one; `create` is that of `Dataset`, and copy.py's own."""
WRITERS = {
    "data/copy.py": ("data/test_select.py",),
    "data/foreign.py": ("data/test_foreign.py",),
    "data/import_npz.py": ("data/test_import_npz.py",),
    "data/recorder.py": ("data/test_recorder.py", "data/test_data_kill.py"),
    "data/repair.py": ("data/test_repair.py",),
    "data/select.py": ("data/test_select.py",),
    "evaluate/collect.py": ("evaluate/test_collect.py",),
    "evaluate/environments.py": ("evaluate/test_environments.py",),
    "evaluate/evaluate.py": ("evaluate/test_evaluate.py",),
    "evaluate/robot_session.py": ("robot/test_robot_session.py",),
    "evaluate/teleoperate.py": ("evaluate/test_teleoperate.py",),
    "train/online.py": ("train/test_train_online.py",),
}
"""Module that writes datasets -> tests that ask `check` about what it wrote."""


def calls(path: Path) -> set[str]:
    """Return the names of the functions and methods that a file calls, "Dataset.append" as "append"."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            target = node.func
            found.add(target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", ""))
    return found


def writes(path: Path) -> bool:
    """Return whether a module makes datasets, or appends episodes to one."""
    text = path.read_text()
    return bool(MAKERS & calls(path)) or "dataset.append(" in text


def test_every_writer_has_a_test_that_checks_what_it_wrote() -> None:
    modules = {str(path.relative_to(PACKAGE)): path for path in PACKAGE.rglob("*.py")}
    assert {name for name, path in modules.items() if writes(path)} == set(WRITERS)


@pytest.mark.parametrize("test", sorted({test for tests in WRITERS.values() for test in tests}))
def test_that_test_asks_the_check(test: str) -> None:
    path = ROOT / "tests" / test
    assert "from bora_cli.data.check import check" in path.read_text()
    assert "check" in calls(path)
