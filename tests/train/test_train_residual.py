"""Learning from takeovers: the right windows, no backbone, little trust in little evidence, and a known answer."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from bora_cli.algos.bora_online import OnlineConfig, is_human
from bora_cli.algos.rewards import InterventionRewards
from bora_cli.checkpoint import Trained, load_trained, save_trained
from bora_cli.control.loop import roll_out
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError, DataError
from bora_cli.models.vlm import Backbone
from bora_cli.seeds import stream
from bora_cli.train.offline import train
from bora_cli.train.online_windows import online_buffer
from bora_cli.train.residual import ResidualKind, fit_residual
from bora_cli.types import F32, Controller, Decision, Episode, Observation
from toy_world import BIAS, TASK, ToyOperator, ToyRig, ToyWatcher, Verdict, toy_dataset

REWARDS = InterventionRewards()
QUICK = OnlineConfig(updates=30, batch=16)


def assisted(policy: Any, scene: int, operator: Any = None, watcher: Any = None) -> Episode:
    rng = stream("policy", scene)
    operator = operator or ToyOperator(rng=stream("operator", scene))
    options = {"watcher": watcher or ToyWatcher(), "operator": operator}
    return roll_out(ToyRig(BIAS), policy, scene_seed=scene, rng=rng, meta={"task": TASK}, **options)


@pytest.fixture(scope="module")
def base(toy_policy: Path) -> Trained:
    return load_trained(toy_policy)


@pytest.fixture(scope="module")
def episodes(base: Trained) -> list[Episode]:
    policy = base.policy()
    return [assisted(policy, 300_000 + i) for i in range(4)]


@pytest.fixture(scope="module")
def online(episodes: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_dataset(tmp_path_factory.mktemp("online") / "episodes", episodes).root


def fit(base: Trained, online: Path, demos: Path, **options: Any) -> tuple[Trained, dict[str, Any]]:
    return fit_residual(base, online, [demos], **{"config": QUICK, **options})


def residual_weights(trained: Trained) -> dict[str, Tensor]:
    assert trained.residual is not None
    return trained.residual.state_dict()


# ---------------------------------------------------------------------------------------------- windows


def test_windows_carry_what_was_logged_at_their_decision(base: Trained, episodes: list[Episode]) -> None:
    buffer = online_buffer(episodes, base, REWARDS, 0.97)
    batch, actor = buffer.batch, base.actor
    logged = [(d, e) for e in episodes for d in e.decisions]
    assert len(batch) > 20
    for row in range(len(batch)):
        raw = actor.action.denormalize(batch.need("a_base")[row]).numpy()
        decision, episode = next(
            (d, e)
            for d, e in logged
            if np.array_equal(d.tokens, batch.z[row].numpy()) and np.allclose(d.base, raw, atol=1e-5)
        )
        t, n = decision.t_start, int(batch.mask[row].sum())
        at = slice(t, t + n)
        np.testing.assert_allclose(actor.action.denormalize(batch.a[row])[:n], episode.action[at], atol=1e-5)
        np.testing.assert_allclose(actor.state.denormalize(batch.s[row]), episode.state[t], atol=1e-5)
        assert set(episode.controller[at]) == {int(batch.need("controller")[row])}
        if batch.has_next[row]:
            following = next(d for d in episode.decisions if d.t_start == t + n)
            np.testing.assert_array_equal(batch.z_next[row].numpy(), following.tokens)
    assert buffer.takeovers == 8
    assert int(is_human(batch.need("controller")).sum()) > 5
    assert (batch.need("controller") == int(Controller.POLICY)).any()


def test_a_residual_answers_for_the_ticks_that_are_executed(base: Trained, episodes: list[Episode]) -> None:
    buffer = online_buffer(episodes, base, REWARDS, 0.97)
    mask = buffer.for_actor.mask
    assert (mask[:, base.spec.execute :] == 0).all()
    assert torch.equal(mask[:, : base.spec.execute], buffer.batch.mask[:, : base.spec.execute])
    assert buffer.batch.mask[:, base.spec.execute :].any()


def test_rewards_are_relabelled_in_the_view_only(base: Trained, episodes: list[Episode]) -> None:
    before = [e.reward.copy() for e in episodes]
    plain = online_buffer(episodes, base, InterventionRewards(penalty=-1e-9, bonus=0.0), 0.97).batch
    punished = online_buffer(episodes, base, InterventionRewards(penalty=-0.7, bonus=0.0), 0.97).batch
    blamed = punished.r - plain.r < -0.6
    assert (blamed.sum(1) <= 1).all()
    assert int(blamed.sum()) >= 8  # the last tick before each takeover, in every window that holds it
    assert (punished.need("controller")[blamed.any(1)] == int(Controller.POLICY)).all()
    assert all(np.array_equal(a, e.reward) for a, e in zip(before, episodes, strict=True))


def test_episodes_of_another_backbone_are_refused(base: Trained, episodes: list[Episode]) -> None:
    other = replace(base, backbone_hash="0123456789ab")
    with pytest.raises(
        CheckpointError, match=rf"recorded with backbone {base.backbone_hash}; .* 0123456789ab"
    ):
        online_buffer(episodes, other, REWARDS, 0.97)


def test_episodes_without_decisions_teach_nothing(base: Trained, episodes: list[Episode]) -> None:
    silent = [replace(e, decisions=[]) for e in episodes]
    with pytest.raises(DataError, match="hold no decision to learn from"):
        online_buffer(silent, base, REWARDS, 0.97)


# -------------------------------------------------------------------------------------------- training


def test_everything_can_be_learned_without_the_backbone(
    base: Trained, online: Path, toy_demos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Critic and residual read logged tokens and the cache; the base is frozen, the inherited critic is copied."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the backbone was called during an online update")

    monkeypatch.setattr(Backbone, "encode", refuse)
    monkeypatch.setattr(Backbone, "forward", refuse)
    assert base.critic is not None
    actor, critic = deepcopy(base.actor.state_dict()), deepcopy(base.critic.state_dict())
    config = OnlineConfig.preset("paper").model_copy(update={"updates": 10, "batch": 16})
    trained, facts = fit(base, online, toy_demos, config=config, kind="mlp")
    assert all(torch.equal(v, actor[k]) for k, v in base.actor.state_dict().items())
    assert all(torch.equal(v, critic[k]) for k, v in base.critic.state_dict().items())
    assert trained.critic is not None
    assert any(not torch.equal(v, critic[k]) for k, v in trained.critic.state_dict().items())
    assert trained.lam == config.lam(10)
    assert any(v.abs().sum() > 0 for k, v in residual_weights(trained).items() if "last" in k)
    assert {"critic_loss_q", "improve", "guidance", "human_windows"} <= set(facts)


@pytest.mark.parametrize("kind", ["constant", "mlp"])
def test_the_same_seed_gives_the_same_residual(
    base: Trained, online: Path, toy_demos: Path, kind: Literal["constant", "mlp"]
) -> None:
    first, facts = fit(base, online, toy_demos, kind=kind)
    torch.manual_seed(99)
    second, again = fit(base, online, toy_demos, kind=kind)
    other, _ = fit(base, online, toy_demos, kind=kind, seed=1)
    mine, theirs = residual_weights(first), residual_weights(second)
    assert all(torch.equal(mine[k], theirs[k]) for k in mine)
    assert any(not torch.equal(mine[k], v) for k, v in residual_weights(other).items())
    assert facts == again
    assert facts["residual"] == kind


def test_too_little_evidence_leaves_the_base_bit_for_bit(
    base: Trained, episodes: list[Episode], toy_demos: Path, tmp_path: Path
) -> None:
    data = toy_dataset(tmp_path / "little", episodes[:1])
    trained, facts = fit(base, data.root, toy_demos)
    assert facts["takeovers"] == 2
    assert facts["skipped"] == "fewer than 4 takeovers"
    assert trained.lam == 0.0
    rig = ToyRig()
    rig.prepare(1)
    obs = rig.observe()
    finals = [t.policy().decide(obs, np.random.default_rng(3)).final for t in (base, trained)]
    assert finals[0].tobytes() == finals[1].tobytes()


def test_cloning_corrections_is_content_with_one(
    base: Trained, episodes: list[Episode], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bora_cli.train.residual.OnlineConfig", lambda **k: OnlineConfig(updates=5, **k))
    data = toy_dataset(tmp_path / "little", episodes[:1])
    trained, facts = fit_residual(base, data.root, [], method="bc_interventions")
    assert trained.lam > 0
    assert trained.provenance["method"] == facts["method"] == "bc_interventions"


def test_the_control_must_start_from_the_policy_that_made_the_episodes(
    base: Trained, online: Path, toy_policy: Path, tmp_path: Path
) -> None:
    """Another policy on the same backbone would get a residual that was learned on top of other chunks."""
    train("bc_interventions", data=[online], init=toy_policy, out=tmp_path / "control")
    assert load_trained(tmp_path / "control").lam > 0
    other = deepcopy(base)
    with torch.no_grad():
        for weight in other.actor.expert.parameters():
            weight.mul_(1.1)
    save_trained(tmp_path / "other", other)
    with pytest.raises(
        CheckpointError, match=r"recorded with another policy .* Give --init with the policy the"
    ):
        train("bc_interventions", data=[online], init=tmp_path / "other", out=tmp_path / "x")


def test_unknown_method(base: Trained, online: Path, toy_demos: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"Unknown online method 'bara'\. Methods: bora, bc_interventions, hg_dagger, resfit\.",
    ):
        fit(base, online, toy_demos, method="bara")


def test_there_must_be_a_critic_to_inherit(base: Trained, online: Path, toy_demos: Path) -> None:
    config = QUICK.model_copy(update={"update_critic": True})
    with pytest.raises(
        CheckpointError, match=r"no critic to inherit\. Start from a checkpoint of `bora train bora`"
    ):
        fit(replace(base, critic=None), online, toy_demos, config=config)


def test_an_inherited_critic_can_be_used_as_it_is(base: Trained, online: Path) -> None:
    """The hinge reads it and nothing trains it, so offline data are not asked for."""
    assert base.critic is not None
    before = deepcopy(base.critic.state_dict())
    frozen = QUICK.model_copy(update={"update_critic": False, "lambda_improve": 0.35})
    trained, facts = fit_residual(base, online, [], config=frozen)
    assert trained.critic is not None
    assert all(torch.equal(v, before[k]) for k, v in trained.critic.state_dict().items())
    assert "improve" in facts
    assert "critic_loss_q" not in facts


@pytest.mark.parametrize("term", ["lambda_improve", "lambda_q"])
def test_terms_of_a_critic_need_one(base: Trained, online: Path, term: str) -> None:
    alone = QUICK.model_copy(update={"update_critic": False, "lambda_improve": 0.0, term: 0.25})
    with pytest.raises(
        ConfigError, match=rf"{term} is 0\.25 and the policy has no critic\. Start from a checkpoint of"
    ):
        fit_residual(replace(base, critic=None), online, [], config=alone)


def test_the_rewards_of_takeovers_reach_the_critic(base: Trained, online: Path, toy_demos: Path) -> None:
    """Blaming the policy's tick before a takeover and blaming the person's first tick give other critics."""
    made = {
        site: fit(base, online, toy_demos, rewards=InterventionRewards(site=site))
        for site in ("pre", "onset")
    }
    default, facts = fit(base, online, toy_demos)
    critics = {site: trained.critic.state_dict() for site, (trained, _) in made.items() if trained.critic}
    assert default.critic is not None
    assert all(torch.equal(v, critics["pre"][k]) for k, v in default.critic.state_dict().items())
    assert any(not torch.equal(v, critics["pre"][k]) for k, v in critics["onset"].items())
    assert facts["rewards_hash"] == made["pre"][1]["rewards_hash"] != made["onset"][1]["rewards_hash"]


# ---------------------------------------------------------------------------------- a known answer


def plan(tick: int) -> F32:
    """Return what the base always wants at a tick, well inside the limits."""
    spec = ToyRig().action_spec
    wave = np.sin(0.5 * tick + np.arange(spec.dim)).astype(np.float32)
    return spec.center + 0.2 * wave * spec.half_range


class Planner:
    """A base policy whose chunks depend on the clock alone.  base_hash: of the backbone it pretends to use."""

    execute = 4

    def __init__(self, base_hash: str) -> None:
        self.base_hash = base_hash

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        tick = round(obs.t * 10)
        chunk = np.stack([plan(tick + i) for i in range(8)])
        tokens = rng.normal(size=(6, 32)).astype(np.float16)
        return Decision(0, 0, self.base_hash, 0.0, 4, chunk, np.zeros_like(chunk), chunk, tokens)


class Compensator:
    """An operator who commands what the base wants, minus the bias of the robot."""

    def __init__(self, bias: F32) -> None:
        self.bias = bias

    def begin(self, rig: ToyRig) -> None:
        """Do nothing."""

    def act(self, rig: ToyRig) -> tuple[F32, bool]:
        return plan(rig.tick) - self.bias_at(rig.tick), False

    def bias_at(self, tick: int) -> F32:
        return self.bias


class Swinger(Compensator):
    """One whose corrections turn round with what the base wants, and are zero on average."""

    def bias_at(self, tick: int) -> F32:
        return np.float32(np.sin(0.5 * tick)) * self.bias


class LongWatcher(ToyWatcher):
    def observe(self, rig: ToyRig, human_driving: bool) -> Verdict:
        return Verdict(4 <= rig.tick < 12)


@pytest.mark.parametrize("method", ["bora", "bc_interventions"])
def test_a_constant_bias_is_found(base: Trained, toy_demos: Path, tmp_path: Path, method: str) -> None:
    """The robot adds a constant to every command; corrections subtract it; the residual is their compromise.

    Least squares by hand, in command units: corrections pull to t = -bias, everything else to 0, so the constant is
    t / (1 + w) with w the sum of the other weights.  The critic of the fixture knows nothing, so it stays out.
    """
    unit = base.spec.action.half_range
    wanted = np.zeros(18, np.float32)
    wanted[:4] = (0.30, -0.20, 0.10, 0.15)
    policy = Planner(base.backbone_hash)
    made = [assisted(policy, 300_100 + i, Compensator(-wanted * unit), LongWatcher()) for i in range(5)]
    data = toy_dataset(tmp_path / "biased", made)
    config = OnlineConfig(lambda_improve=0.0, update_critic=False)
    trained, _ = fit_residual(base, data.root, [toy_demos], method=method, config=config, kind="constant")
    assert trained.lam == 1.0
    np.testing.assert_allclose(constant_of(trained)[:4], wanted[:4], rtol=0.10)
    if method == "bora":
        patience = config.model_copy(update={"updates": 1500})
        patient, facts = fit_residual(base, data.root, [toy_demos], config=patience, kind="constant")
        others = config.stay_other * facts["stay_factor"] + config.lambda_anchor + config.lambda_l2
        np.testing.assert_allclose(constant_of(patient), wanted / (1 + others), atol=0.002)


def test_what_depends_on_the_state_is_found_by_the_network_alone(
    base: Trained, toy_demos: Path, tmp_path: Path
) -> None:
    bias = np.zeros(18, np.float32)
    bias[0] = 0.4 * base.spec.action.half_range[0]
    policy = Planner(base.backbone_hash)
    made = [assisted(policy, 300_200 + i, Swinger(bias), LongWatcher()) for i in range(5)]
    data = toy_dataset(tmp_path / "swinging", made)
    config = OnlineConfig(lambda_improve=0.0, update_critic=False)
    kinds: tuple[ResidualKind, ...] = ("constant", "mlp")
    left = {k: fit_residual(base, data.root, [toy_demos], config=config, kind=k)[1] for k in kinds}
    assert (
        left["mlp"]["corrections"] == left["constant"]["corrections"]
    )  # the vector is found first, and stays
    assert left["mlp"]["network_corrections"] < 0.3 * left["constant"]["corrections"]
    assert not any(name.startswith("network") for name in left["constant"])


def constant_of(trained: Trained) -> F32:
    """Return the residual of every tick, float32 [A], in command units."""
    assert trained.residual is not None
    with torch.no_grad():
        row = trained.residual(torch.zeros(1, 6, 32), torch.zeros(1, 33), torch.zeros(1, 8, 18))[0, 0]
    return np.asarray(row.numpy(), np.float32)


def test_decisions_of_a_dataset_survive_the_disk(online: Path, episodes: list[Episode]) -> None:
    """Learning reads them from there."""
    for written, again in zip(episodes, Dataset.open(online).episodes(images=False), strict=True):
        assert [d.t_start for d in again.decisions] == [d.t_start for d in written.decisions]
        for a, b in zip(again.decisions, written.decisions, strict=True):
            assert np.array_equal(a.tokens, b.tokens)
            assert np.array_equal(a.base, b.base)
