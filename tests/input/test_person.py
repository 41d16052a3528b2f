"""A person with devices drives an episode, takes over, hands back, and loses a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hand_rig import HAND, OPEN, SPEC, FakeDevice, HandRig, WavingPolicy
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.control.arbiter import Phase
from bora_cli.control.loop import demonstrate, roll_out
from bora_cli.errors import ConfigError
from bora_cli.input.device import FINGERS, GRIP, RELEASE, TAKE_OVER
from bora_cli.input.keyboard import Keyboard
from bora_cli.input.person import Person
from bora_cli.types import Controller, Episode

FULL = [1.0, 0, 0, 0, 0, 0]
REACH = HAND.rate * 0.1


def person_with(
    rig: HandRig, *says: dict[int, dict[str, Any]], frame: Any = "base", **options: Any
) -> Person:
    devices = [FakeDevice(rig, s, frame) for s in says]
    return Person(SPEC, rig.dt, HAND, devices, clock=lambda: rig.now, **options)


def demonstrated(says: dict[int, dict[str, Any]], ticks: int = 20, **options: Any) -> Episode:
    rig = HandRig(ticks)
    return demonstrate(rig, person_with(rig, says, **options), scene_seed=1, meta={}, images=False)


def taken_over(says: dict[int, dict[str, Any]], ticks: int = 20, **options: Any) -> Episode:
    rig = HandRig(ticks)
    person = person_with(rig, says, **options)
    rng = np.random.default_rng(0)
    return roll_out(
        rig,
        WavingPolicy(),
        scene_seed=1,
        rng=rng,
        meta={},
        watcher=person.watch(),
        operator=person,
        images=False,
    )


def test_silence_holds() -> None:
    episode = demonstrated({})
    assert not episode.action[:, :6].any()
    np.testing.assert_array_equal(episode.action[:, 6:], np.tile(OPEN, (20, 1)))


def test_what_is_older_than_the_profile_believes_is_rest() -> None:
    """Whatever the device itself believes: the arm rests, no button counts, and being driven is handed to nobody."""
    says = {
        t: {"twist": FULL, "pressed": (GRIP,), "age": age} for t, age in ((2, 0.12), (3, 0.08), (4, 0.12))
    }
    episode = demonstrated(says, watchdog=0.1)
    assert np.flatnonzero(episode.action[:, 0]).tolist() == [3]
    np.testing.assert_array_equal(episode.action[:3, 6:], np.tile(OPEN, (3, 1)))
    assert episode.action[-1, 6:].tolist() == demonstrated({3: says[3]}).action[-1, 6:].tolist()
    assert np.flatnonzero(demonstrated(says).action[:, 0]).tolist() == [2, 3, 4]


def test_full_deflection_is_the_largest_step_of_the_robot() -> None:
    episode = demonstrated({3: {"twist": [1, -0.5, 0, 0, 0, -1]}})
    np.testing.assert_allclose(episode.action[3, :6], SPEC.high[:6] * [1, -0.5, 0, 0, 0, -1])
    assert not np.delete(episode.action[:, :6], 3, axis=0).any()
    np.testing.assert_array_equal(episode.human, episode.action)
    assert set(episode.controller) == {Controller.DEMO}


def test_the_view_is_turned_into_the_base_of_the_robot() -> None:
    episode = demonstrated({0: {"twist": FULL}}, frame="view", yaw=lambda: np.pi / 2)
    np.testing.assert_allclose(episode.action[0, :6], [0, SPEC.high[0], 0, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(demonstrated({0: {"twist": FULL}}, yaw=lambda: 1.0).action[0, 0], SPEC.high[0])


def test_a_person_who_stands_elsewhere_has_other_signs() -> None:
    """The signs are of the person's axes, so before the view; a recording and the fingers do not know them."""
    signs = (-1, -1, 1, -1, -1, 1)
    twist = np.array([1.0, 0.5, -0.5, 0.2, -1.0, 1.0])
    says = {0: {"twist": twist}}
    episode = demonstrated(says, frame="view", signs=signs)
    np.testing.assert_allclose(episode.action[0, :6], SPEC.high[:6] * twist * signs, rtol=1e-6)
    side = demonstrated(
        {0: {"twist": FULL}}, frame="view", signs=(1, -1, -1, 1, -1, -1), yaw=lambda: np.pi / 2
    )
    np.testing.assert_allclose(side.action[0, :6], [0, SPEC.high[0], 0, 0, 0, 0], atol=1e-9)
    np.testing.assert_array_equal(demonstrated(says, signs=signs).action, demonstrated(says).action)
    fingers = {0: {"pressed": [FINGERS]}, 1: {"twist": FULL}}
    np.testing.assert_array_equal(
        demonstrated(fingers, frame="view", signs=signs).action, demonstrated(fingers, frame="view").action
    )


