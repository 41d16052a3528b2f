"""The decoupled critic on a chain whose values are known, on a bandit, and its blind variant."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.decoupled import PixelBatch, chunk_return, decoupled_advantages, decoupled_loss
from bora_cli.models.decoupled import DecoupledConfig, DecoupledCritic

GAMMA, LENGTH, HORIZON = 0.9, 6, 3
TRUE = torch.tensor([GAMMA ** (LENGTH - 1 - i) for i in range(LENGTH)])


def pictures(state: Tensor) -> Tensor:
    """Return a bright bar whose place is the state, uint8 [B, 1, 24, 24, 3]."""
    images = torch.full((len(state), 1, 24, 24, 3), 20, dtype=torch.uint8)
    for i, at in enumerate(state.clamp(max=LENGTH - 1).tolist()):
        images[i, :, :, 4 * at : 4 * at + 4] = 240
    return images


def chain() -> PixelBatch:
    """Every state of a chain on which one always goes; the step behind its end pays 1 and ends the episode."""
    state = torch.arange(LENGTH)
    ahead = state[:, None] + torch.arange(HORIZON)
    mask = (ahead < LENGTH).float()
    last = (ahead == LENGTH - 1).float()
    follows = state + HORIZON
    return PixelBatch(
        pixels=pictures(state),
        s=torch.zeros(LENGTH, 1),
        a=torch.ones(LENGTH, HORIZON, 1),
        mask=mask,
        r=last,
        d=last,
        has_next=follows < LENGTH,
        pixels_next=pictures(follows),
        s_next=torch.zeros(LENGTH, 1),
    )


def fit(sees: str, batch: PixelBatch, updates: int, config: OfflineConfig) -> DecoupledCritic:
    torch.manual_seed(0)
    b = batch
    critic = DecoupledCritic(
        DecoupledConfig(cameras=1, state_dim=1, action_dim=1, horizon=b.a.shape[1], sees=sees, width=32)  # type: ignore[arg-type]
    )
    target = copy.deepcopy(critic)
    optimiser = torch.optim.Adam(critic.parameters(), 3e-3)
    for _ in range(updates):
        loss, _ = decoupled_loss(critic, target, batch, config)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for mine, theirs in zip(target.parameters(), critic.parameters(), strict=True):
                mine.lerp_(theirs, 0.1)
    return target


def test_the_return_of_a_chunk_is_the_discounted_sum_and_stops_at_the_end() -> None:
    batch = chain()
    collected, discount = chunk_return(batch.r, batch.d, batch.mask, batch.has_next, GAMMA)
    assert collected.tolist() == pytest.approx([0, 0, 0, GAMMA**2, GAMMA, 1])
    assert discount.tolist() == pytest.approx([GAMMA**3, GAMMA**3, GAMMA**3, 0, 0, 0])
    cut = chunk_return(
        torch.ones(1, 3), torch.zeros(1, 3), torch.tensor([[1.0, 1, 0]]), torch.tensor([True]), 0.5
    )
    assert (cut[0].item(), cut[1].item()) == (1.5, 0.25)


@pytest.mark.parametrize("sees", ["action", "nothing"])
def test_the_values_of_a_chain_are_the_known_ones(sees: str) -> None:
    batch, config = chain(), OfflineConfig(gamma=GAMMA)
    critic = fit(sees, batch, 200, config)
    with torch.no_grad():
        v, q = critic.v(batch.pixels, batch.s), critic.q(batch.pixels, batch.s, batch.a)
    torch.testing.assert_close(v, TRUE, atol=0.05, rtol=0)
    torch.testing.assert_close(q, TRUE.expand_as(q), atol=0.05, rtol=0)
    assert decoupled_advantages(critic, batch, GAMMA).abs().max() < 0.05


def bandit() -> PixelBatch:
    """One picture, two actions: +1 pays 1, -1 pays nothing, both end the episode."""
    action = torch.tensor([1.0, -1.0]).repeat(8)[:, None, None]
    n = len(action)
    image, ones = pictures(torch.zeros(n, dtype=torch.long)), torch.ones(n, 1)
    none = torch.zeros(n, 1)
    reward = (action[:, 0] > 0).float()
    ends = torch.zeros(n, dtype=torch.bool)
    return PixelBatch(image, none, action, ones, reward, ones, ends, image, none)


def test_q_knows_the_better_arm_and_a_value_alone_does_not() -> None:
    batch, config = bandit(), OfflineConfig(gamma=GAMMA, tau=0.5)
    critic = fit("action", batch, 120, config)
    with torch.no_grad():
        q = critic.q(batch.pixels, batch.s, batch.a).mean(0)
    torch.testing.assert_close(q, batch.r[:, 0], atol=0.05, rtol=0)
    torch.testing.assert_close(decoupled_advantages(critic, batch, GAMMA), batch.r - 0.5, atol=0.08, rtol=0)
    blind = fit("nothing", batch, 120, config)
    with torch.no_grad():
        both = blind.q(batch.pixels, batch.s, torch.cat([batch.a[1:], batch.a[:1]]))
        assert torch.equal(both, blind.q(batch.pixels, batch.s, batch.a))
    # it still knows, after the fact, who was lucky
    torch.testing.assert_close(decoupled_advantages(blind, batch, GAMMA), batch.r - 0.5, atol=0.05, rtol=0)


def test_nothing_behind_the_end_is_looked_at() -> None:
    batch, config = bandit(), OfflineConfig(gamma=GAMMA)
    critic = fit("action", batch, 1, config)
    elsewhere = replace(batch, pixels_next=255 - batch.pixels_next, s_next=batch.s_next + 5)
    assert torch.equal(
        decoupled_loss(critic, critic, batch, config)[0], decoupled_loss(critic, critic, elsewhere, config)[0]
    )
