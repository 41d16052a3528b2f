"""Execution gaps: named ways in which the robot at deployment differs from the one of the demonstrations.

A gap acts on the execution, never on the task: what the policy commands is not quite what happens.  Every
method that is compared on a gap sees the same one, and its identity is stored with each episode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from bora_cli.errors import ConfigError

Vector = tuple[float, float, float]

COMMAND_UNIT = 0.025
"""Largest translation per tick and axis [m]; the biases below are written as fractions of it."""
MAX_STRENGTH = 4.0


@dataclass(frozen=True)
class Gap:
    """One execution gap at one strength.

    action_bias: [3] m per tick in the world frame, added to the translation *after* the action limits.
    camera_shift: [3] m in the world frame, added to the position of the scene camera.
    friction_scale: factor on the sliding friction of every geom.
    """

    name: str
    strength: float
    action_bias: Vector
    camera_shift: Vector
    friction_scale: float

    @property
    def identity(self) -> str:
        """Name and strength, for instance "deployment@1.0"; equal identities mean equal gaps."""
        return f"{self.name}@{self.strength!r}"

    @property
    def active(self) -> bool:
        """Whether the gap changes anything at all."""
        return (self.action_bias, self.camera_shift, self.friction_scale) != (_ZERO, _ZERO, 1.0)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "strength": self.strength,
            "action_bias": list(self.action_bias),
            "camera_shift": list(self.camera_shift),
            "friction_scale": self.friction_scale,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Gap:
        """Rebuild a stored gap from its numbers, so that a later change of the table does not alter old data.

        Raises ConfigError when a field is missing or is not what `to_json` writes.
        """
        try:
            return cls(
                name=str(data["name"]),
                strength=float(data["strength"]),
                action_bias=_vector(data["action_bias"]),
                camera_shift=_vector(data["camera_shift"]),
                friction_scale=float(data["friction_scale"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"Not the description of an execution gap: {data!r} ({error}).",
                "Expected name, strength, action_bias [3], camera_shift [3] and friction_scale.",
            ) from error


def _vector(values: Any) -> Vector:
    x, y, z = values
    return float(x), float(y), float(z)


def _commands(x: float, y: float, z: float) -> Vector:
    return x * COMMAND_UNIT, y * COMMAND_UNIT, z * COMMAND_UNIT


_ZERO: Vector = (0.0, 0.0, 0.0)

GAPS: dict[str, Gap] = {
    gap.name: gap
    for gap in (
        Gap("none", 1.0, _ZERO, _ZERO, 1.0),
        Gap("bias", 1.0, _commands(0.08, -0.06, 0.03), _ZERO, 1.0),
        Gap("friction", 1.0, _ZERO, _ZERO, 0.3),
        Gap("camera_shift", 1.0, _ZERO, (0.0, 0.05, 0.02), 1.0),
        Gap("deployment", 1.0, _commands(0.08, -0.06, 0.03), (0.0, 0.02, 0.01), 0.7),
    )
}
"""Every gap at strength 1.  `deployment` combines the bias with milder versions of the other two."""


def get_gap(name: str, strength: float = 1.0) -> Gap:
    """Return a named gap at a strength.

    strength: 0 .. 4; bias and shift grow in proportion, the friction factor is raised to this power (so it
    stays positive); 0 changes nothing, 1 is the entry of `GAPS`.
    Raises ConfigError for an unknown name or a strength outside the range.
    """
    if name not in GAPS:
        raise ConfigError(f"Unknown execution gap '{name}'.", f"Known gaps: {', '.join(GAPS)}.")
    if not (math.isfinite(strength) and 0.0 <= strength <= MAX_STRENGTH):
        raise ConfigError(
            f"Gap strength {strength} is out of range; expected 0 to {MAX_STRENGTH:g}.",
            "1.0 is the gap as it stands in the table, 0.5 is half of it.",
        )
    unit = GAPS[name]
    bias, shift = unit.action_bias, unit.camera_shift
    return Gap(
        name=name,
        strength=float(strength),
        action_bias=(bias[0] * strength, bias[1] * strength, bias[2] * strength),
        camera_shift=(shift[0] * strength, shift[1] * strength, shift[2] * strength),
        friction_scale=unit.friction_scale**strength,
    )


def parse_gap(text: str) -> Gap:
    """Return the gap that a command line names: "deployment" or "deployment@0.5".

    Raises ConfigError for an unknown name or a strength that is no number in range.
    """
    name, _, strength = text.partition("@")
    try:
        return get_gap(name, float(strength) if strength else 1.0)
    except ValueError as error:
        raise ConfigError(
            f"Gap strength '{strength}' is not a number.", f"Write for instance {name}@0.5."
        ) from error