def test_a_button_closes_the_hand_within_its_rate() -> None:
    episode = demonstrated({2: {"pressed": [GRIP]}})
    hand = episode.action[:, 6:]
    assert np.abs(np.diff(hand, axis=0)).max() <= REACH + 1e-6
    np.testing.assert_allclose(hand[-1], HAND.postures["close"], atol=1e-6)
    np.testing.assert_array_equal(hand[1], OPEN)


def test_axes_move_the_fingers_in_the_other_mode_and_the_arm_stays() -> None:
    episode = demonstrated(
        {1: {"pressed": [FINGERS]}, 2: {"twist": FULL}, 3: {"pressed": [FINGERS]}, 4: {"twist": FULL}}
    )
    assert not episode.action[:4, :6].any()
    assert episode.action[4, 0] == SPEC.high[0]
    moved = episode.action[2, 6:] - OPEN
    along = HAND.synergies.directions[0]
    np.testing.assert_allclose(moved, (moved @ along) * along, atol=1e-6)
    assert moved.any()


def test_of_two_devices_one_can_have_the_fingers() -> None:
    rig = HandRig(2)
    person = person_with(rig, {0: {"twist": FULL}}, {0: {"twist": FULL}}, fingers_by=1)
    episode = demonstrate(rig, person, scene_seed=1, meta={}, images=False)
    assert episode.action[0, 0] == SPEC.high[0]
    assert (episode.action[0, 6:] != OPEN).any()
    person.close()
    assert [device.closed for device in person._devices] == [1, 1]  # type: ignore[attr-defined]


def test_a_posture_by_name() -> None:
    hand = demonstrated({0: {"pressed": ["posture point"]}}).action[:, 6:]
    np.testing.assert_allclose(hand[-1], HAND.postures["point"], atol=1e-6)


def test_what_was_pressed_before_an_episode_is_not_obeyed() -> None:
    rig, keyboard = HandRig(5), Keyboard()
    person = Person(SPEC, rig.dt, HAND, [keyboard], clock=lambda: rig.now)
    keyboard.press("space", 0.0)
    keyboard.press("w", 0.0)
    person.begin(rig)
    np.testing.assert_array_equal(person.act(rig)[0], np.concatenate([np.zeros(6), OPEN]))
    assert person.going_to == ""


def test_the_person_ends_an_episode() -> None:
    rig = HandRig(20)
    person = person_with(rig, {})
    person.begin(rig)
    person.finish()
    assert person.act(rig)[1]
    person.begin(rig)
    assert not person.act(rig)[1]


def test_an_unmoving_hand_at_take_over_changes_nothing() -> None:
    """The command at take-over, arm apart, is the one commanded last; a glove of another posture included."""
    worn = np.linspace(0.0, 1.0, 12)
    says = {t: {"hand": worn, "pressed": [TAKE_OVER] if t == 6 else []} for t in range(6, 20)}
    for case in ({6: {"pressed": [TAKE_OVER]}}, says):
        episode = taken_over(case)
        hand = episode.action[:, 6:]
        assert episode.phase[6] == Phase.TAKING
        np.testing.assert_allclose(hand[6:], np.tile(hand[5], (14, 1)), atol=1e-6)
        assert episode.phase[10] == Phase.HUMAN
        assert not episode.action[10:, :6].any()


def test_taking_over_and_handing_back() -> None:
    episode = taken_over({4: {"pressed": [TAKE_OVER]}, 8: {"twist": FULL}, 12: {"pressed": [TAKE_OVER]}})
    changes = [(c["tick"], c["event"], c["reason"]) for c in episode.meta["control_changes"]]
    assert changes == [(4, "takeover", "asked"), (12, "release", "handed back")]
    assert episode.controller[8] == Controller.HUMAN
    assert episode.human[8, 0] == SPEC.high[0]


