"""Let the critic of the offline phase learn on, from demonstrations and from what happened on the robot, half each."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from bora_cli.algos.batch import Batch, concat, draw_mixed
from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.bora_online import OnlineConfig, online_critic_loss
from bora_cli.checkpoint import Trained
from bora_cli.models.critic import ChunkCritic
from bora_cli.models.nn import polyak_update
from bora_cli.models.residual import compose
from bora_cli.seeds import stream
from bora_cli.train.buffer import Sampler
from bora_cli.train.online_windows import OnlineBuffer
from bora_cli.train.steps import adamw, step


def adapt_critic(
    inherited: ChunkCritic,
    base: Trained,
    buffer: OnlineBuffer,
    demos: Sampler,
    config: OnlineConfig,
    gamma: float,
    seed: int,
    report: Callable[[str, int, int, dict[str, float]], None],
    in_use: Trained | None = None,
) -> tuple[ChunkCritic, dict[str, Any]]:
    """Return the inherited critic after updates on batches that are half offline, half online.

    in_use: the policy whose value the `td` bootstrap looks for; the base itself if None.
    """
    critic, target = deepcopy(inherited).train(), deepcopy(inherited)
    preset = OfflineConfig.preset(base.provenance.get("preset", "sim"))
    offline_config = preset.model_copy(update={"gamma": gamma})  # it goes on learning as it began
    optimizer = adamw(critic, config.critic_lr, 1e-4)
    rng = stream("online critic", seed)
    generator = torch.Generator().manual_seed(seed)
    info: dict[str, float] = {}
    for update in range(config.updates):
        old, new = draw_mixed(rng, len(demos), len(buffer.batch), config.batch)
        batch = concat(demos.rows(old, rng), buffer.batch.rows(new))
        loss, info = online_critic_loss(
            critic,
            target,
            inherited,
            batch,
            offline=offline_config,
            config=config,
            next_chunk=None if config.bootstrap == "iql" else next_chunk(in_use or base, batch, generator),
            generator=generator,
        )
        step(loss, optimizer, critic, 1.0, "online critic", update)
        polyak_update(target, critic, offline_config.polyak)
        report("online critic", update, config.updates, {"loss": float(loss.detach()), **info})
    return target.eval(), {k: round(v, 6) for k, v in info.items()}


@torch.no_grad()
def next_chunk(policy: Trained, batch: Batch, generator: torch.Generator) -> torch.Tensor:
    """Return what a policy would do at the next decision of every window, float [B, H, A], normalised."""
    spec, actor = policy.spec, policy.actor
    noise = torch.randn((spec.steps, len(batch), spec.horizon, spec.action.dim), generator=generator)
    base = actor.expert.sample(batch.z_next, batch.s_next, noise, spec.steps)
    if policy.residual is None or policy.lam == 0:
        return base
    return compose(base, policy.residual(batch.z_next, batch.s_next, base), policy.lam, policy.unit())
