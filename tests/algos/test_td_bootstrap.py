"""The td bootstrap of the inherited critic judges the policy in use; iql judges what was recorded."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from bora_cli.algos.batch import Batch
from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.bora_online import OnlineConfig, online_critic_loss
from bora_cli.models.critic import ChunkCritic, CriticConfig
from bora_cli.models.nn import Sizes, polyak_update

SIZES = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=1, horizon=1)
GAMMA = 0.5


def forever(n: int = 32) -> Batch:
    """One state that follows itself: half of the recorded actions are good (reward 1), half are bad (0)."""
    z, s = torch.ones(n, 1, 4), torch.ones(n, 2)
    a = torch.ones(n, 1, 1)
    a[n // 2 :] = -1.0
    r = (a[:, :, 0] > 0).float()
    return Batch(z, s, a, torch.ones(n, 1), r, torch.zeros(n, 1), z, s, torch.ones(n, dtype=torch.bool))


@pytest.mark.parametrize(
    ("acts", "good", "bad"),
    [
        (1.0, 2.0, 1.0),  # the policy in use is always good: 1 / (1 - gamma), and gamma of that
        (-1.0, 1.0, 0.0),  # never
        (None, 1.5, 0.5),  # iql at the median: the mean of what was recorded
    ],
)
def test_values_are_those_of_whom_it_judges(acts: float | None, good: float, bad: float) -> None:
    torch.manual_seed(0)
    critic = ChunkCritic(CriticConfig(sizes=SIZES, ensemble=3, width=32))
    target, batch = deepcopy(critic), forever()
    offline = OfflineConfig(gamma=GAMMA, tau=0.5, value_range=None)
    config = OnlineConfig(bootstrap="iql" if acts is None else "td")
    chunk = None if acts is None else torch.full((len(batch), 1, 1), acts)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-2)
    g = torch.Generator().manual_seed(0)
    for _ in range(400):
        loss, _ = online_critic_loss(
            critic, target, None, batch, offline=offline, config=config, next_chunk=chunk, generator=g
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        polyak_update(target, critic, 0.1)
    with torch.no_grad():
        q = target.q(batch.z, batch.s, batch.a).mean(0)[:, 0]
    assert float(q[0]) == pytest.approx(good, abs=0.12)
    assert float(q[-1]) == pytest.approx(bad, abs=0.12)
