"""Around the phases: metrics files, alarms, held-out episodes, and losses that leave the ground."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.checkpoint import code_hash, load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, TrainingDiverged
from bora_cli.evaluate.evaluate import checkpoint_hash
from bora_cli.train.alarms import alarms
from bora_cli.train.offline import train
from bora_cli.train.steps import MEAN_OF, Watch, adamw, step
from bora_cli.train.tracker import Tracker, read_metrics
from toy_world import toy_dataset, toy_demonstrations, weights

# ----------------------------------------------------------------------------------------------- metrics


def test_a_metrics_file_starts_afresh_or_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = Tracker(path)
    first.log("clone", 20, {"loss": 1 / 3})
    first.log("clone", 40, {"loss": 0.25})
    first.close()
    path.write_text(path.read_text() + '{"phase": "clo')
    assert [row["update"] for row in read_metrics(path)] == [20, 40]
    second = Tracker(path, continued=True)
    second.log("clone", 40, {"loss": 0.25})
    second.log("clone", 60, {"loss": 0.125})
    second.close()
    assert [json.loads(line)["loss"] for line in path.read_text().splitlines()] == [0.333333, 0.25, 0.125]
    assert second.rows == read_metrics(path)
    Tracker(path).close()
    assert path.read_text() == ""


def test_a_tracker_without_a_file_remembers() -> None:
    tracker = Tracker(None)
    tracker.log("clone", 1, {"loss": 2.0})
    tracker.close()
    assert tracker.rows == [{"phase": "clone", "update": 1, "loss": 2.0}]


# ----------------------------------------------------------------------------------------------- divergence


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda x: x.sum() * float("nan"), r"The toy loss became nan at update 7\."),
        (
            lambda x: (x - x.detach()).sqrt().sum(),
            r"The gradient of the toy loss \(0\) became (nan|inf) at up",
        ),
    ],
)
def test_weights_are_not_touched_by_a_step_that_is_not_finite(wrong: Any, said: str) -> None:
    layer = torch.nn.Linear(2, 1)
    before = {k: v.clone() for k, v in layer.state_dict().items()}
    with pytest.raises(TrainingDiverged, match=said):
        step(wrong(layer.weight), adamw(layer, 0.1, 0.0), layer, 1.0, "toy", 7)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def see(watch: Watch, losses: list[float]) -> None:
    for update, loss in enumerate(losses):
        watch.see(loss, update)


def test_a_loss_that_grows_without_end_is_stopped_and_noise_is_not() -> None:
    watch, rng = Watch("clone"), torch.Generator().manual_seed(0)
    see(watch, [float(torch.rand(1, generator=rng)) * (50 if i % 9 == 0 else 1) for i in range(200)])
    with pytest.raises(
        TrainingDiverged, match=r"The clone loss grew from \S+ to \S+ by update \d\d \(means of"
    ):
        see(watch, [1.2**i for i in range(100)])
    see(
        Watch("value"), [1e-4 * (1 + i) for i in range(3 * MEAN_OF)]
    )  # far above its beginning, and still small


# ----------------------------------------------------------------------------------------------- alarms


def rows(phase: str, **values: list[float]) -> list[dict[str, Any]]:
    count = len(next(iter(values.values())))
    return [
        {"phase": phase, "update": 20 * (i + 1), **{k: v[i] for k, v in values.items()}} for i in range(count)
    ]


def test_an_alarm_needs_three_reports_in_a_row() -> None:
    config = OfflineConfig()
    assert alarms(rows("improve", gate_rate=[0.05, 0.05, 0.5, 0.05, 0.05]), config) == []
    (said,) = alarms(rows("improve", gate_rate=[0.5, 0.95, 0.95, 0.97]), config)
    assert said == (
        "improve, update 80: gate_rate is 0.97, expected 0.1 to 0.9;"
        " the gate chooses nearly nothing, or nearly all. See docs/training.md."
    )
    (said,) = alarms(rows("improve", gate_rate=[0.95] * 3), config, share=0.01)
    assert said.endswith("nearly all. Few updates: this means little. See docs/training.md.")
    assert alarms(rows("improve", gate_rate=[1.0] * 5), OfflineConfig(advantage="constant", gate="off")) == []


def test_alarms_know_expectiles_rewards_and_phases() -> None:
    config = OfflineConfig()
    usual = rows("critic", q_above_v=[0.4] * 4, target_clipped=[0.0] * 4)
    assert alarms(usual, config) == []
    assert len(alarms(usual, OfflineConfig(tau=0.9))) == 1
    probe = rows("critic probe", q_over=[0.5], demo_rand_gap=[-0.1], ens_ratio=[1.0])
    assert [said.split()[4] for said in alarms(probe, config)] == ["q_over", "demo_rand_gap", "ens_ratio"]
    assert "demo_rand_gap is -0.1, expected more than 0; the critic does not" in alarms(probe, config)[1]
    assert len(alarms(probe, config, unit=10.0)) == 2
    assert alarms(rows("improve probe", rep_drift=[0.2]), config) == []
    assert "no longer says" in alarms(rows("improve probe", rep_drift=[0.4]), config)[0]
    weighted = rows("clone", ess=[0.05] * 3, w_clipped=[0.5] * 3)
    assert len(alarms(weighted, config)) == 2


def test_held_out_episodes_have_alarms_of_their_own() -> None:
    config = OfflineConfig()
    assert alarms(rows("clone held out", bc_val=[1.0, 0.5, 0.55]), config) == []
    assert "by heart" in alarms(rows("clone held out", bc_val=[1.0, 0.5, 0.7]), config)[0]
    after = rows("clone held out", bc_val=[0.5]) + rows("improve held out", bc_val=[0.5, 0.7])
    assert "than after the warm-up (0.5)" in alarms(after, config)[0]


# ----------------------------------------------------------------------------------------------- held out


def test_held_out_episodes_change_nothing_and_keep_the_best(
    toy_demos: Path, toy_backbone: Path, tmp_path: Path
) -> None:
    kept = toy_dataset(tmp_path / "kept", toy_demonstrations(3, first=100_500)).root
    options: dict[str, Any] = {"data": [toy_demos], "backbone": str(toy_backbone), "updates": 40}
    train("cp", out=tmp_path / "plain", **options)
    facts = train("cp", out=tmp_path / "held", held_out=[kept], **options)
    assert weights(tmp_path / "held") == weights(tmp_path / "plain")
    assert facts["held_out"] == [str(kept)]
    seen = [
        r for r in read_metrics(tmp_path / "held.run" / "metrics.jsonl") if r["phase"] == "clone held out"
    ]
    assert len(seen) == 20
    lowest = min(seen, key=lambda row: row["bc_val"])
    assert facts["best"]["update"] == lowest["update"]
    assert facts["best"]["bc_val"] == pytest.approx(lowest["bc_val"], rel=1e-5)
    best = load_trained(tmp_path / "held.run" / "best")
    assert best.provenance["update"] == lowest["update"]
    assert not (tmp_path / "plain.run" / "best").exists()


def test_improvement_is_held_against_the_warm_up_and_the_critic_is_asked_about_others(
    toy_demos: Path, toy_backbone: Path, tmp_path: Path
) -> None:
    kept = toy_dataset(tmp_path / "kept", toy_demonstrations(3, first=100_500)).root
    options: dict[str, Any] = {"data": [toy_demos], "backbone": str(toy_backbone), "updates": 4}
    facts = train("bora", out=tmp_path / "held", held_out=[kept], **options)
    found = read_metrics(tmp_path / "held.run" / "metrics.jsonl")
    phases = [row["phase"] for row in found]
    assert phases.count("clone held out") == 4
    assert phases.count("improve held out") == 2
    (probe,) = [row for row in found if row["phase"] == "critic probe"]
    assert set(probe) == {"phase", "update", "q_over", "demo_rand_gap", "ens_ratio"}
    assert "best" not in facts
    facts = train("filtered_bc", out=tmp_path / "filtered", **options)
    assert not [said for said in facts.get("alarms", []) if "adv_positive" in said or "gate_rate" in said]
    assert not (tmp_path / "held.run" / "best").exists()


def test_what_is_trained_on_is_not_held_out(toy_demos: Path, toy_backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"The episodes of .*demos are those of .*demos, which are trained on"
    ):
        train("cp", data=[toy_demos], out=tmp_path / "x", backbone=str(toy_backbone), held_out=[toy_demos])
    assert not any(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------- provenance


def test_a_run_says_what_made_it(toy_policy: Path, toy_demos: Path) -> None:
    about = json.loads((toy_policy.with_name("policy.run") / "run.json").read_text())
    assert about["ended"] == "finished"
    (start,) = about["starts"]
    assert start["code"] == code_hash() == json.loads((toy_policy / "config.json").read_text())["code"]
    assert {"torch", "numpy", "python"} <= set(start["versions"])
    digest, file = checkpoint_hash(toy_policy), toy_policy / "config.json"
    text = file.read_text()
    file.write_text(text.replace(start["code"], "0" * 12))
    assert (
        checkpoint_hash(toy_policy) == digest
    )  # the same weights from another state of the code are the same policy
    file.write_text(text)
    job = about["job"]
    assert job["backbone"] == load_trained(toy_policy).backbone_hash
    assert job["settings"]["cp"]["updates"] == 16
    assert len(job["data"]) == 1
    assert str(Dataset.open(toy_demos).root) not in json.dumps(job)
    profile = json.loads((toy_policy.with_name("policy.run") / "profile.json").read_text())
    assert set(profile) == {"clone", "critic", "value 1", "value 2", "value 3", "value 4", "improve"}
    assert all(0 <= p["loading_ms"] <= p["ms"] for p in profile.values())
