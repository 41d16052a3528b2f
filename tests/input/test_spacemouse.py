"""Real HID report bytes through pyspacemouse's own parser, with every fault that was seen or can be thought of."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from hid import (
    FULL,
    MODELS,
    ONE_REPORT,
    RING,
    TWO_REPORTS,
    FakeHid,
    both,
    buttons,
    push,
    rotation,
    translation,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.errors import DeviceError
from bora_cli.input.device import FINGERS, GRIP
from bora_cli.input.mapping import Shaping
from bora_cli.input.spacemouse import BACKLOG, PERIOD_S, SILENT_S, STALE_S, SpaceMouse

PLAIN = Shaping(enter=0.08, leave=0.05, curve=0.0)
TICK = 0.1


class Rig:
    """A cap, its handle, and a clock that a test turns."""

    def __init__(self, model: str = TWO_REPORTS, stale_s: float = STALE_S, **options: Any) -> None:
        self.now = 10.0
        self.hid = FakeHid(**options)
        self.mouse = SpaceMouse(
            MODELS[model], self.hid, clock=lambda: self.now, shaping=PLAIN, stale_s=stale_s
        )

    def hear(self, *reports: bytes) -> np.ndarray | None:
        """Let the thread's work be done once after some reports."""
        self.hid.send(*reports)
        self.mouse.drain()
        sample = self.mouse.read(self.now)
        return None if sample is None else sample.twist

    def wait(self, seconds: float, *reports: bytes, every: float = 0.008) -> None:
        """Let time pass in which the device sends reports 125 times a second, and the thread looks 500 times."""
        end, due = self.now + seconds, self.now
        while self.now < end - 1e-9:
            if reports and self.now >= due - 1e-9:
                self.hid.send(*reports)
                due += every
            self.mouse.drain()
            self.now += PERIOD_S


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize(
    ("hid_axis", "value", "ros_axis", "sign"),
    [
        (1, -FULL, 0, 1),
        (0, -FULL, 1, 1),
        (2, -FULL, 2, 1),
        (1, FULL, 0, -1),
        (5, -FULL, 5, 1),
        (0, FULL, 1, -1),
    ],
    ids=["away", "left", "up", "towards", "counterclockwise", "right"],
)
def test_axes_are_those_of_ros_on_every_model(
    model: str, hid_axis: int, value: int, ros_axis: int, sign: int
) -> None:
    twist = Rig(model).hear(*push(model, hid_axis, value))
    expected = np.zeros(6)
    expected[ros_axis] = sign
    np.testing.assert_allclose(twist, expected, atol=1e-9)


@pytest.mark.parametrize("model", [TWO_REPORTS, ONE_REPORT])
def test_tilting_away_pitches_and_tilting_right_rolls(model: str) -> None:
    """Right-handed about x forward and y left: the top moving away is +pitch, the top moving right is +roll."""
    away, right = Rig(model).hear(*push(model, 3, -FULL)), Rig(model).hear(*push(model, 4, -FULL))
    assert away is not None
    assert right is not None
    assert np.argmax(np.abs(away)) == 4
    assert np.argmax(np.abs(right)) == 3
    np.testing.assert_allclose((away[4], right[3]), (1.0, 1.0))


def test_too_much_is_full_deflection() -> None:
    twist = Rig().hear(translation(y=-500))
    assert twist is not None
    assert twist[0] == 1.0


def test_a_cap_at_rest_says_nothing() -> None:
    rig = Rig()
    assert rig.hear() is None
    assert rig.hear(translation(), rotation()) is None
    assert rig.mouse.trouble == ""


def test_translation_and_rotation_come_in_two_reports_and_are_one_sample() -> None:
    twist = Rig().hear(translation(y=-FULL), rotation(rz=-FULL))
    np.testing.assert_allclose(twist, [1, 0, 0, 0, 0, 1], atol=1e-9)


def test_release_is_seen_within_a_tick() -> None:
    rig = Rig()
    rig.wait(1.0, translation(y=-FULL), rotation())
    assert rig.mouse.read(rig.now) is not None
    rig.hid.send(translation(), rotation())
    rig.wait(TICK)
    assert rig.mouse.read(rig.now) is None
    assert rig.mouse.trouble == ""


