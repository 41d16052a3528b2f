"""Online rounds in which whoever takes over is called by an alarm; and what people who look on can read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from online_rounds import OUT, enter_toy_world, instant_training, judged_by, start

from bora_cli.analysis.traces import EpisodeTrace, build_traces, write_traces
from bora_cli.cli.app import main
from bora_cli.cli.online import alarm_of
from bora_cli.control.alarm import Alarm
from bora_cli.control.telemetry import LIVE
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError
from bora_cli.train import crew, online
from toy_world import TASK, ToyRig, ToyWatcher, Verdict

NEVER = Alarm((-1e6,), 0.0, 3, 0.0, 0.0, None)
ALWAYS = Alarm((1e6,), 0.0, 3, 1.0, 1.0, None)


class ToyResponder(ToyWatcher):
    """Drives for three ticks whenever he is called."""

    def __init__(self, task: str, rng: np.random.Generator, rings: Callable[[], bool]) -> None:
        self.rings, self.left = rings, 0

    def observe(self, rig: ToyRig, human_driving: bool) -> Verdict:
        self.left = 3 if self.rings() and not human_driving else self.left - 1
        return Verdict(self.left > 0, "called")


@pytest.fixture(autouse=True)
def toy_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter_toy_world(monkeypatch, tmp_path)
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    monkeypatch.setattr(online, "Responder", ToyResponder)


def once(policy: Path, **options: Any) -> dict[str, Any]:
    return start(policy, rounds=1, episodes=1, **options)


def test_who_is_never_called_never_drives(toy_policy: Path) -> None:
    (done,) = once(toy_policy, alarm=NEVER)["rounds"]
    assert (done["takeovers"], done["human_ticks"]) == (0, 0)


def test_who_is_called_comes(toy_policy: Path) -> None:
    result = once(toy_policy, alarm=ALWAYS)
    assert result["rounds"][0]["takeovers"] >= 2
    assert result["job"]["alarm"] == ALWAYS.hash
    changes = Dataset.open(OUT / "episodes").episode(0, images=False).meta["control_changes"]
    assert (changes[0]["tick"], changes[0]["reason"]) == (3, "called")


def test_a_run_keeps_to_its_alarm(toy_policy: Path) -> None:
    once(toy_policy, alarm=NEVER)
    for other in (None, ALWAYS):
        with pytest.raises(ConfigError, match=r"alarm '\w{12}' there, '\w*' asked"):
            once(toy_policy, alarm=other)


def test_looking_on_is_possible_and_leaves_no_trace_in_the_episodes(toy_policy: Path) -> None:
    once(toy_policy)
    crew.telemetry(str((OUT / LIVE).resolve())).close()
    records = [json.loads(line) for line in (OUT / LIVE).read_text().splitlines()]
    assert records[-1]["over"] is True
    assert records[-1]["tick"] == len(Dataset.open(OUT / "episodes").episode(0, images=False)) - 1
    assert records[-1]["round"] == 1
    assert all(np.isfinite(record["v"]) for record in records)
    assert not {"live", "v", "alarm"} & set(Dataset.open(OUT / "episodes").row(0).meta)


def test_an_analysis_gives_the_alarm_of_a_run(toy_policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Failures fell at tick 12 of the made-up episodes; what the toy critic says is nowhere near them."""
    made = []
    for i in range(12):
        v = np.linspace(50.0, 60.0, 24) - 30.0 * (i % 2) * (np.arange(24) > 12)
        made.append(EpisodeTrace(v=v, success=i % 2 == 0, controller=np.zeros(24, np.uint8)))
    write_traces(Path("report") / "traces.parquet", build_traces(made))
    words = ["online", str(toy_policy), "--task", TASK, "--gap", "bias", "--rounds", "1", "--episodes", "1"]
    with pytest.raises(SystemExit) as leaving:
        main([*words, "--out", "run", "--alarm", "report@0.2", "--workers", "1", "--json"])
    output = capsys.readouterr()
    assert not leaving.value.code, output.err
    result = json.loads(output.out)
    assert result["rounds"][0]["takeovers"] >= 1
    assert len(result["job"]["alarm"]) == 12


def test_a_share_that_is_none() -> None:
    assert alarm_of("report") == (Path("report"), 0.05)
    assert alarm_of("a@b/report@0.2") == (Path("a@b/report"), 0.2)
    for word in ("often", "1.2", "-0.1", "nan"):
        with pytest.raises(ConfigError, match="is not a share of false alarms; expected 0 to 1"):
            alarm_of(f"report@{word}")