def test_release_without_driving_changes_nothing() -> None:
    assert not taken_over({4: {"pressed": [RELEASE]}}).meta["control_changes"]


def test_motion_takes_over_only_where_that_was_asked_for() -> None:
    says = {4: {"twist": FULL}}
    assert taken_over(says, on_motion=True).meta["control_changes"][0]["reason"] == "moved"
    assert not taken_over(says).meta["control_changes"]


def test_a_device_that_is_lost_while_driving_holds_until_the_person_asks_again() -> None:
    lost = {t: {"trouble": "unplugged"} for t in (8, 9, 10)}
    episode = taken_over({4: {"pressed": [TAKE_OVER]}, **lost, 16: {"pressed": [TAKE_OVER]}})
    assert [Phase(p).name for p in episode.phase[[7, 8, 12, 15, 16]]] == [
        "HUMAN",
        "HELD",
        "HELD",
        "HELD",
        "TAKING",
    ]
    assert not episode.action[8:16, :6].any()
    np.testing.assert_array_equal(episode.action[8:16, 6:], np.tile(episode.action[7, 6:], (8, 1)))


def test_a_device_that_says_nothing_while_driving_holds() -> None:
    """Expiry is the devices': a pause is rest, a longer silence is trouble and nobody drives."""
    silent = {t: {"trouble": "silent"} for t in range(12, 20)}
    episode = taken_over({4: {"pressed": [TAKE_OVER]}, 8: {"twist": FULL}, **silent})
    assert episode.action[8, 0] == SPEC.high[0]
    assert not episode.action[9:, :6].any()
    np.testing.assert_array_equal(episode.action[9:, 6:], np.tile(episode.action[8, 6:], (11, 1)))
    assert (episode.phase[9:12] == Phase.HUMAN).all()
    assert (episode.phase[12:] == Phase.HELD).all()


def test_a_device_that_is_lost_in_a_demonstration_holds() -> None:
    episode = demonstrated({t: {"trouble": "unplugged"} for t in range(3, 20)})
    assert np.isfinite(episode.proposed).all()
    assert not episode.action[3:, :6].any()


def test_one_device_in_trouble_leaves_the_other_in_charge() -> None:
    rig = HandRig(5)
    person = person_with(rig, {0: {"trouble": "silent"}}, {0: {"twist": FULL}})
    person.begin(rig)
    assert person.act(rig)[0][0] == SPEC.high[0]
    assert (person.trouble, person.troubles) == ("", ("fake: silent",))


deeds = st.fixed_dictionaries(
    {},
    optional={
        "twist": st.lists(st.floats(-1, 1), min_size=6, max_size=6),
        "pressed": st.lists(
            st.sampled_from([GRIP, FINGERS, TAKE_OVER, RELEASE, "posture point", "posture ?"]), max_size=2
        ),
        "hand": st.lists(st.floats(allow_nan=True), min_size=12, max_size=12).map(np.array),
    },
)


@settings(max_examples=40)
@given(st.dictionaries(st.integers(0, 19), deeds, max_size=12), st.booleans())
def test_whatever_a_person_does_the_hand_never_jumps(says: dict[int, dict[str, Any]], alone: bool) -> None:
    episode = demonstrated(says) if alone else taken_over(says, on_motion=True)
    driven = np.isin(episode.phase, (Phase.HUMAN,))[1:] & np.isin(episode.phase, (Phase.HUMAN,))[:-1]
    steps = np.abs(np.diff(episode.action[:, 6:], axis=0)).max(axis=1)
    assert (steps[driven] <= REACH + 1e-5).all()
    assert (np.abs(episode.action[:, :6]) <= SPEC.high[:6] + 1e-7).all()


def test_a_robot_that_does_not_fit_is_refused() -> None:
    rig = HandRig()
    with pytest.raises(ConfigError, match="cannot move the fingers"):
        person_with(rig, {}, fingers_by=1)
    with pytest.raises(ConfigError, match="Device None of 0"):
        person_with(rig)
