"""Targets and advantages against problems solved by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bora_cli.algos.targets import (
    chunk_targets,
    discounted_return,
    expectile_loss,
    gae,
    masked_mean,
    normalise_advantage,
    realtime_gae,
    window_mean,
)
from bora_cli.errors import DataError

GAMMA = 0.9
LENGTH, CHUNK = 6, 3
TRUE_V = torch.tensor([0.59049, 0.6561, 0.729, 0.81, 0.9, 1.0])


def refresh(
    v: Tensor, *, executed: int = CHUNK, cost: float = 0.0, lambda_return: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return targets and mask [6, 3] of the walk 0 -> 6 with reward 1 on arrival, one window per start state.

    v: float [7, 3], v[s, i] = value of tick i of the chunk that starts in s; row 6 is behind the end.
    """
    start = torch.arange(LENGTH)
    at = start[:, None] + torch.arange(CHUNK)
    d = (at == LENGTH - 1).float()
    mask = ((d.cumsum(1) - d == 0) & (torch.arange(CHUNK) < executed)).float()
    y = chunk_targets(
        r=d - cost,
        d=d,
        mask=mask,
        has_next=mask.sum(1) == executed,
        v=v[:LENGTH],
        v_next=v[(start + executed).clamp(max=LENGTH), 0],
        gamma=GAMMA,
        lambda_return=lambda_return,
    )
    return y, mask


def solve(sweeps: int = 20, **options: float) -> tuple[Tensor, Tensor]:
    v = torch.zeros(LENGTH + 1, CHUNK)
    y, mask = refresh(v, **options)  # type: ignore[arg-type]
    for _ in range(sweeps):
        v = torch.cat([y, torch.zeros(1, CHUNK)])
        y, mask = refresh(v, **options)  # type: ignore[arg-type]
    return y, mask


def test_c1_the_fixed_point_is_the_true_value() -> None:
    y, mask = solve()
    torch.testing.assert_close(y[0], torch.tensor([0.59049, 0.6561, 0.729]))
    torch.testing.assert_close(y[:, 0], TRUE_V)
    assert mask[4].tolist() == [1, 1, 0]


def test_c2_with_a_cost_per_step() -> None:
    y, _ = solve(cost=0.01)
    left = torch.arange(LENGTH, 0, -1)
    expected = GAMMA ** (left - 1) - 0.01 * (1 - GAMMA**left) / (1 - GAMMA)
    torch.testing.assert_close(y[:, 0], expected)
    assert float(y[0, 0]) == pytest.approx(0.5436341, abs=1e-6)


@pytest.mark.parametrize("executed", [1, 2, 3])
@pytest.mark.parametrize("lambda_return", [0.0, 0.5, 1.0])
def test_c3_replanning_early_changes_no_value(executed: int, lambda_return: float) -> None:
    y, mask = solve(executed=executed, lambda_return=lambda_return)
    start = torch.arange(LENGTH)[:, None] + torch.arange(CHUNK)
    expected = TRUE_V[start.clamp(max=LENGTH - 1)]
    torch.testing.assert_close(y[mask > 0], expected[mask > 0])


@pytest.mark.parametrize(("lambda_return", "needed"), [(0.0, [6, 5, 4, 3, 2, 1]), (1.0, [2, 2, 2, 1, 1, 1])])
def test_c5_how_fast_reward_travels(lambda_return: float, needed: list[int]) -> None:
    """One step per refresh with the shifted bootstrap, one chunk per refresh with the full return."""
    v, first = torch.zeros(LENGTH + 1, CHUNK), [0] * LENGTH
    for sweep in range(1, 8):
        y, _ = refresh(v, lambda_return=lambda_return)
        v = torch.cat([y, torch.zeros(1, CHUNK)])
        for s in range(LENGTH):
            if first[s] == 0 and y[s, 0] > 0:
                first[s] = sweep
    assert first == needed


def test_m1_nothing_behind_a_terminal_is_looked_at() -> None:
    r, d, v = torch.randn(1, 3), torch.tensor([[0.0, 1.0, 0.0]]), torch.randn(1, 3)
    mask = torch.tensor([[1.0, 1.0, 0.0]])
    nan, has_next = torch.tensor([float("nan")]), torch.tensor([True])
    clean = chunk_targets(
        r=r, d=d, mask=mask, has_next=has_next, v=v, v_next=torch.zeros(1), gamma=0.9, lambda_return=0.7
    )
    r[0, 2] = 1e9
    dirty = chunk_targets(
        r=r, d=d, mask=mask, has_next=has_next, v=v, v_next=nan, gamma=0.9, lambda_return=0.7
    )
    assert torch.equal(clean, dirty)
    assert torch.equal(clean[:, 1], r[:, 1])


@pytest.mark.parametrize("executed", [1, 2, 3])
def test_m2_termination_removes_exactly_the_bootstrap(executed: int) -> None:
    r, v, v_next = torch.randn(1, 3), torch.randn(1, 3), torch.tensor([0.8])
    cut, ended = torch.zeros(1, 3), torch.zeros(1, 3)
    ended[0, executed - 1] = 1
    mask = (torch.arange(3) < executed).float()[None]

    def target(d: Tensor) -> Tensor:
        return chunk_targets(
            r=r, d=d, mask=mask, has_next=torch.tensor([True]), v=v, v_next=v_next, gamma=GAMMA
        )

    change = target(cut) - target(ended)
    assert float(change[0, executed - 1]) == pytest.approx(GAMMA * 0.8)
    assert change.abs().gt(1e-6).sum() == 1


