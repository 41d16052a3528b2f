"""Online rounds with the controls hg_dagger and resfit, and the td bootstrap, in the point world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from online_rounds import OUT, enter_toy_world, start

from bora_cli.algos.batch import Batch
from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.algos.hg_dagger import HGDaggerConfig
from bora_cli.algos.resfit import ResFiTConfig
from bora_cli.checkpoint import load_trained, save_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, DataError
from bora_cli.models.vlm import Backbone
from bora_cli.train import online
from bora_cli.train.hg_dagger import fit_hg_dagger
from bora_cli.train.inherited_critic import next_chunk
from bora_cli.train.resfit import fit_resfit
from bora_cli.train.residual import fit_residual
from toy_world import ToyRig, ToyWatcher, Verdict, toy_dataset, weights


@pytest.fixture(autouse=True)
def toy_world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    enter_toy_world(monkeypatch, tmp_path)
    monkeypatch.setattr(online, "evaluate", lambda *_, **__: pytest.fail("a control was tested"))
    monkeypatch.setattr("bora_cli.train.hg_dagger.HGDaggerConfig", lambda: HGDaggerConfig(updates=12))
    monkeypatch.setattr("bora_cli.train.resfit.ResFiTConfig", lambda: ResFiTConfig(least=12, most=12))


def proposed(path: Path) -> np.ndarray:
    """Return what a policy plans in one state."""
    rig = ToyRig()
    rig.prepare(9)
    return load_trained(path).policy().decide(rig.observe(), np.random.default_rng(1)).final


@pytest.mark.parametrize("method", ["hg_dagger", "resfit"])
def test_a_control_learns_and_is_released_untested(
    toy_policy: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = start(toy_policy, rounds=1, method=method)
    (done,) = result["rounds"]
    assert (done["released"], done["release_n"]) == (True, 0)
    before, after = load_trained(toy_policy), load_trained(OUT / "policy")
    same = weights(toy_policy)["actor.safetensors"] == weights(OUT / "policy")["actor.safetensors"]
    assert same == (method == "resfit")  # one trains the expert, the other a residual on it
    assert (after.residual is not None) == (method == "resfit")
    assert after.provenance["method"] == method
    assert after.backbone_hash == before.backbone_hash
    assert not np.array_equal(proposed(toy_policy), proposed(OUT / "policy"))
    assert (OUT / "round-1" / "metrics.jsonl").read_text().count("\n") >= 1


def test_the_same_seed_gives_the_same_controls_and_no_image_is_encoded(
    toy_policy: Path, toy_demos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(toy_policy, rounds=1, method="hg_dagger")
    base = load_trained(toy_policy)
    monkeypatch.setattr(Backbone, "encode", lambda *_, **__: pytest.fail("the backbone was called"))
    for fit in (fit_hg_dagger, fit_resfit):
        made: list[dict[str, Any]] = []
        for seed in (0, 0, 1):
            trained, facts = fit(base, OUT / "episodes", [toy_demos], seed=seed)
            part = trained.residual if trained.residual is not None else trained.actor
            made.append(part.state_dict())
            assert facts["takeovers"] == 6
        assert all(torch.equal(made[0][k], made[1][k]) for k in made[0])
        assert any(not torch.equal(made[0][k], made[2][k]) for k in made[0])


def test_where_nobody_corrected_hg_dagger_changes_nothing(
    toy_policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trusting(ToyWatcher):
        def observe(self, rig: ToyRig, human_driving: bool) -> Verdict:
            return Verdict(False)

    monkeypatch.setattr(online, "Watcher", Trusting)
    (done,) = start(toy_policy, rounds=1, method="hg_dagger")["rounds"]
    assert done["released"] is False
    np.testing.assert_array_equal(proposed(toy_policy), proposed(OUT / "policy"))


def test_the_td_bootstrap_asks_what_the_policy_in_use_would_do(toy_policy: Path, toy_demos: Path) -> None:
    start(toy_policy, rounds=1, method="resfit")
    base, in_use = load_trained(toy_policy), load_trained(OUT / "policy")
    fits = {
        bootstrap: fit_residual(
            base,
            OUT / "episodes",
            [toy_demos],
            config=OnlineConfig(updates=8, bootstrap=bootstrap),
            previous=in_use,
        )[0]
        for bootstrap in ("iql", "td")
    }
    critics = [fit.critic.state_dict() for fit in fits.values() if fit.critic is not None]
    assert any(not torch.equal(critics[0][k], critics[1][k]) for k in critics[0])

    sizes = base.actor.expert.config.sizes
    z, s = torch.randn(2, sizes.n_tokens, sizes.token_width), torch.zeros(2, sizes.state_dim)
    nothing = torch.zeros(2, base.spec.horizon)
    a = torch.zeros(2, base.spec.horizon, base.spec.action.dim)
    batch = Batch(z, s, a, nothing, nothing, nothing, z, s, torch.ones(2, dtype=torch.bool))
    chunks = [next_chunk(p, batch, torch.Generator().manual_seed(0)) for p in (base, in_use)]
    assert in_use.residual is not None
    unit = torch.from_numpy(base.spec.action.half_range) / base.actor.action.scale
    with torch.no_grad():
        added = in_use.lam * unit * in_use.residual(z, s, chunks[0])
        torch.testing.assert_close(chunks[1] - chunks[0], added, atol=1e-5, rtol=0)


def test_stacked_rounds_begin_with_the_policy_in_use_and_are_saved(
    toy_policy: Path, toy_demos: Path, tmp_path: Path
) -> None:
    start(toy_policy, rounds=1, method="resfit")
    base, in_use = load_trained(toy_policy), load_trained(OUT / "policy")
    assert OnlineConfig.preset("paper").stack
    changes = []
    for updates in (0, 8):
        config = OnlineConfig(updates=updates, stack=True, update_critic=False)
        made, facts = fit_residual(base, OUT / "episodes", [toy_demos], config=config, previous=in_use)
        assert facts["stacked"] is True
        assert made.lam == 1.0
        made.provenance |= {"training": facts}
        save_trained(tmp_path / f"stacked{updates}", made)
        changes.append(np.abs(proposed(tmp_path / f"stacked{updates}") - proposed(OUT / "policy")).max())
    assert changes[0] < 1e-6 < changes[1]


def test_what_makes_no_sense_is_refused(toy_policy: Path, toy_demos: Path) -> None:
    base = load_trained(toy_policy)
    with pytest.raises(ConfigError, match=r"resfit is no way of fitting this residual") as told:
        fit_residual(base, OUT / "episodes", [toy_demos], method="resfit")
    assert told.value.hint == "Call fit_resfit, or `bora online --method resfit`."
    start(toy_policy, rounds=1, episodes=1, method="hg_dagger")
    with pytest.raises(DataError, match="No successful demonstration to keep cloning"):
        fit_hg_dagger(base, OUT / "episodes", [_failures(toy_demos)])


def _failures(demos: Path) -> Path:
    failed = [e for e in Dataset.open(demos).episodes() if not e.success]
    return toy_dataset(Path("failures"), failed).root
