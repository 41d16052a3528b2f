"""Execution gaps: named ways in which the robot at deployment differs from the one of the demonstrations.

A gap acts on the execution, never on the task: what the policy commands is not quite what happens.  Every
method that is compared on a gap sees the same one, and its identity is stored with each episode.

Gaps are numbers; `bora_cli.sim.gap_effects` and `Simulation.step` carry them out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bora_cli.errors import ConfigError

Vector = tuple[float, float, float]

COMMAND_UNIT = 0.025
"""Largest translation per tick and axis [m]; the biases below are written as fractions of it."""
MAX_STRENGTH = 4.0
JOINT = "+"
"""What joins the names of gaps that act at once."""


@dataclass(frozen=True)
class Gap:
    """One execution gap at one strength, or several at once.

    action_bias: [3] m per tick in the world frame, added to the translation *after* the action limits.
    camera_shift: [3] m in the world frame, added to the position of the scene camera.
    friction_scale: factor on the sliding friction of every geom.  action_scale: factor on translation and
    rotation after the limits.  payload: kg on the hand that nobody told the arm about.  latency: ticks
    between a command and its execution.  hand_force: factor on stiffness and force of the hand's joints.
    """

    name: str
    strength: float
    action_bias: Vector = (0.0, 0.0, 0.0)
    camera_shift: Vector = (0.0, 0.0, 0.0)
    friction_scale: float = 1.0
    action_scale: float = 1.0
    payload: float = 0.0
    latency: int = 0
    hand_force: float = 1.0

    @property
    def identity(self) -> str:
        """Name and strength, for instance "deployment@1.0" or "bias@0.5+latency@2.0".

        Equal identities mean equal gaps, and `parse_gap` reads them.
        """
        return self.name if JOINT in self.name else f"{self.name}@{self.strength!r}"

    @property
    def active(self) -> bool:
        """Whether the gap changes anything at all."""
        return replace(self, name="", strength=1.0) != Gap("", 1.0)

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in document.items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Gap:
        """Rebuild a stored gap from its numbers, so that a later change of the table does not alter old data.

        What an older description does not mention is taken as unchanged.
        Raises ConfigError when a needed field is missing or is not what `to_json` writes.
        """
        try:
            return cls(
                name=str(data["name"]),
                strength=float(data["strength"]),
                action_bias=_vector(data["action_bias"]),
                camera_shift=_vector(data["camera_shift"]),
                friction_scale=float(data["friction_scale"]),
                action_scale=float(data.get("action_scale", 1.0)),
                payload=float(data.get("payload", 0.0)),
                latency=int(data.get("latency", 0)),
                hand_force=float(data.get("hand_force", 1.0)),
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


_BIAS = _commands(0.08, -0.06, 0.03)

GAPS: dict[str, Gap] = {
    gap.name: gap
    for gap in (
        Gap("none", 1.0),
        Gap("bias", 1.0, action_bias=_BIAS),
        Gap("friction", 1.0, friction_scale=0.3),
        Gap("camera_shift", 1.0, camera_shift=(0.0, 0.05, 0.02)),
        Gap("deployment", 1.0, action_bias=_BIAS, camera_shift=(0.0, 0.02, 0.01), friction_scale=0.7),
        Gap("scale", 1.0, action_scale=0.84),
        Gap("overshoot", 1.0, action_scale=1.14),
        Gap("payload", 1.0, payload=2.0),
        Gap("latency", 1.0, latency=1),
        Gap("weak_hand", 1.0, hand_force=0.35),
    )
}
"""Every gap at strength 1.  `deployment` combines the bias with milder versions of the next two; `scale` and
`overshoot` reach the factors 0.7 and 1.3 at strength 2."""


def get_gap(name: str, strength: float = 1.0) -> Gap:
    """Return a named gap at a strength.

    strength: 0 .. 4; bias, shift, payload and latency grow in proportion, factors are raised to this power
    (so they stay positive); 0 changes nothing, 1 is the entry of `GAPS`.
    Raises ConfigError for an unknown name, a strength outside the range or of no gap at all, or a fraction of a tick.
    """
    if name not in GAPS:
        raise ConfigError(f"Unknown execution gap '{name}'.", f"Known gaps: {', '.join(GAPS)}.")
    if not (math.isfinite(strength) and 0.0 <= strength <= MAX_STRENGTH):
        raise ConfigError(
            f"Gap strength {strength} is out of range; expected 0 to {MAX_STRENGTH:g}.",
            "1.0 is the gap as it stands in the table, 0.5 is half of it.",
        )
    if name == "none" and strength != 1.0:
        raise ConfigError(f"Gap none has no strength; got {strength:g}.", "Write none, or name a gap.")
    unit = GAPS[name]
    ticks = unit.latency * strength
    if not float(ticks).is_integer():
        raise ConfigError(
            f"Gap {name}@{strength:g} delays by {ticks:g} ticks; expected a whole number.",
            f"Write for instance {name}@1 or {name}@2.",
        )
    bias, shift = unit.action_bias, unit.camera_shift
    return Gap(
        name=name,
        strength=float(strength),
        action_bias=(bias[0] * strength, bias[1] * strength, bias[2] * strength),
        camera_shift=(shift[0] * strength, shift[1] * strength, shift[2] * strength),
        friction_scale=unit.friction_scale**strength,
        action_scale=unit.action_scale**strength,
        payload=unit.payload * strength,
        latency=int(ticks),
        hand_force=unit.hand_force**strength,
    )


def combine(gaps: Sequence[Gap]) -> Gap:
    """Return several named gaps at once: shifts, masses and delays add up, factors multiply.

    Raises ConfigError when a gap is named twice: which strength was meant?
    """
    order = list(GAPS)
    parts = sorted((g for g in gaps if g.name != "none"), key=lambda g: order.index(g.name))
    if len(parts) < 2:
        return parts[0] if parts else get_gap("none")
    names = [g.name for g in parts]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise ConfigError(
            f"Gap '{twice[0]}' is named twice.", f"Name it once, with its strength: {twice[0]}@2."
        )
    return Gap(
        name=JOINT.join(g.identity for g in parts),
        strength=1.0,
        action_bias=_sum([g.action_bias for g in parts]),
        camera_shift=_sum([g.camera_shift for g in parts]),
        friction_scale=math.prod(g.friction_scale for g in parts),
        action_scale=math.prod(g.action_scale for g in parts),
        payload=sum(g.payload for g in parts),
        latency=sum(g.latency for g in parts),
        hand_force=math.prod(g.hand_force for g in parts),
    )


def parse_gap(text: str) -> Gap:
    """Return the gap that a command line names: "deployment", "deployment@0.5" or "bias@2+latency".

    Raises ConfigError for an unknown name or a strength that is no number in range.
    """
    return combine([_parse_one(part) for part in text.split(JOINT)]) if JOINT in text else _parse_one(text)


def _parse_one(text: str) -> Gap:
    name, _, strength = text.strip().partition("@")
    try:
        number = float(strength) if strength else 1.0
    except ValueError as error:
        raise ConfigError(
            f"Gap strength '{strength}' is not a number.", f"Write for instance {name}@0.5."
        ) from error
    return get_gap(name, number)


def _sum(vectors: Sequence[Vector]) -> Vector:
    x, y, z = (math.fsum(axis) for axis in zip(*vectors, strict=True))
    return x, y, z
