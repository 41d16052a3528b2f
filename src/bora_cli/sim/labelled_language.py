"""What is said about labelled scenes: instructions, questions with one-word answers, and their vocabulary.

Left and right are those of the robot: left is +y.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from bora_cli.sim.parts import Rgb
from bora_cli.sim.tasks import TASKS

NOUNS = {"pick_toy": "toy", "open_box": "box", "press_button": "button"}
COLOURS: tuple[tuple[str, float], ...] = (
    ("red", 0.035),
    ("orange", 0.105),
    ("yellow", 0.19),
    ("lime", 0.28),
    ("turquoise", 0.53),
    ("blue", 0.72),
    ("pink", 0.955),
    ("red", 1.0),
)
"""Names of the hues that are not held out, each up to its upper limit."""
COLOUR_NAMES = tuple(dict.fromkeys(name for name, _ in COLOURS))

ANSWERS: tuple[str, ...] = ("yes", "no", "left", "right", *NOUNS.values(), *COLOUR_NAMES)
"""Every answer there is; each is a single word."""

COLOURED: dict[str, tuple[str, ...]] = {
    "pick_toy": (
        "pick up the {colour} plush toy",
        "grasp the {colour} toy and lift it",
        "take the {colour} toy off the table",
    ),
    "open_box": (
        "open the {colour} box",
        "lift the lid of the {colour} box",
        "swing the {colour} box open",
    ),
    "press_button": (
        "press the {colour} button",
        "push the {colour} button down",
        "put a finger on the {colour} button and press",
    ),
}
"""Instructions that name the colour of the object."""

QUESTIONS: dict[str, str] = {
    "what": "what is on the table",
    "colour": "what colour is the {noun}",
    "touching": "is the hand touching the {noun}",
    "in_hand": "is the {noun} in the hand",
    "open": "is the {noun} open",
    "pressed": "is the {noun} pressed down",
    "hand": "is the hand open",
    "table_side": "on which side of the table is the {noun}",
    "hand_side": "on which side of the hand is the {noun}",
    "nearer": "which object is nearer to the hand the {noun} or the {other}",
}

SIDE_M = 0.012
NEARER_M = 0.03
"""Differences below these are not asked about."""


@dataclass(frozen=True)
class Seen:
    """One object of a scene as language sees it.

    position: target point, world, m.  done: lid open or cap pressed; None where it is neither one thing nor
    the other, and for toys.  in_hand: None where it could be said either way.
    """

    task: str
    colour: str
    position: tuple[float, float, float]
    touching: bool
    in_hand: bool | None
    done: bool | None


def name_colour(rgb: Rgb) -> str:
    """Return the name of a colour, RGB in 0..1, by its hue."""
    hue = colorsys.rgb_to_hsv(*rgb)[0]
    return next(name for name, upper in COLOURS if hue <= upper)


def say(rng: np.random.Generator, objects: list[Seen], target: int) -> str:
    """Return an instruction that only the target answers to.

    Where another object of its kind is present, the colour is named; otherwise mostly one of the task's own
    wordings is used.
    """
    wanted = objects[target]
    alone = sum(o.task == wanted.task for o in objects) == 1
    if alone and rng.random() < 0.8:
        wordings = TASKS[wanted.task].wordings
        return wordings[int(rng.integers(len(wordings)))]
    templates = COLOURED[wanted.task]
    return templates[int(rng.integers(len(templates)))].format(colour=wanted.colour)


def ask(
    rng: np.random.Generator,
    objects: list[Seen],
    target: int,
    hand: tuple[float, float, float],
    hand_open: bool | None,
) -> tuple[str, str]:
    """Return a question about the target and its answer, a word of `ANSWERS`.

    hand: tool point, world, m.  hand_open: None where it is half open.
    """
    facts = _facts(rng, objects, target, hand, hand_open)
    topics = sorted(facts)
    return facts[topics[int(rng.integers(len(topics)))]]


def _facts(
    rng: np.random.Generator,
    objects: list[Seen],
    target: int,
    hand: tuple[float, float, float],
    hand_open: bool | None,
) -> dict[str, tuple[str, str]]:
    """Return topic -> (question, answer) for everything that can be asked without doubt."""
    it = objects[target]
    alone = sum(o.task == it.task for o in objects) == 1
    noun = NOUNS[it.task] if alone else f"{it.colour} {NOUNS[it.task]}"
    answers: dict[str, str] = {"touching": _yes(it.touching)}
    if len(objects) == 1:
        answers["what"] = NOUNS[it.task]
    if alone:
        answers["colour"] = it.colour
    if it.task == "pick_toy" and it.in_hand is not None:
        answers["in_hand"] = _yes(it.in_hand)
    if it.done is not None:
        answers["open" if it.task == "open_box" else "pressed"] = _yes(it.done)
    if hand_open is not None:
        answers["hand"] = _yes(hand_open)
    if abs(it.position[1]) > SIDE_M:
        answers["table_side"] = _side(it.position[1])
    if abs(it.position[1] - hand[1]) > SIDE_M:
        answers["hand_side"] = _side(it.position[1] - hand[1])
    facts = {topic: (QUESTIONS[topic].format(noun=noun), answer) for topic, answer in answers.items()}
    if len(objects) > 1:
        other = objects[int(rng.choice([i for i in range(len(objects)) if i != target]))]
        comparison = _compare(rng, it, other, hand)
        if comparison is not None:
            facts["nearer"] = comparison
    return facts


def _compare(
    rng: np.random.Generator, a: Seen, b: Seen, hand: tuple[float, float, float]
) -> tuple[str, str] | None:
    """Ask which of two objects is nearer to the hand; None if that is hard to say."""
    near_a, near_b = (float(np.linalg.norm(np.subtract(o.position, hand))) for o in (a, b))
    if abs(near_a - near_b) < NEARER_M:
        return None
    if rng.random() < 0.5:
        a, b, near_a, near_b = b, a, near_b, near_a
    nearer = a if near_a < near_b else b
    if a.task == b.task:
        return QUESTIONS["nearer"].format(noun=a.colour, other=b.colour), nearer.colour
    return QUESTIONS["nearer"].format(noun=NOUNS[a.task], other=NOUNS[b.task]), NOUNS[nearer.task]


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"


def _side(y: float) -> str:
    return "left" if y > 0 else "right"


def _vocabulary() -> tuple[str, ...]:
    sentences = [*ANSWERS]
    for task in TASKS.values():
        sentences += task.wordings
    sentences += [text for texts in COLOURED.values() for text in texts]
    sentences += QUESTIONS.values()
    words = {word for sentence in sentences for word in sentence.split() if not word.startswith("{")}
    return tuple(sorted(words))


VOCABULARY: tuple[str, ...] = _vocabulary()
"""Every word that instructions, questions and answers use."""
