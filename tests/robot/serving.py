"""`bora robot serve` in a process of its own, with the simulator as the robot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from bora_cli.robot.client import RemoteRobot

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
PATIENT = {"timeout": 20.0}


class Server:
    """`bora robot serve` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.token_file = folder / "token"
        self.log = folder / "log"
        command = [
            sys.executable,
            "-m",
            "bora_cli",
            "robot",
            "serve",
            "--profile",
            "sim",
            "--task",
            "press_button",
        ]
        command += [
            "--token-file",
            str(self.token_file),
            "--port",
            "0",
            "--flights",
            str(folder / "flights"),
            "--json",
        ]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=ENVIRONMENT
            )
        assert self.process.stdout is not None
        lines = ""
        while not lines.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            assert line, self.log.read_text()
            lines += line
        self.address = json.loads(lines)["address"]
        self.token = self.token_file.read_text().strip()

    def connect(self) -> RemoteRobot:
        return RemoteRobot.connect(self.address, self.token, **PATIENT)

    def wait_for(self, text: str, times: int = 1) -> None:
        while self.log.read_text().count(text) < times:
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.01)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
