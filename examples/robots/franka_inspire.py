"""A Franka with an Inspire RH56: `bora robot serve --driver franka_inspire:connect --profile MY_RIG.toml`.

NEVER RUN ON HARDWARE.  Tests run it against fakes that record the makers' calls.
"""

from __future__ import annotations

from franka import FrankaArm
from inspire import InspireHand
from parts import ArmWithHand
from realsense import open_cameras

from bora_cli.errors import DeviceError
from bora_cli.profiles import HardwareProfile

ARM_ADDRESS = "172.16.0.2"
"""Of the arm's control interface (FCI).  Yours may differ."""
HAND_ADDRESS, HAND_PORT = "192.168.11.210", 6000
"""As the hand comes from the factory.  Yours may differ."""

SERIALS = {"scene": "", "wrist": ""}
"""Of your cameras, by their names in the profile; `rs-enumerate-devices` lists them."""


def connect(profile: HardwareProfile) -> ArmWithHand:
    """Return the robot of a profile; every device is opened."""
    try:
        import franky
        import pyrealsense2
        from pymodbus.client import ModbusTcpClient
    except ImportError as error:
        raise DeviceError(f"{error}.", "pip install franky-control pymodbus pyrealsense2") from error
    cameras = open_cameras(pyrealsense2, SERIALS, profile)
    client = ModbusTcpClient(HAND_ADDRESS, port=HAND_PORT)
    if not client.connect():
        raise DeviceError(
            f"The hand does not answer at {HAND_ADDRESS}:{HAND_PORT}.", "Check its address and power."
        )
    arm = FrankaArm(franky, franky.Robot(ARM_ADDRESS), profile)
    return ArmWithHand(profile, arm, InspireHand(client, profile), cameras)