def test_the_ring_that_lost_the_release() -> None:
    """The reader stands still for two seconds; the ring fills, and the report of the release is dropped."""
    rig = Rig()
    rig.wait(0.2, translation(y=-FULL), rotation())
    for _ in range(250):
        rig.hid.send(translation(y=-FULL), rotation())
    rig.hid.send(translation(), rotation())
    assert rig.hid.dropped > 400
    assert len(rig.hid.ring) == RING
    rig.now += 2.0
    assert rig.mouse.drain() == RING
    assert rig.mouse.backlogs == 1
    assert rig.mouse.read(rig.now) is None  # not for a single tick
    rig.wait(12.0)
    assert rig.mouse.read(rig.now) is None
    assert rig.hear(translation(y=-FULL)) is not None  # a new touch is obeyed


def test_the_parser_alone_would_go_on_for_ever() -> None:
    """What `SpaceMouse` is for: the state of pyspacemouse after a lost release is full deflection."""
    rig = Rig()
    for _ in range(250):
        rig.hid.send(translation(y=-FULL), rotation())
    rig.hid.send(translation(), rotation())
    for _ in range(1000):
        state = rig.mouse._mouse.read()
    assert state.x == 1.0


def test_a_few_reports_at_once_are_no_backlog() -> None:
    rig = Rig()
    for _ in range(BACKLOG // 2 - 1):
        rig.hid.send(translation(y=-FULL), rotation())
    rig.mouse.drain()
    assert rig.mouse.backlogs == 0
    assert rig.mouse.read(rig.now) is not None


@settings(max_examples=25)
@given(st.floats(0.0, 2.0))
def test_silence_while_deflected_expires(silence: float) -> None:
    rig = Rig()
    rig.wait(0.1, translation(y=-FULL), rotation())
    heard = rig.mouse._heard
    rig.now = heard + silence
    rig.mouse.drain()
    assert (rig.mouse.read(rig.now) is not None) == (rig.now - heard <= STALE_S)
    assert bool(rig.mouse.trouble) == (rig.now - heard > SILENT_S)


def test_silence_is_said_so_until_the_cap_is_touched_again() -> None:
    rig = Rig()
    rig.hear(translation(y=-FULL))
    rig.now += 1.0
    assert rig.mouse.trouble == "deflected, but silent: let go of the cap and touch it again"
    rig.hear(translation())
    assert rig.mouse.trouble == ""


def test_each_axis_expires_by_its_own_reports() -> None:
    """Rotation goes on, buttons and the battery report too; translation, deflected, is not heard of any more."""
    rig = Rig()
    rig.hear(translation(y=-FULL), rotation(rz=-FULL))
    rig.wait(0.3, rotation(rz=-FULL), buttons(), bytes([0x17, 90]))
    sample = rig.mouse.read(rig.now)
    assert sample is not None
    np.testing.assert_allclose(sample.twist, [0, 0, 0, 0, 0, 1], atol=1e-9)


@pytest.mark.parametrize(("asked", "kept"), [(0.06, 0.06), (0.25, STALE_S)])
def test_a_profile_only_shortens_how_long_an_axis_is_believed(asked: float, kept: float) -> None:
    rig = Rig(stale_s=asked)
    rig.hear(translation(y=-FULL))
    heard = rig.now
    rig.wait(0.3, buttons())  # something is heard, but not of this axis
    assert rig.mouse.read(heard + kept - 1e-6) is not None
    assert rig.mouse.read(heard + kept + 1e-6) is None


def test_unplugged_is_lost_for_good_and_never_raises() -> None:
    rig = Rig()
    rig.hear(translation(y=-FULL), buttons(1))
    rig.hid.fault = True
    rig.mouse.drain()
    assert rig.mouse.read(rig.now) is None
    assert rig.mouse.trouble == "unplugged or asleep (Failed to read from HID device: -1)"
    rig.hid.fault = False
    assert rig.hear(translation(y=-FULL)) is None


def test_a_short_report_releases_what_it_does_not_carry() -> None:
    """A model of 13 bytes that sends 7: easyhid fills up with zeros, so the rotation is let go."""
    rig = Rig(ONE_REPORT)
    rig.hear(both(0, -FULL, 0, 0, 0, -FULL))
    twist = rig.hear(translation(y=-FULL))
    np.testing.assert_allclose(twist, [1, 0, 0, 0, 0, 0], atol=1e-9)


@settings(max_examples=100)
@given(
    st.lists(st.binary(min_size=1, max_size=16), max_size=20), st.booleans(), st.sampled_from(sorted(MODELS))
)
def test_no_bytes_break_it(reports: list[bytes], pads: bool, model: str) -> None:
    rig = Rig(model, pads=pads)
    twist = rig.hear(*reports)
    if twist is not None:
        assert np.isfinite(twist).all()
        assert (np.abs(twist) <= 1.0).all()


def test_a_report_without_its_buttons_is_counted_and_dropped() -> None:
    rig = Rig(pads=False)
    assert rig.hear(bytes([3])) is None
    assert rig.mouse.malformed == 1
    assert rig.hear(translation(y=-FULL)) is not None


def settled(rig: Rig, *reports: bytes) -> None:
    def sleep(seconds: float) -> None:
        rig.now += seconds
        rig.hid.send(*reports)

    rig.mouse.settle(sleep)


@pytest.mark.parametrize("counts", [3, 20])
def test_drift_is_learned_at_rest(counts: int) -> None:
    rig = Rig()
    settled(rig, translation(y=-counts), rotation())
    rig.wait(1.0, translation(y=-counts), rotation(rz=1))
    assert rig.mouse.read(rig.now) is None
    rig.wait(1.0, translation(y=-counts - FULL // 2), rotation())
    sample = rig.mouse.read(rig.now)
    assert sample is not None
    assert sample.twist[0] == pytest.approx((0.5 - PLAIN.leave) / (1 - PLAIN.leave))
    rig.wait(1.0)  # silent: an axis that rests at its offset is not deflected
    assert rig.mouse.read(rig.now) is None


def test_a_silent_device_needs_no_offset() -> None:
    rig = Rig()
    settled(rig)
    assert rig.hear(translation(y=-FULL)) is not None


def test_a_hand_on_the_cap_at_the_start_is_refused() -> None:
    rig = Rig()
    with pytest.raises(
        DeviceError, match=r"At rest the device reports 0\.57 on its x axis.*Take the hand off"
    ):
        settled(rig, translation(y=-200), rotation())


def test_buttons_ask_once_per_press() -> None:
    rig = Rig()
    asked = []
    for mask in (1, 1, 0, 2, 3, 0):
        rig.hid.send(buttons(mask))
        rig.mouse.drain()
        sample = rig.mouse.read(rig.now)
        asked.append(() if sample is None else sample.pressed)
    assert asked == [(GRIP,), (), (), (FINGERS,), (GRIP,), ()]


def test_a_press_that_nobody_reads_is_forgotten() -> None:
    rig = Rig()
    rig.hid.send(buttons(1))
    rig.mouse.drain()
    rig.now += 0.5
    assert rig.mouse.read(rig.now) is None
    rig.hid.send(buttons(0), buttons(1))
    rig.mouse.drain()
    rig.mouse.begin()
    assert rig.mouse.read(rig.now) is None


def test_the_thread_reads_and_ends() -> None:
    hid = FakeHid()
    mouse = SpaceMouse(MODELS[TWO_REPORTS], hid, clock=time.monotonic, shaping=PLAIN)
    mouse.start()
    assert "spacemouse" in {thread.name for thread in threading.enumerate()}
    end, seen = time.monotonic() + 120.0, False
    while not seen and time.monotonic() < end:
        if not hid.ring:  # never a backlog, however seldom the thread gets its turn
            hid.send(translation(y=-FULL))
        time.sleep(PERIOD_S)
        seen = mouse.read(time.monotonic()) is not None
    assert seen
    mouse.close()
    mouse.close()
    assert hid.opened == 0
    assert "spacemouse" not in {thread.name for thread in threading.enumerate()}
