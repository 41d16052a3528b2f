"""ResFiT: returns of executed ticks, targets of a random pair, and a residual that finds a known optimum."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.resfit import ResFiTConfig, actor_loss, critic_loss, executed_return
from bora_cli.models.critic import ChunkCritic, CriticConfig
from bora_cli.models.nn import Sizes
from bora_cli.models.residual import ResidualActor, ResidualConfig
from bora_cli.train.resfit import known, optimise
from bora_cli.train.residual import Report

SIZES = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=2, horizon=2)
UNIT = torch.tensor([1.0, 0.5])


def windows(r: list[list[float]], mask: list[list[float]], ended: list[float], follows: list[bool]) -> Batch:
    n = len(r)
    z, s, a = torch.zeros(n, 1, 4), torch.zeros(n, 2), torch.zeros(n, 2, 2)
    m = torch.tensor(mask, dtype=torch.float32)
    last = (m.sum(1) - 1).long()
    d = torch.zeros(n, 2).scatter_(1, last[:, None], torch.tensor(ended, dtype=torch.float32)[:, None])
    return Batch(z, s, a, m, torch.tensor(r), d, z, s, torch.tensor(follows))


FOUR = windows(
    [[1.0, 2.0], [1.0, 9.0], [1.0, 2.0], [1.0, 2.0]],
    [[1, 1], [1, 0], [1, 1], [1, 1]],
    [0, 0, 1, 0],
    [True, True, False, False],
)


class Numbers:
    """A critic whose members say given numbers.  says: float [K]."""

    def __init__(self, *says: float) -> None:
        self.says = torch.tensor(says)

    def q(self, z: Tensor, s: Tensor, a: Tensor) -> Tensor:
        return self.says[:, None, None].expand(-1, *a.shape[:2])

    def v(self, *_: Any) -> Tensor:
        raise AssertionError("there is no state value here")


def actor(seed: int = 0) -> ResidualActor:
    torch.manual_seed(seed)
    return ResidualActor(ResidualConfig(sizes=SIZES, kind="mlp", bound=(0.5, 0.5), width=32))


def test_returns_count_executed_ticks_only() -> None:
    total, ahead = executed_return(FOUR, gamma=0.5)
    assert total.tolist() == [2.0, 1.0, 2.0, 2.0]
    assert ahead.tolist() == [0.25, 0.5, 0.0, 0.25]


def test_windows_without_a_future_are_left_out() -> None:
    assert known(FOUR).tolist() == [0, 1, 2]  # the last one was cut off by the clock


def test_targets_are_the_smaller_of_a_random_pair() -> None:
    config = ResFiTConfig(ensemble=3)
    batch = FOUR.rows(torch.tensor([0, 1, 2]))
    seen = set()
    for seed in range(30):
        _, info = critic_loss(
            Numbers(0.0, 0.0, 0.0),
            Numbers(1.0, 2.0, 4.0),
            actor(),
            batch,
            torch.zeros(3, 2, 2),
            UNIT,
            gamma=0.5,
            config=config,
            generator=torch.Generator().manual_seed(seed),
        )
        seen.add(round(info["target"], 5))
    # mean of 2 + q/4, 1 + q/2 and 2 (it ended), q the smaller of a pair: 1 or 2
    assert seen == {round((5 + 0.75 * q) / 3, 5) for q in (1.0, 2.0)}


def test_nothing_that_is_unknown_enters_a_target() -> None:
    batch = FOUR.rows(torch.tensor([2]))
    batch.z_next[:], batch.s_next[:] = torch.nan, torch.nan
    torch.manual_seed(0)
    critic = ChunkCritic(CriticConfig(sizes=SIZES, context="full", ensemble=2, width=8))
    nothing = torch.full((1, 2, 2), torch.nan)
    loss, info = critic_loss(critic, critic, actor(), batch, nothing, UNIT, gamma=0.5, config=ResFiTConfig())
    assert bool(torch.isfinite(loss))
    assert info["target"] == 2.0


def test_the_actors_gradient_stays_out_of_the_critic() -> None:
    torch.manual_seed(0)
    critic = ChunkCritic(CriticConfig(sizes=SIZES, context="full", ensemble=2, width=8))
    residual = actor()
    loss, _ = actor_loss(residual, critic, FOUR, torch.zeros(4, 2, 2), UNIT, config=ResFiTConfig())
    loss.backward()
    assert all(p.grad is None for p in critic.parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in residual.parameters())


def test_a_known_optimum_is_found() -> None:
    """One decision, reward -|a - goal|^2 on its first tick: the residual becomes goal - base, in command units."""
    goal, base = torch.tensor([0.3, -0.1]), torch.tensor([0.1, 0.05])
    g = torch.Generator().manual_seed(0)

    def draw() -> Batch:
        n = 64
        z, s = torch.randn(n, 1, 4, generator=g), torch.randn(n, 2, generator=g)
        a = base + UNIT * (torch.rand(n, 2, 2, generator=g) - 0.5)
        r = torch.zeros(n, 2)
        r[:, 0] = -5 * (((a[:, 0] - goal) / UNIT) ** 2).sum(-1)
        ended = torch.zeros(n, 2)
        ended[:, 1] = 1.0
        return Batch(z, s, a, torch.ones(n, 2), r, ended, z, s, torch.zeros(n, dtype=torch.bool))

    residual = actor()
    torch.manual_seed(0)
    critic = ChunkCritic(CriticConfig(sizes=SIZES, context="full", ensemble=2, width=64))
    config = ResFiTConfig(critic_lr=1e-2, lr=1e-3, alone=0.6, delay=2, ensemble=2, lambda_l2=0.0, reach=1.0)
    info = optimise(
        residual,
        critic,
        draw,
        lambda z, s: base.expand(len(z), 2, 2),
        UNIT,
        600,
        0.97,
        config,
        g,
        Report(None, None),
    )
    batch = draw()
    with torch.no_grad():
        found = residual(batch.z, batch.s, base.expand(64, 2, 2))[:, 0].mean(0)
    torch.testing.assert_close(found, (goal - base) / UNIT, atol=0.1, rtol=0)
    assert info["residual_rms"] < 0.6


@pytest.mark.parametrize(("decisions", "updates"), [(10, 200), (150, 600), (10_000, 3000)])
def test_updates_follow_the_data(decisions: int, updates: int) -> None:
    assert ResFiTConfig().updates(decisions) == updates
