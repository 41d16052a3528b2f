"""A Franka with an Inspire RH56: `bora robot serve --driver franka_inspire:connect --profile MY_RIG.toml`.

NEVER RUN ON HARDWARE.  Tests run it against fakes that record the makers' calls.  Cameras are yours to add.
"""

from __future__ import annotations

from franka import FrankaArm
from inspire import InspireHand
from parts import ArmWithHand

from bora_cli.errors import DeviceError
from bora_cli.profiles import HardwareProfile

ARM_ADDRESS = "172.16.0.2"
"""Of the arm's control interface (FCI).  Yours may differ."""
HAND_ADDRESS, HAND_PORT = "192.168.11.210", 6000
"""As the hand comes from the factory.  Yours may differ."""


def connect(profile: HardwareProfile) -> ArmWithHand:
    """Return the robot of a profile; both devices are opened."""
    try:
        import franky
        from pymodbus.client import ModbusTcpClient
    except ImportError as error:
        raise DeviceError(f"{error}.", "pip install franky-control pymodbus") from error
    client = ModbusTcpClient(HAND_ADDRESS, port=HAND_PORT)
    if not client.connect():
        raise DeviceError(
            f"The hand does not answer at {HAND_ADDRESS}:{HAND_PORT}.", "Check its address and power."
        )
    arm = FrankaArm(franky, franky.Robot(ARM_ADDRESS), profile)
    return ArmWithHand(profile, arm, InspireHand(client, profile))
