"""The robot protocol under everything a wire, a stranger or a dead machine can do to it; no sockets, no waiting."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_lab import TOKEN, Lab

from bora_cli.errors import DeviceError, LimitViolation, RobotFault, SchemaMismatch
from bora_cli.robot.protocol import Reading, Target
from bora_cli.robot.wire import (
    HEAD,
    Kind,
    Stream,
    WireError,
    pack,
    pack_reading,
    sealed,
    unpack,
    unpack_reading,
)
from robot_fakes import DOWN, MIDDLE, OPEN, SPEC

NEAR = Target(MIDDLE + 0.01, DOWN, OPEN)


def far(x: float) -> Target:
    return Target(MIDDLE + np.array([x, 0.0, 0.0]), DOWN, OPEN)


# ------------------------------------------------------------------------------------------------- a good wire


def test_a_remote_robot_is_the_robot() -> None:
    lab = Lab()
    remote = lab.client()
    assert remote.spec == SPEC
    reading = remote.reset()
    np.testing.assert_array_equal(reading.position, MIDDLE)
    accepted = remote.command(NEAR, deadline=lab.clock.t + 0.1)
    np.testing.assert_array_equal(accepted.position, NEAR.position)
    seen = remote.observe()
    np.testing.assert_array_equal(seen.position, NEAR.position)
    np.testing.assert_array_equal(seen.target.hand, OPEN)
    assert seen.images["scene"].shape == (4, 6, 3)
    assert remote.observe(images=False).images == {}
    remote.close()
    assert lab.host.driver is None


def test_stamps_are_on_the_clients_clock() -> None:
    lab = Lab()
    lab.robot.age, lab.robot.image_age = 0.03, 0.05
    seen = lab.client().observe()
    assert seen.t == pytest.approx(lab.clock.t - 0.03)
    assert seen.stamps["scene"] == pytest.approx(lab.clock.t - 0.05)


def test_a_reading_never_looks_younger_than_it_is_and_a_command_never_lives_longer() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)

    def slow(data: bytes) -> list[bytes]:
        lab.clock.t += 0.04
        return [data]

    wire.up = wire.down = slow
    measured_at = lab.clock.t + 0.04
    assert remote.observe().t <= measured_at
    deadline = lab.clock.t + 0.03  # takes longer than that to get there
    remote.command(NEAR, deadline=deadline)
    assert lab.robot.targets == []
    assert lab.host.counts["late"] == 1


@settings(max_examples=60, deadline=None)
@given(st.floats(-1e6, 1e6), st.integers(1, 4), st.integers(0, 300))
def test_bodies_come_back_as_they_were(stamp: float, joints: int, cut: int) -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    at = Target(np.array([1.0, np.nan, np.inf]), np.eye(3), np.full(joints, 0.25))
    arm = np.arange(joints) / 7.0 if joints > 2 else None
    reading = Reading(stamp, at.position, at.rotation, at.hand, at, {"a b": image}, {"a b": stamp}, arm)
    body = pack_reading(reading, 7.0)
    again = unpack_reading(body, 0.0)
    np.testing.assert_array_equal(again.position, at.position)
    np.testing.assert_array_equal(again.images["a b"], image)
    assert (again.arm is None) == (arm is None)
    if arm is not None:
        np.testing.assert_array_equal(again.arm, arm)
    assert (again.t, again.stamps) == (stamp, {"a b": stamp})
    with pytest.raises(WireError, match=r"cannot be read|without"):
        unpack_reading(body[:cut] if cut < len(body) else b"", 0.0)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    lab = Lab()
    wire = lab.wire()
    wire.session.receive(data)
    for body in (data, pack({"a": 1}) + data):
        with suppress(WireError):
            unpack(body)
    assert lab.robot.targets == []


@given(st.lists(st.integers(1, 40), max_size=20))
def test_frames_may_come_in_any_pieces(cuts: list[int]) -> None:
    frames = b"".join(sealed(b"k", b"c", Kind.OBSERVE, pack({"n": n}), n) for n in range(3))
    stream, found = Stream(), []
    for cut in cuts:
        found += list(stream.feed(frames[:cut]))
        frames = frames[cut:]
    found += list(stream.feed(frames))
    assert [frame.sequence for frame in found] == [0, 1, 2]


# ------------------------------------------------------------------------------------------------- a bad wire


def test_lost_requests_and_lost_answers_are_asked_again() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    losses = iter([True, False, True, False] * 8)
    wire.up = lambda data: [] if next(losses) else [data]
    np.testing.assert_array_equal(remote.observe().position, MIDDLE)
    wire.up = lambda data: [data]
    wire.down = lambda data: [] if next(losses) else [data]
    np.testing.assert_array_equal(remote.observe().position, MIDDLE)


def test_a_wire_that_loses_everything_is_a_fault_and_the_robot_holds() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    remote.command(NEAR, deadline=lab.clock.t + 0.2)
    wire.up = lambda data: []
    with pytest.raises(RobotFault, match=r"did not answer 3 times within 0.3 s.*It holds by itself"):
        remote.observe()
    assert len(lab.robot.holds) == 1


def test_silence_holds_once_and_the_next_command_moves_again() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    remote.reset()
    wire.pass_time(5.0)
    assert lab.robot.holds == []  # nothing moves, so nothing has to be held
    began = lab.server_clock()
    remote.command(NEAR, deadline=lab.clock.t + 0.2)
    wire.pass_time(3.0)
    assert lab.robot.holds == [pytest.approx(began + 0.2, abs=0.011)]
    remote.command(far(0.02), deadline=lab.clock.t + 0.2)
    assert lab.robot.at.position[0] == pytest.approx(MIDDLE[0] + 0.02)
    assert lab.host.counts["holds"] == 1


def test_observing_is_no_sign_of_a_driver() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    remote.command(NEAR, deadline=lab.clock.t + 0.2)
    for _ in range(5):
        remote.observe()
        wire.pass_time(0.05)
    assert len(lab.robot.holds) == 1


def test_commands_that_were_held_up_do_not_move_it() -> None:
    """A stalled wire delivers a second's worth of commands at once."""
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire, attempts=1, timeout=0.1)
    stalled: list[bytes] = []
    wire.up = lambda data: stalled.append(data) or []
    for tick in range(10):
        with pytest.raises(RobotFault):
            remote.command(far(0.01 * tick), deadline=lab.clock.t + 0.1)
    lab.clock.t += 0.001
    for data in stalled:
        wire.session.receive(data)
    assert lab.robot.targets == []
    assert lab.host.counts["late"] == 10


