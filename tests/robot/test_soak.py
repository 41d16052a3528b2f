"""A small soak, in which six faults befall six episodes, and an audit that would have noticed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SEED = 995
"""Six different faults: nan, killed while recording, silence, frozen images, a lost device, a failing driver."""


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("soak") / "run"
    command = [sys.executable, str(BENCHMARKS / "soak.py"), "--episodes", "6", "--seed", str(SEED)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, json.loads(done.stdout)


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import soak

    found: Callable[..., dict[str, Any]] = soak.audit
    return found


def test_nothing_is_lost_and_nothing_moves(soaked: tuple[Path, dict[str, Any]]) -> None:
    _, found = soaked
    assert found["ok"], found["problems"]
    assert (found["episodes"], found["acknowledged"]) == (6, 6)
    assert found["injected"] == found["planned"]
    assert sum(found["injected"].values()) == 6
    assert found["commands_that_had_to_stand_still"] > 0
    assert found["flights"] >= 4


@pytest.mark.parametrize(
    ("file", "line", "says"),
    [
        ("acknowledged.jsonl", {"episode": 2, "ticks": 36, "sum": 0.5, "unrecorded_m": 0.0}, "is not what was ack"),
        ("violations.jsonl", {"episode": 2, "tick": 4, "what": "moved by 0.1"}, "moved by 0.1"),
        ("injected.jsonl", {"episode": 0, "fault": "robot silent", "tick": 3}, "no trace of 'robot silent'"),
        ("acknowledged.jsonl", {"episode": 6, "ticks": 9, "sum": 0.5, "unrecorded_m": 0.0}, "6 was acknowledged, and"),
        ("acknowledged.jsonl", {"episode": 2, "ticks": 36, "sum": 0.5, "unrecorded_m": 0.0}, "2 was recorded 2 times"),
    ],
)  # fmt: skip
def test_the_audit_notices(
    soaked: tuple[Path, dict[str, Any]],
    audit: Callable[..., dict[str, Any]],
    file: str,
    line: dict[str, Any],
    says: str,
) -> None:
    path = soaked[0] / file
    before = path.read_text() if path.exists() else ""
    path.write_text(before + json.dumps({"commands": 0, "stood": 0, **line}) + "\n")
    try:
        found = audit(soaked[0], 6, SEED)
    finally:
        path.write_text(before)
    assert not found["ok"]
    assert says in str(found["problems"])


def test_a_fault_that_never_befell_and_a_robot_that_never_had_to_stand_are_noticed(
    soaked: tuple[Path, dict[str, Any]], audit: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    out = shutil.copytree(soaked[0], tmp_path / "run")
    lines = (out / "injected.jsonl").read_text().splitlines(keepends=True)
    (out / "injected.jsonl").write_text("".join(lines[1:]))
    lazy = [json.loads(line) | {"stood": 0} for line in (out / "acknowledged.jsonl").read_text().splitlines()]
    (out / "acknowledged.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lazy))
    first = json.loads(lines[0])
    assert audit(out, 6, SEED)["problems"] == [
        f"'{first['fault']}' never befell episode {first['episode']}",
        "no command came where the robot had to stand still",
    ]


@pytest.mark.parametrize(("violation", "code"), [("", 0), ('{"episode": 2, "what": "moved by 0.1"}\n', 1)])
def test_the_exit_code_is_the_audit(
    soaked: tuple[Path, dict[str, Any]],
    audit: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    violation: str,
    code: int,
) -> None:
    import soak

    out = shutil.copytree(soaked[0], tmp_path / "run")
    (out / "violations.jsonl").write_text(violation)
    monkeypatch.setattr(soak, "supervise", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["soak.py", "--out", str(out), "--episodes", "6", "--seed", str(SEED)])
    with pytest.raises(SystemExit) as leaving:
        soak.main()
    assert leaving.value.code == code
    assert json.loads(capsys.readouterr().out)["ok"] == (code == 0)


def test_a_role_that_cannot_be_kept_alive_ends_the_soak(
    audit: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import soak

    def ends(out: Path, *_: object) -> None:
        raise OSError("no such luck")

    monkeypatch.setattr(soak, "act", ends)
    monkeypatch.setattr(soak, "learn", lambda out: soak.time.sleep(60))
    monkeypatch.setattr(soak, "RESTARTS", 1)
    (tmp_path / "events.log").touch()
    soak.supervise(tmp_path, 1, SEED)  # comes back
