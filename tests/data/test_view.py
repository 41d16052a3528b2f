"""The page is one file without a network, holds what was asked for, and cannot be broken by a text."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episode_factory import H, P, make_dataset, make_decision, make_episode

from bora_cli.data import view
from bora_cli.data.dataset import Dataset
from bora_cli.data.view import view_page
from bora_cli.errors import DataError

PROMPT = "pick </script><script>alert(1)</script> up"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    made = [
        make_episode(
            [P, P, H, H, P], seed=1, prompt=PROMPT, decisions=[make_decision(0, 2)], meta={"gap": "bias"}
        ),
        make_episode(3, seed=2, success=False, truncated=True),
    ]
    return make_dataset(tmp_path_factory.mktemp("view") / "d", made)


def content(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    document: dict[str, Any] = json.loads(found[1])
    return document


def test_the_page_holds_the_episodes(dataset: Dataset) -> None:
    page = view_page(dataset, [1, 0])
    assert not re.search(r"(src|href)=[\"']?http", page)
    assert "alert(1)</script>" not in page
    shown = content(page)
    assert [e["index"] for e in shown["episodes"]] == [1, 0]
    first = shown["episodes"][1]
    assert (first["prompt"], first["controller"], first["facts"]["gap"]) == (PROMPT, [P, P, H, H, P], "bias")
    assert first["facts"]["human share"] == "40%"
    assert np.allclose(first["action"][2], dataset.episode(0).action[:, 2], rtol=1e-3)
    pictures = first["images"]["scene"]
    assert len(pictures) == 5
    assert base64.b64decode(pictures[0].partition(",")[2])[8:12] == b"WEBP"
    assert "values" not in first


def test_values_are_shown_where_they_are_known(dataset: Dataset) -> None:
    values = {0: {"v": np.arange(5.0), "q": np.full(5, np.nan)}, 1: {"v": np.array([0.5, np.nan, 1.0])}}
    first, second = content(view_page(dataset, [0, 1], values))["episodes"]
    assert first["values"] == {"v": [0, 1, 2, 3, 4]}
    assert second["values"] == {"v": [0.5, None, 1]}
    with pytest.raises(DataError, match="'v' of episode 1 has 5 numbers; the episode has 3 ticks"):
        view_page(dataset, [1], {1: {"v": np.arange(5.0)}})


def test_many_pictures_are_thinned(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "MOST_PICTURES", 8)
    shown = content(view_page(dataset, [0, 1]))
    assert shown["every"] == 2
    assert [len(e["images"]["wrist"]) for e in shown["episodes"]] == [3, 2]


def test_the_template_is_part_of_the_package() -> None:
    assert (Path(view.__file__).parent / "view.html").is_file()
