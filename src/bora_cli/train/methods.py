"""The methods of `bora train` as sequences of phases; the phases are in `phases` and `decoupled`.

cp                behaviour cloning of everything by a consistency expert (CP Base)
diffusion         the same by a diffusion head, sampled in ten DDIM steps
filtered_bc       the updates and losses of bora on the successful episodes only, without a critic
awr               cloning with the weights exp(advantage); as many updates as bora takes in both of its stages
bora              CP Base, then a critic, then the clipped surrogate with its advantages (BORA-Offline)
decoupled         as bora, with the advantages of a critic of pixels and whole chunks
decoupled_value   as decoupled, with a value of pixels that knows no action
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from bora_cli.algos.awr import AWRConfig, awr_loss
from bora_cli.algos.bora_offline import OfflineConfig, advantages
from bora_cli.algos.cp import CPConfig
from bora_cli.algos.diffusion import diffusion_loss
from bora_cli.algos.value import ValueFitConfig
from bora_cli.errors import DataError
from bora_cli.models.consistency import ConsistencyExpert
from bora_cli.models.critic import ChunkCritic
from bora_cli.models.decoupled import DecoupledCritic
from bora_cli.models.diffusion import DiffusionExpert
from bora_cli.models.policy import Actor
from bora_cli.train.buffer import Sampler
from bora_cli.train.clone import clone
from bora_cli.train.decoupled import fit_decoupled
from bora_cli.train.live import LiveTokens
from bora_cli.train.phases import critic_sampler, fit_critic, followed, improve, judge, warm_up
from bora_cli.train.run import Run
from bora_cli.types import U8

METHODS = (
    "cp",
    "diffusion",
    "filtered_bc",
    "awr",
    "decoupled",
    "decoupled_value",
    "bora",
    "bc_interventions",
)
WARM = ("bora", "decoupled", "decoupled_value")
"""Methods that improve a CP Base and may be given one."""
ADVANTAGES: dict[str, dict[str, Any]] = {
    "learned": {},
    "q_minus_v": {"advantage": "q_minus_v"},
    "constant": {"advantage": "constant"},
    "random": {"shuffle": True},
    "flipped": {"flip": True},
}
"""What `bora` and `awr` may follow: the preset's advantages, the chunk critic's, or one of three controls."""
CRITICS: dict[str, dict[str, Any]] = {
    "iql": {},
    "ranked": {
        "critic": "ranked",
        "critic_updates": 1500,
        "critic_batch": 128,
        "critic_lr": 1e-3,
        "advantage": "q_minus_v",
        "gae_lambda": 0.0,
    },
}
"""The critic of `bora`, as changes of the preset; the ranked one's q - v already sums up what follows a tick."""
WARM_UPS: dict[str, dict[str, Any]] = {"all": {}, "gated": {"warm_up": "gated"}}
"""What `bora` clones before it follows its critic: everything, as CP Base, or what the gate lets through."""
FOLLOWS = ("awr", "bora")
"""Methods with a choice of advantages."""
ADAPTS = ("cp", "filtered_bc", "bora")
"""Methods that can train a part of the backbone, in their second stage; cp has one only then."""


@dataclass(frozen=True)
class Settings:
    """The numbers of a training run."""

    cp: CPConfig
    offline: OfflineConfig
    value: ValueFitConfig
    awr: AWRConfig


@dataclass(frozen=True)
class Learned:
    """What a method makes: an expert, and the critic it needed."""

    expert: ConsistencyExpert | DiffusionExpert
    critic: ChunkCritic | None = None
    decoupled: DecoupledCritic | None = None


def learn(
    method: str,
    run: Run,
    actor: Actor,
    warm: bool,
    settings: Settings,
    pixels: Callable[[], U8],
    live: LiveTokens | None = None,
) -> Learned:
    """Run the phases of a method.

    actor: with the expert to start from; warm: it is a CP Base already.  pixels: returns the images of all
    ticks, for the methods that look at them again.
    live: for a method of `ADAPTS`, the backbone of which a part is trained.
    Raises DataError if there is nothing to imitate.
    """
    cp, offline, rows = settings.cp, settings.offline, np.arange(len(run.sampler))
    if isinstance(actor.expert, DiffusionExpert):
        loss = diffusion_loss
        return Learned(clone(actor.expert, run.sampler, cp, rows=rows, run=run, loss_of=loss, keep_best=True))
    if method == "awr":
        return _weighted(run, actor, settings)
    if method == "filtered_bc":
        rows = np.flatnonzero(run.buffer.windows.success)
        if not len(rows):
            raise DataError("No tick of a successful episode to imitate.", "Collect better demonstrations.")
    alone = method == "cp" and live is None
    later = method == "bora" and offline.warm_up == "gated"  # when there is a gate
    expert = actor.expert if warm or later else warm_up(run, actor.expert, cp, rows, keep_best=alone)
    constant = offline.model_copy(update={"advantage": "constant", "gate": "off"})
    if method == "cp":
        cloning = constant.model_copy(update={"lambda_ppo": 0.0})
        return Learned(improve(run, run.sampler, expert, rows, cp, cloning, live=live) if live else expert)
    if method == "filtered_bc":
        return Learned(improve(run, run.sampler, expert, rows, cp, constant, live=live))
    if method == "bora":
        critic = fit_critic(run, critic_sampler(run, actor, offline, settings.value), offline)
        judged = judge(run, actor, critic, offline, settings.value)
        if later:
            expert = warm_up(run, expert, cp, followed(judged, offline, critic))
        improved = improve(run, judged, expert, rows, cp, offline, critic, live)
        return Learned(improved, _critic_of_new_tokens(run, actor, settings, live) if live else critic)
    sees: Literal["action", "nothing"] = "action" if method == "decoupled" else "nothing"
    decoupled, adv = fit_decoupled(run, pixels(), sees, offline)
    given = offline.model_copy(update={"advantage": "given"})
    judged = Sampler(run.buffer, actor.state, actor.action, per_window=adv)
    return Learned(improve(run, judged, expert, rows, cp, given), decoupled=decoupled)


def _weighted(run: Run, actor: Actor, settings: Settings) -> Learned:
    """Clone with the weights of the advantages from the first update on; a critic is fitted only where it is asked."""
    cp, offline = settings.cp, settings.offline
    critic = fit_critic(run, run.sampler, offline) if offline.advantage == "q_minus_v" else None
    judged = judge(run, actor, critic, offline, settings.value)

    def loss(expert: Any, averaged: Any, batch: Any, config: CPConfig, *, generator: torch.Generator) -> Any:
        adv = advantages(batch, offline, critic)
        return awr_loss(expert, averaged, batch, adv, config, settings.awr, generator=generator)

    both = cp.model_copy(update={"updates": cp.updates + offline.updates})
    rows = np.arange(len(run.sampler))
    expert: Any = actor.expert
    return Learned(clone(expert, judged, both, rows=rows, run=run, loss_of=loss), critic)


def _critic_of_new_tokens(run: Run, actor: Actor, settings: Settings, live: LiveTokens) -> ChunkCritic:
    """Fit the critic that the checkpoint keeps: on the tokens of the backbone that the checkpoint has."""
    buffer, offline = live.encoded(run.buffer), settings.offline
    anew = replace(run, buffer=buffer, sampler=Sampler(buffer, actor.state, actor.action), held_out=None)
    sampler = critic_sampler(anew, actor, offline, settings.value, "value of the trained backbone")
    return fit_critic(anew, sampler, offline, "critic of the trained backbone")
