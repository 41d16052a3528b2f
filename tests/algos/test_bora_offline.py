"""BORA-Offline: who gets gradient, what the gate does, and what is learned on problems with known answers."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bora_cli.algos.batch import Batch
from bora_cli.algos.bora_offline import (
    OfflineConfig,
    actor_loss,
    advantages,
    critic_loss,
    gaussian_log_ratio,
    open_gate,
    surrogate,
)
from bora_cli.algos.cp import CPConfig
from bora_cli.errors import ConfigError, DataError
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.critic import ChunkCritic, CriticConfig
from bora_cli.models.nn import Sizes, polyak_update

SIZES = Sizes(n_tokens=1, token_width=4, state_dim=2, action_dim=1, horizon=2)
CONFIG, CP = OfflineConfig(), CPConfig()


def make_batch(a: Tensor, r: Tensor, d: Tensor, mask: Tensor | None = None, **extra: Tensor) -> Batch:
    n = len(a)
    z, s = torch.zeros(n, 1, 4), torch.zeros(n, 2)
    has_next = torch.ones(n, dtype=torch.bool)
    ones = torch.ones_like(r) if mask is None else mask
    return Batch(z, s, a, ones, r, d, z + 1, s + 1, has_next, **extra)


def random_batch(n: int = 6, **extra: Tensor) -> Batch:
    d = torch.zeros(n, 2)
    return make_batch(torch.randn(n, 2, 1), torch.randn(n, 2), d, **extra)


def make_critic(context: str = "prefix", ensemble: int = 2) -> ChunkCritic:
    return ChunkCritic(CriticConfig(sizes=SIZES, context=context, ensemble=ensemble, width=32))  # type: ignore[arg-type]


def make_expert(seed: int = 0) -> ConsistencyExpert:
    torch.manual_seed(seed)
    expert = ConsistencyExpert(ConsistencyConfig(sizes=SIZES, width=32))
    nn.init.normal_(expert.leave[-1].weight, std=0.1)  # type: ignore[arg-type]
    return expert


def fit_critic(critic: ChunkCritic, batch: Batch, config: OfflineConfig, updates: int) -> ChunkCritic:
    target = copy.deepcopy(critic)
    optimiser = torch.optim.Adam(critic.parameters(), 5e-3, fused=True)
    for _ in range(updates):
        loss, _ = critic_loss(critic, target, batch, config)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        polyak_update(target, critic, 0.2)
    return critic


# ------------------------------------------------------------------------------------------------ critic


def test_e4_g6_critic_gradients_stay_inside_the_critic() -> None:
    critic, batch = make_critic(), random_batch()
    target = copy.deepcopy(critic)
    batch.z.requires_grad_(True)
    loss, info = critic_loss(critic, target, batch, CONFIG)
    loss.backward()
    assert batch.z.grad is None
    assert all(p.grad is None for p in target.parameters())
    assert all(p.grad is not None for p in critic.parameters())
    assert {"q", "v", "target", "ensemble_std", "q_above_v", "target_clipped"} <= set(info)


def test_l_v_gives_no_gradient_to_q() -> None:
    """With every q target equal to q itself only L_V is left, and q must not move."""
    critic, batch = make_critic(ensemble=1), random_batch()
    critic.requires_grad_(True)
    loss, _ = critic_loss(critic, critic, batch, CONFIG)
    (with_q,) = torch.autograd.grad(loss, critic.q_net.head.weight, retain_graph=True)
    shifted, _ = critic_loss(critic, _Shifted(critic), batch, CONFIG)
    (with_shifted_q,) = torch.autograd.grad(shifted, critic.q_net.head.weight)
    assert torch.equal(with_q, with_shifted_q)


class _Shifted:
    """A critic whose q is one higher."""

    def __init__(self, critic: ChunkCritic) -> None:
        self.critic = critic

    def q(self, z: Tensor, s: Tensor, a: Tensor) -> Tensor:
        return self.critic.q(z, s, a) + 1

    def v(self, z: Tensor, s: Tensor, a: Tensor | None = None) -> Tensor:
        return self.critic.v(z, s, a)


@pytest.mark.parametrize("context", ["step", "prefix"])
def test_c4_m1_nothing_behind_the_terminal_matters(context: str) -> None:
    critic = make_critic(context)
    a, r = torch.randn(3, 2, 1), torch.randn(3, 2)
    d, mask = torch.tensor([[1.0, 0.0]] * 3), torch.tensor([[1.0, 0.0]] * 3)
    clean, _ = critic_loss(critic, critic, make_batch(a, r, d, mask), CONFIG)
    a2, r2 = a.clone(), r.clone()
    a2[:, 1] = 7
    r2[:, 1] = 1e6
    dirty = make_batch(a2, r2, d, mask)
    dirty.z_next.fill_(float("nan"))
    changed, _ = critic_loss(critic, critic, dirty, CONFIG)
    assert bool(torch.isfinite(changed))
    torch.testing.assert_close(changed, clean)


def test_c7_only_the_prefix_sees_what_was_done_before() -> None:
    """Reward 1 at the second tick if both actions agree; all four pairs equally often."""
    a = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=2)))[:, :, None]
    agree = (a[:, 0, 0] == a[:, 1, 0]).float()
    batch = make_batch(a, torch.stack([torch.zeros(4), agree], 1), torch.tensor([[0.0, 1.0]] * 4))
    config = CONFIG.model_copy(update={"lambda_return": 0.0, "gamma": 1.0})
    learned = {}
    for context in ("step", "prefix"):
        torch.manual_seed(0)
        critic = fit_critic(make_critic(context), batch, config, 150)
        with torch.no_grad():
            learned[context] = critic.q(batch.z, batch.s, a).mean(0)[:, 1]
    torch.testing.assert_close(learned["step"], torch.full((4,), 0.5), atol=0.1, rtol=0)
    torch.testing.assert_close(learned["prefix"], agree, atol=0.1, rtol=0)


@pytest.mark.parametrize("tau", [0.5, 0.7, 0.9])
def test_c8_the_value_of_a_coin_is_tau(tau: float) -> None:
    a = torch.tensor([[[-1.0], [0.0]], [[1.0], [0.0]]])
    mask = torch.tensor([[1.0, 0.0]] * 2)
    batch = make_batch(a, torch.tensor([[0.0, 0.0], [1.0, 0.0]]), mask.clone(), mask)
    torch.manual_seed(0)
    critic = fit_critic(make_critic(), batch, CONFIG.model_copy(update={"tau": tau}), 200)
    with torch.no_grad():
        assert float(critic.v(batch.z, batch.s, a)[0, 0]) == pytest.approx(tau, abs=0.05)


def test_targets_can_be_clipped() -> None:
    batch = make_batch(torch.zeros(1, 2, 1), torch.tensor([[5.0, 5.0]]), torch.tensor([[0.0, 1.0]]))
    critic = make_critic()
    config = CONFIG.model_copy(update={"value_range": (-1.0, 1.0)})
    _, info = critic_loss(critic, critic, batch, config)
    assert info["target_clipped"] == 1.0
    assert critic_loss(critic, critic, batch, CONFIG)[1]["target_clipped"] == 0.0


# ---------------------------------------------------------------------------------------- advantages, gate


def test_the_three_sources_of_advantage() -> None:
    mask = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    batch = make_batch(
        torch.randn(2, 2, 1), torch.zeros(2, 2), torch.zeros(2, 2), mask, adv=torch.full((2, 2), 3.0)
    )
    assert torch.equal(advantages(batch, CONFIG), 3 * mask)
    assert torch.equal(advantages(batch, CONFIG.model_copy(update={"advantage": "constant"})), mask)
    paper = CONFIG.model_copy(update={"advantage": "q_minus_v"})
    critic = make_critic()
    adv = advantages(batch, paper, critic)
    with torch.no_grad():
        delta = critic.q(batch.z, batch.s, batch.a).mean(0) - critic.v(batch.z, batch.s, batch.a)
    torch.testing.assert_close(adv[0], torch.stack([delta[0, 0], torch.zeros(())]))
    torch.testing.assert_close(adv[1, 0], delta[1, 0] + 0.97 * 0.9 * delta[1, 1])
    with pytest.raises(ConfigError, match="without a critic"):
        advantages(batch, paper)
    with pytest.raises(DataError, match="no 'adv'"):
        advantages(random_batch(), CONFIG)


def test_gates() -> None:
    adv, mask = torch.tensor([[1.0, -3.0], [2.0, -1.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    low = -adv
    assert open_gate(adv, mask, CONFIG).tolist() == [1, 1]
    assert open_gate(low, mask, CONFIG).tolist() == [0, 0]
    assert open_gate(low, mask, CONFIG.model_copy(update={"gate": "off"})).tolist() == [1, 1]
    batch = CONFIG.model_copy(update={"gate": "batch"})
    assert open_gate(torch.tensor([[9.0, 9.0], [-1.0, -1.0]]), mask, batch).tolist() == [1, 1]
    assert open_gate(low, mask, batch).tolist() == [0, 0]


# ------------------------------------------------------------------------------------------------- actor


@pytest.mark.parametrize(
    ("ratio", "adv", "loss", "moves"),
    [(1.5, 1.0, -1.2, False), (0.5, -1.0, 0.8, False), (1.5, -1.0, 1.5, True), (0.5, 1.0, -0.5, True)],
)
def test_g4_clipping(ratio: float, adv: float, loss: float, moves: bool) -> None:
    rho = torch.tensor(ratio, requires_grad=True)
    out = surrogate(rho, torch.tensor(adv), 0.2)
    out.backward()
    assert float(out.detach()) == pytest.approx(loss)
    assert rho.grad is not None
    assert (float(rho.grad) != 0) == moves


def test_g3_the_ratio_is_one_for_the_same_policy_and_the_same_noise_only() -> None:
    expert, batch = make_expert(), random_batch()
    noise = torch.randn(2, 6, 2, 1)
    mu, other = expert.sample(batch.z, batch.s, noise[0]), expert.sample(batch.z, batch.s, noise[1])
    again = copy.deepcopy(expert).sample(batch.z, batch.s, noise[0])
    assert torch.equal(gaussian_log_ratio(batch.a, mu, again, CONFIG), torch.zeros(6, 2))
    assert float(gaussian_log_ratio(batch.a, mu, other, CONFIG).detach().abs().max()) > 1e-3
    batch = random_batch(adv=torch.ones(6, 2))
    out = actor_loss(expert, copy.deepcopy(expert), expert, batch, batch.need("adv"), config=CONFIG, cp=CP)
    assert (out.info["ratio_p99"], out.info["kl_old"], out.info["clip_fraction"]) == (1.0, 0.0, 0.0)


def test_the_log_ratio_by_hand() -> None:
    a, mu, old = torch.tensor([[[0.3, 0.0]]]), torch.tensor([[[0.2, 0.1]]]), torch.zeros(1, 1, 2)
    mean = gaussian_log_ratio(a, mu, old, CONFIG)
    total = gaussian_log_ratio(a, mu, old, CONFIG.model_copy(update={"ratio": "sum"}))
    assert float(mean) == pytest.approx((0.09 - 0.02) / 2 / 0.08)
    assert float(total) == pytest.approx(2 * float(mean))


def test_g5_a_closed_gate_leaves_only_cloning() -> None:
    expert = make_expert()
    bad = torch.full((6, 2), -1.0)
    batch = random_batch(adv=bad)
    no_bc = CONFIG.model_copy(update={"lambda_bc": 0.0})
    out = actor_loss(expert, expert, expert, batch, bad, config=no_bc, cp=CP)
    grads = torch.autograd.grad(out.loss, list(expert.parameters()))
    assert all(float(g.abs().sum()) == 0 for g in grads)
    assert not out.skip
    assert out.info["gate_rate"] == 0.0
    literal = CONFIG.model_copy(update={"gate": "batch"})
    assert actor_loss(expert, expert, expert, batch, bad, config=literal, cp=CP).skip
    assert not actor_loss(expert, expert, expert, batch, -bad, config=literal, cp=CP).skip


@pytest.mark.parametrize(("gate_bc", "cloned"), [(True, [2.0, 1.0, 0.0, 0.0]), (False, [2.0, 1.0, 3.0, 4.0])])
def test_a_closed_window_is_cloned_with_zero_or_like_any_other(
    monkeypatch: pytest.MonkeyPatch, gate_bc: bool, cloned: list[float]
) -> None:
    """For an expert that says 0 on a ladder of one rung the loss is w mean_b chi_b a_b^2, over all windows."""
    torch.manual_seed(0)
    ladder = ConsistencyConfig(sizes=SIZES, width=32, levels=2)
    expert = ConsistencyExpert(ladder)
    monkeypatch.setattr(expert, "denoise_embedded", lambda x, sigma, condition: torch.zeros_like(x))
    a = torch.tensor([2.0, 1.0, 3.0, 4.0])[:, None, None].expand(4, 2, 1)
    adv = torch.tensor([1.0, 1.0, -1.0, -1.0])[:, None].expand(4, 2)
    batch = make_batch(a, torch.zeros(4, 2), torch.zeros(4, 2), adv=adv)
    config = CONFIG.model_copy(update={"gate_bc": gate_bc})
    cp = CP.model_copy(update={"w_ct": 0.0})
    info = actor_loss(expert, expert, expert, batch, adv, config=config, cp=cp).info
    sigma, data = float(expert.ladder[0]), ladder.sigma_data
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    assert info["gate_rate"] == 0.5
    assert info["bc"] == pytest.approx(weight * sum(x**2 for x in cloned) / 4, rel=1e-5)


def test_g6_the_actor_loss_reaches_the_tokens_but_no_critic() -> None:
    """Through the tokens it can train a backbone."""
    expert, critic = make_expert(), make_critic()
    batch = random_batch()
    batch.z.requires_grad_(True)
    config = CONFIG.model_copy(update={"advantage": "q_minus_v", "gate": "off"})
    adv = advantages(batch, config, critic)
    actor_loss(expert, make_expert(1), expert, batch, adv, config=config, cp=CP).loss.backward()
    assert batch.z.grad is not None
    assert all(p.grad is None for p in critic.parameters())


def test_presets_are_complete_and_frozen() -> None:
    paper = OfflineConfig.preset("paper")
    assert (paper.gamma, paper.lambda_ppo, paper.gate, paper.advantage) == (0.99, 0.01, "batch", "q_minus_v")
    assert (paper.context, CONFIG.context) == ("step", "prefix")
    assert OfflineConfig.preset("sim") == OfflineConfig()
    assert all(f.description for f in OfflineConfig.model_fields.values())
    with pytest.raises(ValueError, match="frozen"):
        paper.gamma = 0.5  # type: ignore[misc]


def test_the_surrogate_finds_the_better_half_of_the_data_and_its_controls_do_not() -> None:
    """Half of the data does +0.4 and is good, half does -0.4 and is bad; cloning alone averages to 0."""

    def after(sign: float, advantage: str) -> float:
        expert, rng = make_expert(), np.random.default_rng(0)
        torch.manual_seed(1)
        config = CONFIG.model_copy(update={"advantage": advantage, "old_every": 10})
        optimiser = torch.optim.Adam(expert.parameters(), 1e-3, fused=True)
        old, average = copy.deepcopy(expert), copy.deepcopy(expert)
        for update in range(200):
            good = torch.from_numpy(rng.integers(0, 2, 32)).float() * 2 - 1
            a = 0.4 * good[:, None, None].expand(32, 2, 1)
            adv = sign * good[:, None].expand(32, 2)
            batch = make_batch(a, torch.zeros(32, 2), torch.zeros(32, 2), adv=adv)
            if update % config.old_every == 0:
                old.load_state_dict(expert.state_dict())
            adv = advantages(batch, config)
            out = actor_loss(expert, old, average, batch, adv, config=config, cp=CP)
            optimiser.zero_grad()
            out.loss.backward()
            optimiser.step()
            polyak_update(average, expert, 0.05)
        with torch.no_grad():
            z, s = torch.zeros(200, 1, 4), torch.zeros(200, 2)
            return float(expert.sample(z, s, torch.randn(200, 2, 1)).mean())

    assert after(1.0, "v_gae") > 0.3
    assert after(-1.0, "v_gae") < -0.3
    assert abs(after(1.0, "constant")) < 0.15
