"""`bora train METHOD`: learn a policy from recorded episodes, on tokens that are computed once.

cp            behaviour cloning of everything (CP Base)
filtered_bc   the same number of updates and the same losses, on the successful episodes only, without a critic
bora          CP Base, then a critic, then the clipped surrogate with the critic's advantages (BORA-Offline)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bora_cli.algos.batch import draw
from bora_cli.algos.bora_offline import OfflineConfig, actor_loss, advantages, critic_loss
from bora_cli.algos.cp import CPConfig
from bora_cli.algos.schedules import cosine
from bora_cli.algos.value import (
    ValueFitConfig,
    assign_folds,
    episode_advantages,
    episode_returns,
    out_of_fold,
    value_loss,
)
from bora_cli.checkpoint import TINY, Trained, load_backbone, load_trained, save_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError, DataError
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.critic import ChunkCritic, CriticConfig, StateValue, ValueConfig
from bora_cli.models.nn import Sizes, fit_contexts, polyak_update
from bora_cli.models.normalize import Normalizer
from bora_cli.models.policy import Actor, PolicySpec
from bora_cli.seeds import stream
from bora_cli.train.buffer import Buffer, Sampler, load_buffer, require_same_robot
from bora_cli.train.clone import LOG_EVERY, adamw, clone, set_rate, step
from bora_cli.train.residual import fit_residual, require_made_by
from bora_cli.train.tracker import Tracker
from bora_cli.types import content_hash

Progress = Callable[[str, int, int], None]
METHODS = ("cp", "filtered_bc", "bora", "bc_interventions")

HORIZON, EXECUTE = 8, 4
STATE_FLOOR, ACTION_FLOOR = 1e-3, 0.02
"""Smallest standard deviation believed in: states in their units, actions as a share of half their range."""


@dataclass(frozen=True)
class Run:
    """What all phases of one training run share."""

    buffer: Buffer
    sampler: Sampler
    sizes: Sizes
    seed: int
    tracker: Tracker
    progress: Progress | None

    def rng(self, name: str) -> np.random.Generator:
        """Return the numpy generator of a phase."""
        return stream(name, self.seed)

    def generator(self, name: str) -> torch.Generator:
        """Return the torch generator of a phase."""
        return torch.Generator().manual_seed(int(stream(f"torch {name}", self.seed).integers(2**62)))

    def report(self, stage: str, update: int, total: int, values: dict[str, float]) -> None:
        """Log and show an update, now and then."""
        if (update + 1) % LOG_EVERY == 0 or update + 1 == total:
            self.tracker.log(stage, update + 1, values)
            if self.progress is not None:
                self.progress(stage, update + 1, total)


def train(
    method: str,
    *,
    data: Sequence[Path],
    out: Path,
    backbone: str | None = None,
    init: Path | None = None,
    seed: int = 0,
    updates: int | None = None,
    preset: str = "sim",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a policy on datasets and write it as a checkpoint to `out`.

    init: start from this policy (for `bora`: use it as the warmed-up CP Base).  updates: of the behaviour-cloning
    warm-up; the later phases scale with it.  preset: sim or paper.
    Raises ConfigError, DataError, CheckpointError for bad input before training, TrainingDiverged during it.
    """
    if method not in METHODS:
        raise ConfigError(f"Unknown method '{method}'.", f"Methods: {', '.join(METHODS)}.")
    if method == "bc_interventions":
        return _clone_corrections(data, Path(out), init, seed, progress)
    started = time.monotonic()
    torch.set_num_threads(1)  # networks this small are fastest, and repeatable, on one thread
    paths = [Path(p) for p in data]
    out = Path(out)
    warm = load_trained(init) if init is not None else None
    source = backbone or (warm.backbone if warm is not None else TINY)
    cp, offline, value = _configs(preset, updates)

    vlm = load_backbone(source)
    if warm is not None and warm.backbone_hash != vlm.hash:
        raise CheckpointError(
            f"{init} was trained on backbone {warm.backbone_hash}, not on {source} ({vlm.hash}).",
            "Give the same --backbone, or leave out --init.",
        )
    first = Dataset.open(paths[0])
    spec = policy_spec(first, vlm.cameras, offline.steps)
    if warm is not None:
        both = f"{init} and {first.root}"
        require_same_robot(warm.spec.action, warm.spec.state_names, warm.spec.dt, first, both)
    buffer = load_buffer(paths, vlm, horizon=HORIZON, gamma=offline.gamma, progress=progress)
    actor = warm.actor if warm is not None else fresh_actor(buffer, spec, seed)
    sampler = Sampler(buffer, actor.state, actor.action)
    with closing(Tracker(out.with_name(f"{out.name}.metrics.jsonl"))) as tracker:
        run = Run(buffer, sampler, actor.expert.config.sizes, seed, tracker, progress)
        actor.expert, critic = _learn(method, run, actor, warm, cp, offline, value)
    trained = Trained(
        spec,
        actor,
        source,
        vlm.hash,
        _provenance(method, paths, buffer, seed, preset, offline, cp, init, time.monotonic() - started),
        critic,
    )
    save_trained(out, trained)
    return {"checkpoint": str(out), **trained.provenance}


