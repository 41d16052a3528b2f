"""Advantage-weighted regression on bandits with known answers."""

from __future__ import annotations

import math

import pytest
import torch

from bora_cli.algos.awr import AWRConfig, awr_loss, awr_weights
from bora_cli.algos.batch import Batch
from bora_cli.algos.cp import CPConfig, bc_loss
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.nn import Sizes


def expert() -> ConsistencyExpert:
    sizes = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=1, horizon=2)
    return ConsistencyExpert(ConsistencyConfig(sizes=sizes, width=64))


def batch_of(a: torch.Tensor) -> Batch:
    n = len(a)
    ones, zeros = torch.ones(a.shape[:2]), torch.zeros(a.shape[:2])
    z, s = torch.randn(n, 1, 4), torch.randn(n, 2)
    return Batch(z, s, a, ones, zeros, zeros, z, s, torch.ones(n, dtype=torch.bool))


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_the_weighted_data_of_a_bandit_is_the_closed_form(beta: float, share: float) -> None:
    """Two arms with rewards 1 and 0, tried `share` and 1 - `share` of the time, V the mean reward:
    pi*(good) = p exp(A1 / beta) / (p exp(A1 / beta) + (1 - p) exp(A0 / beta)), A in standard deviations."""
    n = 1000
    good = (torch.arange(n) < share * n).float()[:, None]
    weight = awr_weights(good - share, torch.ones(n, 1), AWRConfig(beta=beta, clip=20))
    found = float((weight * good).sum() / weight.sum())
    gap = 1 / math.sqrt(share * (1 - share)) / beta
    assert found == pytest.approx(share / (share + (1 - share) * math.exp(-gap)), rel=1e-3)


def test_weights_are_clipped_masked_and_positive() -> None:
    adv, mask = torch.tensor([[50.0, -1.0, 9.0], [0.0, 0.0, 9.0]]), torch.tensor([[1.0, 1, 0], [1, 1, 0]])
    weight = awr_weights(adv, mask, AWRConfig(beta=0.1, clip=2.0))
    assert float(weight.max()) == pytest.approx(math.exp(2))
    assert bool((weight[:, 2] == 0).all())
    assert bool((weight[:, :2] > 0).all())
    assert float(weight[1, 0]) == 1


def test_without_differences_it_is_plain_cloning() -> None:
    student, batch = expert(), batch_of(torch.randn(32, 2, 1))
    adv = torch.zeros(32, 2)
    same = [torch.Generator().manual_seed(0) for _ in range(2)]
    weighted, info = awr_loss(student, student, batch, adv, CPConfig(), AWRConfig(), generator=same[0])
    plain, _ = bc_loss(student, student, batch, CPConfig(), generator=same[1])
    torch.testing.assert_close(weighted, plain)
    assert (info["ess"], info["w_clipped"], info["w_mean"]) == (1.0, 0.0, 1.0)


def test_a_bandit_is_followed_in_proportion() -> None:
    """Arms -1 and +1, tried equally often, +1 better by two standard deviations: e to 1/e in its favour, and a head
    that only denoises gives the mean of what it follows in one step, tanh(1)."""
    torch.manual_seed(0)
    student = expert()
    optimiser = torch.optim.AdamW(student.parameters(), 3e-3, fused=True)
    denoise = CPConfig(draws=4, w_ct=0.0)
    for _ in range(250):
        arm = torch.randint(0, 2, (64, 1, 1)) * 2.0 - 1.0
        batch = batch_of(arm.expand(64, 2, 1))
        loss, _ = awr_loss(student, student, batch, arm[..., 0].expand(64, 2), denoise, AWRConfig())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    test = batch_of(torch.zeros(512, 2, 1))
    with torch.no_grad():
        x = student.sample(test.z, test.s, torch.randn(512, 2, 1))
    assert float(x.mean()) == pytest.approx(math.tanh(1), abs=0.06)


def test_no_gradient_reaches_the_advantages() -> None:
    adv = torch.randn(8, 2, requires_grad=True)
    batch = batch_of(torch.randn(8, 2, 1))
    loss, _ = awr_loss(expert(), expert(), batch, adv, CPConfig(), AWRConfig())
    loss.backward()
    assert adv.grad is None
