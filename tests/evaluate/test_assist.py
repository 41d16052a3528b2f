"""A person beside a policy, in real time: takes over and hands back, judges, discards, stops."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desk_fakes import FakeDesk, FakeTime, driver

from bora_cli.cli.desk import EmptyDesk, SharedDesk
from bora_cli.control.arbiter import Phase
from bora_cli.evaluate.assist import Assistance, ticks_of
from bora_cli.input.device import RELEASE, TAKE_OVER, Device
from bora_cli.input.key_file import KeyFile, press
from bora_cli.input.replay import Replay
from bora_cli.input.udp import UdpReceiver, UdpSender
from bora_cli.profiles import load_profile
from bora_cli.sim.limits import action_spec
from bora_cli.types import Controller, Decision, Episode
from toy_world import MAX_TICKS, ToyRig

SPEC = action_spec()
HUMAN = (Controller.HUMAN, Controller.BLENDED)


class Still:
    """A policy that stays where it is, and so never reaches the origin."""

    execute = 4

    def decide(self, obs: Any, rng: np.random.Generator) -> Decision:
        chunk = np.tile(SPEC.center, (8, 1)).astype(np.float32)
        seed, tokens = int(rng.integers(99)), np.zeros((1, 2), np.float16)
        return Decision(0, seed, "toy", 0.0, 4, chunk, np.zeros_like(chunk), chunk, tokens)


def beside(
    script: list[tuple[float, str]], *devices: Device, desk: Any = None, rig: Any = None, time: Any = None
) -> tuple[Assistance, Any]:
    time = time or FakeTime()
    where = FakeDesk(time, script) if desk is None else desk
    fake = FakeDesk(time, script)
    people = replace(driver(fake, *devices), desk=where, frame="base")
    return Assistance(rig or ToyRig(), load_profile("sim"), people), where


def run(session: Assistance, scene: int = 3) -> Episode | None:
    return session.episode(
        Still(), scene_seed=scene, rng=lambda: np.random.default_rng(0), meta={"task": "toy"}
    )


def test_the_person_takes_over_and_hands_back() -> None:
    session, _ = beside([(0.0, "enter"), (0.45, "t"), (0.65, "w"), (1.25, "t")])
    episode = run(session)
    assert episode is not None
    assert len(episode) == MAX_TICKS
    events = [(change["event"], change["reason"]) for change in episode.meta["control_changes"]]
    assert events == [("takeover", "asked"), ("release", "handed back")]
    taken, given = (change["tick"] for change in episode.meta["control_changes"])
    assert 3 <= taken <= 6 < given <= 14
    assert set(episode.controller[taken : taken + 2]) == {Controller.BLENDED}
    assert Controller.HUMAN in episode.controller[taken:given]
    assert set(episode.controller[given + 4 :]) == {Controller.POLICY}
    assert set(episode.phase[:taken]) == {Phase.AUTONOMOUS}
    assert np.isfinite(episode.human[taken:given]).all()
    assert np.isnan(episode.human[:taken]).all()
    assert episode.human[taken:given, 0].max() > 0.02  # the one key that was pressed
    assert episode.meta["devices"] == ["keyboard"]
    assert (episode.meta["judged_by"], episode.meta["simulator_success"]) == ("simulator", False)


def test_taking_over_without_moving_changes_nothing() -> None:
    session, _ = beside([(0.0, "enter"), (0.45, "t")])
    episode = run(session)
    assert episode is not None
    assert Controller.HUMAN in episode.controller
    np.testing.assert_array_equal(episode.action, np.tile(SPEC.center, (MAX_TICKS, 1)))


@pytest.mark.parametrize(("key", "success"), [("y", True), ("n", False)])
def test_the_person_has_the_last_word(key: str, success: bool) -> None:
    session, _ = beside([(0.0, "enter"), (0.95, key)])
    episode = run(session)
    assert episode is not None
    assert (episode.success, bool(episode.terminated[-1])) == (success, True)
    assert 8 <= len(episode) <= 11
    assert episode.reward.sum() == pytest.approx(float(success) - 0.5 * len(episode) / MAX_TICKS)
    assert (episode.meta["judged_by"], episode.meta["simulator_success"]) == ("person", False)


def test_a_discarded_episode_repeats_its_scene_and_its_noise() -> None:
    script = [(0.0, "enter"), (0.55, "z"), (1.0, "enter"), (1.5, "n")]
    session, desk = beside(script)
    episode = run(session)
    assert episode is not None
    assert (session.tally.discarded, session.tally.recorded) == (1, 1)
    assert any("discarded; the same scene again" in scene.lines for scene in desk.scenes)
    again = run(beside([(0.0, "enter"), (0.5, "n")])[0])
    assert again is not None
    assert episode.decisions[0].noise_seed == again.decisions[0].noise_seed
    np.testing.assert_array_equal(episode.state[0], again.state[0])


@pytest.mark.parametrize("script", [[(0.0, "q")], [(0.0, "enter"), (0.5, "q")]])
def test_stopping_keeps_no_half_episode(script: list[tuple[float, str]]) -> None:
    session, _ = beside(script)
    assert run(session) is None
    assert session.stopped


def test_keys_of_before_do_not_take_over() -> None:
    session, _ = beside([(0.0, "t"), (0.0, "enter")])
    episode = run(session)
    assert episode is not None
    assert set(episode.controller) == {Controller.POLICY}


def test_the_person_sees_who_drives() -> None:
    session, desk = beside([(0.0, "enter"), (0.45, "t"), (1.05, "n")])
    run(session)
    texts = ["  ".join(scene.lines) for scene in desk.scenes]
    assert any("the policy drives" in text for text in texts)
    assert any("YOU drive the arm" in text for text in texts)
    assert "episode 1/1" in texts[0]


def test_ticks_take_as_long_as_they_should() -> None:
    session, desk = beside([(0.0, "enter")])
    run(session)
    assert session.tally.late == 0
    assert desk.elapsed >= MAX_TICKS * 0.1 - 0.01


def recorded_takeover() -> np.ndarray:
    human = np.full((16, SPEC.dim), np.nan, np.float32)
    human[4:9] = SPEC.center
    human[4:9, 0] = SPEC.high[0]
    return human


def test_a_recording_takes_over_where_it_did_without_anybody_at_a_desk() -> None:
    replay = Replay(recorded_takeover(), SPEC, takes_over=True)
    session, _ = beside([], replay, desk=EmptyDesk())
    for _ in range(2):  # and again in the next episode
        episode = run(session)
        assert episode is not None
        events = [(c["tick"], c["event"]) for c in episode.meta["control_changes"]]
        assert events == [(4, "takeover"), (9, "release")]
        assert set(episode.controller[4:9]) <= set(HUMAN)
        assert episode.action[6, 0] == pytest.approx(SPEC.high[0])


def test_a_recording_that_ends_driving_hands_back() -> None:
    replay = Replay(recorded_takeover()[:8], SPEC, takes_over=True)
    asks = [(s.pressed if s is not None else None) for s in (replay.read(0.0) for _ in range(10))]
    assert asks == [None] * 4 + [(TAKE_OVER,), (), (), ()] + [(RELEASE,), None]
    plain = Replay(recorded_takeover(), SPEC)
    assert all(s is None or s.pressed == () for s in (plain.read(0.0) for _ in range(16)))


def test_a_sender_takes_over_through_udp() -> None:
    """The bits of its packets ask for the controls; when it falls silent the robot rests."""
    time = FakeTime()
    receiver = UdpReceiver("127.0.0.1", 0, clock=time.clock)
    sender = UdpSender("127.0.0.1", receiver.address[1], clock=time.clock)
    bits = {4: 4, 12: 8}

    class Sending(ToyRig):
        def observe(self, images: bool = True) -> Any:
            for _ in range(200):  # until the receiver has answered
                if sender.send([1.0, 0, 0, 0, 0, 0], buttons=bits.get(self.tick, 0)) or self.tick:
                    break
                receiver.read(time.now)
            return super().observe(images)

    session, _ = beside([], receiver, desk=EmptyDesk(), rig=Sending(), time=time)
    episode = run(session)
    session.close()
    sender.close()
    assert episode is not None
    events = [c["event"] for c in episode.meta["control_changes"]]
    assert events == ["takeover", "release"]
    assert Controller.HUMAN in episode.controller
    assert receiver._socket.fileno() == -1  # the devices were let go


def test_keys_of_the_console_are_keys_of_the_session(tmp_path: Path) -> None:
    """Where nobody sits, somebody at another terminal takes over and says how it went."""
    time = FakeTime()
    keys = KeyFile(tmp_path / "keys.txt", time.clock)
    keys.close()  # looked at by hand

    class Typed(ToyRig):
        def step(self, action: Any) -> Any:
            key = {3: "t", 9: "w", 14: "y"}.get(self.tick)
            if key is not None:
                press(tmp_path / "keys.txt", key)
            keys.look()
            return super().step(action)

    session, _ = beside([], desk=SharedDesk(EmptyDesk(), keys), rig=Typed(), time=time)
    episode = run(session)
    assert episode is not None
    assert (episode.success, episode.meta["judged_by"], len(episode)) == (True, "person", 15)
    assert [c["event"] for c in episode.meta["control_changes"]] == ["takeover"]
    assert not np.nan_to_num(episode.human[:, :6]).any()  # no key that moves the robot comes this way


def test_a_limit_is_counted_in_ticks() -> None:
    assert [ticks_of(s, 0.1) for s in (0.0, 0.25, 30.0)] == [0, 3, 300]
