"""One episode, tick by tick: what is written down is what happened, whoever drives and whatever he says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_fakes import DRIVEN, EXECUTE, HORIZON, FakeOperator, FakePolicy, FakeRig, GentleRig, run, ticks

from bora_cli.control.arbiter import Phase
from bora_cli.control.loop import demonstrate
from bora_cli.data.tables import residual_at
from bora_cli.data.windows import build_windows
from bora_cli.types import Controller, Episode


def starts(episode: Episode) -> list[int]:
    return [d.t_start for d in episode.decisions]


# ------------------------------------------------------------------------------------------- roll-outs


@settings(max_examples=150, deadline=None)
@given(
    wanted=st.frozensets(st.integers(0, 29))
    | st.builds(lambda a, n: ticks((a, a + n)), st.integers(0, 29), st.integers(1, 12)),
    last=st.integers(1, 30),
    end=st.sampled_from(["success", "failure", "time"]),
    images=st.booleans(),
)
def test_laws_of_every_assisted_episode(wanted: frozenset[int], last: int, end: str, images: bool) -> None:
    rig = FakeRig(last, last if end == "success" else None, last if end == "failure" else None)
    episode = run(rig, wanted=wanted, images=images)
    t, phase = np.arange(len(episode)), episode.phase
    # what was applied is what is recorded
    assert len(episode) == last
    assert np.array_equal(episode.action, np.stack(rig.applied))
    assert episode.state[:, 0].tolist() == t.tolist()
    # exactly one ending
    assert episode.terminated.tolist() == [False] * (last - 1) + [end != "time"]
    assert episode.truncated.tolist() == [False] * (last - 1) + [end == "time"]
    assert episode.success == (end == "success")
    # a decision wherever someone new drives, at every tick of a person, and at most `execute` ticks apart
    begin = np.array(starts(episode))
    assert begin[0] == 0
    assert (np.diff(begin) >= 1).all()
    assert (np.diff([*begin, last]) <= EXECUTE).all()
    driven = np.isin(phase, DRIVEN)
    assert set(t[driven]) <= set(begin)
    shadows = {d.t_start for d in episode.decisions if d.shadow}
    assert set(t[driven]) <= shadows
    # what was proposed at a tick is what its decision planned for it
    of = np.searchsorted(begin, t, side="right") - 1
    planned = np.stack([episode.decisions[k].final[i - begin[k]] for k, i in zip(of, t, strict=True)])
    assert np.array_equal(episode.proposed, planned)
    added = [
        episode.decisions[k].lam * episode.decisions[k].residual[i - begin[k]]
        for k, i in zip(of, t, strict=True)
    ]
    assert np.array_equal(residual_at(episode), np.stack(added).astype(np.float32))
    # every tick knows when it was observed
    assert np.shape(episode.wall_ns) == np.shape(episode.monotonic_ns) == (last,)
    assert (np.diff(np.asarray(episode.monotonic_ns)) >= 0).all()
    assert all(d.tokens[0, 0] == d.t_start for d in episode.decisions)
    assert sum(d.executed for d in episode.decisions) == (episode.controller == Controller.POLICY).sum()
    # the person's command is known exactly where he has a say
    assert np.array_equal(np.isfinite(episode.human).all(1), driven)
    assert np.isnan(episode.human[~driven]).all()
    # takeovers and releases alternate, are logged, and close decisions
    events = [(c["tick"], c["event"]) for c in episode.meta["control_changes"]]
    for (_, first), (_, second) in pairwise(events):
        assert (first, second) in (("takeover", "release"), ("release", "takeover"))
    assert episode.meta["takeovers"] == sum(e == "takeover" for _, e in events)
    for tick, event in events:
        if event == "takeover":
            assert tick in shadows
        elif tick + 1 < last:
            assert tick + 1 in begin
    assert episode.decisions[-1].closed == ("truncated" if end == "time" else "terminated")
    # nothing is rendered that nobody looks at
    assert rig.rendered == (t.tolist() if images else begin.tolist())
    assert set(episode.images) == ({"scene"} if images else set())


def test_an_unaided_episode() -> None:
    rig = FakeRig(max_ticks=10)
    episode = run(rig)
    assert rig.prepared == [5]
    assert starts(episode) == [0, 4, 8]
    assert [d.closed for d in episode.decisions] == ["horizon", "horizon", "truncated"]
    assert [d.executed for d in episode.decisions] == [4, 4, 2]
    assert [d.planned for d in episode.decisions] == [4, 4, 4]
    assert not any(d.shadow for d in episode.decisions)
    assert (episode.controller == Controller.POLICY).all()
    np.testing.assert_allclose(episode.action[:, 1], 0.9 * 0.01 * (np.arange(10) % 4), atol=1e-7)
    assert episode.meta == {"a": 1, "scene_seed": 5, "control_changes": [], "takeovers": 0}
    assert episode.prompt == "press"
    assert episode.images["scene"][:, 0, 0, 0].tolist() == list(range(10))


def test_a_takeover_tick_by_tick() -> None:
    episode = run(FakeRig(max_ticks=20), wanted=ticks((6, 12)))
    phase = [Phase(p).name for p in episode.phase]
    assert phase[:6] == ["AUTONOMOUS"] * 6
    assert phase[6:12] == ["TAKING", "TAKING", "HUMAN", "HUMAN", "HUMAN", "HUMAN"]
    assert phase[12:15] == ["RETURNING", "RETURNING", "AUTONOMOUS"]
    assert starts(episode)[:10] == [0, 4, 6, 7, 8, 9, 10, 11, 12, 13]
    by_tick = {d.t_start: d for d in episode.decisions}
    assert (by_tick[4].closed, by_tick[4].executed) == ("takeover", 2)
    assert by_tick[12].closed == "release"
    assert not by_tick[13].shadow
    assert episode.meta["control_changes"] == [
        {"tick": 6, "event": "takeover", "reason": "tick 6"},
        {"tick": 12, "event": "release", "reason": "tick 12"},
    ]
    assert (episode.controller[8:12] == Controller.HUMAN).all()
    assert (episode.controller[[6, 7, 12, 13]] == Controller.BLENDED).all()
    np.testing.assert_allclose(episode.action[9], [-0.045, 0.045, 1.0], atol=1e-6)
    np.testing.assert_allclose(episode.human[6], [-0.05, 0.05, 1.0], atol=1e-6)


@pytest.mark.parametrize("length", [0, 2, 5])
def test_a_rig_says_over_how_many_ticks_control_changes_hands(length: int) -> None:
    episode = run(GentleRig(ramp_ticks=length), wanted=ticks((6, 18)))
    phases = [Phase(p) for p in episode.phase]
    assert phases.count(Phase.TAKING) == phases.count(Phase.RETURNING) == length
    if length == 2:
        assert np.array_equal(episode.action, run(FakeRig(), wanted=ticks((6, 18))).action)


def test_the_operator_plans_afresh_at_each_takeover_only() -> None:
    operator = FakeOperator()
    run(FakeRig(max_ticks=30), wanted=ticks((3, 8), (20, 24)), operator=operator)
    assert operator.begun == [3, 20]


def test_a_watcher_without_controls_only_watches() -> None:
    episode = run(FakeRig(max_ticks=8), wanted=ticks((0, 8)), operator=None)
    assert (episode.controller == Controller.POLICY).all()
    assert np.isnan(episode.human).all()


def test_a_proposal_that_is_not_a_number_holds_until_a_person_takes_over() -> None:
    policy = FakePolicy(broken=frozenset({1}))
    rig = FakeRig(max_ticks=30)
    episode = run(rig, policy=policy, wanted=ticks((12, 18)))
    held = episode.phase == Phase.HELD
    assert np.flatnonzero(held).tolist() == list(range(4, 12))
    assert (episode.action[held][:, :2] == 0).all()
    assert (episode.action[held][:, 2] == episode.action[3, 2]).all()
    assert np.isfinite(episode.action).all()
    assert (episode.controller[held] == Controller.HELD).all()
    assert not episode.intervened[held].any()
    assert episode.phase[-1] == Phase.AUTONOMOUS


def test_a_policy_that_never_says_a_number_never_moves_the_robot() -> None:
    episode = run(FakeRig(max_ticks=9), policy=FakePolicy(broken=frozenset(range(99))))
    assert (episode.action[:, :2] == 0).all()
    assert episode.action[:, 2] == pytest.approx(0.3)
    assert episode.truncated[-1]
    assert episode.human_share == 0.0  # nobody drove; a person least of all
    assert len(build_windows([episode], horizon=HORIZON, gamma=0.97)) == 0


def test_an_operator_who_commands_nonsense_holds() -> None:
    operator = FakeOperator((float("nan"), 0.0, 1.0))
    episode = run(FakeRig(max_ticks=12), wanted=ticks((4, 12)), operator=operator)
    assert (episode.phase[4:] == Phase.HELD).all()
    assert (episode.action[4:, :2] == 0).all()


def test_the_loop_may_be_stopped_early() -> None:
    episode = run(FakeRig(max_ticks=30), max_ticks=7)
    assert len(episode) == 7
    assert (episode.terminated[-1], episode.truncated[-1]) == (False, True)
    both = run(FakeRig(succeeds_at=7), max_ticks=7)
    assert (both.terminated[-1], both.truncated[-1]) == (True, False)


def test_the_same_noise_gives_the_same_episode() -> None:
    first, second = run(FakeRig()), run(FakeRig())
    assert [d.noise_seed for d in first.decisions] == [d.noise_seed for d in second.decisions]
    assert len({d.noise_seed for d in first.decisions}) == len(first.decisions)


# -------------------------------------------------------------------------------------- demonstrations


def show(rig: FakeRig, operator: FakeOperator, images: bool = True) -> Episode:
    return demonstrate(rig, operator, scene_seed=3, meta={"b": 2}, images=images)


def test_a_demonstration_records_what_was_commanded_and_what_was_applied() -> None:
    rig = FakeRig(succeeds_at=6)
    episode = show(rig, FakeOperator((-0.5, 0.05, 1.0)))
    assert np.array_equal(episode.action, np.stack(rig.applied))
    assert (episode.human[:, 0] == np.float32(-0.5)).all()
    assert np.array_equal(episode.human, episode.proposed)
    assert (episode.controller == Controller.DEMO).all()
    assert (episode.success, episode.terminated[-1], episode.truncated[-1]) == (True, True, False)
    assert episode.meta["scene_seed"] == 3
    assert episode.decisions == []
    assert episode.images["scene"].shape == (6, 2, 2, 3)


def test_an_operator_who_gives_up_has_failed() -> None:
    episode = show(FakeRig(), FakeOperator(gives_up_at=9))
    assert len(episode) == 10
    assert (episode.success, episode.terminated[-1], episode.truncated[-1]) == (False, True, False)
    assert not episode.terminated[:-1].any()


@pytest.mark.parametrize(("ends", "ending"), [("success", (True, False)), ("time", (False, True))])
def test_giving_up_at_the_last_tick_changes_nothing(ends: str, ending: tuple[bool, bool]) -> None:
    rig = FakeRig(max_ticks=10, succeeds_at=10 if ends == "success" else None)
    episode = show(rig, FakeOperator(gives_up_at=9))
    assert (bool(episode.terminated[-1]), bool(episode.truncated[-1])) == ending
    assert episode.success == (ends == "success")


def test_a_demonstration_without_pictures_renders_none() -> None:
    rig = FakeRig(max_ticks=5)
    assert show(rig, FakeOperator(), images=False).images == {}
    assert rig.rendered == []
