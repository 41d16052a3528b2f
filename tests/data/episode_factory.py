"""Small episodes for tests: two arm joints and a finger, two cameras of 6 x 8 pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bora_cli.data.dataset import Dataset
from bora_cli.types import ActionSpec, Controller, Decision, Episode

CAMERAS = ("scene", "wrist")
SIZE = (6, 8)
STATES = ("x", "y")
SPEC = ActionSpec(
    names=("dx", "dy", "finger"),
    units=("m", "m", "rad"),
    low=np.array([-0.1, -0.1, 0.0], np.float32),
    high=np.array([0.1, 0.1, 1.5], np.float32),
    groups={"arm": (0, 2), "hand": (2, 3)},
)
P, H, B, A, D, _ = (int(c) for c in Controller)


def make_episode(
    controller: list[int] | int = 20,
    *,
    reward: list[float] | None = None,
    success: bool = True,
    truncated: bool = False,
    prompt: str = "pick up the toy",
    meta: dict[str, Any] | None = None,
    decisions: list[Decision] | None = None,
    seed: int = 0,
) -> Episode:
    """Return a plausible episode; controller: one per tick, or a number of ticks driven by the policy."""
    who = np.array([P] * controller if isinstance(controller, int) else controller, np.uint8)
    ticks = len(who)
    rng = np.random.default_rng(seed)
    action = rng.uniform(SPEC.low, SPEC.high, (ticks, SPEC.dim)).astype(np.float32)
    last = np.zeros(ticks, np.bool_)
    last[-1] = True
    human = np.where((who == P)[:, None], np.nan, action).astype(np.float32)
    return Episode(
        images={c: rng.integers(0, 256, (ticks, *SIZE, 3), np.uint8) for c in CAMERAS},
        state=rng.normal(size=(ticks, len(STATES))).astype(np.float32),
        action=action,
        proposed=action + np.float32(0.01),
        human=human,
        controller=who,
        phase=np.zeros(ticks, np.uint8),
        reward=np.asarray(reward if reward is not None else np.zeros(ticks), np.float32),
        terminated=last & (not truncated),
        truncated=last & truncated,
        success=success,
        prompt=prompt,
        meta=dict(meta or {}),
        decisions=list(decisions or []),
    )


def make_decision(
    t_start: int, executed: int, *, shadow: bool = False, planned: int = 4, seed: int = 0
) -> Decision:
    """Return a decision with random chunks of 8 ticks and tokens [3, 5]."""
    rng = np.random.default_rng(seed)
    base, residual = rng.normal(size=(2, 8, SPEC.dim)).astype(np.float32)
    return Decision(
        t_start=t_start,
        noise_seed=int(rng.integers(2**32)),
        base_hash="abc",
        lam=0.3,
        planned=planned,
        base=base,
        residual=residual,
        final=(base + np.float32(0.3) * residual).astype(np.float32),
        tokens=rng.normal(size=(3, 5)).astype(np.float16),
        executed=executed,
        shadow=shadow,
    )


def make_dataset(root: Path, episodes: list[Episode] | None = None) -> Dataset:
    """Create a dataset and append episodes."""
    dataset = Dataset.create(
        root, SPEC, STATES, CAMERAS, image_size=SIZE, fps=10, robot_type="test", extra={"job": {"n": 1}}
    )
    for episode in episodes or []:
        dataset.append(episode)
    return dataset


def same(a: Any, b: Any) -> bool:
    """Return whether two arrays agree in type, shape and every bit (NaN included)."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same_episode(a: Episode, b: Episode) -> None:
    """Assert that two episodes are equal to the last bit."""
    for name in (
        "state",
        "action",
        "proposed",
        "human",
        "controller",
        "phase",
        "reward",
        "terminated",
        "truncated",
    ):
        assert same(getattr(a, name), getattr(b, name)), name
    assert set(a.images) == set(b.images)
    assert all(same(a.images[c], b.images[c]) for c in a.images)
    assert (a.success, a.prompt, a.meta) == (b.success, b.prompt, b.meta)
    assert len(a.decisions) == len(b.decisions)
    for x, y in zip(a.decisions, b.decisions, strict=True):
        for name in ("base", "residual", "final", "tokens"):
            assert same(getattr(x, name), getattr(y, name)), name
        for name in ("t_start", "noise_seed", "base_hash", "lam", "planned", "executed", "closed", "shadow"):
            assert getattr(x, name) == getattr(y, name), name
