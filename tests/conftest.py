"""Fixtures that are too expensive to make more than once.  Whoever wants to change one works on a copy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Before torch is imported: networks this small are several times slower on two threads of a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from bora_cli.evaluate.workers import Workers


@pytest.fixture(scope="session")
def toy_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a very small backbone with random weights."""
    from bora_cli.models.vlm import build_tiny

    root = tmp_path_factory.mktemp("toy") / "backbone"
    build_tiny(["press the button", "pick up the toy"], 0, width=32, layers=1).save(root)
    return root


@pytest.fixture(scope="session")
def toy_demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dataset of eight demonstrations in the point world, four of them successful."""
    from toy_world import toy_dataset, toy_demonstrations

    return toy_dataset(tmp_path_factory.mktemp("toy") / "demos", toy_demonstrations(8)).root


@pytest.fixture(scope="session")
def toy_policy(tmp_path_factory: pytest.TempPathFactory, toy_demos: Path, toy_backbone: Path) -> Path:
    """Checkpoint of BORA-Offline with a critic, after a few updates in the point world."""
    from bora_cli.train.offline import train

    out = tmp_path_factory.mktemp("toy") / "policy"
    train("bora", data=[toy_demos], out=out, backbone=str(toy_backbone), updates=16)
    return out


@pytest.fixture(scope="session")
def two_workers() -> Iterator[Workers]:
    """Two processes that have imported everything once."""
    from bora_cli.evaluate.workers import Workers

    with Workers(2) as pool:
        yield pool


@pytest.fixture
def failing_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[int], AbstractContextManager[list[str]]]:
    """Return a context in which the n-th `os.replace` or `os.fsync` fails, and which yields what failed."""

    @contextmanager
    def failing(step: int) -> Iterator[list[str]]:
        calls: list[str] = []
        failed: list[str] = []

        def broken(name: str) -> Callable[..., Any]:
            real = getattr(os, name)

            def call(*args: Any, **options: Any) -> Any:
                calls.append(name)
                if len(calls) == step:
                    failed.append(name)
                    raise OSError(f"no more {name}")
                return real(*args, **options)

            return call

        with monkeypatch.context() as patch:
            for name in ("replace", "fsync"):
                patch.setattr(os, name, broken(name))
            yield failed

    return failing
