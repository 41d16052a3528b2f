"""Synergies: the few directions in which the joints of a hand move together, learned from postures.

Six axes cannot command twelve joints one by one, but grasps vary mostly along a few directions.

Source: principal components of hand postures, Santello, Flanders and Soechting 1998.  We differ in one point: the axes
move the hand *along* the directions from wherever it is, they do not set it onto the plane; so a hand that is off the
plane stays there until it is moved.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bora_cli.errors import ConfigError, DataError
from bora_cli.input.device import F64

FORMAT = "bora synergies 1"
MAX_SYNERGIES = 6
"""As many as a device has axes."""
FLAT = 1e-6
"""Spread, rad, below which a direction is none."""


@dataclass(frozen=True)
class Synergies:
    """Directions of a hand.

    names: of the J joints.  mean: float64 [J] rad.  directions: float64 [K, J], orthonormal rows, most important
    first, each with its largest number positive.  spread: float64 [K] rad, standard deviation along each.
    explained: share of the variance that the K directions hold, 0 .. 1.  source: what they were learned from.
    """

    names: tuple[str, ...]
    mean: F64
    directions: F64
    spread: F64
    explained: float
    source: str = ""

    def __post_init__(self) -> None:
        joints, count = len(self.names), len(self.directions)
        shapes = (self.mean.shape, self.directions.shape, self.spread.shape)
        if shapes != ((joints,), (count, joints), (count,)) or not 1 <= count <= MAX_SYNERGIES:
            raise ConfigError(
                f"Synergies of {joints} joints have mean {shapes[0]}, directions {shapes[1]}, spread {shapes[2]};"
                f" expected ({joints},), (K, {joints}), (K,) with K from 1 to {MAX_SYNERGIES}.",
                "Make the file again with `bora hand fit`.",
            )
        if not all(np.isfinite(a).all() for a in (self.mean, self.directions, self.spread)):
            raise ConfigError(
                "Synergies have numbers that are not finite.", "Make the file again with `bora hand fit`."
            )
        gram = self.directions @ self.directions.T
        if not np.allclose(gram, np.eye(count), atol=1e-4) or (self.spread <= 0).any():
            raise ConfigError(
                "Synergies have directions that are not orthonormal, or a spread of 0;"
                " expected unit vectors at right angles, each with a positive spread.",
                "Make the file again with `bora hand fit`.",
            )
        for array in (self.mean, self.directions, self.spread):
            array.setflags(write=False)

    def project(self, posture: ArrayLike) -> F64:
        """Return the coordinates of a posture [J] along the directions, in spreads.  -> [K]"""
        return self.directions @ (np.asarray(posture, np.float64) - self.mean) / self.spread

    def lift(self, coordinates: ArrayLike) -> F64:
        """Return the posture [J] rad at coordinates [K] in spreads."""
        return self.mean + (np.asarray(coordinates, np.float64) * self.spread) @ self.directions

    def to_json(self) -> dict[str, Any]:
        """Return JSON values; `from_json` reads them."""
        return {
            "format": FORMAT,
            "joints": list(self.names),
            "unit": "rad",
            "mean": self.mean.tolist(),
            "directions": self.directions.tolist(),
            "spread": self.spread.tolist(),
            "explained": self.explained,
            "source": self.source,
        }

    @classmethod
    def from_json(cls, document: Any) -> Synergies:
        """Read what `to_json` wrote.  Raises ConfigError for anything else."""
        if not isinstance(document, Mapping) or document.get("format") != FORMAT:
            raise ConfigError(f"This is no file of synergies; expected format '{FORMAT}'.", _REMEDY)
        try:
            return cls(
                names=tuple(str(name) for name in document["joints"]),
                mean=np.array(document["mean"], np.float64),
                directions=np.atleast_2d(np.array(document["directions"], np.float64)),
                spread=np.array(document["spread"], np.float64),
                explained=float(document["explained"]),
                source=str(document.get("source", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"The file of synergies cannot be read: {error!r}.", _REMEDY) from error


_REMEDY = "Make one with `bora hand fit DATASET --out hand.json`."


def load_synergies(path: Path) -> Synergies:
    """Read a file that `bora hand fit` wrote.  Raises ConfigError if it is something else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", _REMEDY) from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError
        raise ConfigError(f"{path} is not JSON: {error}.", _REMEDY) from error
    return Synergies.from_json(document)


def fit_synergies(
    postures: ArrayLike, names: Sequence[str], count: int = MAX_SYNERGIES, source: str = ""
) -> Synergies:
    """Return the principal directions of postures [N, J] rad; fewer than `count` if the hand moved in fewer.

    Raises DataError where there is nothing to learn from, ConfigError for a count that no device has axes for.
    """
    if not 1 <= count <= MAX_SYNERGIES:
        raise ConfigError(
            f"{count} synergies were asked for; expected 1 to {MAX_SYNERGIES}, one per axis of a device."
        )
    angles = np.asarray(postures, np.float64)
    if angles.ndim != 2 or angles.shape[1] != len(names) or not np.isfinite(angles).all():
        raise DataError(
            f"Postures have shape {angles.shape}; expected finite numbers in (N, {len(names)}).",
            "`bora data check` says what is wrong with a dataset.",
        )
    if len(angles) < 2 or float(angles.std(axis=0).max()) < FLAT:
        raise DataError(
            f"The hand does not move in {len(angles)} postures; expected demonstrations in which it does.",
            "Name a dataset with grasps.",
        )
    mean = angles.mean(axis=0)
    _, singular, rows = np.linalg.svd(angles - mean, full_matrices=False)
    spread = singular / np.sqrt(len(angles))
    kept = min(count, int((spread > FLAT).sum()))
    directions = rows[:kept]
    largest = directions[np.arange(kept), np.abs(directions).argmax(axis=1)]
    explained = float((spread[:kept] ** 2).sum() / (spread**2).sum())
    return Synergies(
        tuple(names), mean, directions * np.sign(largest)[:, None], spread[:kept].copy(), explained, source
    )
