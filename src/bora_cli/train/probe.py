"""Questions to a fitted chunk critic whose answers should not surprise: see `alarms` for those that do."""

from __future__ import annotations

import numpy as np
import torch

from bora_cli.algos.targets import masked_mean
from bora_cli.models.critic import ChunkCritic
from bora_cli.train.buffer import Sampler

ROWS = 512


@torch.no_grad()
def probe(critic: ChunkCritic, sampler: Sampler) -> dict[str, float]:
    """Return how a critic judges (at most 512) windows, and the same windows with actions drawn at random.

    q_over: mean of q minus the discounted return that followed, in units of reward.  demo_rand_gap: mean q of the
    recorded actions minus that of actions drawn uniformly from the range of the recorded ones.  ens_ratio: spread of
    the ensemble on the random actions over that on the recorded ones; left out for a single q.
    """
    n = len(sampler)
    batch = sampler.rows(np.unique(np.linspace(0, n - 1, min(n, ROWS)).astype(np.int64)))
    low, high = sampler.action.flatten(0, 1).amin(0), sampler.action.flatten(0, 1).amax(0)
    generator = torch.Generator().manual_seed(0)
    anything = low + (high - low) * torch.rand(batch.a.shape, generator=generator)
    q, q_random = critic.q(batch.z, batch.s, batch.a), critic.q(batch.z, batch.s, anything)
    mean = {
        "q_over": q.mean(0) - batch.need("mc_return"),
        "demo_rand_gap": q.mean(0) - q_random.mean(0),
    }
    found = {name: float(masked_mean(x, batch.mask)) for name, x in mean.items()}
    if len(q) > 1:
        spread, of_random = (float(masked_mean(x.std(0), batch.mask)) for x in (q, q_random))
        found["ens_ratio"] = of_random / max(spread, 1e-9)
    return found
