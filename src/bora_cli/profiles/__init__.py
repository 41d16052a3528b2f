"""Hardware profiles: one TOML file per rig with the numbers a person has to answer for.

Every physical quantity is written with its unit ("0.25 m/s", "90 deg", "0.25 -0.35 0.012 m") and is converted
to SI; a bare number or a unit of another kind is refused.  A profile may tighten the safety limits of
`CODE_LIMITS` freely; it may loosen one only if `limits.acknowledged_by` names the person who answers for it.
"""

from bora_cli.profiles.env import EnvProfile
from bora_cli.profiles.load import (
    ProfileFinding,
    check_profile,
    find_profile,
    list_environments,
    list_profiles,
    load_environment,
    load_profile,
    read_profile,
    require_fit,
)
from bora_cli.profiles.new import UDEV_RULES, new_profile
from bora_cli.profiles.schema import CODE_LIMITS, CODE_WORKSPACE, HardwareProfile, Limits

__all__ = [
    "CODE_LIMITS",
    "CODE_WORKSPACE",
    "UDEV_RULES",
    "EnvProfile",
    "HardwareProfile",
    "Limits",
    "ProfileFinding",
    "check_profile",
    "find_profile",
    "list_environments",
    "list_profiles",
    "load_environment",
    "load_profile",
    "new_profile",
    "read_profile",
    "require_fit",
]
