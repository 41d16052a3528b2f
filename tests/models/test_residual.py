"""The residual: exact zero at birth and at lambda = 0, bounded for ever, stackable."""

from __future__ import annotations

import copy
import json
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bora_cli.errors import ConfigError
from bora_cli.models.nn import Sizes
from bora_cli.models.residual import ResidualActor, ResidualConfig, compose

SIZES = Sizes(n_tokens=2, token_width=4, state_dim=3, action_dim=3, horizon=4)
BOUND = (0.5, 0.25, 0.6)
Kind = Literal["constant", "mlp"]
KINDS: tuple[Kind, ...] = ("constant", "mlp")
Z, S, BASE = torch.randn(5, 2, 4), torch.randn(5, 3), torch.randn(5, 4, 3)
UNIT = torch.tensor([0.5, 2.0, 1.0])


def make_residual(kind: Kind, spread: float = 0.0) -> ResidualActor:
    torch.manual_seed(0)
    actor = ResidualActor(ResidualConfig(sizes=SIZES, kind=kind, bound=BOUND, width=16))
    with torch.no_grad():
        for p in actor.parameters():
            p.add_(spread * torch.randn_like(p))
    return actor


@pytest.mark.parametrize("kind", KINDS)
def test_r0_born_zero_and_lambda_zero_are_the_base_bit_for_bit(kind: Kind) -> None:
    newborn, wild = make_residual(kind), make_residual(kind, 3.0)
    assert torch.equal(compose(BASE, newborn(Z, S, BASE), 1.0, UNIT), BASE)
    assert not torch.equal(compose(BASE, wild(Z, S, BASE), 1.0, UNIT), BASE)
    assert torch.equal(compose(BASE, wild(Z, S, BASE), 0.0, UNIT), BASE)
    assert torch.equal(compose(BASE, torch.full_like(BASE, torch.nan), 0.0, UNIT), BASE)


@given(spread=st.floats(0.1, 100.0), lam=st.floats(0.0, 1.0), kind=st.sampled_from(KINDS))
@settings(max_examples=30, deadline=None)
def test_r0c_the_correction_is_bounded_by_lambda(spread: float, lam: float, kind: Kind) -> None:
    actor = make_residual(kind, spread)
    moved = (compose(BASE, actor(Z, S, BASE), lam, UNIT) - BASE).abs() / UNIT
    assert bool((moved <= lam * torch.tensor(BOUND) + 1e-5).all())


@pytest.mark.parametrize("kind", KINDS)
def test_r0d_the_base_of_round_two_is_the_composite_of_round_one(kind: Kind) -> None:
    first = make_residual(kind, 1.0)
    composite = compose(BASE, first(Z, S, BASE), 0.7, UNIT)
    base_two = compose(BASE, copy.deepcopy(first)(Z, S, BASE), 0.7, UNIT)
    assert torch.equal(compose(base_two, make_residual(kind)(Z, S, base_two), 1.0, UNIT), composite)


def test_the_constant_kind_ignores_everything() -> None:
    actor = make_residual("constant", 1.0)
    out = actor(Z, S, BASE)
    assert out.shape == BASE.shape
    assert torch.equal(out[0, 0].expand_as(out), out)
    assert torch.equal(actor.departure(Z, S, BASE), torch.zeros_like(BASE))
    assert torch.equal(actor.constant(), out[0, 0])
    stacked = make_residual("constant", 0.3).on(actor, 0.75, 0.5, UNIT)
    torch.testing.assert_close(stacked.constant(), stacked(Z, S, BASE)[0, 0])
    assert sum(p.numel() for p in actor.parameters()) == SIZES.action_dim


def test_a_network_departs_from_its_constant() -> None:
    actor = make_residual("mlp")
    with torch.no_grad():
        actor.offset.fill_(0.1)
    torch.testing.assert_close(actor.departure(Z, S, BASE), torch.zeros_like(BASE))
    out = actor(Z, S, BASE)
    torch.testing.assert_close(out, (torch.tensor(BOUND) * (0.1 / torch.tensor(BOUND)).tanh()).expand_as(out))
    assert not torch.equal(make_residual("mlp", 1.0).departure(Z, S, BASE), torch.zeros_like(BASE))


def test_units_are_left_out_only_where_the_draw_is_given() -> None:
    actor = make_residual("mlp", 1.0)

    def drawn() -> torch.Tensor:
        found: torch.Tensor = actor(Z, S, BASE, torch.Generator().manual_seed(3))
        return found

    assert torch.equal(actor(Z, S, BASE), actor(Z, S, BASE))
    assert torch.equal(drawn(), drawn())
    assert not torch.equal(drawn(), actor(Z, S, BASE))


def test_residuals_of_earlier_versions_are_read_unless_their_kind_is_no_more() -> None:
    before = {**make_residual("constant").config.model_dump(), "rank": 3}
    assert ResidualConfig(**before).kind == "constant"
    with pytest.raises(ValidationError, match="'mlp' or 'constant'"):
        ResidualConfig(**{**before, "kind": "low_rank"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_newborn_residual_can_learn(kind: Kind) -> None:
    actor = make_residual(kind)
    (actor(Z, S, BASE) - 1).square().mean().backward()
    assert any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in actor.parameters())


def test_messages() -> None:
    with pytest.raises(ConfigError, match="expected 3 positive values"):
        ResidualActor(ResidualConfig(sizes=SIZES, bound=(0.5,)))
    with pytest.raises(ConfigError, match="smallest 0"):
        ResidualActor(ResidualConfig(sizes=SIZES, bound=(0.5, 0.0, 0.1)))


@pytest.mark.parametrize("kind", KINDS)
def test_r0d_the_base_of_a_later_round_is_what_the_earlier_one_made(kind: Kind) -> None:
    """Three rounds in one module are three modules one after the other."""
    first, second, third = make_residual("constant", 0.4), make_residual("mlp", 0.4), make_residual(kind, 0.7)
    with torch.no_grad():
        expected = compose(BASE, first(Z, S, BASE), 0.75, UNIT)
        expected = compose(expected, second(Z, S, expected), 0.5, UNIT)
        two = second.on(first, 0.75, 0.5, UNIT)
        torch.testing.assert_close(compose(BASE, two(Z, S, BASE), 1.0, UNIT), expected)
        expected = compose(expected, third(Z, S, expected), 0.9, UNIT)
        three = third.on(two, 1.0, 0.9, UNIT)
        torch.testing.assert_close(compose(BASE, three(Z, S, BASE), 1.0, UNIT), expected)
        newborn = make_residual(kind).on(two, 1.0, 0.9, UNIT)
        torch.testing.assert_close(newborn(Z, S, BASE), two(Z, S, BASE))
    assert {name for name, p in three.named_parameters() if p.requires_grad} <= {
        name for name, _ in third.named_parameters()
    }


def test_a_stack_is_told_by_its_config_and_one_without_says_nothing_of_it() -> None:
    first, second = make_residual("constant", 0.4), make_residual("mlp", 0.4)
    stack = second.on(first, 0.75, 0.5, UNIT)
    again = ResidualActor(ResidualConfig(**json.loads(json.dumps(stack.config.model_dump()))))
    again.load_state_dict(stack.state_dict())
    with torch.no_grad():
        assert torch.equal(again(Z, S, BASE), stack(Z, S, BASE))
    assert "below" not in first.config.model_dump()  # files of earlier versions keep their hash
