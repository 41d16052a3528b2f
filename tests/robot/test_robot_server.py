"""The simulator as a robot in another process, over real sockets: killed clients, a killed server, strangers.

Nothing here depends on how long something takes: every wait ends with an event.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving import ENVIRONMENT, PATIENT, Server

from bora_cli.control.pace import Pacer
from bora_cli.control.rig import RobotRig
from bora_cli.errors import ConfigError, DeviceError, RobotFault
from bora_cli.profiles import load_profile
from bora_cli.robot.client import RemoteRobot
from bora_cli.robot.drivers import load_driver
from bora_cli.robot.host import Host
from bora_cli.robot.protocol import Target
from bora_cli.robot.server import serve


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    yield made
    made.end()


def step(robot: RemoteRobot, target: Target, by: float) -> Target:
    moved = Target(target.position + np.array([0.0, 0.0, by]), target.rotation, target.hand)
    return robot.command(moved, deadline=time.monotonic() + 60)


def test_the_simulator_in_another_process_is_driven_as_any_robot(server: Server) -> None:
    robot = server.connect()
    profile = load_profile("sim")
    assert robot.spec.profile_hash == profile.hash
    rig = RobotRig(robot, profile, prompt="press", max_ticks=6, judge=lambda: "", pacer=Pacer(1e-6))
    rig.prepare(0)
    up = rig.rest()
    up[2] = 0.01
    before = rig.observe().state[2]
    rows = np.array([rig.step(up).applied for _ in range(6)])
    np.testing.assert_allclose(rows[:, 2].max(), 0.01, atol=1e-5)
    assert rig.observe().state[2] > before + 0.01
    assert rig.observe().images["wrist"].shape == (64, 64, 3)
    rig.close()


DRIVES = """
import sys, time
from bora_cli.robot.client import RemoteRobot
robot = RemoteRobot.connect(sys.argv[1], open(sys.argv[2]).read().strip(), timeout=20.0)
target = robot.reset().target
while True:
    target = robot.command(target, deadline=time.monotonic() + 60)
    print("commanded", flush=True)
"""


def test_a_killed_client_leaves_a_robot_that_holds_and_can_be_taken_up(server: Server) -> None:
    command = [sys.executable, "-c", DRIVES, server.address, str(server.token_file)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert client.stdout is not None
    for _ in range(3):
        assert client.stdout.readline() == "commanded\n"
    client.send_signal(signal.SIGKILL)
    client.wait()
    client.stdout.close()
    server.wait_for("sim holds: the driving client is gone")
    robot = server.connect()
    at = robot.observe(images=False).target
    while step(robot, at, 0.005).position[2] <= at.position[2]:
        pass  # the client did not pace itself, so some commands are refused first
    robot.close()


def test_silence_holds(server: Server) -> None:
    robot = server.connect()
    holds = server.log.read_text().count("sim holds: silence")
    step(robot, robot.reset().target, 0.005)
    server.wait_for("sim holds: silence", holds + 1)
    robot.close()


def test_noise_on_the_port_disturbs_nobody(server: Server) -> None:
    robot = server.connect()
    host, _, port = server.address.rpartition(":")
    for noise in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b""):
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(noise)
            if noise:
                while stranger.recv(4096):
                    pass
    with pytest.raises(DeviceError, match="refused: the token is another one"):
        RemoteRobot.connect(server.address, "wrong" * 8, **PATIENT)
    assert np.isfinite(robot.observe().position).all()
    robot.close()


def test_a_killed_server_is_a_fault_at_once(tmp_path: Path) -> None:
    server = Server(tmp_path)
    robot = server.connect()
    target = robot.reset().target
    server.end()
    with pytest.raises(RobotFault, match="connection to the robot server is lost"):
        step(robot, target, 0.01)
    with pytest.raises(DeviceError, match=r"No robot server answers at 127\.0\.0\.1:"):
        server.connect()
    robot.close()


def test_an_orderly_end_holds(tmp_path: Path) -> None:
    server = Server(tmp_path)
    robot = server.connect()
    step(robot, robot.reset().target, 0.005)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait() == 0, server.log.read_text()
    assert "sim holds: the server ends" in server.log.read_text()
    with pytest.raises(RobotFault):
        robot.observe()
    robot.close()
    server.end()


def test_a_port_that_is_taken_says_so() -> None:
    from wire_lab import Lab

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match=rf"Cannot listen at 127.0.0.1:{port}: .* choose --port"):
            serve(Host(Lab().robot, "x" * 16), port=port)


def test_the_client_needs_numpy_only() -> None:
    code = (
        "import sys\n"
        "import bora_cli.robot.client, bora_cli.robot.server, bora_cli.robot.drivers\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name for name in result.stdout.split() if not name.startswith(("_", "distutils"))}
    assert loaded <= {"numpy", "bora_cli", "cython_runtime"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "Driver 'nothing' is not of the form MODULE:NAME. As in my_lab.franka:connect"),
        ("no_such_module:x", "The module of driver no_such_module:x cannot be imported: No module named"),
        ("json:nothing", "Module json has nothing callable named 'nothing'. Change --driver."),
        (
            "builtins:dict",
            "What builtins:dict makes has no spec, reset, observe, command, hold, close; a robot has",
        ),
    ],
)
def test_drivers_that_are_none_are_refused(name: str, says: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        load_driver(name, {})
    assert says in str(refusal.value)


def test_a_profile_without_a_driver_asks_for_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bora_cli", "robot", "serve", "--profile", "franka_dexhand021"]
    command += ["--token-file", str(tmp_path / "token")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert result.returncode == 3
    assert "is for the robot driver 'franka', which is not part of bora." in result.stderr
