"""Rounds on a robot: help, learning, a blind test, and a run that goes on where the person stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_robot_session import PROFILE, Desk, Puller, driver, simulated

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.analysis.live import read_live
from bora_cli.checkpoint import load_trained
from bora_cli.cli.console import totals
from bora_cli.control.alarm import Alarm
from bora_cli.control.telemetry import LIVE
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError
from bora_cli.evaluate.teleoperate import Scene
from bora_cli.input.device import TAKE_OVER
from bora_cli.train import on_robot, robot_learner
from bora_cli.train.meeting import playing
from bora_cli.train.on_robot import Place, rounds_on_robot
from bora_cli.train.robot_learner import learn_elsewhere
from robot_fakes import FakeClock
from toy_world import weights


@pytest.fixture(autouse=True)
def few_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bora_cli.train.residual.OnlineConfig", lambda **k: OnlineConfig(updates=20, **k))


class Leaving(Desk):
    """Somebody who has enough when he reads that."""

    def __init__(self, ends: str, after: str, enough: str) -> None:
        super().__init__(ends, after)
        self._enough = enough

    def show(self, scene: Scene) -> None:
        super().show(scene)
        if self._enough in " ".join(scene.lines):
            self._keys.append("q")


def run(
    policy: Path, out: Path, keys: str, enough: str = "never", **options: Any
) -> tuple[dict[str, Any], Desk]:
    """Let a person with these verdicts run one round of two assisted episodes and a test of two pairs."""
    clock = FakeClock()
    desk = Leaving(keys, "1.2/", enough)
    seat = driver(desk, Puller({3: TAKE_OVER}), clock, clock.sleep)
    given: dict[str, Any] = {"rounds": 1, "episodes": 2, "pairs": 2, "method": "bc_interventions", **options}
    place = Place(simulated(clock), PROFILE, seat)
    return rounds_on_robot(policy, place, prompt="press the button", out=out, limit_s=2.0, **given), desk


def test_a_round_on_a_robot_goes_on_where_it_stopped(toy_policy: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first, _ = run(toy_policy, out, "y")
    assert first["stopped"]
    assert len(Dataset.open(out / "episodes")) == 1
    second, _ = run(toy_policy, out, "yyn")
    assert second["stopped"]
    assert len(Dataset.open(out / "round-1" / "test")) == 2
    last, desk = run(toy_policy, out, "yn")
    assert not last["stopped"]
    (done,) = last["rounds"]
    assert (done["episodes"], done["takeovers"], done["release_n"]) == (2, 2, 2)
    assert load_trained(out / "round-1" / "policy").lam > 0
    rows = Dataset.open(out / "round-1" / "test").rows()
    assert [row.meta["pair"] for row in rows] == [0, 0, 1, 1]
    assert sorted(row.meta["new"] for row in rows) == [False, False, True, True]
    new = sum(row.success for row in rows if row.meta["new"])
    old = sum(row.success for row in rows if not row.meta["new"])
    assert (done["residual_k"], done["base_k"]) == (new, old)
    assert done["released"] == (new > old)
    assert (load_trained(Path(last["policy"])).lam > 0) == done["released"]
    refused = f"nothing released: with the last correction {new} of 2 episodes succeeded, without it {old}"
    assert any(refused in warning for warning in last["warnings"]) != done["released"]
    assert not any("unchanged" in warning for warning in second["warnings"])
    told = " ".join(line for scene in desk.scenes for line in scene.lines)
    assert "blind test 3 of 4" in told
    assert "blind test 4 of 4; arrange it as in the last episode" in told
    assert "new" not in told
    assert not check(out / "episodes")
    assert not check(out / "round-1" / "test")
    assert json.loads((out / "job.json").read_text())["pairs"] == 2
    with pytest.raises(ConfigError, match="holds another online run \\(pairs 2 there, 3 asked\\)"):
        run(toy_policy, out, "", pairs=3)


class Killed(BaseException):
    """Stands for a process that ended here."""


KILLS = {  # at which call of what, and what the person said before
    "before the second episode is written": (Dataset, "append", 2, "yy"),
    "before the policy is saved": (robot_learner, "save_trained", 1, "y"),
    "before it is said that a round is learned": (robot_learner, "write_json", 1, ""),
    "between two episodes of the test": (Dataset, "append", 2, "yn"),
    "before the round is closed": (on_robot, "write_json", 1, "n"),
    "before the policy is put in place": (on_robot, "copy_directory", 1, ""),
}


def dying(real: Callable[..., Any], last: int, moment: str) -> Callable[..., Any]:
    """Return a function that can be called so many times, the last of which kills the process."""
    calls: list[int] = []

    def die(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == last:
            raise Killed(moment)
        return real(*given, **options)

    return die


def test_rounds_that_are_killed_at_every_arrow_equal_some_that_are_not(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    expected, _ = run(toy_policy, whole, "yyyn", pairs=1)
    for moment, (where, name, call, keys) in KILLS.items():
        with monkeypatch.context() as patch:
            patch.setattr(where, name, dying(getattr(where, name), call, moment))
            with pytest.raises(Killed, match=moment):
                run(toy_policy, out, keys, pairs=1)
    result, _ = run(toy_policy, out, "", pairs=1)
    assert result == {**expected, "policy": str(out / "policy")}
    for place in ("round-1/policy", "policy"):
        assert weights(out / place) == weights(whole / place)
    assert json.loads((out / "job.json").read_text()) == json.loads((whole / "job.json").read_text())
    assert not check(out / "episodes")


def test_without_takeovers_nothing_is_learned_and_nothing_released(toy_policy: Path, tmp_path: Path) -> None:
    clock = FakeClock()
    seat = driver(Desk("yy", after="1.2/"), Puller(), clock, clock.sleep)
    result = rounds_on_robot(
        toy_policy,
        Place(simulated(clock), PROFILE, seat),
        prompt="press the button",
        out=tmp_path / "run",
        rounds=1,
        episodes=2,
        limit_s=2.0,
        method="bc_interventions",
    )
    assert (result["rounds"][0]["released"], result["rounds"][0]["release_n"]) == (False, 0)
    assert load_trained(Path(result["policy"])).lam == 0.0
    assert result["warnings"][-1] == "nothing learned: 0 takeovers, 1 is needed; the policy is unchanged"


def test_a_round_on_a_robot_can_be_watched_and_calls_for_help(toy_policy: Path, tmp_path: Path) -> None:
    """The console reads what the loop tells while somebody helps; nothing of a blind test, which lambda would spoil."""
    out, never_well = tmp_path / "run", Alarm((1e6,), 0.0, 2, 0.05, 0.5, None)
    result, desk = run(toy_policy, out, "yyynny", alarm=never_well)
    assert not result["stopped"]
    told = [json.loads(line) for line in (out / LIVE).read_text().splitlines()]
    assert {record["number"] for record in told} == {1, 2}
    assert {(record["of"], record["round"]) for record in told} == {(2, 1)}
    assert {record["lam"] for record in told} == {0.0}
    assert all(np.isfinite([record["v"], record["q"]]).all() for record in told)
    assert any(record["alarm"] for record in told)
    assert {"late_ms", "late_ticks", "device_age_s", "trouble", "phase", "drives", "hz"} <= set(told[0])
    called = [line for scene in desk.scenes for line in scene.lines if "THE CRITIC FORESEES FAILURE" in line]
    assert called
    assert all("round 1, episode" in line for line in called)
    watched = totals(read_live(out))
    assert (watched["episodes"], watched["rounds_finished"], watched["done"]) == (2, 1, True)
    assert watched["human_share"] == pytest.approx(result["rounds"][0]["human_share"])
    with pytest.raises(ConfigError, match="holds another online run \\(alarm "):
        run(toy_policy, out, "", alarm=Alarm((1.0,), 0.0, 2, 0.05, 0.5, None))


# ------------------------------------------------------------------------------------------- a learner elsewhere


class Nothing(Exception):
    """There is nothing to do until the other one has done something."""


def nothing(reason: str) -> None:
    raise Nothing(reason)


def acting(policy: Path, out: Path, keys: str, **options: Any) -> dict[str, Any] | str:
    try:
        return run(policy, out, keys, elsewhere=True, wait=nothing, rounds=2, pairs=1, **options)[0]
    except Nothing as waits:
        return str(waits)


def learning(policy: Path, out: Path) -> dict[str, Any] | str:
    try:
        return learn_elsewhere(policy, out, wait=nothing)
    except Nothing as waits:
        return str(waits)


def test_a_learner_elsewhere_comes_to_the_same(
    toy_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They meet at files; each is stopped, and the learner killed, in the middle of what it does."""
    whole, out = tmp_path / "whole", tmp_path / "run"
    expected, _ = run(toy_policy, whole, "yyynyyyn", rounds=2, pairs=1)
    assert learning(toy_policy, out).endswith("to be begun by `bora robot online --elsewhere`")  # type: ignore[union-attr]
    assert acting(toy_policy, out, "y")["stopped"]  # type: ignore[index]
    assert learning(toy_policy, out) == "episodes of round 1: 1 of 2 are there"
    assert acting(toy_policy, out, "y") == "the learner of round 1"
    with monkeypatch.context() as patch:
        patch.setattr("bora_cli.train.robot_learner.save_trained", lambda *_: nothing("killed"))
        assert learning(toy_policy, out) == "killed"
    assert acting(toy_policy, out, "") == "the learner of round 1"
    assert learning(toy_policy, out) == "the test of round 1"
    hidden = (out / "round-1" / "policy").rename(out / "still on its way")
    assert acting(toy_policy, out, "") == "the learner of round 1"
    hidden.rename(out / "round-1" / "policy")
    assert acting(toy_policy, out, "ynyy") == "the learner of round 2"
    assert learning(toy_policy, out) == {"run": str(out), "rounds": 2, "method": "bc_interventions"}
    result = acting(toy_policy, out, "yn")
    assert not result["stopped"]  # type: ignore[index]
    assert result["rounds"] == expected["rounds"]  # type: ignore[index]
    for place in ("round-1/policy", "round-2/policy", "policy"):
        assert weights(out / place) == weights(whole / place)
    assert learning(toy_policy, out) == {"run": str(out), "rounds": 2, "method": "bc_interventions"}


