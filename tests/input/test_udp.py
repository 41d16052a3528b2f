"""Packets over a real socket: only the newest, youngest and truest is obeyed."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bora_cli.errors import ConfigError, DeviceError
from bora_cli.input import packets
from bora_cli.input.device import FINGERS, GRIP
from bora_cli.input.udp import MAX_AGE_S, SILENT_S, UdpReceiver, UdpSender

TOKEN = b"0123456789abcdef"
FULL = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
STEP = 0.02


class Link:
    """A receiver and a sender whose clocks differ by an hour."""

    def __init__(self, token: bytes = TOKEN) -> None:
        self.now = 50.0
        self.receiver = UdpReceiver(port=0, token=token, joints=12, clock=lambda: self.now)
        self.sender = UdpSender(*self.receiver.address, token=token, clock=lambda: self.now + 3600.0)
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.nonce = self.receiver._nonce
        self.sequence = 1000

    def introduce(self) -> None:
        end = time.monotonic() + 120.0
        while not self.sender.welcome and time.monotonic() < end:
            self.sender.send(FULL)
            self.receiver.read(self.now)
            self.now += 1.0
        assert self.sender.welcome

    def motion(self, **changes: object) -> bytes:
        self.sequence += 1
        values: dict[str, object] = {
            "nonce": self.nonce,
            "sequence": self.sequence,
            "t": self.now,
            "twist": FULL,
        }
        return packets.motion(packets.Motion(**{**values, **changes}), TOKEN)  # type: ignore[arg-type]

    def put(self, *sent: bytes) -> None:
        for packet in sent:
            self.raw.sendto(packet, self.receiver.address)

    def twist(self) -> list[float] | None:
        sample = self.receiver.read(self.now)
        return None if sample is None else sample.twist.tolist()

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()
        self.raw.close()


@pytest.fixture
def link() -> Iterator[Link]:
    link = Link()
    yield link
    link.close()


def test_a_sender_is_welcomed_and_obeyed(link: Link) -> None:
    link.introduce()
    hand = np.linspace(0, 1, 12)
    assert link.sender.send((0.5, 0, 0, 0, 0, -1), hand=hand.tolist())
    sample = link.receiver.read(link.now)
    assert sample is not None
    np.testing.assert_allclose(sample.twist, [0.5, 0, 0, 0, 0, -1])
    np.testing.assert_allclose(sample.hand, hand, atol=1e-6)
    assert sample.t == link.now
    assert link.receiver.trouble == ""


def test_silence_is_no_motion_and_then_trouble(link: Link) -> None:
    assert link.receiver.trouble.startswith("nobody sends to udp 127.0.0.1:")
    link.put(link.motion())
    assert link.twist() == list(FULL)
    link.now += MAX_AGE_S + 0.01
    assert link.twist() is None
    link.now += SILENT_S
    assert link.receiver.trouble == "the sender has been silent for 0.7 s"
    link.put(link.motion())
    assert link.twist() == list(FULL)
    assert link.receiver.trouble == ""


def test_of_many_packets_the_newest_counts(link: Link) -> None:
    link.put(*(link.motion(twist=(k / 10, 0, 0, 0, 0, 0)) for k in range(10)))
    np.testing.assert_allclose(link.twist(), [0.9, 0, 0, 0, 0, 0], atol=1e-6)  # type: ignore[arg-type]


def test_packets_that_come_twice_or_in_the_wrong_order_are_refused(link: Link) -> None:
    first, second = link.motion(twist=(0.5, 0, 0, 0, 0, 0)), link.motion()
    link.put(second, first, second)
    assert link.twist() == list(FULL)
    assert link.receiver.refused.replayed == 2


def test_a_recording_of_another_run_is_refused(link: Link) -> None:
    link.put(*(link.motion(nonce=b"another!") for _ in range(3)))
    assert link.twist() is None
    assert link.receiver.refused.replayed == 3


def test_a_packet_of_another_token_is_refused(link: Link) -> None:
    content = packets.Motion(link.nonce, 5000, link.now, FULL)
    link.put(packets.motion(content, b"another token..."), packets.hello(b""))
    assert link.twist() is None
    assert link.receiver.refused.forged == 2


def test_a_packet_with_a_changed_bit_is_refused(link: Link) -> None:
    packet = bytearray(link.motion())
    for position in range(len(packet)):
        changed = packet.copy()
        changed[position] ^= 1
        link.put(bytes(changed))
        assert link.twist() is None
    assert link.receiver.refused.forged == len(packet)


def test_packets_that_lay_in_a_buffer_are_old(link: Link) -> None:
    link.put(link.motion())
    link.twist()
    late = [link.motion(t=link.now + k * STEP) for k in range(3)]
    link.now += 1.0
    link.put(*late)
    assert link.twist() is None
    assert link.receiver.refused.old == 3


def test_clocks_that_drift_apart_do_not_make_packets_old(link: Link) -> None:
    """One part in a thousand for ten minutes: six tenths of a second, three times the age that is refused."""
    start = link.now
    for _ in range(1200):
        link.now += 0.5
        link.put(link.motion(t=start + (link.now - start) * 0.999))
        assert link.twist() == list(FULL)


@pytest.mark.parametrize(
    "wrong",
    [
        {"twist": (float("nan"), 0, 0, 0, 0, 0)},
        {"twist": (float("inf"), 0, 0, 0, 0, 0)},
        {"t": float("nan")},
        {"hand": (0.1,) * 5},
        {"hand": (0.1,) * 200},
        {"hand": (float("nan"),) * 12},
    ],
    ids=["nan", "inf", "time", "joints", "too many joints", "nan joints"],
)
def test_well_signed_nonsense_is_refused(link: Link, wrong: dict[str, object]) -> None:
    link.put(link.motion(**wrong))
    assert link.twist() is None
    assert link.receiver.refused.malformed == 1


def signed(body: bytes) -> bytes:
    return packets._signed(body, TOKEN)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(st.binary(max_size=200), st.binary(max_size=120).map(signed)), max_size=4),
    st.integers(0, 255),
)
def test_no_bytes_raise_or_move_anything(link: Link, garbage: list[bytes], kind: int) -> None:
    """Unsigned, and signed by somebody who has the token but a broken program."""
    header = struct.pack("<4sBB", b"BORA", 1, kind)
    link.put(*garbage, *(signed(header + piece) for piece in garbage))
    assert link.twist() is None


def test_twists_beyond_one_are_clipped(link: Link) -> None:
    link.put(link.motion(twist=(7.0, -9.0, 0, 0, 0, 0)))
    assert link.twist() == [1.0, -1.0, 0, 0, 0, 0]


def test_buttons_ask_once_even_if_they_are_let_go_before_anybody_looks(link: Link) -> None:
    link.put(link.motion(buttons=1), link.motion(buttons=0), link.motion(buttons=2))
    sample = link.receiver.read(link.now)
    assert sample is not None
    assert sample.pressed == (GRIP, FINGERS)
    link.put(link.motion(buttons=2))
    sample = link.receiver.read(link.now)
    assert sample is not None
    assert sample.pressed == ()


def test_what_was_pressed_before_an_episode_is_forgotten(link: Link) -> None:
    link.put(link.motion(buttons=1))
    link.receiver.begin()
    sample = link.receiver.read(link.now)
    assert sample is not None
    assert sample.pressed == ()


def test_a_sender_finds_a_receiver_that_was_started_again(link: Link) -> None:
    link.introduce()
    link.receiver._nonce, link.receiver._sequence = b"new run!", -1
    link.sender.send(FULL)
    assert link.twist() is None
    link.introduce()
    for _ in range(3):
        link.now += 1.1
        link.sender.send(FULL)
        link.receiver.read(link.now)
    link.sender.send(FULL)
    assert link.twist() == list(FULL)


def test_who_may_be_listened_to() -> None:
    clock = time.monotonic
    with pytest.raises(
        ConfigError, match=r"0\.0\.0\.0 can be reached by others; expected a token.*--token-file"
    ):
        UdpReceiver("0.0.0.0", 0, clock=clock)
    with pytest.raises(ConfigError, match="5 bytes; expected at least 16"):
        UdpReceiver(port=0, token=b"short", clock=clock)
    with pytest.raises(DeviceError, match=r"Cannot listen on 127\.0\.0\.1 port 99999"):
        UdpReceiver(port=99999, clock=clock)
    with pytest.raises(ConfigError, match="can be reached by others"):
        UdpReceiver("a host", 0, clock=clock)
    receiver = UdpReceiver(port=0, clock=clock)
    with pytest.raises(DeviceError, match="Address already in use"):
        UdpReceiver(port=receiver.address[1], clock=clock)
    receiver.close()
    assert receiver.read(0.0) is None
