"""Ranking: disturbed chunks are as they are said to be, the loss is what it says, and a critic learns the motion."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.ranking import LARGEST, SMALLEST, disturb, ranked_critic_loss, ranking_loss
from bora_cli.errors import DataError
from bora_cli.models.critic import ChunkCritic, CriticConfig
from bora_cli.models.nn import Sizes

SIZES = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=3, horizon=4)
CONFIG = OfflineConfig(critic="ranked")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(n: int, success: Tensor, seed: int = 0) -> Batch:
    """Return windows whose action follows from the state, as in demonstrations, and whose value does not."""
    draws = generator(seed)
    s = torch.randn(n, 2, generator=draws)
    a = torch.stack([s[:, 0], s[:, 1], s.sum(1)], 1)[:, None].expand(-1, 4, -1).clone() * 0.5
    zeros, last = torch.zeros(n, 4), torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(n, -1)
    z = torch.zeros(n, 1, 4)
    has_next = torch.zeros(n, dtype=torch.bool)
    return Batch(z, s, a, torch.ones(n, 4), 0.5 * last, last, z, s, has_next, adv=zeros, success=success)


class Slope:
    """A critic whose q is the sum of the action's dimensions, and whose v is 0."""

    def q(self, z: Tensor, s: Tensor, a: Tensor) -> Tensor:
        return a.sum(-1)[None]

    def v(self, z: Tensor, s: Tensor, a: Tensor | None = None) -> Tensor:
        return torch.zeros(len(z), 4)


def test_disturbances_have_their_size_and_leave_dimensions_alone() -> None:
    a = torch.zeros(4000, 8, 6)
    bad, size = disturb(a, generator())
    assert float(size.min()) >= SMALLEST
    assert float(size.max()) <= LARGEST
    touched = (bad != a).any(1)
    assert 0.5 < float(touched.float().mean()) < 0.7  # (1 + LEAST_SHARE) / 2 of the dimensions
    assert bool((touched == (bad != a).all(1)).all())  # a dimension is disturbed in every tick, or in none
    relative = (bad / size[:, None, None])[touched[:, None].expand_as(bad)]
    assert float(relative.square().mean().sqrt()) == pytest.approx(0.9, abs=0.12)


def test_the_same_generator_disturbs_alike() -> None:
    a = torch.randn(5, 4, 3)
    assert torch.equal(disturb(a, generator(3))[0], disturb(a, generator(3))[0])
    assert not torch.equal(disturb(a, generator(3))[0], disturb(a, generator(4))[0])


def test_the_loss_is_the_written_one() -> None:
    batch = made(3, torch.ones(3, dtype=torch.bool))
    bad, size = disturb(batch.a, generator(1))
    gaps = (batch.a - bad).sum(-1).mean(-1)
    wanted = CONFIG.rank_margin * size / LARGEST
    kappa = CONFIG.rank_softness
    by_hand = sum(
        kappa * math.log1p(math.exp(float((m - g) / kappa))) for m, g in zip(wanted, gaps, strict=True)
    )
    loss, won = ranking_loss(Slope(), batch, CONFIG, generator(1))
    assert float(loss) == pytest.approx(by_hand / 3, rel=1e-5)
    assert won == pytest.approx(float((gaps > 0).float().mean()))


def test_failures_are_not_held_up_as_examples() -> None:
    loss, won = ranking_loss(Slope(), made(3, torch.zeros(3, dtype=torch.bool)), CONFIG)
    assert (float(loss), won) == (0.0, 0.5)
    mixed = made(4, torch.tensor([True, False, True, False]))
    alone = mixed.rows(torch.tensor([0, 2]))
    assert torch.equal(
        ranking_loss(Slope(), mixed, CONFIG, generator())[0],
        ranking_loss(Slope(), alone, CONFIG, generator())[0],
    )


def test_advantages_must_have_been_cross_fitted() -> None:
    batch = made(3, torch.ones(3, dtype=torch.bool))
    bare = Batch(batch.z, batch.s, batch.a, batch.mask, batch.r, batch.d, batch.z, batch.s, batch.has_next)
    with pytest.raises(DataError, match="no 'adv'"):
        ranked_critic_loss(Slope(), bare, CONFIG)


def fitted(config: OfflineConfig) -> ChunkCritic:
    torch.manual_seed(0)
    critic = ChunkCritic(CriticConfig(sizes=SIZES, ensemble=2, width=32))
    optimiser = torch.optim.Adam(critic.parameters(), 3e-3)
    draws = generator()
    batch = made(256, torch.ones(256, dtype=torch.bool))
    for _ in range(150):
        loss, _ = ranked_critic_loss(critic, batch, config, draws)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return critic


def test_a_ranked_critic_knows_the_motion_and_its_value() -> None:
    """Here every return is 0.5 at the end: nothing but ranking says that the chunk matters."""
    fresh = made(400, torch.ones(400, dtype=torch.bool), seed=9)
    another = fresh.a.roll(1, 0)  # another state's chunk: a kind that was not trained on

    def prefers_own(critic: ChunkCritic) -> float:
        with torch.no_grad():
            own, other = (critic.q(fresh.z, fresh.s, a).mean((0, 2)) for a in (fresh.a, another))
        return float((own > other + 0.05).float().mean())

    ranked, plain = fitted(CONFIG), fitted(CONFIG.model_copy(update={"lambda_rank": 0.0}))
    assert prefers_own(ranked) > 0.9
    assert prefers_own(plain) < 0.1
    with torch.no_grad():
        assert float((ranked.v(fresh.z, fresh.s, fresh.a) - 0.5).abs().mean()) < 0.1


def test_only_the_critic_gets_a_gradient() -> None:
    critic = ChunkCritic(CriticConfig(sizes=SIZES, ensemble=2, width=32))
    batch = made(8, torch.ones(8, dtype=torch.bool))
    batch.z.requires_grad_(True)
    loss, info = ranked_critic_loss(critic, batch, CONFIG, generator())
    loss.backward()
    assert batch.z.grad is None
    assert all(p.grad is not None for p in critic.parameters())
    assert {"loss_rank", "ranked_right", "q", "v"} <= set(info)