def test_who_waits_for_a_learner_can_stop(toy_policy: Path, tmp_path: Path) -> None:
    """Nobody learns, so the wait would have no end; neither the run nor its roles are the worse for it."""
    out, waited = tmp_path / "run", list[str]()
    options: dict[str, Any] = {"elsewhere": True, "rounds": 2, "pairs": 1}
    enough = "waiting for the learner of round 1"
    stopped, desk = run(toy_policy, out, "yy", enough, wait=waited.append, **options)
    assert stopped["stopped"]
    assert set(waited) <= {"the learner of round 1"}
    assert "q to stop; the same command goes on" in desk.scenes[-1].lines
    assert len(Dataset.open(out / "episodes")) == 2
    assert learning(toy_policy, out) == "the test of round 1"
    assert acting(toy_policy, out, "ynyy") == "the learner of round 2"


def test_who_waits_while_something_is_learned_can_stop(toy_policy: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    run(toy_policy, whole, "yyyn", pairs=1)
    stopped, _ = run(toy_policy, out, "yy", "residual: 20 of 20", pairs=1)
    assert stopped["stopped"]
    assert not (out / "round-1" / "policy").exists()
    result, _ = run(toy_policy, out, "yn", pairs=1)
    assert not result["stopped"]
    assert weights(out / "round-1" / "policy") == weights(whole / "round-1" / "policy")


def test_a_learner_refuses_another_policy_and_another_kind_of_run(toy_policy: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    acting(toy_policy, out, "y")
    facts = json.loads((out / "job.json").read_text())
    (out / "job.json").write_text(json.dumps({**facts, "checkpoint_hash": "other"}))
    with pytest.raises(ConfigError, match="began with a policy of hash other; "):
        learning(toy_policy, out)
    (out / "job.json").write_text(json.dumps({"rounds": 2, "gap": "bias"}))
    with pytest.raises(
        ConfigError, match=r"holds no rounds on a robot \(its job has no method, episodes, pairs"
    ):
        learning(toy_policy, out)


def test_a_run_has_one_learner(toy_policy: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    acting(toy_policy, out, "y")
    with playing(out, "learner"), pytest.raises(ConfigError, match="learner"):
        run(toy_policy, out, "y", rounds=2, pairs=1)
