"""Online rounds with a person who takes over by hand, at a desk or through a recording."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from online_rounds import OUT, enter_toy_world, instant_training, judged_by, start

from bora_cli.cli.app import main
from bora_cli.cli.desk import EmptyDesk
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError
from bora_cli.evaluate.teleoperate import Driver
from bora_cli.input.keyboard import Keyboard
from bora_cli.input.keys import KeyPress
from bora_cli.input.replay import Replay
from bora_cli.seeds import scene_seeds
from bora_cli.sim.limits import action_spec
from bora_cli.train import online
from bora_cli.train.crew import Person
from bora_cli.types import Controller
from toy_world import MAX_TICKS, TASK, weights

SPEC = action_spec()


@pytest.fixture(autouse=True)
def toy_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter_toy_world(monkeypatch, tmp_path)


class Clock:
    """Time passes while somebody sleeps."""

    now = 10.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Quitting(EmptyDesk):
    """Begins every episode, and stops when it has seen so many of them begin."""

    def __init__(self, after: int) -> None:
        self.after, self.begun, self.was_ready = after, 0, False

    def show(self, scene: Any) -> None:
        ready = "ready" in "  ".join(scene.lines)
        self.begun += ready and not self.was_ready
        self.was_ready = ready

    def pressed(self) -> list[KeyPress]:
        return [KeyPress("q", 0.0)] if self.begun > self.after else super().pressed()


def recording() -> np.ndarray:
    """Two takeovers per episode, as the toy watcher has them."""
    human = np.full((MAX_TICKS, SPEC.dim), np.nan, np.float32)
    for a, b in ((3, 10), (15, 20)):
        human[a:b] = SPEC.center
        human[a:b, 0] = -0.01
    return human


def person(desk: Any = None, limit_s: float = 0.0) -> Person:
    clock = Clock()
    device = Replay(recording(), SPEC, takes_over=True)
    return Person(Driver(desk or EmptyDesk(), Keyboard(), (device,), clock, clock.sleep), limit_s)


def test_a_round_is_learned_from_what_a_person_did(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged_by(monkeypatch, (0, 2))
    result = start(toy_policy, rounds=1, crew=person())
    (done,) = result["rounds"]
    assert (done["takeovers"], done["episodes"], done["released"]) == (6, 3, True)
    assert result["job"]["operator"] == "person"
    assert "stopped" not in result
    data = Dataset.open(OUT / "episodes")
    for i, scene in enumerate(scene_seeds("online", 0, 3)):
        episode = data.episode(i)
        assert episode.meta["operator"] == "person"
        assert episode.meta["scene_seed"] == scene
        assert {Controller.POLICY, Controller.HUMAN, Controller.BLENDED} == set(episode.controller)
        assert {d.t_start for d in episode.decisions if d.shadow} >= {*range(3, 10), *range(15, 20)}
    assert not check(OUT / "episodes")


def test_who_stops_goes_on_later_where_he_was(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    stopped = start(toy_policy, rounds=1, crew=person(Quitting(after=1)))
    assert stopped["stopped"] is True
    assert stopped["rounds"] == []
    assert len(Dataset.open(OUT / "episodes")) == 1
    assert not (OUT / "policy").exists()
    result = start(toy_policy, rounds=1, crew=person())
    assert result["rounds"][0]["episodes"] == 3
    assert [row.meta["scene_seed"] for row in Dataset.open(OUT / "episodes").rows()] == scene_seeds(
        "online", 0, 3
    )


class Leaving(EmptyDesk):
    """Begins every episode, and stops when he reads that."""

    def __init__(self, enough: str) -> None:
        self.enough, self.read = enough, list[str]()

    def show(self, scene: Any) -> None:
        self.read.append("  ".join(scene.lines))

    def pressed(self) -> list[KeyPress]:
        return [KeyPress("q", 0.0)] if self.enough in self.read[-1] else super().pressed()


def test_who_waits_for_the_learner_can_stop(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody learns, so the wait would have no end."""
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    desk, waited = Leaving("waiting for the learner to finish round 1"), list[str]()
    stopped = start(toy_policy, crew=person(desk), role="actor", wait=waited.append)
    assert (stopped["stopped"], stopped["rounds"]) == (True, [])
    assert set(waited) <= {"the learner to finish round 1"}
    assert "q to stop; the same command goes on" in desk.read[-1]
    assert len(Dataset.open(OUT / "episodes")) == 3
    assert [len(start(toy_policy, crew=person())["rounds"])] == [2]


