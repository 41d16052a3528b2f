"""A robot that is somewhere else: the client's side of the protocol."""

from __future__ import annotations

import logging
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from bora_cli.errors import ConfigError, DeviceError, LimitViolation, RobotFault
from bora_cli.robot.host import NONCE
from bora_cli.robot.protocol import Reading, RobotSpec, Target
from bora_cli.robot.wire import (
    CLIENT,
    SERVER,
    Frame,
    Kind,
    Stream,
    WireError,
    genuine,
    pack,
    pack_target,
    sealed,
    session_key,
    unpack,
    unpack_reading,
    unpack_target,
)

LOGGER = logging.getLogger(__name__)
FAULTS = {"LimitViolation": LimitViolation}
REMEMBERED = 32
"""Answers that the estimate of the server's clock rests on."""


class Channel(Protocol):
    """A connection to a server."""

    def send(self, data: bytes) -> None:
        """Send bytes.  Raises OSError where the connection is gone."""

    def receive(self, seconds: float) -> bytes:
        """Return what came within some seconds, b"" for nothing.  Raises OSError where the connection is gone."""
        ...

    def close(self) -> None:
        """Close the connection."""


class SocketChannel:
    """A channel over TCP; address: HOST:PORT.  Raises DeviceError if nobody answers there."""

    def __init__(self, address: str, timeout: float = 3.0) -> None:
        host, colon, port = address.rpartition(":")
        if not colon or not port.isdigit():
            raise ConfigError(f"Robot address '{address}' is not HOST:PORT.", "As in 127.0.0.1:5055.")
        try:
            self._socket = socket.create_connection((host.strip("[]"), int(port)), timeout)
        except OSError as error:
            raise DeviceError(
                f"No robot server answers at {address}: {error}.", "Start one there: `bora robot serve`."
            ) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self._socket.settimeout(1.0)
        self._socket.sendall(data)

    def receive(self, seconds: float) -> bytes:
        self._socket.settimeout(max(seconds, 1e-4))
        try:
            data = self._socket.recv(1 << 20)
        except TimeoutError:
            return b""
        if not data:
            raise ConnectionResetError("the server closed the connection")
        return data

    def close(self) -> None:
        self._socket.close()


