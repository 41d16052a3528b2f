"""Make a profile for a new rig from one that comes with bora."""

from __future__ import annotations

import re
from pathlib import Path

from bora_cli.errors import ConfigError
from bora_cli.profiles.load import find_profile, load_profile

SIGNED = ("acknowledged_by", "verified_by")
"""Keys that name who answers for the numbers; nobody does so for a copy."""

UDEV_RULES = """\
# SpaceMouse without root.  Save as /etc/udev/rules.d/70-bora-spacemouse.rules (the name must sort before 73), then
# udevadm control --reload && udevadm trigger, and plug the device in again.
# uaccess lets in whoever sits at the machine; the group lets in people over SSH: usermod -aG plugdev NAME.
KERNEL=="hidraw*", ATTRS{idVendor}=="256f", GROUP="plugdev", MODE="0660", TAG+="uaccess"
KERNEL=="hidraw*", ATTRS{idVendor}=="046d", ATTRS{idProduct}=="c62[5-9b]", GROUP="plugdev", MODE="0660", TAG+="uaccess"
KERNEL=="hidraw*", KERNELS=="0005:256F:*", GROUP="plugdev", MODE="0660", TAG+="uaccess"
"""
"""3Dconnexion's own vendor id, the older Logitech products, and Bluetooth devices, which have no USB attributes."""


def new_profile(name: str, like: str, out: Path) -> Path:
    """Write a copy of a robot's profile under a new name, unsigned, and return the file.

    Comments stay, so that the lines to be verified are still marked.  Raises ConfigError if the name is not one of
    small letters, digits and _, or the file exists; nothing is written over.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(
            f"Profile name '{name}' has something else than small letters, digits and _.",
            "As in left_franka.",
        )
    if out.exists():
        raise ConfigError(f"{out} exists.", "Choose another --out; profiles are never written over.")
    path = find_profile(like)
    load_profile(path)
    text = re.sub(r'(?m)^name = ".*"$', f'name = "{name}"', path.read_text(encoding="utf-8"), count=1)
    for key in SIGNED:
        text = re.sub(rf'(?m)^{key} = ".*"$', f'{key} = ""', text)
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("x", encoding="utf-8") as file:
        file.write(text)
    return out
