"""Files and directories that are wholly there or not at all, and claims that die with their process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bora_cli.data import files
from bora_cli.data.files import claimed, copy_directory, directory_written, recover_directory
from bora_cli.errors import ConfigError

HOLDER = """
import sys
from pathlib import Path
from bora_cli.data.files import claimed
with claimed(Path(sys.argv[1])):
    Path(sys.argv[1], "job.json").write_text("{}")
    print("mine", flush=True)
    sys.stdin.read()
"""


def fill(path: Path, text: str, **options: Any) -> None:
    with directory_written(path, **options) as fresh:
        (fresh / "part").mkdir(exist_ok=True)
        (fresh / "a.txt").write_text(text)
        (fresh / "part" / "b.txt").write_text(text)


def content(path: Path) -> dict[str, str]:
    return {str(f.relative_to(path)): f.read_text() for f in sorted(path.rglob("*.txt"))}


def whole(text: str) -> dict[str, str]:
    return {"a.txt": text, "part/b.txt": text}


# ------------------------------------------------------------------------------------- directories


def test_a_directory_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result"
    fill(path, "1")
    (path / "notes.txt").write_text("mine")
    fill(path, "2", keep=True)
    assert content(path) == whole("2") | {"notes.txt": "mine"}
    fill(path, "3")
    assert content(path) == whole("3")
    assert [f.name for f in path.parent.iterdir()] == ["result"]


def test_an_empty_directory_and_one_behind_a_link_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "empty", "1")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    fill(tmp_path / "link", "2")
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "empty") == whole("2")
    monkeypatch.chdir(tmp_path)
    fill(Path("empty"), "3")
    assert content(tmp_path / "empty") == whole("3")


def test_an_error_while_a_directory_is_filled_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "result"
    fill(path, "1")
    with suppress(KeyboardInterrupt), directory_written(path) as fresh:
        (fresh / "a.txt").write_text("2")
        raise KeyboardInterrupt
    assert content(path) == whole("1")
    assert [f.name for f in tmp_path.iterdir()] == ["result"]


@pytest.mark.parametrize("empty", [False, True])
def test_a_directory_that_was_moved_aside_comes_back(tmp_path: Path, empty: bool) -> None:
    path = tmp_path / "result"
    fill(path, "1")
    path.rename(tmp_path / ".result.old")
    if empty:
        path.mkdir()
    recover_directory(path)
    recover_directory(path)
    assert content(path) == whole("1")


def test_a_copy_that_fails_at_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, failing_steps: Callable[[int], Any]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    fill(source, "2")
    found = []
    for step in range(1, 100):
        fill(target, "1")
        with failing_steps(step) as failed:
            try:
                copy_directory(source, target)
            except OSError:
                assert failed
        recover_directory(target)
        found.append(content(target)["a.txt"])
        assert content(target) == whole(found[-1])
        if not failed:
            break
    assert found == sorted(found)
    assert set(found) == {"1", "2"}


# ------------------------------------------------------------------------------------------ claims


def test_the_second_to_claim_a_directory_is_told(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    with (
        claimed(run),
        pytest.raises(ConfigError, match=r"Another process is working on .*one\. Wait"),
        claimed(run),
    ):
        pytest.fail("claimed twice")
    assert not run.exists()  # it was made here and nothing was written
    with claimed(run):
        (run / "job.json").write_text("{}")
    with claimed(run):
        assert (run / "job.json").is_file()


def test_a_claim_does_not_remove_a_directory_of_yours(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()


def test_a_claim_dies_with_its_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(ConfigError, match="Another process is working on"), claimed(run):
            pytest.fail("claimed twice")
        holder.send_signal(signal.SIGKILL)
    with claimed(run):
        assert (run / "job.json").is_file()


def test_a_directory_that_is_replaced_while_it_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever locks a directory that was removed under his hands tries the new one."""
    run, real, opened = tmp_path / "run", os.open, []
    run.mkdir()

    def slow(path: Any, *args: Any) -> int:
        descriptor = real(path, *args)
        if path == run and not opened:
            opened.append(descriptor)
            run.rename(tmp_path / "gone")
        return descriptor

    monkeypatch.setattr(os, "open", slow)
    with claimed(run), pytest.raises(ConfigError, match="Another process"), claimed(run):
        pytest.fail("claimed twice")
    assert opened


def test_where_directories_cannot_be_locked_the_run_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError("Bad file descriptor")

    monkeypatch.setattr(files.fcntl, "flock", unsupported)
    with claimed(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()
    assert "cannot be locked (Bad file descriptor)" in caplog.text
