"""`bora notebook` runs marimo on the right file, and tells mistakes in one sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bora_cli.cli import notebook
from bora_cli.cli.app import main


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["notebook", *arguments])
    return int(leaving.value.code or 0), " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that would have been run."""
    made: list[list[str]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        subprocess, "run", lambda command, check: made.append(command) or SimpleNamespace(returncode=0)
    )
    return made


@pytest.mark.parametrize("name", notebook.NOTEBOOKS)
def test_every_name_is_a_file_and_is_shipped(name: str) -> None:
    assert (notebook.directory() / f"{name}.py").is_file()
    packaged = (notebook.directory().parent / "pyproject.toml").read_text()
    assert f'"notebooks/{name}.py" = "bora_cli/notebooks/{name}.py"' in packaged


def test_it_serves_on_this_machine_only(asked, capsys, tmp_path):
    (tmp_path / "a run").mkdir()
    assert run(capsys, "rounds", "--run", "a run", "--port", "8123", "--no-browser") == (0, "")
    (command,) = asked
    assert command[:4] == [sys.executable, "-m", "marimo", "run"]
    assert command[4:10] == ["--host", "127.0.0.1", "--port", "8123", "--no-sandbox", "--headless"]
    assert command[-3:] == ["--", "--run", str(tmp_path / "a run")]
    assert Path(command[10]).name == "rounds.py"


def test_it_writes_a_page(asked, capsys):
    code, err = run(capsys, "live", "--html", "page.html")
    assert code == 0
    assert "page: page.html" in err
    assert asked[0][3:5] == ["export", "html"]
    assert "--no-sandbox" in asked[0]  # without it marimo advises to install another tool


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("value_trace",), 2, "Did you mean 'value_traces'?"),
        (("live", "--run", "nowhere"), 3, "There is no directory nowhere."),
        (("live", "--html", "page.pdf"), 3, "--html page.pdf cannot be written."),
        (("live", "--html", "p.html", "--edit"), 2, "--edit and --html exclude each other."),
    ],
)
def test_mistakes_are_told(asked, capsys, arguments, code, says):
    found, err = run(capsys, *arguments)
    assert found == code
    assert says in err
    assert asked == []


@pytest.mark.parametrize("name", notebook.NOTEBOOKS)
def test_a_page_of_nothing_is_an_error_and_is_not_written(asked, capsys, tmp_path, name):
    (tmp_path / "empty").mkdir()
    code, err = run(capsys, name, "--run", "empty", "--html", "page.html")
    assert (code, asked) == (3, [])
    assert "empty" in err
    assert "Traceback" not in err


def test_what_a_page_shows_is_looked_for_first(asked, capsys):
    datasets = notebook.directory().parent / "datasets"
    for name, example in (
        ("value_traces", "example"),
        ("swap_test", "example"),
        ("rounds", "example_online"),
        ("live", "example_online"),
        ("dataset", "example_demos"),
    ):
        assert run(capsys, name, "--run", str(datasets / example), "--html", "page.html")[0] == 0
    assert len(asked) == 5
