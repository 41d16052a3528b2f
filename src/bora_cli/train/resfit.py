"""Learn a residual by off-policy reinforcement from demonstrations and online episodes (ResFiT)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bora_cli.algos.batch import Batch, concat, draw_mixed
from bora_cli.algos.resfit import ResFiTConfig, actor_loss, critic_loss
from bora_cli.checkpoint import Trained
from bora_cli.data.dataset import Dataset
from bora_cli.data.windows import raw_rewards
from bora_cli.models.critic import ChunkCritic, CriticConfig
from bora_cli.models.nn import fit_contexts, polyak_update
from bora_cli.models.residual import ResidualActor
from bora_cli.seeds import stream
from bora_cli.train.buffer import Sampler, load_buffer
from bora_cli.train.online_windows import online_buffer
from bora_cli.train.residual import Progress, Report, fresh_residual
from bora_cli.train.steps import adamw, step
from bora_cli.train.tracker import Tracker

BaseOf = Callable[[Tensor, Tensor], Tensor]
"""Base chunks float [B, H, A] of tokens and states, everything normalised."""


def fit_resfit(
    base: Trained,
    episodes: Path,
    offline: Sequence[Path],
    *,
    seed: int = 0,
    config: ResFiTConfig | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> tuple[Trained, dict[str, Any]]:
    """Return the base policy with a residual learned by reinforcement, and the facts of the training.

    episodes: the online dataset.  offline: the datasets of the other half of every batch.  Every round begins afresh
    and sees the episodes of all rounds.
    """
    torch.set_num_threads(1)
    config = config or ResFiTConfig()
    gamma = float(base.provenance.get("gamma", 0.97))
    execute = base.spec.execute
    recorded = list(Dataset.open(episodes).episodes(images=False))
    online = online_buffer(recorded, base, raw_rewards, gamma, horizon=execute)
    demos = load_buffer(offline, base.load_backbone(), horizon=execute, gamma=gamma, progress=progress)
    sampler = Sampler(demos, base.actor.state, base.actor.action)
    after, before = known(online.batch), known(sampler.rows(torch.arange(len(sampler)).numpy()))
    rng, generator = stream("resfit", seed), torch.Generator().manual_seed(seed)

    def batch() -> Batch:
        old, new = draw_mixed(rng, len(before), len(after), config.batch)
        return concat(sampler.rows(before.numpy()[old], rng), online.batch.rows(after[new]))

    residual = fresh_residual(base.spec.action, base.actor, "mlp", seed)
    sizes = base.actor.expert.config.sizes.model_copy(update={"horizon": execute})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        critic = ChunkCritic(CriticConfig(sizes=sizes, context="full", ensemble=config.ensemble))
    drawn = batch()
    fit_contexts(critic, drawn.z)
    unit = base.unit()

    def base_of(z: Tensor, s: Tensor) -> Tensor:
        shape = (base.spec.steps, len(z), base.spec.horizon, base.spec.action.dim)
        return base.actor.expert.sample(z, s, torch.randn(shape, generator=generator), base.spec.steps)

    updates = config.updates(len(after))
    report = Report(tracker, progress)
    info = optimise(residual, critic, batch, base_of, unit, updates, gamma, config, generator, report)
    facts = {"method": "resfit", "episodes": len(recorded), "takeovers": online.takeovers, "updates": updates}
    provenance = {**base.provenance, "method": "resfit"}
    trained = replace(base, residual=residual, lam=config.reach, provenance=provenance)
    return trained, {**facts, "windows": len(after), **{k: round(v, 6) for k, v in info.items()}}


def optimise(
    residual: ResidualActor,
    critic: ChunkCritic,
    draw: Callable[[], Batch],
    base_of: BaseOf,
    unit: Tensor,
    updates: int,
    gamma: float,
    config: ResFiTConfig,
    generator: torch.Generator,
    report: Report,
) -> dict[str, float]:
    """Train residual and critic in place and return the numbers of the last updates.  draw: returns a batch."""
    target, followed = deepcopy(critic), deepcopy(residual)
    to_value = adamw(critic, config.critic_lr, 1e-4)
    to_act = torch.optim.Adam([p for p in residual.parameters() if p.requires_grad], lr=config.lr)
    info: dict[str, float] = {}
    for update in range(updates):
        batch = draw()
        with torch.no_grad():
            base_next = base_of(batch.z_next, batch.s_next)
        loss, about = critic_loss(
            critic, target, followed, batch, base_next, unit, gamma=gamma, config=config, generator=generator
        )
        step(loss, to_value, critic, 10.0, "resfit critic", update)
        polyak_update(target, critic, config.polyak)
        if update >= config.alone * updates and update % config.delay == 0:
            with torch.no_grad():
                base = base_of(batch.z, batch.s)
            loss, more = actor_loss(residual, critic, batch, base, unit, config=config)
            step(loss, to_act, residual, 1.0, "resfit actor", update)
            polyak_update(followed, residual, config.polyak * config.delay)
            info |= more
        info |= about
        report("resfit", update, updates, info)
    residual.eval()
    return info


def known(batch: Batch) -> Tensor:
    """Return the windows whose future is known, int64 [m]: they terminate, or a decision follows."""
    return torch.nonzero(batch.has_next | ((batch.d * batch.mask).amax(1) > 0))[:, 0]
