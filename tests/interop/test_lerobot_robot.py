"""A robot of LeRobot's own kind, in LeRobot's environment, driven from here.

BORA_LEROBOT_PYTHON=/path/to/lerobot/bin/python pytest tests/interop/test_lerobot_robot.py
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "robot"))
from test_adapters import bare, gripper_profile

from bora_cli.profiles import HardwareProfile

PYTHON = os.environ.get("BORA_LEROBOT_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="BORA_LEROBOT_PYTHON names no interpreter with lerobot")
__all__ = ["gripper_profile"]


def test_a_robot_in_lerobots_environment(tmp_path: Path, gripper_profile: HardwareProfile) -> None:
    bare(PYTHON, "connect", tmp_path, gripper_profile)