def test_replayed_commands_do_nothing() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    wire.up = lambda data: [data, data, data]
    remote.command(far(0.01), deadline=lab.clock.t + 0.2)
    old = wire.sent[-1]
    remote.command(far(0.02), deadline=lab.clock.t + 0.2)
    wire.session.receive(old)
    assert [t.position[0] for t in lab.robot.targets] == pytest.approx([MIDDLE[0] + 0.01, MIDDLE[0] + 0.02])
    assert lab.host.counts["replayed"] == 5


def test_a_command_of_another_session_is_foreign() -> None:
    lab = Lab()
    first = lab.wire()
    remote = lab.client(first)
    remote.command(far(0.01), deadline=lab.clock.t + 1e6)
    recorded = first.sent[-1]
    remote.close()
    second = lab.wire()
    lab.client(second)
    second.session.receive(recorded)
    assert len(lab.robot.targets) == 1
    assert lab.host.counts["forged"] == 1


@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_a_forged_command_does_nothing(position: int, flip: int) -> None:
    """Any byte of a command changed: the robot does not move."""
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    remote.command(far(0.01), deadline=lab.clock.t + 0.2)
    genuine = bytearray(sealed(remote._key, b"c", Kind.COMMAND, wire.sent[-1][HEAD.size : -32], 9, 1e9))
    genuine[position % len(genuine)] ^= flip
    wire.session.receive(bytes(genuine))
    assert len(lab.robot.targets) == 1


def test_forged_and_reflected_answers_are_passed_over() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    lie = sealed(b"another key", b"s", Kind.READING, pack_reading(lab.robot.observe(), 0.0), 1)
    wire.down = lambda data: [lie, wire.sent[-1], data, data]
    np.testing.assert_array_equal(remote.observe().position, MIDDLE)
    lab.robot.at = far(0.05)
    np.testing.assert_array_equal(remote.observe().position, far(0.05).position)


def test_a_deadline_in_the_far_future_ends_with_the_silence() -> None:
    seen: list[float] = []
    lab = Lab()
    take = lab.robot.command
    lab.robot.command = lambda target, *, deadline: seen.append(deadline) or take(target, deadline=deadline)  # type: ignore[method-assign]
    lab.client().command(NEAR, deadline=lab.clock.t + 1e6)
    assert seen == [pytest.approx(lab.server_clock() + 0.2)]


# ------------------------------------------------------------------------------------------------- strangers


