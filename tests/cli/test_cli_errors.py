"""Bad input: one clear error, the right exit code, and nothing changed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bora_cli.cli.app import global_flags_first, main
from bora_cli.cli.ui import Ui
from bora_cli.errors import BoraError, DeviceError, LimitViolation, TrainingDiverged

PLAIN = {**os.environ, "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def wide_plain_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process: (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["colllect"], "No such command 'colllect'. Did you mean 'collect'?"),
        (["collect", "--taks", "pick_toy"], "No such option: --taks (Possible options: --task)"),
        (
            ["collect", "--task", "pick_toi", "--out", "x"],
            "'pick_toi' is not a task. Did you mean 'pick_toy'?"
            " Expected one of: pick_toy, open_box, press_button, pick_place, pull_tissue.",
        ),
        (
            ["collect", "--task", "pick_toy", "--out", "x", "--gap", "deploiment@2"],
            "Did you mean 'deployment'?",
        ),
        (
            ["collect", "--task", "pick_toy", "--out", "x", "--gap", "bias@0.5+latensy"],
            "'latensy' is not a gap. Did you mean 'latency'?",
        ),
        (["eval", "p", "--task", "pick_toy@2"], "'pick_toy@2' is not a task. Did you mean 'pick_toy'?"),
        (
            ["collect", "--task", "pick_toy", "--out", "x", "--setting", "standart"],
            "Did you mean 'standard'?",
        ),
        (["collect", "--task", "pick_toy"], "Missing option '--out'"),
        (
            ["collect", "--task", "pick_toy", "--out", "x", "--episodes", "0"],
            "Invalid value for '--episodes'",
        ),
        (
            ["collect", "--task", "pick_toy", "--out", "x", "--image-size", "513"],
            "513 is not in the range 16 to 512.",
        ),
        (["train", "filtered", "--data", "d", "--out", "x"], "Did you mean 'filtered_bc'?"),
        (["data", "inof", "x"], "Did you mean 'info'?"),
    ],
)
def test_usage_errors_suggest_and_end_with_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], says: str
) -> None:
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert says in " ".join(err.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (
            ["eval", "nowhere", "--task", "pick_toy"],
            "error: No checkpoint at nowhere: there is no such directory.",
            "hint: Name a directory that `bora train --out` made.",
        ),
        (
            ["train", "cp", "--data", "nowhere", "--out", "x"],
            "error: No dataset at nowhere: there is no such directory.",
            "hint: Make one with `bora collect --out`.",
        ),
        (
            ["collect", "--task", "pick_toy", "--out", "x", "--profile", "smi"],
            "error: Unknown hardware profile 'smi'.",
            "hint: Did you mean 'sim'?",
        ),
        (
            ["profile", "show", "none.toml"],
            "error: No hardware profile at none.toml",
            "hint: Profiles that come",
        ),
        (["data", "info", "nowhere"], "error: No dataset at nowhere", "hint:"),
        (["replay", "nowhere"], "error: No dataset at nowhere", "hint:"),
        (
            ["online", "nowhere", "--task", "pick_toy", "--out", "x"],
            "error: No checkpoint at nowhere",
            "hint:",
        ),
        (["analyze", "nowhere", "--data", "d", "--out", "x"], "error: No checkpoint at nowhere", "hint:"),
    ],
)
def test_bad_input_is_one_line_and_a_hint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], error: str, hint: str
) -> None:
    code, out, err = run(capsys, *arguments)
    lines = err.splitlines()
    assert code == 3
    assert out == ""
    assert len(lines) == 2
    assert lines[0].startswith(error)
    assert lines[1].startswith(hint)
    assert list(tmp_path.iterdir()) == []


def test_out_that_holds_something_is_left_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "demos" / "meta").mkdir(parents=True)
    (tmp_path / "demos" / "meta" / "info.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    code, _, err = run(capsys, "train", "cp", "--data", "demos", "--out", "out")
    assert code == 3
    assert "error: --out out already holds something; expected a new or empty directory." in err
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    "command",
    [
        "collect --task press_button --episodes 1",
        "demo --quick",
        "train cp --data {demos}",
        "online {policy} --task press_button",
        "analyze {policy} --data {demos}",
        "pretrain --scenes 1",
    ],
)
def test_two_commands_do_not_work_on_one_directory(
    capsys: pytest.CaptureFixture[str], toy_demos: Path, toy_policy: Path, command: str
) -> None:
    from bora_cli.data.files import claimed

    arguments = command.format(demos=toy_demos, policy=toy_policy).split()
    with claimed(Path("runs/x")):
        code, out, err = run(capsys, *arguments, "--out", "runs/x")
        assert list(Path("runs/x").iterdir()) == []
    assert (code, out) == (3, "")
    assert "Another process is working on runs/x." in err
    assert "choose another --out" in err
    assert "Traceback" not in err


def test_two_evaluations_do_not_record_into_one_directory(
    capsys: pytest.CaptureFixture[str], toy_policy: Path
) -> None:
    from bora_cli.data.files import claimed

    with claimed(Path("rollouts")):
        code, _, err = run(capsys, "eval", str(toy_policy), "--task", "press_button", "--record", "rollouts")
    assert code == 3
    assert "Another process is working on rollouts." in err


def test_a_command_that_is_refused_leaves_no_directory(
    capsys: pytest.CaptureFixture[str], toy_policy: Path
) -> None:
    code, _, err = run(
        capsys, "online", str(toy_policy), "--task", "press_button", "--seed", "100", "--out", "x"
    )
    assert (code, "Seed 100" in err, Path("x").exists()) == (3, True, False)


@pytest.mark.parametrize(
    "command",
    [
        ("collect", "--task", "pick_toy"),
        ("train", "cp", "--data", "demos"),
        ("online", "policy", "--task", "pick_toy"),
        ("analyze", "policy", "--data", "demos"),
        ("pretrain",),
    ],
    ids=lambda command: command[0],
)
def test_out_that_cannot_be_written_is_refused_first(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
) -> None:
    (tmp_path / "demos" / "meta").mkdir(parents=True)
    (tmp_path / "demos" / "meta" / "info.json").write_text("{}")
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("{}")
    (tmp_path / "file").write_text("")
    code, _, err = run(capsys, *command, "--out", "file/out")
    assert code == 3
    assert err == f"error: --out file/out: {tmp_path}/file is a file.\nhint: Choose another --out.\n"
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    code, _, err = run(capsys, *command, "--out", "out")
    assert code == 3
    assert f"error: --out out: {tmp_path} cannot be written to." in err


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[str]:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    monkeypatch.setattr("bora_cli.profiles.list_profiles", fail)
    code, _, err = run(capsys, "profile", "list")
    assert code == 3
    assert err.startswith("error: No space left on device: /data/x.\nhint:")


@pytest.mark.parametrize("name", ["film.mp4", "nowhere/film.webp"])
def test_film_that_cannot_be_written_is_refused_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "demos" / "meta").mkdir(parents=True)
    (tmp_path / "demos" / "meta" / "info.json").write_text("{}")
    code, _, err = run(capsys, "replay", "demos", "--video", name)
    assert code == 3
    assert f"error: --video {name}" in err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BoraError("a", "b"), 3),
        (DeviceError("a", "b"), 4),
        (LimitViolation("a", "b"), 5),
        (TrainingDiverged("a", "b"), 6),
    ],
)
def test_exit_codes_follow_the_kind_of_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BoraError, expected: int
) -> None:
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr("bora_cli.profiles.read_profile", fail)
    code, _, err = run(capsys, "profile", "show", "sim")
    assert code == expected
    assert err == "error: a\nhint: b\n"


def test_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "data", "info", "nowhere", "--debug")
    assert code == 3
    assert "Traceback" in err
    assert err.splitlines()[-2].startswith("error: No dataset")


def test_foreign_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bora_cli.profiles.list_profiles", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["profile", "list"])


def test_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("bora_cli.profiles.list_profiles", interrupt)
    code, out, err = run(capsys, "profile", "list")
    assert code == 130
    assert out == ""
    assert "stopped by Ctrl-C" in err
    assert "Traceback" not in err


def test_global_flags_work_anywhere() -> None:
    assert global_flags_first(["data", "info", "x", "--quiet"]) == ["--quiet", "data", "info", "x"]
    assert global_flags_first(["a", "--", "--debug"]) == ["a", "--", "--debug"]


def test_a_closed_pipe_is_no_crash() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "bora_cli", "profile", "show", "sim", "--json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=PLAIN,
        text=True,
        check=False,
    )
    os.close(writer)
    assert process.returncode == 1
    assert "Traceback" not in process.stderr


def test_interrupted_collection_is_readable_and_can_be_continued(tmp_path: Path) -> None:
    """SIGINT while collecting: exit code 130, whole episodes only, and the same command goes on."""
    from bora_cli.data import dataset

    command = [sys.executable, "-m", "bora_cli", "collect", "--task", "press_button", "--episodes", "40"]
    command += ["--image-size", "16", "--workers", "1", "--out", "demos", "--json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=PLAIN, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    rows = tmp_path / "demos" / "meta" / "episodes" / "chunk-000"
    deadline = time.monotonic() + 60
    while len(list(rows.glob("*.parquet"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err.decode()
    assert b"Traceback" not in err
    saved = len(dataset.Dataset.open(tmp_path / "demos"))
    assert 2 <= saved < 40
    command[command.index("40")] = str(saved + 1)
    result = subprocess.run(command, cwd=tmp_path, env=PLAIN, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["episodes"] == saved + 1


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_without_a_terminal_is_rare_and_has_the_time_left() -> None:
    from bora_cli.cli.ui import _RareLines

    said: list[str] = []
    clock = Clock()
    report = _RareLines(said.append, clock)
    for done in range(101):
        clock.now = float(done)
        report("collect", done, 100, success=0.5)
    assert len(said) <= 11
    assert said[0] == "collect: 10/100  success 0.5, about 90 s left".replace("90 s", "2 min")
    assert said[-1] == "collect: 100/100  success 0.5"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    ui = Ui(quiet=True)
    ui.say("talk")
    with ui.progress() as progress:
        progress("stage", 1, 1)
    assert capsys.readouterr() == ("", "")


def test_talk_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Ui().say("talk [not markup]")
    assert capsys.readouterr() == ("", "talk [not markup]\n")


def test_a_table_marks_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    Ui().report({"spearman": None, "auroc": [], "ece": 0.5}, False)
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["spearman", "-"],
        ["auroc", "-"],
        ["ece", "0.5"],
    ]
