"""A glove or VR controller over UDP as a device, and the sender for the computer it hangs on.

Nothing that arrives is trusted: see `packets`.  Of what is left, only the newest counts, and only while it is young by
the sender's own clock: the least delay seen lately counts as none, so packets that lay in a buffer are old, whatever
the clocks of the two computers say.
"""

from __future__ import annotations

import ipaddress
import math
import secrets
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from bora_cli.errors import ConfigError, DeviceError
from bora_cli.input import packets
from bora_cli.input.device import FINGERS, GRIP, RELEASE, TAKE_OVER, DeviceSample, Frame
from bora_cli.input.mapping import Shaping, clean, shape

PORT = 9870
LOOPBACK = "127.0.0.1"
BUTTONS = (GRIP, FINGERS, TAKE_OVER, RELEASE)
"""What the bits of `Motion.buttons` ask for."""
MAX_AGE_S = 0.2
SILENT_S = 0.5
CLOCK_WINDOW_S = 30.0
"""Seconds over which the least delay is remembered, so that clocks may drift apart."""
AT_ONCE = 512
"""Packets looked at per call; a flood must not stop the loop."""
TOKEN_BYTES = 16


@dataclass
class Refused:
    """Packets that were not obeyed: not of this token, not well-formed, of another run, out of order, too old."""

    forged: int = 0
    malformed: int = 0
    replayed: int = 0
    old: int = 0


class UdpReceiver:
    """Listens on an address; by default only this computer can reach it.

    joints: of the robot's hand; a packet has the angles of as many, or none.  token: shared with the sender; may only
    be empty on the loopback address.  clock: monotonic seconds.
    Raises ConfigError for an address that needs a token, DeviceError where it cannot listen.
    """

    frame: Frame = "view"

    def __init__(
        self,
        host: str = LOOPBACK,
        port: int = PORT,
        *,
        token: bytes = b"",
        joints: int = 0,
        clock: Callable[[], float],
        shaping: Shaping | None = None,
    ) -> None:
        if not token and not _is_loopback(host):
            raise ConfigError(
                f"{host} can be reached by others; expected a token, so that not everybody can move the robot.",
                "Give --token-file, the same on both computers, or listen on 127.0.0.1 and tunnel with ssh.",
            )
        if token and len(token) < TOKEN_BYTES:
            raise ConfigError(
                f"The token has {len(token)} bytes; expected at least {TOKEN_BYTES}.",
                "Make one: python -c 'import secrets; print(secrets.token_hex(16))' > token",
            )
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((host, port))
        except (OSError, OverflowError) as error:
            self._socket.close()
            raise DeviceError(
                f"Cannot listen on {host} port {port}: {error}.", "Choose another one: --device udp:PORT."
            ) from error
        self._socket.setblocking(False)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self.name = f"udp {self.address[0]}:{self.address[1]}"
        self._token, self._joints, self._clock = token, joints, clock
        self._shaping = shaping or Shaping(enter=0.0, leave=0.0, curve=0.0)
        self._nonce = secrets.token_bytes(8)
        self._sequence = -1
        self._latest: packets.Motion | None = None
        self._since = -math.inf
        self._least: tuple[float, float] = (math.inf, math.inf)
        self._window_end = -math.inf
        self._held = 0
        self._pressed: list[str] = []
        self._moving = False
        self.refused = Refused()

    @property
    def trouble(self) -> str:
        """Why it cannot be obeyed: nobody sends, or nobody does any more."""
        if self._latest is None:
            return f"nobody sends to {self.name}"
        silent = self._clock() - self._since
        return f"the sender has been silent for {silent:.1f} s" if silent > SILENT_S else ""

    def begin(self) -> None:
        """Forget which buttons were pressed."""
        self._receive(self._clock())
        self._pressed = []

    def read(self, now: float) -> DeviceSample | None:
        """Look at all packets that arrived; return the newest motion if it is young, or None."""
        self._receive(now)
        latest, pressed = self._latest, tuple(dict.fromkeys(self._pressed))
        self._pressed = []
        if latest is None or now - self._since > MAX_AGE_S:
            return None
        twist, self._moving = shape(clean(latest.twist), self._moving, self._shaping)
        hand = np.array(latest.hand, np.float64) if latest.hand else None
        return DeviceSample(self._since, twist, pressed, hand)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def _receive(self, now: float) -> None:
        for _ in range(AT_ONCE):
            try:
                packet, sender = self._socket.recvfrom(2048)
            except OSError:  # nothing more, or an error report of something we sent
                return
            kind = packets.kind_of(packet, self._token)
            if kind == packets.HELLO:
                with suppress(OSError):  # the sender may be gone again
                    self._socket.sendto(packets.welcome(self._nonce, self._token), sender)
            elif kind == packets.MOTION:
                self._take(packets.read_motion(packet), now)
            else:
                self.refused.forged += 1

    def _take(self, motion: packets.Motion | None, now: float) -> None:
        if motion is None or len(motion.hand) not in (0, self._joints):
            self.refused.malformed += 1
        elif motion.nonce != self._nonce or motion.sequence <= self._sequence:
            self.refused.replayed += 1
        else:
            self._sequence = motion.sequence
            age = self._age(now - motion.t, now)
            if age > MAX_AGE_S:
                self.refused.old += 1
                return
            down = motion.buttons & ~self._held
            self._pressed += [ask for bit, ask in enumerate(BUTTONS) if down >> bit & 1]
            self._held, self._latest, self._since = motion.buttons, motion, now - age

    def _age(self, delay: float, now: float) -> float:
        """Return how much later than the fastest a packet is; delay: s, between two clocks that do not agree."""
        if now > self._window_end:
            self._least, self._window_end = (math.inf, self._least[0]), now + CLOCK_WINDOW_S
        self._least = (min(self._least[0], delay), self._least[1])
        return delay - min(self._least)


class UdpSender:
    """What runs beside a glove: asks for the number of the run, then sends motions.  Needs only this package's numpy.

    Call `send` as often as the device measures, 50 to 100 times a second.  clock: s, runs forward.
    """

    def __init__(self, host: str, port: int, *, token: bytes = b"", clock: Callable[[], float]) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._to, self._token, self._clock = (host, port), token, clock
        self._nonce: bytes | None = None
        self._sequence = 0
        self._asked = -math.inf

    @property
    def welcome(self) -> bool:
        """Whether the receiver has answered."""
        return self._nonce is not None

    def send(self, twist: Sequence[float], *, buttons: int = 0, hand: Sequence[float] = ()) -> bool:
        """Send a motion; returns whether it went out.  twist: 6 numbers in -1 .. 1, ROS axes.  hand: rad."""
        now = self._clock()
        self._listen()
        with suppress(OSError):  # nobody listens there yet, or any more
            if now - self._asked >= 1.0:  # also later: the receiver may have been started again
                self._asked = now
                self._socket.sendto(packets.hello(self._token), self._to)
            if self._nonce is not None:
                self._sequence += 1
                content = packets.Motion(self._nonce, self._sequence, now, tuple(twist), buttons, tuple(hand))
                self._socket.sendto(packets.motion(content, self._token), self._to)
                return True
        return False

    def close(self) -> None:
        """Stop sending."""
        self._socket.close()

    def _listen(self) -> None:
        for _ in range(AT_ONCE):
            try:
                packet = self._socket.recv(2048)
            except OSError:
                return
            if packets.kind_of(packet, self._token) == packets.WELCOME:
                self._nonce = packets.nonce_of(packet) or self._nonce


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
