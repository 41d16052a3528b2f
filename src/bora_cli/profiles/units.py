"""Physical quantities as text: "0.25 m/s", "90 deg", "0.25 -0.35 0.012 m"; parsed into SI numbers."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

UNITS: dict[str, tuple[str, float]] = {
    "m": ("m", 1.0),
    "cm": ("m", 1e-2),
    "mm": ("m", 1e-3),
    "rad": ("rad", 1.0),
    "deg": ("rad", math.pi / 180),
    "s": ("s", 1.0),
    "ms": ("s", 1e-3),
    "Hz": ("Hz", 1.0),
    "m/s": ("m/s", 1.0),
    "mm/s": ("m/s", 1e-3),
    "rad/s": ("rad/s", 1.0),
    "deg/s": ("rad/s", math.pi / 180),
    "m/s^2": ("m/s^2", 1.0),
    "m/s^3": ("m/s^3", 1.0),
    "rad/s^2": ("rad/s^2", 1.0),
    "rad/s^3": ("rad/s^3", 1.0),
}
"""unit as written -> (SI unit, factor)."""


def quantity(unit: str, size: int | None = 1) -> BeforeValidator:
    """Return a parser of text such as "250 mm/s" into SI numbers of `unit`.

    size: how many numbers share the unit; 1 gives a float, otherwise a tuple; None is any number of them.
    """
    accepted = ", ".join(name for name, (si, _) in UNITS.items() if si == unit)
    example = " ".join(["0.25"] * (size or 3)) + f" {unit}"

    def parse(value: Any) -> Any:
        if isinstance(value, int | float):
            raise ValueError(f'{value} has no unit; expected text like "{example}" (units: {accepted})')
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f'{value!r} is not a quantity; expected text like "{example}"')
        *numbers, written = value.split()
        if UNITS.get(written, ("", 0.0))[0] != unit:
            raise ValueError(
                f'"{value}" does not end in a unit of the right kind; expected one of: {accepted}'
            )
        try:
            parsed = [float(x) * UNITS[written][1] for x in numbers]
        except ValueError:
            raise ValueError(
                f'"{value}" is not a number with a unit; expected text like "{example}"'
            ) from None
        if (size is not None and len(parsed) != size) or not all(math.isfinite(x) for x in parsed):
            raise ValueError(
                f'"{value}" is not {size or "some"} finite number(s) with a unit, as in "{example}"'
            )
        return parsed[0] if size == 1 else tuple(parsed)

    return BeforeValidator(parse)


Metres = Annotated[float, quantity("m")]
Radians = Annotated[float, quantity("rad")]
Seconds = Annotated[float, quantity("s"), Field(gt=0)]
Hertz = Annotated[float, quantity("Hz"), Field(gt=0)]
Speed = Annotated[float, quantity("m/s"), Field(gt=0)]
AngularSpeed = Annotated[float, quantity("rad/s"), Field(gt=0)]
Acceleration = Annotated[float, quantity("m/s^2"), Field(gt=0)]
Jerk = Annotated[float, quantity("m/s^3"), Field(gt=0)]
AngularAcceleration = Annotated[float, quantity("rad/s^2"), Field(gt=0)]
AngularJerk = Annotated[float, quantity("rad/s^3"), Field(gt=0)]
Point = Annotated[tuple[float, float, float], quantity("m", 3)]
Angles = Annotated[tuple[float, ...], quantity("rad", None)]
