"""Tokens, addresses and specs: what a connection needs before it is one; and one that is lost."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from wire_lab import Lab

from bora_cli.errors import ConfigError, SchemaMismatch
from bora_cli.robot.client import SocketChannel
from bora_cli.robot.host import Host
from bora_cli.robot.protocol import RobotSpec, Target
from bora_cli.robot.server import is_loopback, read_token
from bora_cli.robot.wire import Kind, sealed
from robot_fakes import DOWN, MIDDLE, OPEN, SPEC, FakeClock

NEAR = Target(MIDDLE + 0.01, DOWN, OPEN)


def test_a_short_token_is_refused() -> None:
    with pytest.raises(ConfigError, match="The token has 5 characters; expected 16 or more"):
        Host(Lab().robot, "short", clock=FakeClock())


def test_a_token_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    token = read_token(path)
    assert len(token) >= 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_token(path) == token
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=re.escape(f"Others may read the token in {path}. chmod 600")):
        read_token(path)


@pytest.mark.parametrize(("address", "says"), [("nowhere", "is not HOST:PORT"), ("a:b", "is not HOST:PORT")])
def test_an_address_has_a_port(address: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SocketChannel(address)


def test_loopback_is_known() -> None:
    assert all(is_loopback(name) for name in ("127.0.0.1", "::1", "localhost"))
    assert not any(is_loopback(name) for name in ("0.0.0.0", "robot.lab", "192.168.0.2"))


def test_a_spec_survives_the_wire() -> None:
    assert RobotSpec.from_json(SPEC.to_json()) == SPEC
    with pytest.raises(SchemaMismatch, match="12 joints, 0 lower and 12 upper limits"):
        replace(SPEC, low=())


MALICE = (
    b"[" * 60_000,
    b'{"arrays": 5}',
    b'{"arrays": [["a", "<f8", [-1]]]}',
    b'{"arrays": [["a", "<f8", [1e999]]]}',
    b'{"arrays": [["a", "<f8", [99999999, 99999999999]]]}',
    b'{"arrays": [["a", [], []]]}',
    b'{"arrays": [["a", "O", [1]]]}',
    b'[["arrays"]]',
    b'{"arrays": [], "nonce": 5}',
    b'{"arrays": [], "nonce": "zz"}',
    b'{"arrays": [], "nonce": "' + b"z" * 32 + b'"}',
    b"\xff\xff",
)


@pytest.mark.parametrize("text", MALICE, ids=range(len(MALICE)))
def test_malice_ends_its_own_connection_only(text: bytes) -> None:
    lab = Lab()
    remote = lab.client()
    stranger = lab.wire()
    body = len(text).to_bytes(4, "little") + text
    stranger.session.receive(sealed(b"", b"c", Kind.AUTH, body))
    assert stranger.session.over
    assert lab.robot.holds == []
    np.testing.assert_array_equal(remote.observe().position, MIDDLE)


def test_a_client_that_is_lost_while_it_commands_is_written_down_and_one_that_held_is_not() -> None:
    lab = Lab()
    wire = lab.wire()
    remote = lab.client(wire)
    remote.reset()
    remote.command(NEAR, deadline=lab.clock.t + 0.2)
    wire.pass_time(3.0)
    remote.command(NEAR, deadline=lab.clock.t + 0.2)
    lab.host.leave(wire.session)
    assert lab.lost == ["hold: silence", "hold: the driving client is gone"]
    orderly = lab.wire()
    remote = lab.client(orderly)
    remote.command(NEAR, deadline=lab.clock.t + 0.2)
    remote.hold()
    orderly.pass_time(3.0)
    lab.host.leave(orderly.session)
    assert len(lab.lost) == 2
