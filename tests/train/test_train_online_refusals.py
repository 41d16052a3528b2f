"""Online rounds keep to one job, one profile and their data; what cannot be run is refused before anything is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from online_rounds import OUT, enter_toy_world, instant_training, judged_by, start

from bora_cli.checkpoint import load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, SchemaMismatch
from bora_cli.profiles import find_profile, load_profile
from bora_cli.train import online
from toy_world import ToyRig


@pytest.fixture(autouse=True)
def toy_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter_toy_world(monkeypatch, tmp_path)


def test_another_job_is_refused(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    start(toy_policy, rounds=1, episodes=1)
    with pytest.raises(ConfigError, match=r"online holds another online run \(episodes 1 there, 2 asked\)"):
        start(toy_policy, rounds=1, episodes=2)
    with pytest.raises(ConfigError, match=r"gap 'bias@1\.0' there, 'none@1\.0' asked"):
        start(toy_policy, rounds=1, episodes=1, gap="none")
    with pytest.raises(ConfigError, match=r"checkpoint_hash '\w{12}' there"):
        start(OUT / "policy", rounds=1, episodes=1)
    assert len(Dataset.open(OUT / "episodes")) == 1


def test_a_run_keeps_to_its_offline_data_and_a_control_needs_none(
    toy_policy: Path, toy_demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    start(toy_policy, rounds=1, episodes=1, data=[toy_demos])
    moved = shutil.copytree(toy_demos, tmp_path / "moved")
    start(toy_policy, rounds=1, episodes=1, data=[moved])  # the same episodes
    with pytest.raises(ConfigError, match=r"data_hash '\w{12}' there"):
        start(toy_policy, rounds=1, episodes=1, data=[OUT / "episodes"])
    homeless = shutil.copytree(toy_policy, tmp_path / "homeless")
    config = json.loads((homeless / "config.json").read_text())
    config["provenance"]["data"] = [str(tmp_path / "nowhere")]
    (homeless / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"trained on .*nowhere, where nothing is now"):
        start(homeless, out=tmp_path / "asked", rounds=1, episodes=1)
    assert not (tmp_path / "asked").exists()
    start(homeless, out=tmp_path / "control", rounds=1, episodes=1, method="bc_interventions")


def test_a_policy_for_another_robot_is_refused_before_a_run_is_made(toy_policy: Path, tmp_path: Path) -> None:
    config = json.loads((toy_policy / "config.json").read_text())
    config["spec"]["action"]["high"][0] *= 2
    other = Path(shutil.copytree(toy_policy, tmp_path / "other"))
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(SchemaMismatch, match=r"other and the simulated robot: action specs differ \(high: "):
        start(other, rounds=1, episodes=1)
    assert not OUT.exists()


def test_a_run_keeps_to_a_profile_and_to_the_images_of_its_policy(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    text = find_profile("sim").read_text()
    slow = tmp_path / "slow.toml"
    slow.write_text(text.replace('tcp_speed = "0.4331 m/s"', 'tcp_speed = "0.1 m/s"'))
    asked: list[tuple[Any, ...]] = []

    def noted(*asking: Any) -> ToyRig:
        asked.append(asking)
        return ToyRig()

    monkeypatch.setattr(online, "simulation", noted)
    job = start(toy_policy, rounds=1, episodes=1, profile=str(slow))["job"]
    assert (job["profile"], job["profile_hash"]) == (str(slow), load_profile(slow).hash)
    assert job["image_size"] == load_trained(toy_policy).spec.image_size[0] == 64
    assert {a[3:] for a in asked} == {(64, str(slow), job["profile_hash"])}
    episode = Dataset.open(OUT / "episodes").episode(0, images=False)
    assert episode.meta["profile_hash"] == job["profile_hash"]


def test_a_directory_in_use_is_refused(toy_policy: Path) -> None:
    OUT.mkdir()
    (OUT / "thesis.tex").write_text("important")
    with pytest.raises(ConfigError, match="online is not empty and holds no online run"):
        start(toy_policy)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"method": "bara"},
            r"Unknown online method 'bara'\. Methods: bora, bc_interventions, hg_dagger, resfit\.",
        ),
        ({"seed": 100}, r"Seed 100 with episodes 0\.\.39 is outside the release scenes"),
        ({"episodes": 501}, r"episodes 0\.\.1001 is outside the online scenes"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    toy_policy: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        start(toy_policy, **options)
    assert not OUT.exists()
