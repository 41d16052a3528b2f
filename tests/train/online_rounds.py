"""What the tests of online rounds share: a start in the toy world, a judge with given numbers, instant training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.checkpoint import Trained
from bora_cli.data.dataset import Dataset
from bora_cli.train import online
from bora_cli.train.online import run_rounds
from bora_cli.train.residual import fresh_residual
from toy_world import TASK, move_into_toy_world

OUT = Path("online")


@dataclass
class Judgement:
    successes: int


class Judge:
    """Stands in for `evaluate`: gives the old and the new policy of each round their numbers of successes."""

    def __init__(self, *rounds: tuple[int, int]) -> None:
        self.rounds = rounds
        self.asked: list[tuple[Path, list[int]]] = []

    def __call__(self, checkpoint: Path, *, scenes: list[int], label: str, **_: Any) -> Judgement:
        self.asked.append((checkpoint, list(scenes)))
        number = int(label.removeprefix("release test ").partition(",")[0])
        pair = self.rounds[min(number, len(self.rounds)) - 1]
        return Judgement(pair[label.endswith("new policy")])


def enter_toy_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let rounds run in the toy world, with few updates, in a folder of their own."""
    move_into_toy_world(monkeypatch)
    monkeypatch.setattr("bora_cli.train.residual.OnlineConfig", lambda **k: OnlineConfig(updates=20, **k))
    monkeypatch.chdir(tmp_path)


def start(policy: Path, out: Path = OUT, **options: Any) -> dict[str, Any]:
    return run_rounds(policy, task=TASK, out=out, **{"gap": "bias", "episodes": 3, **options})


def judged_by(monkeypatch: pytest.MonkeyPatch, *rounds: tuple[int, int]) -> Judge:
    judge = Judge(*rounds)
    monkeypatch.setattr(online, "evaluate", judge)
    return judge


def instant_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace training by a residual whose size tells how many episodes it has seen."""

    def fit(base: Trained, episodes: Path, *_: Any, **__: Any) -> tuple[Trained, dict[str, Any]]:
        residual = fresh_residual(base.spec.action, base.actor, "constant", 0)
        with torch.no_grad():
            residual.offset.fill_(0.01 * len(Dataset.open(episodes)))
        return replace(base, residual=residual, lam=1.0), {}

    monkeypatch.setattr(online, "fit_residual", fit)
