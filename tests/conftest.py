"""Fixtures that are too expensive to make more than once.  Whoever wants to change one works on a copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

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
