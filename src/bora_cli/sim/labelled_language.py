"""What is said about labelled scenes: instructions, questions with one-word answers, and their vocabulary.

Left and right are those of the robot: left is +y.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bora_cli.sim.tasks import TASKS
from bora_cli.sim.tasks.base import fill
from bora_cli.sim.tasks.pick_place import NOUNS as KINDS
from bora_cli.sim.variation import COLOURS, HELD_OUT_COLOURS, TABLE

NOUNS = {
    "pick_toy": "toy",
    "open_box": "box",
    "press_button": "button",
    "pick_place": "object",
    "pull_tissue": "tissue",
}
COLOUR_NAMES = tuple(dict.fromkeys(name for name, _ in COLOURS if name not in HELD_OUT_COLOURS))
KIND_NOUNS = tuple(KINDS[kind] for kind in TABLE["pick_place"].kinds["standard"])
"""What objects to be placed are called whose kind is not held out."""

ANSWERS: tuple[str, ...] = ("yes", "no", "left", "right", *NOUNS.values(), *KIND_NOUNS, *COLOUR_NAMES)
"""Every answer there is; each is a single word."""

FREE = ("pick_toy", "pick_place", "pull_tissue")
"""Tasks whose object can be in the hand and away from where it stood."""

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
"""Instructions that name the colour of the object, for tasks whose own wordings do not."""

QUESTIONS: dict[str, str] = {
    "what": "what is on the table",
    "colour": "what colour is the {noun}",
    "touching": "is the hand touching the {noun}",
    "in_hand": "is the {noun} in the hand",
    "open": "is the {noun} open",
    "pressed": "is the {noun} pressed down",
    "binned": "is the {noun} in the bin",
    "out": "is the {noun} out of the box",
    "which": "is the {noun} on the left or on the right of the other",
    "hand": "is the hand open",
    "table_side": "on which side of the table is the {noun}",
    "hand_side": "on which side of the hand is the {noun}",
    "nearer": "which object is nearer to the hand the {noun} or the {other}",
}

_DONE = {"open_box": "open", "press_button": "pressed", "pick_place": "binned", "pull_tissue": "out"}
"""Question about what a task wants to be done."""

SIDE_M = 0.012
NEARER_M = 0.03
"""Differences below these are not asked about."""
PAIR_M = 0.05
"""Two objects this far apart in y have a left and a right one."""


@dataclass(frozen=True)
class Seen:
    """One object of a scene as language sees it.

    noun: what it is called.  position: target point, world, m.  done: lid open, cap pressed, object in the
    bin or tissue out of the box; None where it is neither one thing nor the other, and for toys.  in_hand:
    None where it could be said either way.
    """

    task: str
    noun: str
    colour: str
    position: tuple[float, float, float]
    touching: bool
    in_hand: bool | None
    done: bool | None


def say(rng: np.random.Generator, objects: list[Seen], target: int) -> str:
    """Return an instruction that only the target answers to.

    Where another object of its kind is present, colour or side is named; otherwise mostly one of the task's
    own wordings is used.
    """
    wanted = objects[target]
    alone = sum(o.task == wanted.task for o in objects) == 1
    wordings = TASKS[wanted.task].wordings
    if alone and wanted.task in COLOURED and rng.random() < 0.8:
        return wordings[int(rng.integers(len(wordings)))]
    words = {"colour": wanted.colour, "noun": wanted.noun}
    deciding = {"colour"}
    side = side_of(objects, target)
    if side is not None:
        words["side"] = side
        deciding.add("side")
    if sum(o.noun == wanted.noun for o in objects) == 1 and wanted.noun in KIND_NOUNS:
        deciding.add("noun")
    templates = fill(COLOURED.get(wanted.task, wordings), words, None if alone else deciding)
    return templates[int(rng.integers(len(templates)))]


def side_of(objects: list[Seen], target: int) -> str | None:
    """Return whether the target is the left or the right one of exactly two of its task, if it is either."""
    rivals = [o for i, o in enumerate(objects) if o.task == objects[target].task and i != target]
    if len(rivals) != 1:
        return None
    apart = objects[target].position[1] - rivals[0].position[1]
    return _side(apart) if abs(apart) > PAIR_M else None


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
    noun = it.noun if alone else f"{it.colour} {it.noun}"
    answers: dict[str, str] = {"touching": _yes(it.touching)}
    if len(objects) == 1:
        answers["what"] = it.noun
    if alone:
        answers["colour"] = it.colour
    if it.task in FREE and it.in_hand is not None:
        answers["in_hand"] = _yes(it.in_hand)
    if it.done is not None:
        answers[_DONE[it.task]] = _yes(it.done)
    side = side_of(objects, target)
    if side is not None:
        answers["which"] = side
    if hand_open is not None:
        answers["hand"] = _yes(hand_open)
    if abs(it.position[1]) > SIDE_M:
        answers["table_side"] = _side(it.position[1])
    if abs(it.position[1] - hand[1]) > SIDE_M:
        answers["hand_side"] = _side(it.position[1] - hand[1])
    facts = {topic: (QUESTIONS[topic].format(noun=noun), answer) for topic, answer in answers.items()}
    if it.task == "pull_tissue" and "colour" in facts:
        facts["colour"] = (QUESTIONS["colour"].format(noun="tissue box"), it.colour)
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
    return QUESTIONS["nearer"].format(noun=a.noun, other=b.noun), nearer.noun


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"


def _side(y: float) -> str:
    return "left" if y > 0 else "right"


def _vocabulary() -> tuple[str, ...]:
    sentences = [*ANSWERS, *KINDS.values(), *HELD_OUT_COLOURS]
    for task in TASKS.values():
        sentences += task.wordings
    sentences += [text for texts in COLOURED.values() for text in texts]
    sentences += QUESTIONS.values()
    words = {word for sentence in sentences for word in sentence.split() if not word.startswith("{")}
    return tuple(sorted(words))


VOCABULARY: tuple[str, ...] = _vocabulary()
"""Every word that instructions, questions and answers use."""
