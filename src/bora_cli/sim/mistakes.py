"""Demonstrations of any quality: which mistakes, how often, how grave.

A quality is a list such as "early_release=0.3,wrong_height@1.5=0.2": three demonstrations in ten let go too
early, two in ten aim half as far again too high as is usual, the rest are good.  One demonstration makes at
most one kind of mistake.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bora_cli.errors import ConfigError
from bora_cli.sim.styles import EXPERT, MIXTURES, OperatorStyle, mixed_style
from bora_cli.sim.tasks import get_task

MISTAKES: dict[str, str | None] = {
    "off_centre": "depth",
    "wrong_height": "high",
    "early_closing": "premature",
    "early_release": "early",
    "hesitation": "hesitate",
    "wrong_object": "other",
    "jitter": None,
}
"""Name for people -> `OperatorStyle.mistake`; jitter is no wrong intention, only an unsteady hand."""
STEADY, UNSTEADY = 0.06, 0.25
"""Noise of a demonstration (`OperatorStyle.noise`) without and with jitter of strength 1."""
CLOSING_HEIGHT = (0.0, 0.012)
"""How much higher than the object an early hand closes, m, where the task's mixture does not say."""
MAX_STRENGTH = 4.0


@dataclass(frozen=True)
class Mistake:
    """One kind of mistake.  share: of the demonstrations, 0..1.  strength: factor on its usual size."""

    name: str
    share: float
    strength: float = 1.0


def style_of_quality(quality: str, rng: np.random.Generator, task: str) -> OperatorStyle:
    """Return the style of one demonstration of a data set's quality: expert, mixed or a list of mistakes.

    Raises ConfigError for another word.
    """
    if quality == "expert":
        return EXPERT
    if quality == "mixed":
        return mixed_style(rng, task)
    return draw_style(parse_mistakes(quality, task), rng, task)


def require_quality(quality: str, task: str) -> None:
    """Raise ConfigError unless demonstrations of the task can have this quality."""
    if quality not in ("expert", "mixed"):
        parse_mistakes(quality, task)


def parse_mistakes(text: str, task: str) -> tuple[Mistake, ...]:
    """Read "NAME=SHARE,NAME@STRENGTH=SHARE,...".

    Raises ConfigError for a mistake that the task does not have, a number out of range, or shares above 1.
    """
    get_task(task)
    known = [
        name for name, mistake in MISTAKES.items() if mistake is None or mistake in MIXTURES[task].shares
    ]
    found: list[Mistake] = []
    for entry in text.split(","):
        left, _, share = entry.partition("=")
        name, _, strength = left.strip().partition("@")
        if name not in known:
            raise ConfigError(
                f"'{entry}' is no quality of demonstrations of {task}.",
                f"Write expert, mixed, or shares of {', '.join(known)}: {known[0]}=0.3,{known[1]}@1.5=0.2.",
            )
        if name in [m.name for m in found]:
            raise ConfigError(f"Mistake '{name}' is given twice in '{text}'.", "Give it once.")
        found.append(Mistake(name, _number(share, 1.0, entry), _number(strength or "1", MAX_STRENGTH, entry)))
    total = sum(m.share for m in found)
    if total > 1.0 + 1e-9:
        raise ConfigError(
            f"The shares of '{text}' add up to {total:g}; expected at most 1.",
            "A demonstration makes at most one kind of mistake; lower the shares.",
        )
    return tuple(found)


def draw_style(mistakes: tuple[Mistake, ...], rng: np.random.Generator, task: str) -> OperatorStyle:
    """Draw the style of one demonstration, good or with one of the mistakes."""
    u, speed, slow = float(rng.random()), float(rng.uniform(0.75, 1.0)), float(rng.uniform(0.4, 0.6))
    size = float(rng.random())
    mixture = MIXTURES[task]
    style = OperatorStyle(
        noise=STEADY, goal_error_m=0.003, speed=speed, retry_probability=mixture.retry_probability
    )
    for mistake in mistakes:
        u -= mistake.share
        if u < 0.0:
            return _with(style, mistake, task, size, slow)
    return style


def _with(style: OperatorStyle, mistake: Mistake, task: str, u: float, slow: float) -> OperatorStyle:
    """Return the style with a mistake whose size lies at fraction u of its range."""
    what, strength = MISTAKES[mistake.name], mistake.strength
    if what is None:
        return replace(style, noise=UNSTEADY * strength)
    usual = CLOSING_HEIGHT if what == "premature" else (0.0, 0.0)
    low, high = MIXTURES[task].sizes.get(what, usual)
    size = low + u * (high - low)
    return replace(
        style,
        speed=slow if what == "hesitate" else style.speed,
        mistake=what,
        mistake_size=size / max(strength, 0.1) if what == "early" else size * strength,
    )


def _number(text: str, high: float, entry: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= high:
        raise ConfigError(
            f"'{text}' in '{entry}' is not a number from 0 to {high:g}.",
            "Write NAME=SHARE or NAME@STRENGTH=SHARE, for instance early_release@1.5=0.3.",
        )
    return value
