"""Many robots at once under commands that nobody would give, and what every limit says about where they went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bora_cli.control.envelope import Envelope, MotionState, Wish, advance, begin, wish_of
from bora_cli.profiles import load_profile
from bora_cli.robot.frames import rotation_of

DOWN = np.diag([1.0, -1.0, -1.0])
PROFILE = load_profile("franka_dexhand021")
FRANKA = Envelope.from_profile(PROFILE)
MIDDLE = np.array([0.48, 0.0, 0.25])
SLACK = 1e-9


def at_rest(envelope: Envelope, count: int, rng: np.random.Generator) -> MotionState:
    """Return robots at rest all over the box, the hand pointing more or less down, none outside of anything."""
    low, high = envelope.box_low + np.array([0.0, 0.0, 0.08]), envelope.box_high
    rotation = rotation_of(rng.uniform(-0.2, 0.2, (count, 3))) @ DOWN
    hand = rng.uniform(envelope.low[6:], envelope.high[6:], (count, len(envelope.low) - 6))
    return begin(envelope, rng.uniform(low, high, (count, 3)), rotation, hand)


def commands(envelope: Envelope, count: int, rng: np.random.Generator) -> Wish:
    """Return rows of every kind: quiet, at full range, absurd, infinite, undefined, and stops."""
    rows = rng.uniform(-1, 1, (count, len(envelope.low)))
    scale = np.where(
        rng.random((count, 1)) < 0.5, envelope.high, envelope.high * 10.0 ** rng.integers(-3, 30, (count, 1))
    )
    rows = rows * scale
    full = rng.random(count) < 0.3
    rows[full] = np.where(rng.random((int(full.sum()), rows.shape[1])) < 0.5, envelope.low, envelope.high)
    broken = rng.random(rows.shape) < 0.001
    rows[broken] = rng.choice([np.nan, np.inf, -np.inf], int(broken.sum()))
    wish = wish_of(rows)
    return Wish(wish.step, wish.turn, wish.hand, wish.hold | (rng.random(count) < 0.01))


@dataclass
class Verdict:
    """How many states were outside of each limit, and how far the robots went."""

    outside: dict[str, int]
    commands: int = 0
    moved: float = 0.0
    turned: float = 0.0


def drive(envelope: Envelope, count: int, ticks: int, rng: np.random.Generator, keep: int = 6) -> Verdict:
    """Let robots run under commands that change about every `keep` ticks; judge every state."""
    state = at_rest(envelope, count, rng)
    verdict = Verdict({})
    wish = commands(envelope, count, rng)
    steps, turns = [np.zeros((count, 3))] * 2, [np.zeros((count, 3))] * 2
    for tick in range(ticks):
        fresh = commands(envelope, count, rng)
        new = (rng.random(count) < 1 / keep)[:, None] | (tick == 0)
        wish = Wish(
            np.where(new, fresh.step, wish.step),
            np.where(new, fresh.turn, wish.turn),
            np.where(new, fresh.hand, wish.hand),
            fresh.hold,
        )
        lag = rng.uniform(-1, 1, (count, 3)) * envelope.leash
        measured = state.position + lag
        before, (state, _) = state, advance(envelope, state, wish, measured)
        steps = [*steps[-2:], state.position - before.position]
        turns = [*turns[-2:], state.turned[:, 1]]
        judge(envelope, before, state, steps, turns, verdict)
    return verdict


def judge(
    envelope: Envelope,
    before: MotionState,
    after: MotionState,
    steps: list[np.ndarray],
    turns: list[np.ndarray],
    verdict: Verdict,
) -> None:
    """Count what is outside; computed from poses alone, apart from the code under test."""

    def count(name: str, bad: np.ndarray) -> None:
        verdict.outside[name] = verdict.outside.get(name, 0) + int(np.count_nonzero(bad))

    p, r, n = after.position, after.rotation, envelope
    every = np.concatenate([p, r.reshape(len(p), 9), after.hand], axis=1)
    count("not finite", ~np.isfinite(every))
    count("box", ((p < n.box_low - SLACK) | (p > n.box_high + SLACK)).any(1))
    for name, rows, limit in (("translation", steps, n.translation), ("rotation", turns, n.rotation)):
        count(f"{name} speed", np.linalg.norm(rows[-1], axis=1) > limit.speed + SLACK)
        count(
            f"{name} acceleration", np.linalg.norm(rows[-1] - rows[-2], axis=1) > limit.acceleration + SLACK
        )
        jerk = np.linalg.norm(rows[-1] - 2 * rows[-2] + rows[-3], axis=1)
        count(f"{name} jerk", jerk > limit.jerk + SLACK)
        slow = np.minimum(1.0, after.awake / max(n.soft_start, 1)) * limit.speed
        count(f"{name} soft start", ~after.stopping & (np.linalg.norm(rows[-1], axis=1) > slow + SLACK))
    count("hand rate", (np.abs(after.hand - before.hand) > n.hand_rate + SLACK).any(1))
    count("hand range", ((after.hand < n.low[6:] - SLACK) | (after.hand > n.high[6:] + SLACK)).any(1))
    count("not a rotation", np.abs(r @ r.swapaxes(1, 2) - np.eye(3)).max((1, 2)) > 1e-6)
    if n.cone_axis is not None:
        count("cone", r[:, :, 2] @ n.cone_axis < np.cos(n.cone_angle) - SLACK)
    tips = p[:, None] + np.einsum("nij,fj->nfi", r, n.tips)
    count("fingertips", ((tips < n.tip_low - SLACK) | (tips > n.tip_high + SLACK)).any((1, 2)))
    verdict.commands += len(p)
    verdict.moved += float(np.linalg.norm(steps[-1], axis=1).sum())
    verdict.turned += float(np.linalg.norm(turns[-1], axis=1).sum())
