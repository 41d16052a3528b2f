"""A network between a client and a robot server that loses, delays, repeats and forges frames."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from bora_cli.robot.wire import HEAD, Frame, Kind, Stream

HANDSHAKE = (Kind.HELLO, Kind.AUTH, Kind.WELCOME)


@dataclass
class Mischief:
    """A relay on loopback; every frame after the handshake suffers one of the faults with its probability.

    lose: it does not arrive.  repeat: it arrives, and again a moment later.  forge: one with another body and the same
    seal arrives before it.  delay_s: up to so long on its way.
    """

    server: str
    lose: float = 0.0
    repeat: float = 0.0
    forge: float = 0.0
    delay_s: float = 0.0
    seed: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        host, _, port = self.server.rpartition(":")
        self._target = (host, int(port))
        self._sockets: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._sockets += [near, far]
                for number, (source, sink) in enumerate(((near, far), (far, near))):
                    thread = threading.Thread(target=self._relay, args=(source, sink, number), daemon=True)
                    self._threads.append(thread)
                    thread.start()

    def _relay(self, source: socket.socket, sink: socket.socket, number: int) -> None:
        rng, stream = np.random.default_rng([self.seed, number]), Stream()
        with suppress(OSError):
            while data := source.recv(1 << 20):
                for frame in stream.feed(data):
                    for part in self._fate(frame, rng):
                        sink.sendall(part)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _fate(self, frame: Frame, rng: np.random.Generator) -> list[bytes]:
        data = frame.raw + frame.seal
        if frame.kind in HANDSHAKE:
            return [data]
        self.counts["frames"] += 1
        if self.delay_s:
            time.sleep(float(rng.uniform(0, self.delay_s)))
        if rng.random() < self.lose:
            self.counts["lost"] += 1
            return []
        parts = [data]
        if rng.random() < self.forge:
            self.counts["forged"] += 1
            body = os.urandom(len(frame.body))
            parts.insert(0, frame.raw[: HEAD.size] + body + frame.seal)
        if rng.random() < self.repeat:
            self.counts["repeated"] += 1
            parts.append(data)
        return parts

    def close(self) -> None:
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(5)
