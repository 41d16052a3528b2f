"""`--dry-run` says what a training would take, checks what it checks, and changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.checkpoint import load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, DataError
from bora_cli.train import rehearse as module
from bora_cli.train.prepare import Request
from bora_cli.train.rehearse import rehearse
from toy_world import toy_dataset, toy_demonstrations


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset(tmp_path_factory.mktemp("few") / "demos", toy_demonstrations(5)).root


def plan(method: str, demos: Path, backbone: Path, **options: Any) -> dict[str, Any]:
    return rehearse(Request(method, (demos,), str(backbone), **options))


def files(root: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in root.rglob("*")}


def test_sizes_are_those_of_the_real_run(demos: Path, toy_backbone: Path, toy_policy: Path) -> None:
    before = files(demos.parent) | files(toy_backbone)
    found = plan("bora", demos, toy_backbone, updates=160)
    assert files(demos.parent) | files(toy_backbone) == before
    data, ticks = found["data"], Dataset.open(demos).ticks
    assert (data["episodes"], data["ticks"]) == (5, ticks)
    assert data["tokens"] == "4 views of 6 x 32 per tick"
    assert data["tokens_mb"] == round(4 * ticks * 6 * 32 * 2 / 1e6, 1)
    trained = load_trained(toy_policy)
    assert trained.critic is not None
    count = {name: sum(p.numel() for p in m.parameters()) for name, m in
             (("expert", trained.actor.expert), ("critic", trained.critic))}  # fmt: skip
    assert {k: found["parameters"][k] for k in count} == count
    assert found["parameters"]["backbone_trained"] == 0
    updates = {phase["phase"]: phase["updates"] for phase in found["phases"]}
    critic = round(OfflineConfig().critic_updates * 0.1)
    assert updates == {
        "encode": 4 * ticks,
        "clone": 160,
        "critic": critic,
        "values": 4 * 20,
        "improve": 80,
    }
    assert all(phase["seconds"] >= 0 < phase["ms"] for phase in found["phases"])
    assert found["seconds"] == round(sum(phase["seconds"] for phase in found["phases"]))
    assert found["memory_mb"] > data["tokens_mb"]


def test_tokens_that_are_there_are_not_counted_again(
    toy_demos: Path, toy_backbone: Path, toy_policy: Path
) -> None:
    found = plan("awr", toy_demos, toy_backbone, advantages="q_minus_v", updates=20)
    updates = {phase["phase"]: phase["updates"] for phase in found["phases"]}
    assert updates == {"critic": 12, "clone": 30}


@pytest.mark.parametrize(
    ("method", "options", "phases"),
    [
        ("diffusion", {}, ["clone"]),
        ("decoupled", {}, ["clone", "decoupled critic", "improve"]),
        ("bora", {"adapt": "last_blocks@1", "advantages": "q_minus_v"},
         ["clone", "critic", "improve", "critic of the trained backbone"]),
    ],
)  # fmt: skip
def test_every_phase_is_tried(
    toy_demos: Path,
    toy_policy: Path,
    toy_backbone: Path,
    method: str,
    options: dict[str, Any],
    phases: list[str],
) -> None:
    found = plan(method, toy_demos, toy_backbone, updates=8, **options)
    assert [phase["phase"] for phase in found["phases"]] == phases
    assert (found["data"]["images_mb"] > 0) == (method != "diffusion")
    assert (found["parameters"]["backbone_trained"] > 0) == ("adapt" in options)


def test_the_episodes_it_tries_are_a_success_and_a_failure(demos: Path) -> None:
    datasets = [Dataset.open(demos)]
    assert [e.success for e in module._few(datasets)] == [True, False]
    one = [e for e in toy_demonstrations(4) if e.success]
    assert [len(e) for e in module._few([toy_dataset(demos.parent / "one", one[:1])])] == [len(one[0])]


def test_what_training_refuses_is_refused(demos: Path, toy_backbone: Path, tmp_path: Path) -> None:
    episodes = [e for e in toy_demonstrations(4) if not e.success]
    failures = toy_dataset(tmp_path / "failures", episodes).root
    with pytest.raises(DataError, match=r"None of 2 episodes succeeded"):
        plan("bora", failures, toy_backbone)
    with pytest.raises(ConfigError, match=r"bc_interventions has no dry run"):
        plan("bc_interventions", demos, toy_backbone)
    with pytest.raises(ConfigError, match=r"Unknown way to share 'both'"):
        plan("cp", demos, toy_backbone, share="both")
    assert np.all([p.name == "failures" for p in tmp_path.iterdir()])


def test_data_given_twice_is_refused(demos: Path, toy_backbone: Path) -> None:
    with pytest.raises(ConfigError, match=r"was named twice; its episodes would be doubled\. Name it once"):
        rehearse(Request("cp", (demos, demos), str(toy_backbone)))