def _learn(
    method: str,
    run: Run,
    actor: Actor,
    warm: Trained | None,
    cp: CPConfig,
    offline: OfflineConfig,
    value: ValueFitConfig,
) -> tuple[ConsistencyExpert, ChunkCritic | None]:
    """Run the phases of a method and return the expert and, for `bora`, the critic."""
    rows = np.arange(len(run.sampler))
    if method == "filtered_bc":
        rows = np.flatnonzero(run.buffer.windows.success)
        if not len(rows):
            raise DataError("No successful episode to imitate.", "Collect better demonstrations.")
    expert = _warm_up(run, actor.expert, cp, rows, warm)
    if method == "cp":
        return expert, None
    if method == "filtered_bc":
        constant = offline.model_copy(update={"advantage": "constant", "gate": "off"})
        return _improve(run, run.sampler, expert, rows, cp, constant), None
    critic = _fit_critic(run, offline)
    per_tick = _cross_fitted_advantages(run, value) if offline.advantage == "v_gae" else None
    judged = Sampler(run.buffer, actor.state, actor.action, per_tick)
    return _improve(run, judged, expert, rows, cp, offline, critic), critic


def _clone_corrections(
    data: Sequence[Path], out: Path, init: Path | None, seed: int, progress: Progress | None
) -> dict[str, Any]:
    """Train the control "BC on interventions" on the episodes of an online run."""
    if init is None or len(data) != 1:
        raise ConfigError(
            "bc_interventions needs one dataset of online episodes and the policy that made them.",
            "Give --data RUN/online/episodes and --init with the policy the online run started from.",
        )
    base, episodes = load_trained(init), Path(data[0])
    require_made_by(base, episodes)
    trained, facts = fit_residual(base, episodes, [], method="bc_interventions", seed=seed, progress=progress)
    trained.provenance |= {"training": facts, "init": str(init), "online_data": str(data[0])}
    save_trained(out, trained)
    return {"checkpoint": str(out), **trained.provenance}


def policy_spec(dataset: Dataset, cameras: Sequence[str], steps: int) -> PolicySpec:
    """Return what a policy trained on a dataset is made for."""
    missing = [c for c in cameras if c not in dataset.cameras]
    if missing:
        raise DataError(
            f"{dataset.root} has no camera {', '.join(missing)}; it has {', '.join(dataset.cameras)}.",
            "Use a backbone made for these cameras.",
        )
    return PolicySpec(
        action=dataset.spec,
        state_names=tuple(dataset.state_names),
        cameras=tuple(cameras),
        dt=1.0 / dataset.fps,
        horizon=HORIZON,
        execute=EXECUTE,
        steps=steps,
        image_size=dataset.image_size,
    )


