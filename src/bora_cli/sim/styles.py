"""How people demonstrate and correct: the expert, and the structured mistakes of mixed demonstrations.

Structured mistakes are biased and persistent on purpose: errors that differ from tick to tick average out in
a cloned policy, a goal that is always displaced to the same side does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bora_cli.sim.tasks import get_task


@dataclass(frozen=True)
class OperatorStyle:
    """How a person drives.

    noise: standard deviation per tick, in units of the action range, of the translation (half of it on the
    rotation, 0.3 of it on the hand).  goal_error_m: standard deviation of an offset of all goals after the
    first, drawn once per attempt.  speed: bound on the translation, 1 is the action limit.
    mistake: None, depth (goal too close to the scene camera), high, premature (fingers close during the
    descent), early (lets go, or retreats, too early), hesitate (pauses) or other (goes for the object that the
    instruction does not mean).  mistake_size: m for depth and high, ticks for early and for the length of
    pauses.  retry_probability: that a failed attempt is noticed and repeated without the mistake.
    """

    noise: float = 0.0
    goal_error_m: float = 0.0
    speed: float = 1.0
    mistake: str | None = None
    mistake_size: float = 0.0
    retry_probability: float = 1.0


EXPERT = OperatorStyle()
CORRECTOR = OperatorStyle(noise=0.08)
"""The person who takes over from a policy: careful, not perfect."""


@dataclass(frozen=True)
class Mixture:
    """The styles of mixed demonstrations of a task.

    shares: mistake (or good) -> probability, in the order of the draw.  sizes: mistake -> range of its size.
    """

    shares: dict[str, float]
    sizes: dict[str, tuple[float, float]]
    retry_probability: float


MIXTURES: dict[str, Mixture] = {
    "pick_toy": Mixture(
        {"good": 0.22, "depth": 0.26, "high": 0.19, "premature": 0.13, "early": 0.12, "hesitate": 0.08},
        {"depth": (0.032, 0.055), "high": (0.018, 0.034), "early": (2, 4), "hesitate": (4, 9)},
        0.35,
    ),
    "open_box": Mixture(
        {"good": 0.22, "depth": 0.26, "high": 0.19, "premature": 0.13, "early": 0.12, "hesitate": 0.08},
        {
            "depth": (0.040, 0.060),
            "high": (0.020, 0.036),
            "premature": (0.012, 0.024),
            "early": (2, 4),
            "hesitate": (4, 9),
        },
        0.35,
    ),
    "press_button": Mixture(
        {"good": 0.12, "depth": 0.36, "high": 0.24, "early": 0.20, "hesitate": 0.08},
        {"depth": (0.026, 0.045), "high": (0.034, 0.050), "hesitate": (4, 9)},
        0.15,
    ),
    "pick_place": Mixture(
        {
            "good": 0.20,
            "depth": 0.28,
            "high": 0.12,
            "premature": 0.12,
            "early": 0.12,
            "hesitate": 0.06,
            "other": 0.10,
        },
        {"depth": (0.032, 0.055), "high": (0.022, 0.040), "early": (3, 8), "hesitate": (4, 9)},
        0.25,
    ),
    "pull_tissue": Mixture(
        {
            "good": 0.20,
            "depth": 0.28,
            "high": 0.12,
            "premature": 0.12,
            "early": 0.12,
            "hesitate": 0.06,
            "other": 0.10,
        },
        {"depth": (0.032, 0.055), "high": (0.022, 0.040), "early": (2, 4), "hesitate": (4, 9)},
        0.35,
    ),
}


def mixed_style(rng: np.random.Generator, task: str) -> OperatorStyle:
    """Draw the style of one sloppy demonstration: always some noise, usually one structured mistake."""
    get_task(task)
    mixture = MIXTURES[task]
    names = list(mixture.shares)
    name = names[int(rng.choice(len(names), p=list(mixture.shares.values())))]
    slow, speed = float(rng.uniform(0.4, 0.6)), float(rng.uniform(0.75, 1.0))
    low, high = mixture.sizes.get(name, (0.0, 0.0))
    return OperatorStyle(
        noise=0.06,
        goal_error_m=0.003,
        speed=slow if name == "hesitate" else speed,
        mistake=None if name == "good" else name,
        mistake_size=float(rng.uniform(low, high)),
        retry_probability=mixture.retry_probability,
    )
