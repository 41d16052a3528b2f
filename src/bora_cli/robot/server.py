"""Sockets around a `Host`: one thread, any number of connections, one of which drives."""

from __future__ import annotations

import ipaddress
import logging
import secrets
import selectors
import socket
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from bora_cli.errors import ConfigError, DeviceError
from bora_cli.robot.host import Host, Session

LOGGER = logging.getLogger(__name__)
STRANGERS = 8
"""Connections at a time."""
INTRODUCTION_S = 5.0
"""Time in which a connection has to show that it knows the token."""
BACKLOG = 8 << 20
"""Bytes that may wait for a client that does not read."""
POLL_S = 0.05


def read_token(path: Path) -> str:
    """Return the token in a file, which is made, for its owner's eyes only, if it does not exist.

    Raises ConfigError if others may read it.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_urlsafe(32) + "\n", encoding="utf-8")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"Others may read the token in {path}.", f"chmod 600 {path}")
    return path.read_text(encoding="utf-8").strip()


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    host: Host,
    bind: str = "127.0.0.1",
    port: int = 5055,
    *,
    ready: Callable[[str, int], None] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Serve a robot until `stopped`, then hold it.

    bind: address to listen at; a tunnel (ssh -L 5055:127.0.0.1:5055 ROBOT) reaches loopback from elsewhere.  port: 0 is
    any free one.  ready: called with address and port once clients may connect.
    A driver call that does not return stops this thread with it: keep the emergency stop in reach.
    Raises DeviceError if the port is taken.
    """
    with ExitStack() as stack:
        try:
            family = socket.AF_INET6 if ":" in bind else socket.AF_INET
            listener = stack.enter_context(socket.create_server((bind, port), family=family))
        except OSError as error:
            raise DeviceError(
                f"Cannot listen at {bind}:{port}: {error}.", "Is another server running? Or choose --port."
            ) from error
        listener.setblocking(False)
        selector = stack.enter_context(selectors.DefaultSelector())
        selector.register(listener, selectors.EVENT_READ)
        peers: dict[socket.socket, _Peer] = {}
        stack.callback(host.hold, "the server ends")
        stack.callback(_close_all, peers, selector, host)
        if ready is not None:
            ready(bind, listener.getsockname()[1])
        while not stopped():
            for key, _ in selector.select(min(POLL_S, host.watch())):
                if key.fileobj is listener:
                    _accept(listener, host, peers)
            for peer in list(peers.values()):
                if not peer.serve(host):
                    del peers[peer.socket]
                    peer.close(selector, host)
                else:
                    peer.register(selector)
            host.watch()  # after what came meanwhile: a command that waited is no silence


def _accept(listener: socket.socket, host: Host, peers: dict[socket.socket, _Peer]) -> None:
    try:
        connection, address = listener.accept()
    except OSError as error:
        LOGGER.warning("A connection could not be accepted: %s", error)
        return
    if len(peers) >= STRANGERS:
        LOGGER.warning("Too many connections; %s is turned away", address)
        connection.close()
        return
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peers[connection] = _Peer(connection, host.connect(), host.clock())


def _close_all(peers: dict[socket.socket, _Peer], selector: selectors.BaseSelector, host: Host) -> None:
    for peer in list(peers.values()):
        peer.close(selector, host)


class _Peer:
    """One connection with its session."""

    def __init__(self, connection: socket.socket, session: Session, now: float) -> None:
        self.socket = connection
        self._session = session
        self._since = now
        self._registered = 0

    def register(self, selector: selectors.BaseSelector) -> None:
        """Wake the loop for what comes, and for room where something waits to be sent."""
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._session.outgoing else 0)
        if wanted != self._registered:
            (selector.modify if self._registered else selector.register)(self.socket, wanted)
            self._registered = wanted

    def serve(self, host: Host) -> bool:
        """Read and write what is possible without waiting; return whether the connection goes on."""
        session = self._session
        try:
            try:
                while data := self.socket.recv(1 << 20):
                    session.receive(data)
                    host.watch()
                return False
            except BlockingIOError:
                pass
            if session.outgoing:
                with suppress(BlockingIOError):
                    del session.outgoing[: self.socket.send(session.outgoing)]
        except OSError as error:
            LOGGER.warning("A connection broke: %s", error)
            return False
        too_slow = len(session.outgoing) > BACKLOG
        stranger = not session.trusted and host.clock() - self._since > INTRODUCTION_S
        return not (too_slow or stranger or (session.over and not session.outgoing))

    def close(self, selector: selectors.BaseSelector, host: Host) -> None:
        """End the connection; the robot holds if this one drove."""
        if self._registered:
            selector.unregister(self.socket)
        self.socket.close()
        host.leave(self._session)
