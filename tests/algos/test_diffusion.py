"""Noise prediction: what it converges to, and what the masks leave out."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from bora_cli.algos.batch import Batch
from bora_cli.algos.cp import CPConfig
from bora_cli.algos.diffusion import diffusion_loss
from bora_cli.models.diffusion import DiffusionConfig, DiffusionExpert
from bora_cli.models.nn import Sizes, polyak_update


def expert(horizon: int = 2, actions: int = 1) -> DiffusionExpert:
    sizes = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=actions, horizon=horizon)
    return DiffusionExpert(DiffusionConfig(sizes=sizes, width=64))


def batch_of(a: torch.Tensor) -> Batch:
    n = len(a)
    ones, zeros = torch.ones(a.shape[:2]), torch.zeros(a.shape[:2])
    z, s = torch.randn(n, 1, 4), torch.randn(n, 2)
    return Batch(z, s, a, ones, zeros, zeros, z, s, torch.ones(n, dtype=torch.bool))


def test_two_points_are_learned_as_two_points() -> None:
    """Half the chunks are all -1, half all +1; samples lie at one of them, about half at each."""
    torch.manual_seed(0)
    student = expert()
    average = copy.deepcopy(student)
    optimiser = torch.optim.AdamW(student.parameters(), 3e-3, fused=True)
    config = CPConfig(draws=4)
    for _ in range(600):
        sign = torch.randint(0, 2, (64, 1, 1)) * 2.0 - 1.0
        loss, _ = diffusion_loss(student, average, batch_of(sign.expand(64, 2, 1)), config)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        polyak_update(average, student, 0.02)
    test = batch_of(torch.zeros(512, 2, 1))
    with torch.no_grad():
        x = average.sample(test.z, test.s, torch.randn(512, 2, 1))
    near = torch.minimum((x - 1).abs().amax((1, 2)), (x + 1).abs().amax((1, 2))) < 0.3
    assert float(near.float().mean()) > 0.9
    assert 0.35 < float((x.mean((1, 2)) > 0).float().mean()) < 0.65


def test_a_head_that_says_nothing_has_the_loss_of_the_noise() -> None:
    """For clean chunks of zero v is sqrt(k) e, so the loss of the answer 0 is the mean of k over the levels."""
    head = expert(horizon=8, actions=6)
    torch.nn.init.zeros_(head.leave[-1].bias)
    batch = batch_of(torch.zeros(2000, 8, 6))
    loss, info = diffusion_loss(head, head, batch, CPConfig(), generator=torch.Generator().manual_seed(0))
    kept = head.kept[1:]
    assert abs(float(loss.detach()) - float(kept.mean())) < 0.02
    assert abs(info["error_low_noise"] - float(kept[:50].mean())) < 0.02
    assert abs(info["error_high_noise"] - float(kept[50:].mean())) < 0.02


def test_the_error_of_v_is_that_of_the_noise_over_k() -> None:
    """x_t being given, v and the noise are the same unknown."""
    head = expert()
    kept, t = head.kept[[7]], torch.tensor([7])
    a, e, x_guess = torch.randn(1, 2, 1), torch.randn(1, 2, 1), torch.randn(1, 2, 1)
    x = kept.sqrt() * a + (1 - kept).sqrt() * e
    v = kept.sqrt() * e - (1 - kept).sqrt() * a
    noise_guess = kept.sqrt() * x_guess + (1 - kept).sqrt() * x
    torch.testing.assert_close((noise_guess - e) ** 2 / kept, (x_guess - v) ** 2)
    assert head.predict_v(x, t, head.embed(torch.randn(1, 1, 4), torch.randn(1, 2))).shape == x.shape


def test_masked_ticks_get_no_error_of_their_own() -> None:
    head = expert(horizon=3)
    batch = batch_of(torch.randn(16, 3, 1))
    short = replace(batch, mask=torch.tensor([1.0, 0.0, 0.0]).expand(16, 3).contiguous())
    loss, _ = diffusion_loss(head, head, short, CPConfig(), generator=torch.Generator().manual_seed(0))
    loss.backward()
    last = head.leave[-1]
    assert last.weight.grad is not None
    assert float(last.weight.grad[0].abs().sum()) > 0
    assert float(last.weight.grad[1:].abs().sum()) == 0
