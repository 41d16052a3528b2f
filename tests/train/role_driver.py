"""Plays a role of an online run in the toy world, and is killed in the middle of it: ROLE POLICY OUT."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from online_rounds import start

from bora_cli.data.dataset import Dataset
from bora_cli.train import online
from toy_world import move_into_toy_world


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(role: str, policy: str, out: str) -> None:
    patch = pytest.MonkeyPatch()
    move_into_toy_world(patch)
    if role == "learner":
        patch.setattr(online, "fit_residual", die)
    else:
        real = Dataset.append

        def append(self: Dataset, *args: Any) -> int:
            if len(self) == 1:
                die()
            return real(self, *args)

        patch.setattr(Dataset, "append", append)
    start(Path(policy), Path(out), rounds=1, role=role)


if __name__ == "__main__":
    main(*sys.argv[1:])