def fresh_actor(buffer: Buffer, spec: PolicySpec, seed: int) -> Actor:
    """Return an untrained actor whose normalisers fit the buffer; actions have standard deviation 0.5."""
    w = buffer.windows
    executed = torch.from_numpy(w.action[w.mask > 0])
    floor = ACTION_FLOOR * torch.from_numpy(spec.action.half_range)
    sizes = Sizes(
        n_tokens=buffer.tokens.shape[2],
        token_width=buffer.tokens.shape[3],
        state_dim=buffer.state.shape[1],
        action_dim=spec.action.dim,
        horizon=spec.horizon,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        expert = ConsistencyExpert(ConsistencyConfig(sizes=sizes))
    fit_contexts(expert, buffer.tokens[0])
    return Actor(
        expert,
        Normalizer.fit(buffer.state, floor=STATE_FLOOR),
        Normalizer.fit(executed, std=0.5, floor=floor),
    )


def _configs(preset: str, updates: int | None) -> tuple[CPConfig, OfflineConfig, ValueFitConfig]:
    """Return the settings of a preset; `updates` scales every phase in proportion."""
    if preset not in ("sim", "paper"):
        raise ConfigError(f"Unknown preset '{preset}'.", "Presets: sim, paper.")
    cp, offline = CPConfig(), OfflineConfig.preset("sim" if preset == "sim" else "paper")
    if preset == "paper":
        cp = cp.model_copy(update={"updates": 40_000, "batch": 64, "lr": 5e-5})
    value = ValueFitConfig(gamma=offline.gamma, lam=offline.gae_lambda)
    if updates is not None:
        share = updates / cp.updates
        offline = offline.model_copy(
            update={
                "updates": round(offline.updates * share),
                "critic_updates": round(offline.critic_updates * share),
            }
        )
        value = value.model_copy(update={"updates": round(value.updates * share)})
        cp = cp.model_copy(update={"updates": updates})
    return cp, offline, value


def _warm_up(
    run: Run, expert: ConsistencyExpert, config: CPConfig, rows: NDArray[np.int64], warm: Trained | None
) -> ConsistencyExpert:
    """Return the behaviour-cloned expert; one that was given is taken as it is."""
    if warm is not None:
        return expert
    return clone(
        expert,
        run.sampler,
        config,
        rows=rows,
        rng=run.rng("clone"),
        generator=run.generator("clone"),
        tracker=run.tracker,
        progress=run.progress,
    )


def _fit_critic(run: Run, config: OfflineConfig) -> ChunkCritic:
    """Return the chunk critic q, v fitted to all data (IQL), with its averaged weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        critic = ChunkCritic(CriticConfig(sizes=run.sizes))
    fit_contexts(critic, run.buffer.tokens[0])
    target = deepcopy(critic)
    optimizer = adamw(critic, config.critic_lr, 1e-4)
    rng = run.rng("critic")
    for update in range(config.critic_updates):
        set_rate(optimizer, cosine(update, config.critic_lr, config.critic_updates, floor=0.1))
        batch = run.sampler.rows(draw(rng, len(run.sampler), config.critic_batch), rng)
        loss, info = critic_loss(critic, target, batch, config)
        step(loss, optimizer, critic, 1.0, "critic", update)
        polyak_update(target, critic, config.polyak)
        run.report("critic", update, config.critic_updates, info)
    return target


def _cross_fitted_advantages(run: Run, config: ValueFitConfig) -> Tensor:
    """Return the advantage of every tick, float [M], from values that did not see its episode."""
    episodes = run.buffer.episodes
    rewards = [torch.from_numpy(e.reward) for e in episodes]
    ends = [bool(e.terminated[-1]) for e in episodes]
    returns = episode_returns(rewards, ends, gamma=config.gamma)
    of_tick = np.repeat(np.arange(len(episodes)), [len(e) for e in episodes])
    fold = assign_folds(of_tick, min(config.folds, len(episodes)), run.rng("folds"))
    tokens, state = run.buffer.tokens, run.sampler.state
    predictions = []
    for k in range(int(fold.max()) + 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed * 100 + k)
            value = StateValue(ValueConfig(sizes=run.sizes))
        fit_contexts(value, tokens[0])
        optimizer = adamw(value, config.lr, config.weight_decay)
        others, rng = np.flatnonzero((fold != k) & returns.known), run.rng(f"value {k}")
        seen = others if len(others) else np.arange(len(fold))  # a single episode judges itself
        for update in range(config.updates):
            set_rate(optimizer, cosine(update, config.lr, config.updates))
            at = torch.from_numpy(seen[rng.integers(0, len(seen), config.batch)])
            view = torch.from_numpy(rng.integers(0, tokens.shape[0], config.batch))
            target = returns.target(at, value, tokens[0], state)
            loss = value_loss(value, tokens[view, at].float(), state[at], target)
            step(loss, optimizer, value, 1.0, "value", update)
            run.report(f"value {k + 1}", update, config.updates, {"loss": float(loss.detach())})
        with torch.no_grad():
            predictions.append(value(tokens[0].float(), state))
    values = out_of_fold(predictions, fold)
    return episode_advantages(values, rewards, ends, gamma=config.gamma, lam=config.lam)


def _improve(
    run: Run,
    sampler: Sampler,
    expert: ConsistencyExpert,
    rows: NDArray[np.int64],
    cp: CPConfig,
    config: OfflineConfig,
    critic: ChunkCritic | None = None,
) -> ConsistencyExpert:
    """Return the expert after the clipped-surrogate updates on the windows `rows` [m]."""
    expert = deepcopy(expert).train()
    averaged, old = deepcopy(expert), deepcopy(expert)
    optimizer = adamw(expert, config.lr, cp.weight_decay)
    rng, generator = run.rng("improve"), run.generator("improve")
    for update in range(config.updates):
        set_rate(optimizer, cosine(update, config.lr, config.updates))
        if update % config.old_every == 0:
            old.load_state_dict(expert.state_dict())
        batch = sampler.rows(rows[rng.integers(0, len(rows), config.batch)], rng)
        adv = advantages(batch, config, critic)
        result = actor_loss(expert, old, averaged, batch, adv, config=config, cp=cp, generator=generator)
        if not result.skip:
            step(result.loss, optimizer, expert, cp.grad_clip, "improve", update)
            polyak_update(averaged, expert, 1 - cp.ema)
        run.report("improve", update, config.updates, result.info)
    return averaged


def _provenance(
    method: str,
    paths: list[Path],
    buffer: Buffer,
    seed: int,
    preset: str,
    offline: OfflineConfig,
    cp: CPConfig,
    init: Path | None,
    seconds: float,
) -> dict[str, Any]:
    """Return what a checkpoint says about its making."""
    metas = [e.meta for e in buffer.episodes]
    successes = sum(e.success for e in buffer.episodes)
    tasks = sorted({str(m.get("task")) for m in metas})
    return {
        "method": method,
        "task": tasks[0] if len(tasks) == 1 else ", ".join(tasks),
        "data": [str(p) for p in paths],
        "data_hash": content_hash(
            [[m, len(e), e.success] for m, e in zip(metas, buffer.episodes, strict=True)]
        ),
        "profile_hash": sorted({str(m.get("profile_hash", "")) for m in metas}),
        "episodes": len(metas),
        "demonstration_success": f"{successes}/{len(metas)}",
        "seed": seed,
        "preset": preset,
        "gamma": offline.gamma,
        "clone_updates": cp.updates,
        "improve_updates": offline.updates if method != "cp" else 0,
        "critic_updates": offline.critic_updates if method == "bora" else 0,
        "init": str(init) if init is not None else None,
        "seconds": round(seconds, 1),
    }
