"""The state of a run: continued equals uninterrupted, bit for bit, and nobody continues another's run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bora_cli.errors import CheckpointError
from bora_cli.models.nn import polyak_update
from bora_cli.train.state import load_state, save_state

JOB = {"updates": 12, "name": "toy", "share": 0.5, "sizes": (1, 2)}


class Run:
    """A small regression with everything a run has: two modules, momentum, two kinds of random numbers."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        self.averaged = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
        self.averaged.load_state_dict(self.model.state_dict())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, fused=True)
        self.rng, self.generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        self.modules = {"model": self.model, "averaged": self.averaged, "averaged_too": nn.Linear(1, 1)}

    def update(self) -> None:
        x = torch.from_numpy(self.rng.normal(size=(16, 3)).astype(np.float32))
        x = x + 0.1 * torch.randn(16, 3, generator=self.generator)
        loss = (self.model(x) - x[:, :2]).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        polyak_update(self.averaged, self.model, 0.1)

    def save(self, path: Path, update: int, job: dict[str, object] = JOB) -> None:
        save_state(path, update, self.modules, self.optimizer, self.rng, self.generator, job)

    def load(self, path: Path, job: dict[str, object] = JOB) -> int:
        return load_state(path, self.modules, self.optimizer, self.rng, self.generator, job)

    def same_as(self, other: Run) -> bool:
        pairs = [(self.modules[k].state_dict(), other.modules[k].state_dict()) for k in self.modules]
        return all(torch.equal(a[k], b[k]) for a, b in pairs for k in a) and bool(
            self.rng.random() == other.rng.random()
            and torch.rand(1, generator=self.generator) == torch.rand(1, generator=other.generator)
        )


@pytest.mark.parametrize("stop", [1, 6, 11])
def test_continued_equals_uninterrupted(tmp_path: Path, stop: int) -> None:
    whole, first = Run(), Run()
    for _ in range(12):
        whole.update()
    for _ in range(stop):
        first.update()
    first.save(tmp_path / "state", stop)
    second = Run(seed=99)  # a new process starts from other weights and streams
    second.modules["averaged_too"].load_state_dict(whole.modules["averaged_too"].state_dict())
    assert second.load(tmp_path / "state") == stop
    for _ in range(stop, 12):
        second.update()
    assert second.same_as(whole)


def test_the_state_is_of_the_moment_it_was_saved(tmp_path: Path) -> None:
    run, copy = Run(), Run()
    run.save(tmp_path / "state", 0)
    run.update()
    copy.update()
    again = Run(seed=5)
    again.load(tmp_path / "state")
    assert again.same_as(Run())
    assert run.same_as(copy)


def test_nothing_to_continue(tmp_path: Path) -> None:
    run = Run()
    assert run.load(tmp_path / "none") == 0
    assert run.same_as(Run())


@pytest.mark.parametrize("change", [{"updates": 13}, {"name": "toys"}, {"more": 1}])
def test_another_job_is_refused_and_nothing_is_changed(tmp_path: Path, change: dict[str, object]) -> None:
    Run(seed=1).save(tmp_path / "state", 3)
    run = Run()
    with pytest.raises(
        CheckpointError, match=r"state belongs to another training run .*Choose another --out"
    ):
        run.load(tmp_path / "state", JOB | change)
    assert run.same_as(Run())
