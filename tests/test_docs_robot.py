"""docs/robot.md is true: its programs are taken from the page and run."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from bora_cli.errors import RobotFault
from bora_cli.testing import check_robot
from robot_fakes import FakeClock, FakeRobot, completed_profile

PAGE = (Path(__file__).parents[1] / "docs" / "robot.md").read_text()


def program(containing: str) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if containing in text)
    return found


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Stand in a laboratory with a profile, a driver whose robot is a fake, and time that passes at once."""
    clock, lab = FakeClock(), ModuleType("my_lab.robot")
    monkeypatch.chdir(tmp_path)
    Path("my_rig.toml").write_text(completed_profile())
    lab.connect = lambda profile: FakeRobot(clock)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_lab", ModuleType("my_lab"))
    monkeypatch.setitem(sys.modules, "my_lab.robot", lab)
    defaults = check_robot.__kwdefaults__ or {}
    for name, value in (("wait", clock.sleep), ("clock", clock)):
        monkeypatch.setitem(defaults, name, value)
    return clock


def test_a_driver_is_proven_in_ten_lines(clock: FakeClock) -> None:
    text = program("def test_our_driver")
    assert len(text.splitlines()) <= 10
    names: dict[str, Any] = {}
    exec(text, names)
    names["test_our_driver"]()
    names["connect"] = lambda profile: FakeRobot(clock, broken="hold")
    with pytest.raises(RobotFault, match="The driver breaks its contract"):
        names["test_our_driver"]()


def test_any_robot_makes_a_rig(clock: FakeClock) -> None:
    names: dict[str, Any] = {"robot": FakeRobot(clock)}
    exec(program("RobotRig("), names)
    row = names["rig"].rest()
    assert row.shape == (18,)
    assert not np.any(row[:6])
