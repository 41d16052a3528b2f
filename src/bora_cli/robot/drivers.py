"""Find the driver of a robot that is not part of bora."""

from __future__ import annotations

import importlib
from typing import Any

from bora_cli.errors import ConfigError
from bora_cli.robot.protocol import Robot

METHODS = ("spec", "reset", "observe", "command", "hold", "close")


def load_driver(name: str, profile: Any) -> Robot:
    """Return the robot that MODULE:NAME makes when it is called with a hardware profile.

    Raises ConfigError if the module cannot be imported, has no such name, or makes something that is no robot.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f"Driver '{name}' is not of the form MODULE:NAME.", "As in my_lab.franka:connect.")
    try:
        maker = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(
            f"The module of driver {name} cannot be imported: {error}.",
            "Install it, or put its directory on PYTHONPATH.",
        ) from error
    if not callable(maker):
        raise ConfigError(f"Module {module} has nothing callable named '{attribute}'.", "Change --driver.")
    robot = maker(profile)
    missing = [method for method in METHODS if not hasattr(robot, method)]
    if missing:
        raise ConfigError(
            f"What {name} makes has no {', '.join(missing)}; a robot has {', '.join(METHODS)}.",
            "See bora_cli.robot.protocol.Robot.",
        )
    made: Robot = robot
    return made
