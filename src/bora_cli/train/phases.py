"""The phases of offline training: warm-up, critic, cross-fitted advantages, improvement.

Each is a loop over updates that draws a batch, asks `algos` for a loss, and takes a step.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bora_cli.algos.batch import draw, elsewhere
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
from bora_cli.models.consistency import ConsistencyExpert
from bora_cli.models.critic import ChunkCritic, CriticConfig, StateValue, ValueConfig
from bora_cli.models.nn import Sizes, fit_contexts, polyak_update
from bora_cli.models.policy import Actor
from bora_cli.seeds import stream
from bora_cli.train.buffer import Buffer, Sampler
from bora_cli.train.clone import LOG_EVERY, Progress, adamw, clone, set_rate, step
from bora_cli.train.live import LiveTokens
from bora_cli.train.tracker import Tracker


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


def warm_up(
    run: Run, expert: ConsistencyExpert, config: CPConfig, rows: NDArray[np.int64]
) -> ConsistencyExpert:
    """Return the expert after behaviour cloning of the windows `rows` [m]."""
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


def fit_critic(run: Run, config: OfflineConfig) -> ChunkCritic:
    """Return the chunk critic q, v fitted to all data (IQL), with its averaged weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        sees = CriticConfig(sizes=run.sizes, context=config.context, ensemble=config.ensemble)
        critic = ChunkCritic(sees)
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


def cross_fitted_advantages(run: Run, config: ValueFitConfig) -> Tensor:
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


def judge(
    run: Run, actor: Actor, critic: ChunkCritic | None, config: OfflineConfig, value: ValueFitConfig
) -> Sampler:
    """Return a sampler whose batches carry the advantages that `advantages` does not compute from the critic."""
    buffer = run.buffer
    if config.advantage == "v_gae":
        per_tick = cross_fitted_advantages(run, value)
        if config.shuffle:
            of_tick = np.repeat(np.arange(len(buffer.episodes)), np.diff(buffer.first))
            per_tick = per_tick[torch.from_numpy(elsewhere(of_tick, run.rng("shuffle")))]
        return Sampler(buffer, actor.state, actor.action, per_tick)
    if config.shuffle and config.advantage == "q_minus_v":
        learned = config.model_copy(update={"shuffle": False, "flip": False})
        batches = (
            run.sampler.rows(rows)
            for rows in np.split(np.arange(len(buffer)), range(1024, len(buffer), 1024))
        )
        per_window = torch.cat([advantages(batch, learned, critic) for batch in batches])
        order = torch.from_numpy(elsewhere(buffer.windows.episode, run.rng("shuffle")))
        return Sampler(buffer, actor.state, actor.action, per_window=per_window[order])
    return Sampler(buffer, actor.state, actor.action)


def improve(
    run: Run,
    sampler: Sampler,
    expert: ConsistencyExpert,
    rows: NDArray[np.int64],
    cp: CPConfig,
    config: OfflineConfig,
    critic: ChunkCritic | None = None,
    live: LiveTokens | None = None,
) -> ConsistencyExpert:
    """Return the expert after the clipped-surrogate updates on the windows `rows` [m].

    live: where the gradients go on into the backbone, through the evaluations of the expert that keep their graph.
    The old policy is then the old expert on today's tokens.
    """
    expert = deepcopy(expert).train()
    averaged, old = deepcopy(expert), deepcopy(expert)
    optimizer = adamw(expert, config.lr, cp.weight_decay)
    rng, generator = run.rng("improve"), run.generator("improve")
    for update in range(config.updates):
        set_rate(optimizer, cosine(update, config.lr, config.updates))
        if update % config.old_every == 0:
            old.load_state_dict(expert.state_dict())
        index = rows[rng.integers(0, len(rows), config.batch)]
        batch = sampler.rows(index, rng)
        adv = advantages(batch, config, critic)
        if live is not None:
            batch = live.put_into(batch, sampler.start[torch.from_numpy(index)], rng)
        result = actor_loss(expert, old, averaged, batch, adv, config=config, cp=cp, generator=generator)
        if not result.skip:
            step(result.loss, optimizer, expert, cp.grad_clip, "improve", update)
            polyak_update(averaged, expert, 1 - cp.ema)
            if live is not None:
                live.step(cosine(update, 1.0, config.updates), cp.grad_clip)
        run.report("improve", update, config.updates, result.info)
    return averaged
