"""Serve a robot from an environment that has numpy and little else, such as LeRobot's or a maker's.

    PYTHONPATH=/path/to/bora/src python -m bora_cli.robot.bare my_robot:connect --token-file token --port 5056

`my_robot.connect(None)` makes the robot.  Its server keeps no limits, because those are made of a profile, which this
environment cannot read: it only holds a robot whose client is silent or gone, and refuses what is late or forged.  The
client learns that from the handshake and keeps the limits itself: `bora robot collect --robot HOST:5056 ...`.
"""

from __future__ import annotations

import argparse
import logging
import signal
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from bora_cli.errors import BoraError
from bora_cli.robot.drivers import load_driver
from bora_cli.robot.host import Host
from bora_cli.robot.server import read_token, serve

LOGGER = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; leaves with the exit code of the error where there is one."""
    parser = argparse.ArgumentParser(
        prog="python -m bora_cli.robot.bare", description="Serve a robot that keeps no limits of its own."
    )
    parser.add_argument("driver", metavar="MODULE:NAME", help="makes the robot when called with None")
    parser.add_argument("--token-file", type=Path, required=True, help="made if it is not there")
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5056, help="0 is any free one")
    parser.add_argument("--silence", type=float, default=0.2, help="s without a command after which it holds")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    ended = Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        robot = load_driver(given.driver, None)
        try:
            run = Host(robot, read_token(given.token_file), silence=given.silence)
            serve(
                run,
                given.bind,
                given.port,
                ready=lambda host, port: LOGGER.info("%s at %s:%d", robot.spec.name, host, port),
                stopped=ended.is_set,
            )
        finally:
            robot.close()
    except BoraError as error:
        LOGGER.error("error: %s", error)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
