"""The acting policy: physical units, one source of noise, and a residual that is silent at lambda 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bora_cli.checkpoint import Trained, load_trained
from bora_cli.errors import SchemaMismatch
from bora_cli.models.policy import VLAPolicy, chunk_noise
from bora_cli.models.residual import compose
from bora_cli.train.residual import fresh_residual
from bora_cli.types import Decision, Observation
from toy_world import ToyRig


@pytest.fixture(scope="module")
def trained(toy_policy: Path) -> Trained:
    return load_trained(toy_policy)


@pytest.fixture(scope="module")
def base(trained: Trained) -> VLAPolicy:
    return trained.policy()


def see(seed: int = 1) -> Observation:
    rig = ToyRig()
    rig.prepare(seed)
    return rig.observe()


def decide(policy: VLAPolicy, seed: int = 0, obs: Observation | None = None) -> Decision:
    return policy.decide(obs or see(), np.random.default_rng(seed))


def pushed(trained: Trained, base: VLAPolicy, lam: float, push: float = 0.2) -> VLAPolicy:
    """Return the policy with a constant residual of `push` command units."""
    residual = fresh_residual(trained.spec.action, trained.actor, "constant", 0)
    with torch.no_grad():
        residual.offset.copy_(residual.bound * torch.atanh(torch.tensor(push) / residual.bound))
    return VLAPolicy(base.spec, base.backbone, base.actor, residual, lam)


def test_a_decision_is_complete(base: VLAPolicy) -> None:
    decision, spec = decide(base), base.spec.action
    assert decision.base.shape == decision.final.shape == decision.residual.shape == (8, spec.dim)
    assert decision.base.dtype == decision.final.dtype == np.float32
    assert decision.tokens.dtype == np.float16
    assert decision.tokens.shape == (base.backbone.n_tokens, base.backbone.width)
    assert decision.base_hash == base.backbone.hash
    assert (decision.planned, decision.lam, decision.shadow) == (base.execute, 0.0, False)
    assert (decision.residual == 0).all()
    assert (decision.final >= spec.low).all()
    assert (decision.final <= spec.high).all()


def test_noise_comes_from_the_given_generator_alone(base: VLAPolicy) -> None:
    torch.manual_seed(1)
    first = decide(base, 5)
    torch.manual_seed(2)
    assert np.array_equal(first.base, decide(base, 5).base)
    other = decide(base, 6)
    assert other.noise_seed != first.noise_seed
    assert not np.array_equal(other.base, first.base)


def test_the_logged_seed_and_tokens_give_the_base_chunk_again(base: VLAPolicy) -> None:
    """Online learning relies on it: the chunk is a function of what is in the decision log."""
    obs = see(4)
    decision = decide(base, 5, obs)
    z = torch.from_numpy(decision.tokens.astype(np.float32))[None]
    again = base.actor.base_chunk(
        z, torch.from_numpy(obs.state)[None], chunk_noise(decision.noise_seed, base.spec), base.spec.steps
    )
    assert np.array_equal(again[0].numpy(), decision.base)


def test_more_steps_draw_more_noise(base: VLAPolicy) -> None:
    spec = replace(base.spec, steps=3)
    assert chunk_noise(1, spec).shape == (3, 1, 8, 18)
    decision = decide(VLAPolicy(spec, base.backbone, base.actor))
    assert not np.array_equal(decision.base, decide(base).base)


def test_what_it_sees_matters(base: VLAPolicy) -> None:
    here = see()
    dark = replace(here, images={c: np.zeros_like(i) for c, i in here.images.items()})
    moved = replace(here, state=here.state + 0.5)
    plain = decide(base, obs=here).base
    assert not np.array_equal(decide(base, obs=dark).base, plain)
    assert not np.array_equal(decide(base, obs=moved).base, plain)


def test_cameras_are_found_by_name(base: VLAPolicy) -> None:
    obs = see()
    reversed_ = replace(obs, images=dict(reversed(obs.images.items())))
    assert np.array_equal(decide(base, obs=reversed_).base, decide(base, obs=obs).base)
    with pytest.raises(SchemaMismatch, match=r"lacks camera wrist; it has scene"):
        decide(base, obs=replace(obs, images={"scene": obs.images["scene"]}))
    with pytest.raises(SchemaMismatch, match=r"lacks camera scene, wrist; it has none"):
        decide(base, obs=replace(obs, images={}))


def test_the_residual_is_added_in_command_units(trained: Trained, base: VLAPolicy) -> None:
    spec, plain = base.spec.action, decide(base)
    policy = pushed(trained, base, lam=0.5)
    decision = decide(policy)
    assert np.array_equal(decision.base, plain.base)
    np.testing.assert_allclose(decision.residual, np.broadcast_to(0.2 * spec.half_range, (8, 18)), rtol=1e-5)
    expected = spec.clip(plain.base + 0.5 * 0.2 * spec.half_range)
    np.testing.assert_allclose(decision.final, expected, rtol=1e-5, atol=1e-7)
    assert decision.lam == policy.own_lam == 0.5


def test_lambda_0_is_the_base_bit_for_bit(trained: Trained, base: VLAPolicy) -> None:
    policy = pushed(trained, base, lam=0.5)
    policy.lam = 0.0
    assert decide(policy).final.tobytes() == decide(base).final.tobytes()
    assert policy.own_lam == 0.5
    chunk = torch.randn(2, 8, 18)
    assert compose(chunk, torch.full_like(chunk, torch.nan), 0.0) is chunk


def test_without_a_residual_lambda_means_nothing(base: VLAPolicy) -> None:
    policy = VLAPolicy(base.spec, base.backbone, base.actor, None, 0.8)
    assert policy.lam == policy.own_lam == 0.0


def test_a_residual_cannot_leave_the_limits(trained: Trained, base: VLAPolicy) -> None:
    residual = fresh_residual(trained.spec.action, trained.actor, "constant", 0)
    with torch.no_grad():
        residual.offset.fill_(1e6)
    decision, spec = decide(VLAPolicy(base.spec, base.backbone, base.actor, residual, 1.0)), base.spec.action
    assert (np.abs(decision.residual) <= 0.601 * spec.half_range).all()
    assert (decision.final <= spec.high).all()


def test_deciding_trains_nothing(trained: Trained, base: VLAPolicy) -> None:
    before = base.backbone.hash
    decide(base)
    assert base.backbone.hash == before
    assert not base.actor.training
    assert all(p.grad is None for p in base.actor.parameters())