def test_another_token_is_refused() -> None:
    lab = Lab()
    with pytest.raises(DeviceError, match="The robot server refused: the token is another one"):
        lab.client(token="not the token at all")
    assert lab.host.counts["forged"] == 1
    assert TOKEN.encode() not in b"".join(lab.wire().sent)


def test_only_one_drives() -> None:
    lab = Lab()
    first = lab.client()
    with pytest.raises(DeviceError, match="refused: somebody else drives this robot"):
        lab.client()
    first.command(NEAR, deadline=lab.clock.t + 0.1)
    first.close()
    lab.client().reset()


def test_a_client_that_vanished_can_be_replaced() -> None:
    lab = Lab()
    wire = lab.wire()
    gone = lab.client(wire)
    gone.command(NEAR, deadline=lab.clock.t + 0.1)
    wire.pass_time(5.1)
    lab.client().reset()
    wire.session.receive(wire.sent[-1])
    assert len(lab.robot.targets) == 1


def test_a_client_that_goes_leaves_a_robot_that_holds() -> None:
    lab = Lab()
    wire = lab.wire()
    lab.client(wire).command(NEAR, deadline=lab.clock.t + 0.1)
    lab.host.leave(wire.session)
    assert len(lab.robot.holds) == 1


def test_a_server_that_goes_is_a_fault() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    wire.cut = True
    with pytest.raises(RobotFault, match=r"connection to the robot server is lost: cut\. It holds by itself"):
        remote.observe()
    with pytest.raises(RobotFault, match=r"is closed\. Connect again"):
        remote.command(NEAR, deadline=lab.clock.t)
    remote.hold()
    remote.close()


def test_another_robot_than_expected_is_refused() -> None:
    lab = Lab()
    with pytest.raises(SchemaMismatch, match=r"The robot server: robots differ \(dt: 0.05 against 0.1\)"):
        lab.client(expect=replace(SPEC, dt=0.05))


def test_another_version_says_so() -> None:
    lab = Lab()
    frame = bytearray(sealed(b"", b"c", Kind.AUTH, pack({})))
    frame[4] = 9
    wire = lab.wire()
    wire.session.receive(bytes(frame))
    *_, answer = Stream().feed(bytes(wire.session.outgoing))
    assert "speaks version 9 of the robot protocol; this is version 1" in unpack(answer.body)[0]["reason"]
    assert wire.session.over


def test_a_long_reset_is_no_silence() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    reset = lab.robot.reset

    def slow() -> Reading:
        lab.clock.t += 30
        return reset()

    lab.robot.reset = slow  # type: ignore[method-assign]
    remote.reset()
    with pytest.raises(DeviceError, match="somebody else drives"):
        lab.client()


def test_a_stranger_cannot_fill_the_memory() -> None:
    wire = Lab().wire()
    wire.session.receive(HEAD.pack(b"BORA", 1, Kind.AUTH, 0, 0, 0.0, 1 << 25))
    assert wire.session.over


# ------------------------------------------------------------------------------------------------- faults of the robot


@pytest.mark.parametrize("broken", ["observe", "command"])
def test_a_driver_that_fails_holds_and_tells(broken: str) -> None:
    lab = Lab()
    remote = lab.client()
    lab.robot.broken = broken
    with pytest.raises(RobotFault, match="The robot's driver failed: the cable is out"):
        remote.observe() if broken == "observe" else remote.command(NEAR, deadline=lab.clock.t + 0.1)
    assert lab.robot.holds
    lab.robot.broken = ""
    remote.observe()


def test_a_limit_stays_a_limit() -> None:
    lab = Lab()

    def outside() -> Reading:
        raise LimitViolation("It stands outside.", "Move it.")

    lab.robot.reset = outside  # type: ignore[method-assign]
    with pytest.raises(LimitViolation, match=re.escape("It stands outside. Move it.")):
        lab.client().reset()


def test_a_target_of_another_hand_is_a_fault_with_words() -> None:
    lab = Lab()
    remote = lab.client()
    with pytest.raises(RobotFault, match="fake expects"):
        remote.command(Target(MIDDLE, DOWN, OPEN[:3]), deadline=lab.clock.t + 0.1)


def test_nonsense_reaches_the_robot_as_nonsense_and_moves_nothing() -> None:
    lab = Lab()
    accepted = lab.client().command(Target(MIDDLE * np.nan, DOWN, OPEN), deadline=lab.clock.t + 0.1)
    np.testing.assert_array_equal(accepted.position, MIDDLE)
