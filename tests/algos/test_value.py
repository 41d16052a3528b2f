"""Cross-fitted values never judge an episode they were fitted on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.algos.targets import discounted_return, realtime_gae
from bora_cli.algos.value import (
    ValueFitConfig,
    assign_folds,
    episode_advantages,
    episode_returns,
    explained,
    out_of_fold,
    outcome_advantages,
    value_loss,
)
from bora_cli.errors import DataError
from bora_cli.models.critic import StateValue, ValueConfig
from bora_cli.models.nn import Sizes


@given(
    lengths=st.lists(st.integers(1, 9), min_size=4, max_size=12),
    folds=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_folds_keep_episodes_whole_and_are_even(lengths: list[int], folds: int, seed: int) -> None:
    episode = np.repeat(np.arange(len(lengths)) * 3, lengths)
    fold = assign_folds(episode, folds, np.random.default_rng(seed))
    per_episode = [set(fold[episode == e]) for e in np.unique(episode)]
    assert all(len(f) == 1 for f in per_episode)
    sizes = np.bincount([f.pop() for f in per_episode], minlength=folds)
    assert sizes.max() - sizes.min() <= 1


def test_too_few_episodes() -> None:
    with pytest.raises(DataError, match="Cannot split 2 episodes into 4 folds"):
        assign_folds(np.array([0, 0, 1]), 4, np.random.default_rng(0))


def test_out_of_fold_picks_the_model_that_did_not_look() -> None:
    predictions = [torch.tensor([0.0, 1.0, 2.0]), torch.tensor([10.0, 11.0, 12.0])]
    assert out_of_fold(predictions, np.array([1, 0, 1])).tolist() == [10.0, 1.0, 12.0]


def test_episodes_are_treated_one_by_one() -> None:
    rewards = [torch.tensor([0.0, 1.0]), torch.tensor([-0.1, -0.1, -0.1])]
    values = torch.tensor([0.5, 0.9, 0.3, 0.2, 0.1])
    returns = episode_returns(rewards, [True, True], gamma=0.5)
    torch.testing.assert_close(
        returns.collected, torch.cat([discounted_return(r, gamma=0.5) for r in rewards])
    )
    adv = episode_advantages(values, rewards, [True, False], gamma=0.5, lam=0.9)
    torch.testing.assert_close(adv[:2], realtime_gae(values[:2], rewards[0], True, gamma=0.5, lam=0.9))
    torch.testing.assert_close(adv[2:], realtime_gae(values[2:], rewards[1], False, gamma=0.5, lam=0.9))


def test_what_would_have_come_after_a_truncation_is_not_taken_for_nothing() -> None:
    """Equal rewards: the terminated episode keeps its sums, the truncated one asks V of its last observation."""
    rewards = [torch.tensor([1.0, 1.0, 1.0]), torch.tensor([1.0, 1.0, 1.0])]
    returns = episode_returns(rewards, [True, False], gamma=0.5)
    assert returns.known.tolist() == [True, True, True, True, True, False]
    value = ConstantValue()
    target = returns.target(torch.arange(6), value, torch.zeros(6, 1, 1), torch.arange(6.0)[:, None])
    assert target[:3].tolist() == [1.75, 1.5, 1.0]
    assert target[3:5].tolist() == [1.5 + 0.25 * 50.0, 1.0 + 0.5 * 50.0]


def test_what_values_explain_is_measured_against_their_mean() -> None:
    returns = torch.tensor([0.0, 1.0, 1.0, 2.0])
    assert explained(returns, returns) == 1.0
    assert explained(torch.full((4,), 1.0), returns) == pytest.approx(0.0)
    assert explained(2.0 - returns, returns) == pytest.approx(-3.0)
    assert explained(torch.zeros(4), torch.ones(4)) == 1.0
    assert explained(torch.zeros(0), torch.zeros(0)) == 1.0


def test_without_a_value_every_tick_has_the_advantage_of_its_episode() -> None:
    long_success, failure = torch.tensor([-0.1, -0.1, -0.1, 0.9]), torch.tensor([-0.1, -0.1])
    adv = outcome_advantages([long_success, failure])
    assert adv.tolist() == pytest.approx([0.4] * 4 + [-0.4] * 2)


class ConstantValue(StateValue):
    """Ten times the first state, so that it shows which row was asked."""

    def __init__(self) -> None:
        super().__init__(
            ValueConfig(sizes=Sizes(n_tokens=1, token_width=1, state_dim=1, action_dim=1, horizon=2))
        )

    def forward(
        self, z: torch.Tensor, s: torch.Tensor, dropped: torch.Generator | None = None
    ) -> torch.Tensor:
        return 10.0 * s[:, 0]


def test_regression_learns_a_return_it_can_see() -> None:
    torch.manual_seed(0)
    sizes = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=1, horizon=2)
    value = StateValue(ValueConfig(sizes=sizes, width=32))
    z, s = torch.randn(256, 1, 4), torch.randn(256, 2)
    optimiser = torch.optim.Adam(value.parameters(), ValueFitConfig().lr * 5, fused=True)
    for _ in range(150):
        loss = value_loss(value, z, s, s[:, 0] * 0.5)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.01


def explained_of_others(dropout: float) -> float:
    """Return R^2 on unseen episodes, which have a look of their own and returns that follow from it in part only."""
    torch.manual_seed(1)
    sizes = Sizes(n_tokens=1, token_width=32, state_dim=1, action_dim=1, horizon=2)
    value = StateValue(ValueConfig(sizes=sizes, width=64, dropout=dropout))
    look = torch.randn(80, 32).repeat_interleave(10, dim=0)
    returns = (0.5 * look[:, 0] + torch.randn(80).repeat_interleave(10))[:, None]
    z, s = look[:, None] + 0.1 * torch.randn(800, 1, 32), torch.zeros(800, 1)
    optimiser, dropped = torch.optim.Adam(value.parameters(), 1e-3), torch.Generator().manual_seed(0)
    for _ in range(200):
        loss = value_loss(value, z[:600], s[:600], returns[:600, 0], dropped)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return explained(value(z[600:], s[600:]), returns[600:, 0])


def test_leaving_units_out_keeps_a_value_from_remembering_episodes() -> None:
    assert explained_of_others(0.5) > explained_of_others(0.0) + 0.1
