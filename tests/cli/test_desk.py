"""The window on a display without a screen, where one can be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bora_cli.cli.desk import WindowDesk, one_line, ppm
from bora_cli.errors import MissingSystemLibrary

DRIVER = Path(__file__).with_name("window_driver.py")


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """Name of a virtual display; tests that need one are skipped where there is no Xvfb."""
    program = shutil.which("Xvfb")
    if program is None:
        pytest.skip("Xvfb is not installed")
    read, write = os.pipe()
    command = [program, "-displayfd", str(write), "-screen", "0", "1024x768x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as process:
        os.close(write)
        with os.fdopen(read) as numbers:
            yield f":{numbers.readline().strip()}"
        process.terminate()


@pytest.mark.parametrize("case", ["picture", "keys", "closed"])
def test_the_window(case: str, display: str) -> None:
    result = subprocess.run(
        [sys.executable, DRIVER, case],
        env={**os.environ, "DISPLAY": display},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_python_without_tkinter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(MissingSystemLibrary, match=r"no tkinter.*python3-tk.*--window none"), WindowDesk(()):
        pass


def test_ppm_is_a_header_and_the_bytes() -> None:
    assert ppm(np.zeros((1, 2, 3), np.uint8)) == b"P6 2 1 255\n" + bytes(6)


def test_in_a_narrow_terminal_the_prompt_gives_way_and_the_count_stays() -> None:
    state = "10/12 successes  episode 12  12.3/60 s  YOU drive, axes move the fingers"
    for prompt in ('"lift"', '"lift the blue toy out of the box and put it on the plate"'):
        for more in ((), ("arrange the scene, then press enter to begin; q to stop",)):
            line = one_line((prompt, state, *more), 79)
            assert len(line) <= 79
            assert "10/12 successes  episode 12  12.3/60 s  YOU drive" in line
    assert one_line(('"lift"', "0/0 successes"), 79) == '"lift"  0/0 successes'
