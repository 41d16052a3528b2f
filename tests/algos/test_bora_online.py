"""BORA-Online: what moves the residual, what holds it, and when it is not trusted."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from bora_cli.algos.batch import Batch
from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.bora_online import (
    OnlineConfig,
    enough_evidence,
    improvement_hinge,
    is_human,
    network_loss,
    online_critic_loss,
    residual_loss,
    stay_factor,
)
from bora_cli.errors import DataError
from bora_cli.models.critic import ChunkCritic, CriticConfig
from bora_cli.models.nn import Sizes
from bora_cli.models.residual import ResidualActor, ResidualConfig, compose
from bora_cli.models.vlm import Backbone
from bora_cli.types import Controller

SIZES = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=3, horizon=4)
UNIT = torch.tensor([0.5, 2.0, 1.0])
CONFIG = OnlineConfig()
NOTHING = OnlineConfig(lambda_anchor=0, lambda_l2=0, w_net=0)


def make_residual(kind: Literal["constant", "mlp"] = "constant", spread: float = 0.0) -> ResidualActor:
    torch.manual_seed(0)
    actor = ResidualActor(ResidualConfig(sizes=SIZES, kind=kind, bound=(0.5, 0.5, 0.5), width=16))
    with torch.no_grad():
        for p in actor.parameters():
            p.add_(spread * torch.randn_like(p))
    return actor


def make_critic(seed: int = 0) -> ChunkCritic:
    torch.manual_seed(seed)
    critic = ChunkCritic(CriticConfig(sizes=SIZES, ensemble=2, width=16))
    with torch.no_grad():
        critic.q_net.head.weight.mul_(100)
    return critic


def make_batch(n_auto: int = 6, n_human: int = 3, shift: float = 0.2, unaided: bool = True) -> Batch:
    """Return autonomous windows that followed the base and human ones that went `shift` units beyond it."""
    n = n_auto + n_human
    g = torch.Generator().manual_seed(0)
    z, s = torch.randn(n, 1, 4, generator=g), torch.randn(n, 2, generator=g)
    a_base = torch.randn(n, 4, 3, generator=g)
    human = torch.arange(n) >= n_auto
    a = a_base + human[:, None, None] * shift * UNIT
    flat = torch.zeros(n, 4)
    controller = torch.where(human, int(Controller.HUMAN), int(Controller.POLICY)).to(torch.uint8)
    return Batch(
        z=z,
        s=s,
        a=a,
        mask=torch.ones(n, 4),
        r=flat,
        d=flat,
        z_next=z,
        s_next=s,
        has_next=torch.ones(n, dtype=torch.bool),
        a_base=a_base,
        controller=controller,
        unaided=~human & unaided,
        demo=torch.zeros(n, dtype=torch.bool),
    )


def loss_of(
    actor: ResidualActor, batch: Batch, config: OnlineConfig, **options: Any
) -> tuple[Tensor, dict[str, float]]:
    defaults: dict[str, Any] = {"lam": 1.0, "bc_weight": 1.0, "stay": 1.0}
    return residual_loss(actor, batch, UNIT, config=config, **{**defaults, **options})


def fitted_constant(batch: Batch, config: OnlineConfig, stay: float = 1.0) -> Tensor:
    actor = make_residual()
    optimiser = torch.optim.LBFGS(actor.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss, _ = loss_of(actor, batch, config, stay=stay)
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        return actor(batch.z, batch.s, batch.need("a_base"))[0, 0]


def test_corrections_alone_are_copied() -> None:
    torch.testing.assert_close(
        fitted_constant(make_batch(0, 4), NOTHING), torch.full((3,), 0.2), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(("stay", "unaided"), [(1.0, True), (4.0, True), (1.0, False)])
def test_autonomous_windows_hold_the_residual_back(stay: float, unaided: bool) -> None:
    """Least squares by hand: c = t / (1 + stay * w), whatever the numbers of windows are."""
    weight = NOTHING.stay_success if unaided else NOTHING.stay_other
    expected = 0.2 / (1 + stay * weight)
    for n_auto, n_human in ((6, 3), (30, 1)):
        learned = fitted_constant(make_batch(n_auto, n_human, unaided=unaided), NOTHING, stay)
        torch.testing.assert_close(learned, torch.full((3,), expected), atol=1e-3, rtol=0)


def test_rare_corrections_weigh_less() -> None:
    assert stay_factor(60, 30) == 1.0
    assert stay_factor(800, 20) == pytest.approx(800 / 60)
    assert stay_factor(100, 0) == 1.0


def test_minimum_evidence() -> None:
    assert [enough_evidence(n, CONFIG) for n in (0, 1, 3, 4, 9)] == [False, False, False, True, True]


def test_who_counts_as_human() -> None:
    controller = torch.tensor([0, 1, 2, 3, 4, 5], dtype=torch.uint8)
    assert is_human(controller).tolist() == [False, True, True, True, False, False]


def test_autonomous_windows_stay_with_what_was_executed() -> None:
    """After a release the executed chunk holds the residual in use: that, not zero, is what went well."""
    batch = make_batch(6, 3, unaided=True)
    executed = batch.need("a_base") + 0.2 * UNIT
    learned = fitted_constant(replace(batch, a=executed), NOTHING)
    torch.testing.assert_close(learned, torch.full((3,), 0.2), atol=1e-3, rtol=0)


def test_anchor_pulls_towards_the_residual_in_use() -> None:
    config = NOTHING.model_copy(update={"lambda_anchor": 1.0})
    batch, before = make_batch(4, 0), make_residual(spread=0.3)
    with torch.no_grad():
        held = before(batch.z, batch.s, batch.need("a_base"))
    _, from_zero = loss_of(make_residual(), batch, config, previous=before)
    assert from_zero["anchor"] == pytest.approx(float((held**2).mean()), rel=1e-5)
    _, arrived = loss_of(deepcopy(before), batch, config, previous=before)
    assert arrived["anchor"] == 0.0


def test_r0b_the_plain_hinge_is_silent_at_birth() -> None:
    config = OnlineConfig(lambda_improve=1.0, lambda_anchor=0, lambda_l2=0, stay_success=0, stay_other=0)
    batch, critic, actor = make_batch(shift=0.0), make_critic(), make_residual("mlp")
    loss, info = loss_of(actor, batch, config, critic=critic, bc_weight=0.0)
    grads = torch.autograd.grad(loss, [p for p in actor.parameters() if p.requires_grad])
    assert info["improve"] == 0.0
    assert all(float(g.abs().sum()) == 0 for g in grads)
    smooth = config.model_copy(update={"smooth": 0.02})
    loss, info = loss_of(actor, batch, smooth, critic=critic, bc_weight=0.0)
    grads = torch.autograd.grad(loss, [p for p in actor.parameters() if p.requires_grad])
    assert info["improve"] > 0
    assert any(float(g.abs().sum()) > 0 for g in grads)


def test_the_hinge_by_hand() -> None:
    base, final = torch.tensor([1.0, 1.0]), torch.tensor([0.7, 1.5])
    torch.testing.assert_close(improvement_hinge(base, final, 0.1), torch.tensor([0.4, 0.0]))


def test_hinge_and_guidance_move_the_residual_but_not_the_critic() -> None:
    actor, critic, batch = make_residual(spread=0.3), make_critic(), make_batch()
    config = OnlineConfig(lambda_improve=0.35, lambda_q=0.25)
    loss, info = loss_of(actor, batch, config, critic=critic)
    loss.backward()
    assert {"improve", "guidance"} <= set(info)
    with torch.no_grad():
        base = batch.need("a_base")
        final = compose(base, actor(batch.z, batch.s, base), 1.0, UNIT)
        worse = critic.q(batch.z, batch.s, final).mean(0) < critic.q(batch.z, batch.s, base).mean(0)
    assert info["hinge_active"] == pytest.approx(float(worse.float().mean()))
    assert all(p.grad is None and p.requires_grad for p in critic.parameters())
    assert actor.offset.grad is not None


def test_guidance_climbs_q() -> None:
    actor, critic, batch = make_residual(), make_critic(), make_batch(shift=0.0)
    config = OnlineConfig(lambda_q=1.0, lambda_anchor=0, lambda_l2=0, stay_success=0, stay_other=0)

    def q_final() -> float:
        with torch.no_grad():
            a_base = batch.need("a_base")
            final = compose(a_base, actor(batch.z, batch.s, a_base), 1.0, UNIT)
            return float(critic.q(batch.z, batch.s, final).mean())

    before = q_final()
    optimiser = torch.optim.Adam(actor.parameters(), 0.02)
    for _ in range(20):
        loss, _ = loss_of(actor, batch, config, critic=critic, bc_weight=0.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert q_final() > before


def test_the_anchor_pulls_to_the_previous_round() -> None:
    previous, config = make_residual(spread=0.3), OnlineConfig(lambda_anchor=1.0)
    same, info_same = loss_of(previous, make_batch(), config, previous=previous)
    other, info_other = loss_of(make_residual(), make_batch(), config, previous=previous)
    assert info_same["anchor"] == 0.0
    assert info_other["anchor"] > 0
    assert float(same.detach()) != float(other.detach())


def test_a_network_pays_for_leaving_its_constant_where_nobody_corrected() -> None:
    def departure(spread: float, batch: Batch, demos: Batch | None = None) -> float:
        residual = make_residual("mlp", spread)
        return network_loss(residual, batch, UNIT, lam=1.0, config=CONFIG, demos=demos)[1]["departure"]

    alone, corrected = make_batch(6, 0), make_batch(0, 6)
    assert departure(0.0, make_batch(), alone) == 0.0
    assert departure(1.0, corrected) == 0.0
    assert departure(1.0, alone) > 0
    assert departure(1.0, alone, alone) == pytest.approx(2 * departure(1.0, alone))


def test_a_network_learns_what_the_constant_leaves() -> None:
    """Corrections of three windows differ; the constant is their mean, and the network knows which window is which."""
    batch = make_batch(0, 3)
    batch.a[0] += 0.2 * UNIT
    residual = make_residual("mlp")
    with torch.no_grad():
        residual.offset.fill_(0.2)
    residual.offset.requires_grad_(False)
    optimiser = torch.optim.Adam([p for p in residual.parameters() if p.requires_grad], 1e-2)
    for _ in range(200):
        loss, info = network_loss(residual, batch, UNIT, lam=1.0, config=NOTHING)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert info["corrections"] < 1e-3
    torch.testing.assert_close(residual.offset, torch.full((3,), 0.2))


def test_masked_ticks_do_not_correct() -> None:
    batch = make_batch(0, 4)
    batch.mask[:, 2:] = 0
    batch.a[:, 2:] = 99.0
    torch.testing.assert_close(fitted_constant(batch, NOTHING), torch.full((3,), 0.2), atol=1e-3, rtol=0)


def test_r0e_no_backbone_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the backbone was called during an online update")

    monkeypatch.setattr(Backbone, "encode", refuse)
    monkeypatch.setattr(Backbone, "forward", refuse)
    critic, batch = make_critic(), make_batch()
    loss, _ = online_critic_loss(critic, critic, None, batch, offline=OfflineConfig(), config=CONFIG)
    loss.backward()
    loss_of(make_residual("mlp"), batch, OnlineConfig.preset("paper"), critic=critic)[0].backward()


def test_inheritance_holds_demonstrations_only() -> None:
    critic, inherited, batch = make_critic(0), make_critic(1), make_batch()
    config = OnlineConfig(lambda_inherit=0.5)
    assert (
        "inherit"
        not in online_critic_loss(critic, critic, inherited, batch, offline=OfflineConfig(), config=CONFIG)[1]
    )
    options = {"offline": OfflineConfig(), "config": config}
    assert online_critic_loss(critic, critic, inherited, batch, **options)[1]["inherit"] == 0.0  # type: ignore[arg-type]
    batch.need("demo")[:3] = True
    assert online_critic_loss(critic, critic, inherited, batch, **options)[1]["inherit"] > 0  # type: ignore[arg-type]
    same = online_critic_loss(critic, critic, critic, batch, **options)[1]  # type: ignore[arg-type]
    assert same["inherit"] == 0.0


def test_schedules_of_both_presets() -> None:
    paper = OnlineConfig.preset("paper")
    assert (paper.lam(0), paper.lam(4000), paper.lam(9999)) == (0.2, 0.75, 0.75)
    assert (paper.bc_weight(0), paper.bc_weight(10_000)) == (2.0, 1.0)
    assert (CONFIG.lam(0), CONFIG.lam(CONFIG.updates)) == (0.2, 1.0)
    assert (CONFIG.lambda_q, CONFIG.min_takeovers) == (0.0, 4)
    assert all(f.description for f in OnlineConfig.model_fields.values())


def test_a_missing_column_is_named() -> None:
    batch = make_batch()
    without = Batch(batch.z, batch.s, batch.a, batch.mask, batch.r, batch.d, batch.z, batch.s, batch.has_next)
    with pytest.raises(DataError, match="no 'a_base'"):
        loss_of(make_residual(), without, CONFIG)