class RemoteRobot:
    """A robot behind a server; in everything a `Robot`.

    Readings and deadlines are on this side's clock.  The difference of the two clocks is only known up to the time a
    message takes, and both are rounded to the safe side: a reading looks a little older than it is, a command expires
    a little early.  A request that gets no answer is repeated (targets are absolute, so that does no harm) and then
    given up with RobotFault; the server's own watch holds the robot meanwhile.

    expect: refuse a robot that differs from this.  timeout: s for an answer; patience: s for a reset.  silence: s
    without a command after which the server holds.  guarded: hash of the profile whose limits the server keeps, "" if
    it keeps none.
    """

    def __init__(
        self,
        channel: Channel,
        token: str,
        *,
        expect: RobotSpec | None = None,
        timeout: float = 0.3,
        attempts: int = 3,
        patience: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._clock = clock
        self._timeout = timeout
        self._attempts = attempts
        self._patience = patience
        self._stream = Stream()
        self._waiting: deque[Frame] = deque()
        self._sequence = 0
        self._ahead: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._key = b""
        self._over = False
        try:
            self.spec, self.silence, self.guarded = self._shake_hands(token)
            if expect is not None:
                expect.require_same(self.spec, "The robot server")
        except Exception:
            channel.close()
            raise

    @classmethod
    def connect(cls, address: str, token: str, **options: Any) -> RemoteRobot:
        """Return the robot at HOST:PORT; options as of the class.  Raises DeviceError if it cannot be had."""
        return cls(SocketChannel(address), token, **options)

    def reset(self) -> Reading:
        """Reset the robot; may take as long as `patience`."""
        return self._reading(Kind.RESET, pack({}), self._patience, 1)

    def observe(self, images: bool = True) -> Reading:
        """Return what the robot measures."""
        return self._reading(Kind.OBSERVE, pack({"images": images}), self._timeout, self._attempts)

    def command(self, target: Target, *, deadline: float) -> Target:
        """Send a target; deadline: s, on this side's clock."""
        server_deadline = deadline + max(at_least for at_least, _ in self._ahead)
        frame = self._ask(Kind.COMMAND, pack_target(target), self._timeout, self._attempts, server_deadline)
        return unpack_target(unpack(frame.body)[1])

    def hold(self) -> None:
        """Stop the robot.  Where the server cannot be reached its own watch does so."""
        if self._over:
            return
        try:
            self._ask(Kind.HOLD, pack({}), self._timeout, 1)
        except (RobotFault, WireError, OSError) as error:
            LOGGER.error("The robot server did not confirm to hold: %s", error)

    def close(self) -> None:
        """Hold, and end the connection."""
        self.hold()
        self._over = True
        self._channel.close()

    def _shake_hands(self, token: str) -> tuple[RobotSpec, float, str]:
        hello, _ = unpack(self._next(self._timeout * self._attempts, Kind.HELLO).body)
        nonce = secrets.token_bytes(NONCE)
        try:
            key = session_key(token, bytes.fromhex(hello["nonce"]), nonce)
        except (KeyError, ValueError, TypeError) as error:
            raise WireError(f"The server did not introduce itself ({error}).") from error
        sent = self._clock()
        self._channel.send(sealed(key, CLIENT, Kind.AUTH, pack({"nonce": nonce.hex()})))
        frame = self._next(self._timeout * self._attempts, Kind.WELCOME)
        if not genuine(frame, key, SERVER):
            raise DeviceError(
                "The robot server does not know the token.", "Give both sides the same --token-file."
            )
        self._key = key
        document, _ = unpack(frame.body)
        self._learn(document, sent)
        guarded = str(document.get("guarded", ""))
        return RobotSpec.from_json(document["spec"]), float(document["silence"]), guarded

    def _learn(self, document: dict[str, Any], sent: float) -> None:
        """Bound how far the server's clock is ahead of ours: it answered after `sent` and before now."""
        at = float(document["now"])
        self._ahead.append((at - self._clock(), at - sent))

    def _reading(self, kind: Kind, body: bytes, timeout: float, attempts: int) -> Reading:
        frame = self._ask(kind, body, timeout, attempts)
        return unpack_reading(frame.body, -min(at_most for _, at_most in self._ahead))

    def _ask(self, kind: Kind, body: bytes, timeout: float, attempts: int, deadline: float = 0.0) -> Frame:
        """Return the answer to a request.  Raises RobotFault if there is none, or the robot is in trouble."""
        if self._over:
            raise RobotFault("The connection to the robot server is closed.", "Connect again.")
        try:
            for _ in range(attempts):
                self._sequence += 1
                sent = self._clock()
                self._channel.send(sealed(self._key, CLIENT, kind, body, self._sequence, deadline))
                frame = self._answer(sent + timeout)
                if frame is not None:
                    document, _ = unpack(frame.body)
                    self._learn(document, sent)
                    if frame.kind == Kind.FAULT:
                        fault = FAULTS.get(document["error"], RobotFault)
                        raise fault(str(document["message"]), str(document["hint"]))
                    return frame
        except OSError as error:
            self._over = True
            raise RobotFault(
                f"The connection to the robot server is lost: {error}.", "It holds by itself; connect again."
            ) from error
        raise RobotFault(
            f"The robot server did not answer {attempts} times within {timeout:g} s.",
            "It holds by itself; look at its terminal.",
        )

    def _answer(self, until: float) -> Frame | None:
        """Return the genuine answer to the last request, passing over everything else."""
        while (left := until - self._clock()) > 0 or self._waiting:
            frame = self._take(left)
            if frame is not None and frame.sequence == self._sequence and genuine(frame, self._key, SERVER):
                return frame
        return None

    def _next(self, timeout: float, kind: Kind) -> Frame:
        until = self._clock() + timeout
        while (left := until - self._clock()) > 0 or self._waiting:
            try:
                frame = self._take(left)
            except OSError as error:
                raise DeviceError(f"The robot server ended the connection: {error}.") from error
            if frame is not None and frame.kind == Kind.REFUSED:
                reason = unpack(frame.body)[0].get("reason")
                raise DeviceError(f"The robot server refused: {reason}.", "Its terminal says more.")
            if frame is not None and frame.kind == kind:
                return frame
        raise DeviceError(
            f"The robot server did not answer within {timeout:g} s.", "Is it `bora robot serve`?"
        )

    def _take(self, seconds: float) -> Frame | None:
        if not self._waiting:
            self._waiting.extend(self._stream.feed(self._channel.receive(max(seconds, 0.0))))
        return self._waiting.popleft() if self._waiting else None
