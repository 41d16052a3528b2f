"""The chunk critic: shapes, and what each context may see."""

from __future__ import annotations

import pytest
import torch

from bora_cli.models.critic import ChunkCritic, CriticConfig, StateValue, ValueConfig
from bora_cli.models.nn import MemberLinear, Sizes

SIZES = Sizes(n_tokens=2, token_width=4, state_dim=3, action_dim=2, horizon=4)
Z, S, A = torch.randn(5, 2, 4), torch.randn(5, 3), torch.randn(5, 4, 2)


def make_critic(context: str) -> ChunkCritic:
    torch.manual_seed(0)
    return ChunkCritic(CriticConfig(sizes=SIZES, context=context, ensemble=3, width=16))  # type: ignore[arg-type]


@pytest.mark.parametrize("context", ["step", "prefix", "full"])
def test_shapes(context: str) -> None:
    critic = make_critic(context)
    assert critic.q(Z, S, A).shape == (3, 5, 4)
    assert critic.v(Z, S, A).shape == (5, 4)
    assert critic.v(Z, S).shape == (5, 4)
    assert StateValue(ValueConfig(sizes=SIZES, width=8))(Z, S).shape == (5,)


def test_a_value_leaves_units_out_only_where_it_is_given_the_draw() -> None:
    torch.manual_seed(0)
    value = StateValue(ValueConfig(sizes=SIZES, width=8))

    def drawn() -> torch.Tensor:
        found: torch.Tensor = value(Z, S, torch.Generator().manual_seed(3))
        return found

    assert torch.equal(value(Z, S), value(Z, S))
    assert torch.equal(drawn(), drawn())
    assert not torch.equal(drawn(), value(Z, S))


SEEN = {
    ("step", "q"): lambda i, j: j == i,
    ("prefix", "q"): lambda i, j: j <= i,
    ("full", "q"): lambda i, j: True,
    ("step", "v"): lambda i, j: False,
    ("prefix", "v"): lambda i, j: j < i,
    ("full", "v"): lambda i, j: False,
}


@pytest.mark.parametrize(("context", "head"), list(SEEN))
def test_a_tick_sees_exactly_the_promised_actions(context: str, head: str) -> None:
    critic = make_critic(context)
    for i in range(4):
        a = A.clone().requires_grad_(True)
        out = critic.q(Z, S, a) if head == "q" else critic.v(Z, S, a)
        (grad,) = torch.autograd.grad(out[..., i].sum(), a, allow_unused=True)
        reached = torch.zeros(4, dtype=torch.bool) if grad is None else (grad.abs() > 0).any(2).any(0)
        assert reached.tolist() == [SEEN[context, head](i, j) for j in range(4)]


def test_v0_needs_no_actions() -> None:
    """The bootstrap at the next decision asks for v_0 without knowing the next chunk."""
    critic = make_critic("prefix")
    assert torch.equal(critic.v(Z, S)[:, 0], critic.v(Z, S, A)[:, 0])


def test_members_are_independent() -> None:
    critic = make_critic("prefix")
    q = critic.q(Z, S, A)
    assert float(q.detach().std(0).max()) > 0
    q[0].sum().backward()
    for weight in (critic.q_net.observe.weight.grad, critic.q_net.head.weight.grad):
        assert weight is not None
        assert float(weight[0].abs().sum()) > 0
        assert float(weight[1:].abs().sum()) == 0


def test_member_linear_equals_separate_layers() -> None:
    layer, x = MemberLinear(3, 4, 2), torch.randn(3, 5, 6, 4)
    separate = torch.stack([x[k] @ layer.weight[k] + layer.bias[k, 0] for k in range(3)])
    torch.testing.assert_close(layer(x), separate)
