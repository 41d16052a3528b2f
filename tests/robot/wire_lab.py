"""A client and a server in one thread, with a wire between them that a test can make as bad as it likes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bora_cli.robot.client import RemoteRobot
from bora_cli.robot.host import Host, Session
from robot_fakes import FakeClock, FakeRobot

TOKEN = "correct horse battery staple"
Fault = Callable[[bytes], list[bytes]]


def as_it_is(data: bytes) -> list[bytes]:
    return [data]


@dataclass
class Wire:
    """A channel; up, down: what becomes of bytes to and from the server.  Waiting makes time pass and the host look."""

    host: Host
    session: Session
    clock: FakeClock
    up: Fault = as_it_is
    down: Fault = as_it_is
    sent: list[bytes] = field(default_factory=list)
    arriving: bytearray = field(default_factory=bytearray)
    closed: bool = False
    cut: bool = False

    def send(self, data: bytes) -> None:
        if self.cut:
            raise ConnectionResetError("cut")
        self.sent.append(data)
        for part in self.up(data):
            self.session.receive(part)

    def receive(self, seconds: float) -> bytes:
        if self.cut:
            raise ConnectionResetError("cut")
        if self.session.outgoing:
            data, self.session.outgoing = bytes(self.session.outgoing), bytearray()
            for part in self.down(data):
                self.arriving += part
        if not self.arriving:
            self.pass_time(seconds)
        data, self.arriving = bytes(self.arriving), bytearray()
        return data

    def pass_time(self, seconds: float) -> None:
        end = self.clock.t + seconds
        while self.clock.t < end - 1e-12:
            self.clock.t = min(end, self.clock.t + 0.01)
            self.host.watch()

    def close(self) -> None:
        self.closed = True
        self.host.leave(self.session)


@dataclass
class Lab:
    """Two clocks that differ, a fake robot, its host, and clients for it."""

    clock: FakeClock = field(default_factory=FakeClock)
    apart: float = 5000.0

    def __post_init__(self) -> None:
        self.robot = FakeRobot(self.server_clock)  # type: ignore[arg-type]
        self.lost: list[str] = []
        self.host = Host(self.robot, TOKEN, on_loss=self.lost.append, clock=self.server_clock)

    def server_clock(self) -> float:
        return self.clock.t + self.apart

    def wire(self) -> Wire:
        return Wire(self.host, self.host.connect(), self.clock)

    def client(self, wire: Wire | None = None, token: str = TOKEN, **options: object) -> RemoteRobot:
        return RemoteRobot(wire or self.wire(), token, clock=self.clock, **options)  # type: ignore[arg-type]
