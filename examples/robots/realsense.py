"""RealSense cameras through pyrealsense2 (names checked on the installed 2.59.1), never run with a camera."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import DeviceError, RobotFault
from bora_cli.profiles import HardwareProfile
from bora_cli.profiles.schema import Camera as CameraProfile

FIRST_S = 5.0
"""How long a camera may take for its first image."""


class RealSense:
    """The colour stream of one camera, as its profile says; rs: the module.

    `read` never waits: it returns the latest image with the time at which it arrived at this computer, so a camera
    that stopped shows an image that grows old, and the guard's watchdog stops the robot.
    """

    def __init__(
        self,
        rs: Any,
        serial: str,
        camera: CameraProfile,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._rs, self._clock, self._wall = rs, clock, wall
        self._name = camera.name
        self._pipeline = rs.pipeline()
        config = rs.config()
        config.enable_device(serial)
        config.enable_stream(rs.stream.color, camera.width, camera.height, rs.format.rgb8, round(camera.rate))
        try:
            self._pipeline.start(config)
            frames = self._pipeline.wait_for_frames(round(1000 * FIRST_S))
        except RuntimeError as error:
            raise DeviceError(
                f"Camera {camera.name} ({serial}) does not start: {error}.",
                "Check its serial number, its cable (USB 3), and that its profile's size and rate exist.",
            ) from error
        self._latest = self._taken(frames)

    def read(self) -> tuple[float, NDArray[np.uint8]]:
        """Return stamp and the latest image, uint8 [H, W, 3], RGB."""
        try:
            frames = self._pipeline.poll_for_frames()
        except RuntimeError as error:
            raise RobotFault(
                f"Camera {self._name} is gone: {error}.", "Plug it in and begin again."
            ) from error
        if frames.get_color_frame():
            self._latest = self._taken(frames)
        return self._latest

    def close(self) -> None:
        """Stop the stream."""
        self._pipeline.stop()

    def _taken(self, frames: Any) -> tuple[float, NDArray[np.uint8]]:
        frame = frames.get_color_frame()
        image = np.array(frame.get_data(), np.uint8)  # a copy: the library uses its buffer again
        arrival = self._rs.frame_metadata_value.time_of_arrival
        late = 0.0
        if frame.supports_frame_metadata(arrival):  # milliseconds since 1970
            late = max(0.0, self._wall() - 1e-3 * frame.get_frame_metadata(arrival))
        return self._clock() - late, image


def open_cameras(rs: Any, serials: Mapping[str, str], profile: HardwareProfile) -> list[RealSense]:
    """Return the cameras of a profile, in its order, by their serial numbers; those opened are closed if one fails."""
    opened: list[RealSense] = []
    try:
        for camera in profile.cameras:
            if not serials.get(camera.name):
                raise DeviceError(
                    f"Camera {camera.name} has no serial number.",
                    "Write it into SERIALS; rs-enumerate-devices lists them.",
                )
            opened.append(RealSense(rs, serials[camera.name], camera))
    except DeviceError:
        for one in opened:
            one.close()
        raise
    return opened
