"""A Franka with a DexHand 021: `bora robot serve --driver franka_dexhand021:connect --profile MY_RIG.toml`.

NEVER RUN ON HARDWARE.  Tests run it against fakes that record the makers' calls.
"""

from __future__ import annotations

from dexhand021 import DexHand021
from franka import FrankaArm
from parts import ArmWithHand
from realsense import open_cameras

from bora_cli.errors import DeviceError
from bora_cli.profiles import HardwareProfile

ARM_ADDRESS = "172.16.0.2"
"""Of the arm's control interface (FCI).  Yours may differ."""

SERIALS = {"scene": "", "wrist": ""}
"""Of your cameras, by their names in the profile; `rs-enumerate-devices` lists them."""


def connect(profile: HardwareProfile) -> ArmWithHand:
    """Return the robot of a profile; every device is opened."""
    try:
        import franky
        import pyrealsense2
        from pyzlg_dexhand.dexhand_interface import LeftDexHand, RightDexHand
        from pyzlg_dexhand.dexhand_protocol.commands import FeedbackMode
    except ImportError as error:
        raise DeviceError(
            f"{error}.",
            "pip install franky-control pyrealsense2; the hand's package is at github.com/DexRobot/pyzlg_dexhand.",
        ) from error
    cameras = open_cameras(pyrealsense2, SERIALS, profile)
    hand = {"left": LeftDexHand, "right": RightDexHand}[profile.hand.side]()
    arm = FrankaArm(franky, franky.Robot(ARM_ADDRESS), profile)
    return ArmWithHand(profile, arm, DexHand021(hand, FeedbackMode.PERIODIC, profile), cameras)
