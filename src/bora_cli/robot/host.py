"""The server's side of the protocol, without sockets: bytes in, bytes out, and a watch over silence."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from bora_cli.errors import BoraError, ConfigError
from bora_cli.robot.protocol import Robot, RobotSpec
from bora_cli.robot.wire import (
    CLIENT,
    SERVER,
    Frame,
    Kind,
    Stream,
    WireError,
    genuine,
    pack,
    pack_reading,
    pack_target,
    sealed,
    session_key,
    unpack,
    unpack_target,
)

LOGGER = logging.getLogger(__name__)
SHORTEST_TOKEN = 16
NONCE = 16
LARGEST_REQUEST = 1 << 16
"""Bytes; requests carry a target at most."""
ABANDONED_S = 5.0
"""A client that said nothing for so long may be replaced by another one; its cable may be out."""


class Host:
    """A robot and the one client that drives it.

    token: at least SHORTEST_TOKEN characters that both sides know.  silence: s without a new command after which the
    robot is told to hold; it moves again with the next command.  guarded: hash of the profile whose limits the robot
    is kept in on this side, "" if nobody keeps it in any (the client then has to).  on_loss: told why, after the robot
    was held because commands stopped coming without a word; for a flight recorder.  clock: s, of deadlines and of the
    robot's stamps.  One thread makes all calls.
    """

    def __init__(
        self,
        robot: Robot,
        token: str,
        *,
        silence: float = 0.2,
        guarded: str = "",
        on_loss: Callable[[str], object] = lambda why: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(token) < SHORTEST_TOKEN:
            raise ConfigError(
                f"The token has {len(token)} characters; expected {SHORTEST_TOKEN} or more.",
                "Let `bora robot serve` make one: give --token-file a name that does not exist yet.",
            )
        self.robot = robot
        self.token = token
        self.silence = silence
        self.guarded = guarded
        self.clock = clock
        self.driver: Session | None = None
        self.counts: Counter[str] = Counter()
        """What happened: commands, late, replayed, forged, holds, faults."""
        self._on_loss = on_loss
        self._moved_at: float | None = None

    @property
    def spec(self) -> RobotSpec:
        return self.robot.spec

    def connect(self) -> Session:
        """Return a session for a new connection; its first bytes are in `outgoing`."""
        return Session(self)

    def watch(self) -> float:
        """Hold the robot if commands stopped coming; return after how many s to look again, at the latest."""
        if self._moved_at is None:
            return self.silence
        left = self._moved_at + self.silence - self.clock()
        if left > 0:
            return left
        self._lose("silence")
        return self.silence

    def hold(self, why: str) -> None:
        """Hold the robot, and say so in the log."""
        self._moved_at = None
        self.counts["holds"] += 1
        LOGGER.warning("%s holds: %s", self.spec.name, why)
        self.robot.hold()

    def moved(self) -> None:
        """Begin to wait for the next command."""
        self._moved_at = self.clock()

    def leave(self, session: Session) -> None:
        """Let a session end; if it drove, the robot holds."""
        session.over = True
        if self.driver is session:
            self.driver = None
            self._lose("the driving client is gone")

    def _lose(self, why: str) -> None:
        """Hold the robot because nobody commands it any more; it is a loss if somebody did a moment ago."""
        moved = self._moved_at is not None
        self.hold(why)
        if moved:
            self._on_loss(f"hold: {why}")


class Session:
    """One connection: first a handshake, then requests, each answered once.

    outgoing: bytes to be sent; the caller takes them away.  over: the connection shall be closed after that.  heard_at:
    s, when the other side last said something genuine.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.outgoing = bytearray()
        self.over = False
        self.heard_at = host.clock()
        self._stream = Stream(LARGEST_REQUEST)
        self._nonce = secrets.token_bytes(NONCE)
        self._key = b""
        self._last = 0
        self._say(Kind.HELLO, pack({"nonce": self._nonce.hex(), "name": host.spec.name}))

    @property
    def trusted(self) -> bool:
        """Whether the other side has shown that it knows the token."""
        return bool(self._key)

    def receive(self, data: bytes) -> None:
        """Take bytes that came; answers go to `outgoing`."""
        try:
            for frame in self._stream.feed(data):
                if self.over:
                    return
                (self._request if self.trusted else self._handshake)(frame)
        except WireError as error:
            self._refuse(str(error))

    def _handshake(self, frame: Frame) -> None:
        document, _ = unpack(frame.body)
        nonce = document.get("nonce")
        if frame.kind != Kind.AUTH or not isinstance(nonce, str) or len(nonce) != 2 * NONCE:
            self._refuse("expected a client that introduces itself")
            return
        try:
            key = session_key(self.host.token, self._nonce, bytes.fromhex(nonce))
        except ValueError:
            self._refuse("expected a client that introduces itself")
            return
        if not genuine(frame, key, CLIENT):
            self.host.counts["forged"] += 1
            self._refuse("the token is another one")
            return
        driver, now = self.host.driver, self.host.clock()
        if driver is not None and now - driver.heard_at <= ABANDONED_S:
            self._refuse("somebody else drives this robot")
            return
        if driver is not None:
            self.host.leave(driver)
        self._key, self.host.driver, self.heard_at = key, self, now
        welcome = {
            "spec": self.host.spec.to_json(),
            "silence": self.host.silence,
            "guarded": self.host.guarded,
            "now": self.host.clock(),
        }
        self._say(Kind.WELCOME, pack(welcome))

    def _request(self, frame: Frame) -> None:
        host = self.host
        if not genuine(frame, self._key, CLIENT):
            host.counts["forged"] += 1
            return
        if frame.sequence <= self._last:
            host.counts["replayed"] += 1
            return
        self._last, self.heard_at = frame.sequence, host.clock()
        try:
            self._obey(frame)
        except BoraError as error:
            self._fault(frame.sequence, type(error).__name__, error.message, error.hint)
        except Exception as error:
            LOGGER.exception("The driver of %s failed", host.spec.name)
            self._fault(frame.sequence, type(error).__name__, f"The robot's driver failed: {error}.", "")
        self.heard_at = host.clock()  # a reset may take long, and is no silence of the client

    def _obey(self, frame: Frame) -> None:
        host, robot = self.host, self.host.robot
        document, arrays = unpack(frame.body)
        if frame.kind == Kind.COMMAND:
            target = unpack_target(arrays)
            now = host.clock()
            host.counts["commands"] += 1
            host.counts["late"] += not now <= frame.deadline
            if now <= frame.deadline:
                host.moved()
            accepted = robot.command(target, deadline=min(frame.deadline, now + host.silence))
            self._say(Kind.ACCEPTED, pack_target(accepted, {"now": host.clock()}), frame.sequence)
        elif frame.kind in (Kind.OBSERVE, Kind.RESET):
            reset = frame.kind == Kind.RESET
            reading = robot.reset() if reset else robot.observe(bool(document.get("images")))
            self._say(Kind.READING, pack_reading(reading, host.clock()), frame.sequence)
        elif frame.kind == Kind.HOLD:
            host.hold("asked to")
            self._say(Kind.DONE, pack({"now": host.clock()}), frame.sequence)
        else:
            raise WireError(f"A request of kind {frame.kind} is unknown.")

    def _fault(self, sequence: int, name: str, message: str, hint: str) -> None:
        self.host.counts["faults"] += 1
        self.host.hold(f"{name}: {message}")
        body: dict[str, Any] = {"now": self.host.clock(), "error": name, "message": message, "hint": hint}
        self._say(Kind.FAULT, pack(body), sequence)

    def _refuse(self, reason: str) -> None:
        LOGGER.warning("A connection to %s is refused: %s", self.host.spec.name, reason)
        self._say(Kind.REFUSED, pack({"reason": reason}))
        self.host.leave(self)

    def _say(self, kind: Kind, body: bytes, sequence: int = 0) -> None:
        self.outgoing += sealed(self._key, SERVER, kind, body, sequence)
