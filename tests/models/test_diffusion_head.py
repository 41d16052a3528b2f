"""The diffusion head: its schedule, DDIM with exact noise predictions, and determinism."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bora_cli.errors import ConfigError
from bora_cli.models.diffusion import DiffusionConfig, DiffusionExpert, cosine_schedule, ddim
from bora_cli.models.nn import Sizes

KEPT = cosine_schedule(100)


def test_the_schedule_falls_from_one_to_almost_nothing() -> None:
    assert KEPT[0] == 1
    assert bool((KEPT.diff() < 0).all())
    assert 0 < KEPT[-1] < 1e-4
    # f(t) / f(0) where the cap plays no part
    assert KEPT[50].item() == pytest.approx(0.4938, abs=1e-3)


@pytest.mark.parametrize("steps", [2, 10, 100])
def test_with_exact_noise_one_point_is_reached_from_anywhere(steps: int) -> None:
    point = torch.tensor([[0.7, -0.3]])

    def exact(x: Tensor, t: int) -> Tensor:
        return (x - KEPT[t].sqrt() * point) / (1 - KEPT[t]).sqrt()

    x = ddim(exact, torch.randn(16, 2, generator=torch.Generator().manual_seed(0)), KEPT, steps)
    torch.testing.assert_close(x, point.expand(16, 2), atol=1e-4, rtol=0)


def test_with_exact_noise_a_gaussian_keeps_its_spread() -> None:
    """E[e | x_t] of data N(0, s^2) is sqrt(1 - k) x / (k s^2 + 1 - k); sampling then scales noise by about s."""
    spread = 0.5

    def exact(x: Tensor, t: int) -> Tensor:
        return (1 - KEPT[t]).sqrt() * x / (KEPT[t] * spread**2 + 1 - KEPT[t])

    noise = torch.linspace(-2, 2, 9)
    fine, coarse = ddim(exact, noise, KEPT, 100), ddim(exact, noise, KEPT, 10)
    torch.testing.assert_close(fine, spread * noise, atol=0.02, rtol=0)
    torch.testing.assert_close(coarse, spread * noise, atol=0.15, rtol=0)  # ten steps cost an eighth


def test_with_exact_noise_two_points_stay_two() -> None:
    """E[x_0 | x_t] of the points +-1 is tanh(sqrt(k) x / (1 - k)); the sign of the noise chooses the point."""

    def exact(x: Tensor, t: int) -> Tensor:
        k = KEPT[t]
        return (x - k.sqrt() * torch.tanh(k.sqrt() * x / (1 - k))) / (1 - k).sqrt()

    noise = torch.tensor([-1.5, -0.4, 0.4, 1.5])
    torch.testing.assert_close(ddim(exact, noise, KEPT, 10), noise.sign(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("steps", [0, 1, 101])
def test_a_number_of_steps_that_cannot_be(steps: int) -> None:
    with pytest.raises(ConfigError, match=f"Sampling in {steps} DDIM steps; expected 2 to 100"):
        ddim(lambda x, t: x, torch.zeros(1), KEPT, steps)


def test_a_sample_is_a_function_of_its_first_noise() -> None:
    sizes = Sizes(n_tokens=2, token_width=4, state_dim=3, action_dim=2, horizon=4)
    expert = DiffusionExpert(DiffusionConfig(sizes=sizes, width=32))
    torch.nn.init.normal_(expert.leave[-1].weight, std=0.1)
    z, s, noise = torch.randn(5, 2, 4), torch.randn(5, 3), torch.randn(10, 5, 4, 2)
    chunk = expert.sample(z, s, noise, 10)
    assert chunk.shape == (5, 4, 2)
    assert torch.equal(chunk, expert.sample(z, s, noise[0], 10))
    assert not torch.equal(chunk, expert.sample(z, s, noise[1], 10))
    assert not torch.allclose(chunk, expert.sample(z + torch.randn_like(z), s, noise, 10))
