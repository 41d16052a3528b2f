"""Behaviour cloning with the consistency expert: what it converges to."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.cp import CPConfig, bc_loss, pseudo_huber
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.nn import Sizes, polyak_update


def make_expert(horizon: int, actions: int) -> ConsistencyExpert:
    sizes = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=actions, horizon=horizon)
    return ConsistencyExpert(ConsistencyConfig(sizes=sizes, width=64))


def make_batch(a: Tensor, seed: int = 0) -> Batch:
    g, n = torch.Generator().manual_seed(seed), len(a)
    z, s = torch.randn(n, 1, 4, generator=g), torch.randn(n, 2, generator=g)
    ones, zeros = torch.ones(a.shape[:2]), torch.zeros(a.shape[:2])
    return Batch(z, s, a, ones, zeros, zeros, z, s, torch.ones(n, dtype=torch.bool))


def fit(expert: ConsistencyExpert, make: Callable[[], Batch], config: CPConfig) -> ConsistencyExpert:
    average = copy.deepcopy(expert)
    optimiser = torch.optim.AdamW(expert.parameters(), config.lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.updates)
    for _ in range(config.updates):
        loss, _ = bc_loss(expert, average, make(), config)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(expert.parameters(), config.grad_clip)
        optimiser.step()
        schedule.step()
        polyak_update(average, expert, 1 - config.ema)
    return average


def test_k4_a_constant_is_learned() -> None:
    torch.manual_seed(0)
    goal = torch.tensor([[0.3, -0.5], [0.1, 0.2], [0.6, 0.0]]).expand(64, 3, 2)
    seeds = iter(range(1000))
    expert = fit(make_expert(3, 2), lambda: make_batch(goal, next(seeds)), CPConfig(updates=600, lr=2e-3))
    batch = make_batch(goal, seed=5000)
    with torch.no_grad():
        sample = expert.sample(batch.z, batch.s, torch.randn(64, 3, 2))
    assert float((sample - goal).mean(0).abs().max()) < 0.02
    assert float((sample - goal).square().mean().sqrt()) < 0.05


def test_k5_two_modes_stay_apart_in_three_steps_and_average_in_one() -> None:
    torch.manual_seed(0)

    def make() -> Batch:
        sign = torch.randint(0, 2, (64, 1, 1)) * 2.0 - 1.0
        return make_batch(sign.expand(64, 2, 1))

    def within(expert: ConsistencyExpert, steps: int) -> tuple[float, float]:
        batch = make_batch(torch.zeros(512, 2, 1), seed=1)
        with torch.no_grad():
            x = expert.sample(batch.z, batch.s, torch.randn(steps, 512, 2, 1), steps)
        near = torch.minimum((x - 1).abs().amax((1, 2)), (x + 1).abs().amax((1, 2))) < 0.3
        return float(near.float().mean()), float((x.mean((1, 2)) > 0).float().mean())

    config = CPConfig(updates=700, lr=4e-3, draws=4)
    both = fit(make_expert(2, 1), make, config)
    share, positive = within(both, 3)
    assert share > 0.85
    assert 0.3 < positive < 0.7
    denoising_only = fit(make_expert(2, 1), make, config.model_copy(update={"w_ct": 0.0, "updates": 300}))
    assert within(denoising_only, 1)[0] < 0.05


def test_c6_the_last_evaluation_carries_most_of_the_gradient() -> None:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(5)
    batch = make_batch(torch.zeros(64, 3, 2))
    goal = torch.stack([batch.s, -batch.s, batch.s.flip(1)], 1) * 0.4
    batch = make_batch(goal)
    expert = fit(make_expert(3, 2), lambda: batch, CPConfig(updates=200, lr=2e-3))
    noise = torch.randn(2, 64, 3, 2, generator=g)

    def gradient(grad_steps: int) -> Tensor:
        loss = (expert.sample(batch.z, batch.s, noise, 2, grad_steps) - goal - 0.3).square().mean()
        return torch.cat([x.flatten() for x in torch.autograd.grad(loss, list(expert.parameters()))])

    cosine = torch.nn.functional.cosine_similarity(gradient(1), gradient(2), dim=0)
    assert float(cosine) > 0.8


def test_k6_padded_dimensions_get_no_gradient() -> None:
    expert = make_expert(3, 2)
    batch = make_batch(torch.randn(8, 3, 2))
    loss, _ = bc_loss(expert, copy.deepcopy(expert), batch, CPConfig(), dim_mask=torch.tensor([1.0, 0.0]))
    loss.backward()
    grad = expert.leave[-1].bias.grad
    assert isinstance(grad, Tensor)
    assert float(grad.view(3, 2)[:, 1].abs().sum()) == 0
    assert float(grad.view(3, 2)[:, 0].abs().sum()) > 0


def test_masked_ticks_do_not_count() -> None:
    expert, batch = make_expert(3, 2), make_batch(torch.randn(8, 3, 2))
    mask = batch.mask.clone()
    mask[:, 2] = 0

    def loss(a: Tensor) -> float:
        b = Batch(batch.z, batch.s, a, mask, batch.r, batch.d, batch.z, batch.s, batch.has_next)
        config = CPConfig(token_noise=0.0, w_ct=0.0)
        with torch.no_grad():
            return float(bc_loss(expert, expert, b, config, generator=torch.Generator().manual_seed(1))[0])

    changed = batch.a.clone()
    changed[:, 2] += 5
    # the newborn expert's output depends on its input only through c_skip x, so the other ticks agree exactly
    assert loss(changed) == pytest.approx(loss(batch.a), rel=1e-6)


def test_the_teacher_gets_no_gradient_and_the_seed_decides() -> None:
    expert, teacher = make_expert(3, 2), make_expert(3, 2)
    batch = make_batch(torch.randn(8, 3, 2))
    loss, info = bc_loss(expert, teacher, batch, CPConfig(), generator=torch.Generator().manual_seed(3))
    loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    again, _ = bc_loss(expert, teacher, batch, CPConfig(), generator=torch.Generator().manual_seed(3))
    assert float(again.detach()) == float(loss.detach())
    assert set(info) == {"dsm", "ct"}


def test_pseudo_huber_is_zero_at_zero_and_linear_far_away() -> None:
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    torch.testing.assert_close(pseudo_huber(x), torch.tensor([0.0, 5.0]), atol=1e-3, rtol=0)
