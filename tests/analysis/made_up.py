"""Synthetic runs with known properties, for the tests of this folder."""

import numpy as np
import polars as pl

from bora_cli.analysis.traces import EpisodeTrace, build_traces


def traces(episodes: int = 24, seed: int = 0, foresight: float = 1.0, takeovers: bool = True) -> pl.DataFrame:
    """Make half successes, half failures; V tells them apart from the middle on if foresight is 1."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(episodes):
        success = i % 2 == 0
        n = int(rng.integers(25, 40) if success else rng.integers(45, 60))
        t = np.linspace(0, 1, n)
        late = np.clip(t - 0.4, 0, None)
        ideal = 0.3 + 0.4 * t + (0.4 * late if success else -1.2 * late)
        v = foresight * (ideal + 0.08 * rng.standard_normal()) + 0.03 * rng.standard_normal(n)
        controller = np.zeros(n, np.uint8)
        if takeovers and i % 6 == 0:
            controller[n // 2 : n // 2 + 8] = 1
            controller[n // 2] = 2
        made.append(
            EpisodeTrace(
                v=v,
                q=v + 0.02 * rng.standard_normal(n),
                q_std=0.03 + 0.02 * rng.random(n),
                mc_return=(0.97 ** np.arange(n)[::-1] if success else np.zeros(n)),
                success=success,
                controller=controller,
                setting="unseen" if i % 4 > 1 else "standard",
                task="pick_toy",
            )
        )
    return build_traces(made)
