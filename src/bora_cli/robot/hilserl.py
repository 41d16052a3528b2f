"""The robot behind HIL-SERL's HTTP server (`robot_servers/franka_server.py`), as a robot.

That server takes a pose at any time from anybody, keeps the last one, and knows no deadline, no sequence and no watch
over silence.  So one process of ours, next to it, drives it and serves our protocol: `bora robot serve --driver`,
or `python -m bora_cli.robot.bare`.  Written against the published source, tried with a server that answers alike, never
with an arm.  Needs numpy and the standard library.
"""

from __future__ import annotations

import http.client
import json
import logging
import time
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError, DeviceError, RobotFault
from bora_cli.robot.frames import matrix_of, quaternion_of
from bora_cli.robot.protocol import CameraSpec, Reading, RobotSpec, Target, require_joints

F64 = NDArray[np.float64]
LOGGER = logging.getLogger(__name__)
GRIPPER = "gripper"
CLOSED = 255
"""What `/move_gripper` calls closed; `gripper_pos` of `/getstate` is 1 where it is open."""


class Camera(Protocol):
    """A camera of this computer; HIL-SERL's server has none.  height, width: px."""

    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    def read(self) -> tuple[float, NDArray[np.uint8]]:
        """Return stamp (s) and the latest image, uint8 [H, W, 3], RGB, without waiting for the next one."""
        ...


class HilSerlRobot:
    """An arm with a gripper behind HIL-SERL's server; the gripper is one joint from 0, open, to 1, closed.

    url: as in http://127.0.0.1:5000.  tool_point: float [3], m, the controlled point in the frame of the arm's end
    effector.  cameras: by name.  timeout: s for one answer.  moves_gripper: whether there is a gripper that goes where
    it is told; without one the joint stays at 0.  profile_hash: of the profile it is set up with.
    """

    def __init__(
        self,
        url: str,
        *,
        dt: float = 0.1,
        tool_point: tuple[float, float, float] = (0.0, 0.0, 0.0),
        cameras: Mapping[str, Camera] | None = None,
        timeout: float = 0.5,
        moves_gripper: bool = True,
        profile_hash: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError(f"'{url}' is no address of a HIL-SERL server.", "As in http://127.0.0.1:5000.")
        self._address, self._timeout = (parts.hostname, parts.port or 80), timeout
        self._cameras = dict(cameras or {})
        self._tool = np.asarray(tool_point, np.float64)
        self._moves_gripper = moves_gripper
        self._clock = clock
        self._target: Target | None = None
        self._gripper = -1
        self._closed = False
        self.spec = RobotSpec(
            name="hilserl",
            joints=(GRIPPER,),
            low=(0.0,),
            high=(1.0,),
            dt=dt,
            cameras=tuple(CameraSpec(name, c.height, c.width) for name, c in self._cameras.items()),
            profile_hash=profile_hash,
        )

    def reset(self) -> Reading:
        """Clear the arm's errors, and be at rest where it stands; `/jointreset` moves it, so it is not called."""
        self._ask("clearerr")
        self._closed = False
        self.hold()
        return self.observe(images=False)

    def observe(self, images: bool = True) -> Reading:
        """Return what the server says now; its numbers have no stamp, so they are as old as the question."""
        now, position, rotation, hand, arm = self._read()
        if self._target is None:
            self._target = Target(position, rotation, np.clip(hand, 0.0, 1.0))
        pictures = {name: camera.read() for name, camera in self._cameras.items()} if images else {}
        return Reading(
            now,
            position,
            rotation,
            hand,
            _copy(self._target),
            {name: image for name, (_, image) in pictures.items()},
            {name: stamp for name, (stamp, _) in pictures.items()},
            arm,
        )

    def command(self, target: Target, *, deadline: float) -> Target:
        """Send a pose and the gripper, unless they are late or nonsense."""
        require_joints(target, self.spec)
        if self._closed:
            raise RobotFault(f"{self.spec.name} is closed.", "Connect again.")
        if self._target is None:
            self.observe(images=False)
        assert self._target is not None
        if target.sound and self._clock() <= deadline:
            hand = np.clip(target.hand, 0.0, 1.0) if self._moves_gripper else np.zeros(1)
            self._go(target.position, target.rotation)
            wanted = round(CLOSED * float(hand[0]))
            if self._moves_gripper and wanted != self._gripper:
                self._ask("move_gripper", {"gripper_pos": wanted})
                self._gripper = wanted
            self._target = Target(target.position.copy(), target.rotation.copy(), hand)
        return _copy(self._target)

    def hold(self) -> None:
        """Make the measured pose the goal of the impedance controller."""
        self._target, self._gripper = None, -1
        if self._closed:
            return
        try:
            _, position, rotation, hand, _ = self._read()
            self._go(position, rotation)
            if self._moves_gripper:
                self._ask("move_gripper", {"gripper_pos": round(CLOSED * float(np.clip(hand[0], 0.0, 1.0)))})
        except Exception:
            LOGGER.exception(
                "The server at %s:%d did not take a hold; use the emergency stop", *self._address
            )

    def close(self) -> None:
        """Hold; the server goes on by itself."""
        self.hold()
        self._closed = True

    def _read(self) -> tuple[float, F64, F64, F64, F64 | None]:
        now = self._clock()
        try:
            state = json.loads(self._ask("getstate"))
            pose = np.array(state["pose"], np.float64)
            closed = 1.0 - float(state["gripper_pos"]) if self._moves_gripper else 0.0
            arm = np.array(state["q"], np.float64) if "q" in state else None
            if pose.shape != (7,):
                raise ValueError(f"a pose of shape {pose.shape}")
        except (ValueError, KeyError, TypeError) as error:
            raise RobotFault(
                f"/getstate of {self._address[0]}:{self._address[1]} did not give pose and gripper_pos"
                f" ({type(error).__name__}: {error}).",
                "Is it HIL-SERL's franka_server.py?",
            ) from error
        rotation = matrix_of(pose[3:])
        return now, pose[:3] + rotation @ self._tool, rotation, np.array([closed]), arm

    def _go(self, position: F64, rotation: F64) -> None:
        flange = position - rotation @ self._tool
        self._ask("pose", {"arr": [*flange.tolist(), *quaternion_of(rotation).tolist()]})

    def _ask(self, verb: str, body: dict[str, Any] | None = None) -> bytes:
        """Post a request and return the answer.  Raises DeviceError if there is none, RobotFault if it is a refusal."""
        connection = http.client.HTTPConnection(*self._address, timeout=self._timeout)
        try:
            text = json.dumps(body if body is not None else {})
            connection.request("POST", f"/{verb}", text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            where = f"{self._address[0]}:{self._address[1]}"
            raise DeviceError(
                f"The HIL-SERL server at {where} did not answer /{verb}: {error or type(error).__name__}.",
                "It keeps its last pose; is franka_server.py running?",
            ) from error
        finally:
            connection.close()
        if answer.status != http.client.OK:
            raise RobotFault(
                f"The HIL-SERL server refused /{verb} with {answer.status}.", "Its terminal says why."
            )
        return data


def _copy(target: Target) -> Target:
    return Target(target.position.copy(), target.rotation.copy(), target.hand.copy())
