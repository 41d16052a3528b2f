"""Two processes that train a backbone together: their loss is that of one process with the same batch."""

from __future__ import annotations

import json
import os
import socket
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bora_cli.checkpoint import load_trained
from bora_cli.errors import ConfigError
from bora_cli.train import parallel
from bora_cli.train import run as run_module
from bora_cli.train.offline import train
from bora_cli.train.run import Phase
from bora_cli.train.tracker import read_metrics
from toy_world import toy_dataset, toy_demonstrations

UPDATES = 4


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset(tmp_path_factory.mktemp("shared") / "demos", toy_demonstrations(3)).root


@pytest.fixture(autouse=True)
def every_update_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "LOG_EVERY", 1)


def together(processes: int, work: Any) -> list[int]:
    """Run a function in several children that find what torchrun would tell them; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if not child:
            told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
            os.environ |= {k: str(v) for k, v in told.items()} | {"MASTER_ADDR": "127.0.0.1"}
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def curve(out: Path) -> dict[str, list[float]]:
    """Return the losses of the updates of a run by phase and name."""
    found: dict[str, list[float]] = {}
    for row in read_metrics(out.with_name(f"{out.name}.run") / "metrics.jsonl"):
        for name, value in row.items():
            if name not in ("phase", "update"):
                found.setdefault(f"{row['phase']} {name}", []).append(value)
    return found


def same(demos: Path, backbone: Path, root: Path, method: str, adapt: str, *outs: Path) -> None:
    """Compare the losses and the trained backbone of runs with those of one process."""
    train(method, data=[demos], out=root / "one", backbone=str(backbone), updates=UPDATES, adapt=adapt)
    expected, alone = curve(root / "one"), load_trained(root / "one").adapted
    assert alone is not None
    for out in outs:
        found = curve(out)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[name], values, rtol=2e-3, atol=2e-4, err_msg=f"{out.name} {name}"
            )
        both = load_trained(out)
        assert both.load_backbone().hash == both.backbone_hash
        assert both.adapted is not None
        assert both.adapted.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(both.adapted[key], value, rtol=1e-2, atol=5e-5)


def test_two_processes_learn_what_one_learns(demos: Path, toy_backbone: Path, tmp_path: Path) -> None:
    """Also where a batch is normalised, gated and masked as a whole; and the pieces of FSDP make a whole again."""
    options: dict[str, Any] = {"data": [demos], "backbone": str(toy_backbone), "updates": UPDATES}
    outs = []
    for share in parallel.KINDS:
        outs.append(tmp_path / share)
        work = partial(train, "bora", out=outs[-1], adapt="full,recompute", share=share, **options)
        assert together(2, work) == [0, 0]
        about = json.loads((tmp_path / f"{share}.run" / "run.json").read_text())
        assert (about["starts"][0]["processes"], about["ended"]) == (2, "finished")
    same(demos, toy_backbone, tmp_path, "bora", "full,recompute", *outs)


def test_two_processes_that_are_killed_go_on(
    demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weights and optimiser in pieces, and rows of an embedding whose gradient is masked."""
    monkeypatch.setattr(run_module, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(run_module, "SAVING_SHARE", 0.0)
    out, real = tmp_path / "fsdp", Phase.step
    options: dict[str, Any] = {"data": [demos], "backbone": str(toy_backbone), "updates": UPDATES}
    work = partial(train, "cp", out=out, adapt="lora@2", share="fsdp", **options)

    def die(self: Phase, *arguments: Any) -> None:
        if (self.name, self.update) == ("improve", 1):
            os._exit(9)
        real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Phase, "step", die)
        assert together(2, work) == [9, 9]
    assert together(2, work) == [0, 0]
    same(demos, toy_backbone, tmp_path, "cp", "lora@2", out)


def test_a_batch_that_cannot_be_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "size", lambda: 5)
    with pytest.raises(
        ConfigError, match=r"A batch of 96 windows cannot be shared out evenly among 5 processes"
    ):
        parallel.own_rows(96)


def test_what_cannot_be_shared_is_refused(
    demos: Path, toy_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"data": [demos], "out": tmp_path / "x", "backbone": str(toy_backbone)}
    with pytest.raises(
        ConfigError, match=r"No part of the backbone is trained, so share fsdp would go unused"
    ):
        train("cp", share="fsdp", **options)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(
        ConfigError, match=r"bc_interventions trains in one process, not in 4\. Start it without"
    ):
        train("bc_interventions", **options)
    assert not any(tmp_path.iterdir())


def test_every_process_has_its_own_gpu_where_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parallel.device() == torch.device("cpu") or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert parallel.device() == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert parallel.device() == torch.device("cuda:3")


def test_alone_nothing_is_shared() -> None:
    with parallel.joined():
        assert (parallel.rank(), parallel.size(), parallel.first()) == (0, 1, True)
        rows = torch.arange(6.0).view(3, 2)
        assert parallel.together(rows) is rows
        assert parallel.own_rows(7) == slice(0, 7)
        assert parallel.exchanged({0: "part"}) == {0: "part"}
        assert not parallel.agree(False)
        parallel.wait()
