"""The phases of offline training: warm-up, critic, cross-fitted advantages, improvement.

Each is a loop over updates that draws a batch, asks `algos` for a loss, and takes a step.
"""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bora_cli.algos.batch import draw, elsewhere
from bora_cli.algos.bora_offline import OfflineConfig, actor_loss, advantages, critic_loss, open_gate
from bora_cli.algos.cp import CPConfig
from bora_cli.algos.ranking import ranked_critic_loss
from bora_cli.algos.schedules import cosine
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
from bora_cli.models.consistency import ConsistencyExpert
from bora_cli.models.critic import ChunkCritic, CriticConfig, StateValue, ValueConfig
from bora_cli.models.nn import fit_contexts, polyak_update
from bora_cli.models.policy import Actor
from bora_cli.train.buffer import Sampler
from bora_cli.train.clone import clone, look_at_held_out
from bora_cli.train.live import LiveTokens
from bora_cli.train.probe import probe
from bora_cli.train.run import Phase, Run
from bora_cli.train.steps import adamw, set_rate


def warm_up(
    run: Run, expert: ConsistencyExpert, config: CPConfig, rows: NDArray[np.int64], keep_best: bool = False
) -> ConsistencyExpert:
    """Return the expert after behaviour cloning of the windows `rows` [m]; keep_best: see `clone`."""
    return clone(
        expert,
        run.sampler,
        config,
        rows=rows,
        run=run,
        keep_best=keep_best,
    )


def critic_sampler(
    run: Run, actor: Actor, config: OfflineConfig, value: ValueFitConfig, name: str = "value"
) -> Sampler:
    """Return where the critic's batches come from; a ranked critic learns from cross-fitted advantages.

    name: of the values' phases, where a run has two sets of them.
    """
    if config.critic == "iql":
        return run.sampler
    return Sampler(run.buffer, actor.state, actor.action, cross_fitted(run, value, name))


def fit_critic(run: Run, sampler: Sampler, config: OfflineConfig, name: str = "critic") -> ChunkCritic:
    """Return the chunk critic q, v fitted to all data, with its averaged weights.

    sampler: see `critic_sampler`.  name: of the phase, where a run has two of them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        sees = CriticConfig(sizes=run.sizes, context=config.context, ensemble=config.ensemble)
        critic = ChunkCritic(sees)
    fit_contexts(critic, run.buffer.tokens[0])
    target = deepcopy(critic)
    optimizer = adamw(critic, config.critic_lr, 1e-4)
    rng, generator = run.rng("critic"), run.generator("critic")
    modules = {"critic": critic, "target": target}
    phase = Phase(run, name, config.critic_updates, modules, optimizer, rng, generator)
    for update in phase:
        set_rate(optimizer, cosine(update, config.critic_lr, config.critic_updates, floor=0.1))
        with phase.loading():
            batch = sampler.rows(draw(rng, len(sampler), config.critic_batch), rng)
        if config.critic == "ranked":
            loss, info = ranked_critic_loss(critic, batch, config, generator)
        else:
            loss, info = critic_loss(critic, target, batch, config)
        phase.step(loss, critic, 1.0)
        polyak_update(target, critic, config.polyak)
        phase.report(info)
    run.tracker.log(f"{name} probe", config.critic_updates, probe(target, run.held_out or run.sampler))
    return target


def cross_fitted(run: Run, config: ValueFitConfig, name: str = "value") -> Tensor:
    """Return the advantage of every tick, float [M], by values that did not see its episode.

    Where such values explain nothing of what followed (`explained`), their advantages would be noise; then every tick
    has that of its episode's outcome.
    """
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
        dropped = run.generator(f"value {k}")
        phase = Phase(run, f"{name} {k + 1}", config.updates, {"value": value}, optimizer, rng, dropped)
        for update in phase:
            set_rate(optimizer, cosine(update, config.lr, config.updates))
            with phase.loading():
                at = torch.from_numpy(seen[rng.integers(0, len(seen), config.batch)])
                view = torch.from_numpy(rng.integers(0, tokens.shape[0], config.batch))
                z = tokens[view, at].float()
            target = returns.target(at, value, tokens[0], state)
            loss = value_loss(value, z, state[at], target, dropped)
            phase.step(loss, value, 1.0)
            phase.report({"loss": float(loss.detach())})
        with torch.no_grad():
            predictions.append(value(tokens[0].float(), state))
    values = out_of_fold(predictions, fold)
    ended = returns.discount == 0
    skill = explained(values[ended], returns.collected[ended])
    run.tracker.log(f"{name} probe", config.updates, {"explained": skill})
    if skill <= 0:
        return outcome_advantages(rewards)
    return episode_advantages(values, rewards, ends, gamma=config.gamma, lam=config.lam)


def judge(
    run: Run, actor: Actor, critic: ChunkCritic | None, config: OfflineConfig, value: ValueFitConfig
) -> Sampler:
    """Return a sampler whose batches carry the advantages that `advantages` does not compute from the critic."""
    buffer = run.buffer
    if config.advantage == "v_gae":
        per_tick = cross_fitted(run, value)
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


def followed(sampler: Sampler, config: OfflineConfig, critic: ChunkCritic | None = None) -> NDArray[np.int64]:
    """Return the windows that the gate lets through, int64 [m]; all of them where it would let none.

    sampler: its batches carry the advantages, see `judge`.
    """
    rows = np.arange(len(sampler))
    batches = (sampler.rows(part) for part in np.split(rows, range(1024, len(rows), 1024)))
    opened = torch.cat(
        [open_gate(advantages(batch, config, critic), batch.mask, config) for batch in batches]
    )
    return rows[opened.numpy() > 0] if bool(opened.any()) else rows


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
    modules: dict[str, nn.Module] = {"expert": expert, "averaged": averaged, "old": old}
    optimizers = [optimizer]
    if live is not None:
        modules["backbone"], optimizers = nn.ParameterList(live.parameters), [optimizer, live.optimizer]
    phase = Phase(run, "improve", config.updates, modules, optimizers, rng, generator, averaged)
    for update in phase:
        set_rate(optimizer, cosine(update, config.lr, config.updates))
        if update % config.old_every == 0:
            old.load_state_dict(expert.state_dict())
        with phase.loading():
            index = rows[rng.integers(0, len(rows), config.batch)]
            batch = sampler.rows(index, rng)
            seen = live.images(sampler.start[torch.from_numpy(index)], rng) if live is not None else None
        adv = advantages(batch, config, critic)
        if live is not None and seen is not None:
            batch = live.put_into(batch, seen)
        result = actor_loss(expert, old, averaged, batch, adv, config=config, cp=cp, generator=generator)
        if not result.skip:
            phase.step(result.loss, expert, cp.grad_clip)
            polyak_update(averaged, expert, 1 - cp.ema)
            if live is not None:
                live.step(cosine(update, 1.0, config.updates), cp.grad_clip)
        phase.report(result.info)
        if live is None:  # held-out tokens are those of the backbone as it was
            look_at_held_out(phase, averaged, cp)
    if live is not None:
        live.put_together()
        drift = {"rep_drift": live.drift(run.buffer.tokens[0])}
        run.tracker.log("improve probe", config.updates, drift)
    return averaged