def test_the_last_seen_tick_of_a_truncated_episode_is_a_bootstrap() -> None:
    """Ticks 0 and 1 are valid, tick 2 was observed but has no successor: y_1 = r_1 + gamma v_2."""
    v = torch.tensor([[0.1, 0.2, 0.7, 9.0]])
    y = chunk_targets(
        r=torch.ones(1, 4),
        d=torch.zeros(1, 4),
        mask=torch.tensor([[1.0, 1.0, 0.0, 0.0]]),
        has_next=torch.tensor([False]),
        v=v,
        v_next=torch.tensor([float("nan")]),
        gamma=0.5,
    )
    torch.testing.assert_close(y, torch.tensor([[1.1, 1.35, 0.0, 0.0]]))


def test_m3_messages() -> None:
    with pytest.raises(DataError, match="neither terminates nor has a next decision"):
        chunk_targets(
            r=torch.zeros(1, 2),
            d=torch.zeros(1, 2),
            mask=torch.ones(1, 2),
            has_next=torch.tensor([False]),
            v=torch.zeros(1, 2),
            v_next=torch.zeros(1),
            gamma=0.9,
        )


@given(executed=st.lists(st.integers(1, 5), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_m5_means_equal_loops(executed: list[int]) -> None:
    mask = (torch.arange(5) < torch.tensor(executed)[:, None]).float()
    x = torch.arange(len(executed) * 5, dtype=torch.float32).view(-1, 5)
    total = sum(sum(row[:n]) / n for row, n in zip(x.tolist(), executed, strict=True))
    assert float(masked_mean(x, mask)) == pytest.approx(total / len(executed), rel=1e-5)


def test_masked_entries_may_be_anything() -> None:
    x, mask = torch.tensor([[1.0, float("nan")], [2.0, 4.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert window_mean(x, mask).tolist() == [1.0, 3.0]
    assert window_mean(x, torch.zeros(2, 2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("tau", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("p", [0.2, 0.5, 0.8])
def test_e1_e2_the_expectile_of_a_coin(tau: float, p: float) -> None:
    """The loss is least at tau p / (tau p + (1 - tau)(1 - p)); for tau = 0.5 that is the mean."""
    v = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    loss = p * expectile_loss(1 - v, tau) + (1 - p) * expectile_loss(-v, tau)
    expected = tau * p / (tau * p + (1 - tau) * (1 - p))
    assert float(v[loss.argmin()]) == pytest.approx(expected, abs=1e-4)
    if tau == 0.5:
        assert expected == pytest.approx(p)


@given(low=st.floats(0.05, 0.9), step=st.floats(0.01, 0.09), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_e3_expectiles_rise_with_tau(low: float, step: float, seed: int) -> None:
    x = torch.randn(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    grid = torch.linspace(-3, 3, 3001, dtype=torch.float64)

    def expectile(tau: float) -> float:
        return float(grid[expectile_loss(x[:, None] - grid, tau).sum(0).argmin()])

    assert expectile(low + step) >= expectile(low)


def test_g1_g2_advantages_along_a_chunk() -> None:
    delta, mask = torch.ones(2, 3), torch.tensor([[1.0, 1, 1], [1, 1, 0]])
    d = torch.tensor([[0.0, 0, 0], [0, 1, 0]])
    adv = gae(delta, d, mask, gamma=0.9, lam=0.5)
    torch.testing.assert_close(adv, torch.tensor([[1.6525, 1.45, 1.0], [1.45, 1.0, 0.0]]))


@given(seed=st.integers(0, 1000), ticks=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_realtime_gae_with_lambda_one_is_return_minus_value(seed: int, ticks: int) -> None:
    g = torch.Generator().manual_seed(seed)
    values, reward = torch.randn(ticks, generator=g), torch.randn(ticks, generator=g)
    adv = realtime_gae(values, reward, True, gamma=0.95, lam=1.0)
    torch.testing.assert_close(adv, discounted_return(reward, gamma=0.95) - values, atol=1e-5, rtol=1e-5)


def test_a_truncated_last_tick_has_no_advantage() -> None:
    values, reward = torch.tensor([0.5, 0.6, 0.2]), torch.zeros(3)
    adv = realtime_gae(values, reward, False, gamma=1.0, lam=1.0)
    torch.testing.assert_close(adv, torch.tensor([-0.3, -0.4, 0.0]))


def test_normalised_advantages_keep_their_sign() -> None:
    adv, mask = torch.tensor([[1.0, 2.0, 99.0], [3.0, 50.0, 0.1]]), torch.tensor([[1.0, 1, 0], [1, 1, 1]])
    out = normalise_advantage(adv, mask, clip=2.0)
    assert bool((out[mask > 0] > 0).all())
    assert float(out.max()) == 2.0
    assert float(out[0, 2]) == 0.0
    centred = normalise_advantage(adv, mask, clip=100.0, center=True)
    assert float(centred[mask > 0].mean()) == pytest.approx(0, abs=1e-5)
    assert torch.equal(normalise_advantage(adv, torch.zeros(2, 3)), torch.zeros(2, 3))