def told(work: Callable[..., Any]) -> Callable[..., Any]:
    """Return the same work, which tells how far it is, as what it stands in for does."""

    def telling(*given: Any, progress: Any, label: str = "residual", **options: Any) -> Any:
        progress(label, 20, 20)
        return work(*given, label=label, **options)

    return telling


@pytest.mark.parametrize("enough", ["residual: 20 of 20", "release test 1, policy in use: 20 of 20"])
def test_who_waits_while_something_is_learned_can_stop(
    enough: str, toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    for name in ("fit_residual", "evaluate"):
        monkeypatch.setattr(online, name, told(getattr(online, name)))
    options: dict[str, Any] = {"rounds": 1, "episodes": 1}
    expected = start(toy_policy, tmp_path / "whole", crew=person(), **options)
    stopped = start(toy_policy, crew=person(Leaving(enough)), **options)
    assert stopped["stopped"] is True
    assert not (OUT / "round-1" / "round.json").exists()
    assert start(toy_policy, crew=person(), **options)["rounds"] == expected["rounds"]
    assert weights(OUT / "policy") == weights(tmp_path / "whole" / "policy")


def test_a_persons_run_is_not_gone_on_with_by_a_script(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(toy_policy, crew=person(Quitting(after=0)))
    with pytest.raises(ConfigError, match="operator 'person' there, 'simulated' asked"):
        start(toy_policy)
    with pytest.raises(ConfigError, match=r"limit_s 0\.0 there, 5\.0 asked"):
        start(toy_policy, crew=person(limit_s=5.0))


def test_a_run_of_an_earlier_version_goes_on(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job says nothing about an operator: it was the simulated one."""
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    start(toy_policy, rounds=1, episodes=1)
    before = json.loads((OUT / "job.json").read_text())
    assert not {"operator", "limit_s"} & set(before)
    assert start(toy_policy, rounds=1, episodes=1)["job"] == before


def test_a_longer_limit_gives_people_time(toy_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    start(toy_policy, rounds=1, episodes=1, crew=person(limit_s=3.0))
    episode = Dataset.open(OUT / "episodes").episode(0, images=False)
    assert (len(episode), episode.meta["limit_s"]) == (30, 3.0)


def test_online_takes_over_by_hand_from_the_command_line(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal: a recorded person takes over, the episode begins by itself."""
    instant_training(monkeypatch)
    judged_by(monkeypatch, (0, 1))
    start(toy_policy, Path("first"), rounds=1, episodes=1)  # by the script, to have a recording
    words = ["online", str(toy_policy), "--task", TASK, "--gap", "bias", "--out", "run", "--rounds", "1"]
    words += ["--episodes", "1", "--device", "replay:first/episodes#0", "--window", "off", "--limit", "2.4"]
    with pytest.raises(SystemExit) as leaving:
        main([*words, "--json"])
    output = capsys.readouterr()
    assert not leaving.value.code, output.err
    assert json.loads(output.out)["rounds"][0]["takeovers"] == 2
    episode, first = (Dataset.open(Path(p) / "episodes").episode(0, images=False) for p in ("run", "first"))
    changes = [[(c["tick"], c["event"]) for c in e.meta["control_changes"]] for e in (episode, first)]
    assert changes[0] == changes[1]
    assert episode.meta["devices"][0] == "replay first/episodes#0"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--window", "none"], "--window needs a person"),
        (["--limit", "9"], "--limit needs a person"),
        (["--device", "keyboard", "--window", "off"], "--window off hears no keys"),
        (["--pedal", "b"], "--pedal needs a person"),
        (
            ["--device", "udp", "--window", "off", "--pedal", "b"],
            "--window off hears no keys, so nor a --pedal",
        ),
        (["--device", "udp", "--limit", "0.5"], "--limit 0.5 is not in the range 1 to 600"),
    ],
)
def test_arguments_that_make_no_sense(
    words: list[str], message: str, toy_policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["online", str(toy_policy), "--task", TASK, "--out", "run", *words])
    assert leaving.value.code == 3
    assert message in capsys.readouterr().err
    assert not Path("run").exists()
