"""The consistency expert: boundary, ladder, sampling, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bora_cli.errors import ConfigError
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert, noise_ladder, scalings
from bora_cli.models.nn import Sizes, fit_contexts, frozen, polyak_update

SIZES = Sizes(n_tokens=2, token_width=4, state_dim=3, action_dim=2, horizon=4)


def make_expert(seed: int = 0, **settings: float) -> ConsistencyExpert:
    torch.manual_seed(seed)
    expert = ConsistencyExpert(ConsistencyConfig(sizes=SIZES, width=32, **settings))  # type: ignore[arg-type]
    nn.init.normal_(expert.leave[-1].weight, std=0.1)  # type: ignore[arg-type]  # born at zero, which hides errors
    return expert


def inputs(b: int = 5, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return (
        torch.randn(b, 2, 4, generator=g),
        torch.randn(b, 3, generator=g),
        torch.randn(b, 4, 2, generator=g),
    )


def test_k1_the_lowest_noise_level_is_the_identity() -> None:
    expert, (z, s, x) = make_expert(), inputs()
    sigma = torch.full((5,), expert.config.sigma_min)
    torch.testing.assert_close(expert.denoise(x, sigma, z, s), x, atol=1e-6, rtol=0)


def test_k2_scalings() -> None:
    config = ConsistencyConfig(sizes=SIZES)
    c_skip, c_out, _ = scalings(torch.tensor([config.sigma_min + 0.5, config.sigma_min]), config)
    torch.testing.assert_close(c_skip, torch.tensor([0.5, 1.0]))
    assert float(c_out[1]) == 0.0


def test_k3_the_ladder_falls_from_top_to_bottom() -> None:
    ladder = noise_ladder(ConsistencyConfig(sizes=SIZES))
    torch.testing.assert_close(ladder[[0, -1]], torch.tensor([10.0, 0.01]))
    assert bool((ladder.diff() < 0).all())
    assert len(ladder) == 18


def test_sampling_is_deterministic_given_the_noise() -> None:
    expert, (z, s, x) = make_expert(), inputs()
    noise = torch.stack([x, x + 1, x - 1])
    assert torch.equal(expert.sample(z, s, noise, 3), expert.sample(z, s, noise, 3))
    assert torch.equal(expert.sample(z, s, x), expert.sample(z, s, x[None], 1))
    assert not torch.equal(expert.sample(z, s, noise[:2], 2), expert.sample(z, s, x))


def test_grad_steps_leave_the_value_alone() -> None:
    expert, (z, s, x) = make_expert(), inputs()
    noise = torch.stack([x, -x])
    assert torch.equal(expert.sample(z, s, noise, 2, 1), expert.sample(z, s, noise, 2, 2))


def test_the_sample_carries_gradient_to_the_tokens() -> None:
    """Through this path the actor loss can reach a backbone."""
    expert, (z, s, x) = make_expert(), inputs()
    z.requires_grad_(True)
    expert.sample(z, s, x).sum().backward()
    assert z.grad is not None
    assert float(z.grad.abs().sum()) > 0


def test_context_statistics_standardise_tokens() -> None:
    expert = make_expert()
    z = 5 + torch.randn(400, 2, 4) * torch.tensor([0.1, 0.2, 1.0, 1.0])
    fit_contexts(expert, z)
    flat = expert.context(z, torch.zeros(400, 3))[:, :8]
    torch.testing.assert_close(flat.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat.std(0, correction=0), torch.ones(8), atol=1e-3, rtol=0)
    assert "context.mean" in expert.state_dict()


def test_polyak_moves_by_the_rate_and_frozen_protects_weights() -> None:
    a, b = make_expert(0), make_expert(1)
    goal = {n: p + 0.25 * (q - p) for (n, p), q in zip(a.named_parameters(), b.parameters(), strict=True)}
    polyak_update(a, b, 0.25)
    for name, value in a.named_parameters():
        torch.testing.assert_close(value, goal[name])
    z, s, x = inputs()
    x.requires_grad_(True)
    with frozen(a):
        out = a.denoise(x, torch.ones(5), z, s).sum()
    out.backward()
    assert x.grad is not None
    assert all(p.grad is None and p.requires_grad for p in a.parameters())


def test_messages() -> None:
    expert, (z, s, x) = make_expert(), inputs()
    with pytest.raises(ConfigError, match="Sampling in 4 steps"):
        expert.sample(z, s, torch.stack([x] * 4), 4)
    with pytest.raises(ConfigError, match="expected 1 to 3 steps"):
        expert.sample(z, s, x, 2)
    with pytest.raises(ConfigError, match="expected a larger sigma_max"):
        make_expert(sigma_max=0.001)
