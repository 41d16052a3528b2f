"""Fit the residual of an online round to all episodes so far.  No backbone runs here: tokens come from the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from bora_cli.algos.batch import Batch, draw, draw_mixed
from bora_cli.algos.bora_online import (
    OnlineConfig,
    enough_evidence,
    is_human,
    network_loss,
    residual_loss,
    stay_factor,
)
from bora_cli.algos.rewards import InterventionRewards
from bora_cli.algos.schedules import cosine
from bora_cli.checkpoint import Trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError
from bora_cli.models.critic import ChunkCritic
from bora_cli.models.policy import Actor, chunk_noise
from bora_cli.models.residual import ResidualActor, ResidualConfig, compose
from bora_cli.seeds import stream
from bora_cli.train.buffer import Sampler, load_buffer
from bora_cli.train.inherited_critic import adapt_critic
from bora_cli.train.online_windows import OnlineBuffer, online_buffer, stack_rows
from bora_cli.train.run import LOG_EVERY
from bora_cli.train.steps import set_rate, step
from bora_cli.train.tracker import Tracker
from bora_cli.types import ActionSpec

Progress = Callable[[str, int, int], None]
OnlineMethod = Literal["bora", "bc_interventions", "hg_dagger", "resfit"]
ResidualKind = Literal["mlp", "constant"]

LOGGED_ONLY = ("hinge_active",)
"""Numbers for the metrics file alone: a checkpoint that told them would be another one than without them."""
REACH = {"translation": 0.5, "rotation": 0.25, "hand": 0.6}
"""Largest residual in command units (half the range of an action dimension)."""


@dataclass(frozen=True)
class Report:
    """Where the numbers of the updates go: a metrics file, a progress bar, or nowhere."""

    tracker: Tracker | None
    progress: Progress | None

    def __call__(self, stage: str, update: int, total: int, values: dict[str, float]) -> None:
        """Log and show an update (counted from 0), now and then."""
        if (update + 1) % LOG_EVERY == 0 or update + 1 == total:
            if self.tracker is not None:
                self.tracker.log(stage, update + 1, values)
            if self.progress is not None:
                self.progress(stage, update + 1, total)


def fit_residual(
    base: Trained,
    episodes: Path,
    offline: Sequence[Path],
    *,
    method: str = "bora",
    seed: int = 0,
    config: OnlineConfig | None = None,
    rewards: InterventionRewards | None = None,
    kind: ResidualKind = "mlp",
    previous: Trained | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> tuple[Trained, dict[str, Any]]:
    """Return the base policy with a residual learned from online episodes, and the facts of the training.

    base: the frozen policy; its weights are not touched.  episodes: the online dataset.  offline: datasets for the
    other half of the critic's batches, and of those of an mlp residual.  rewards: how takeovers change the rewards of
    the online episodes, for the critic.  previous: the policy in use, whose residual anchors the new one.  With too
    little evidence the residual stays zero and lam is 0.
    Raises ConfigError for an unknown method and where a term asks a critic that is not there, CheckpointError where
    that is to be trained, CheckpointError or DataError if the episodes do not fit.
    """
    require_online_method(method)
    if method not in ("bora", "bc_interventions"):
        raise ConfigError(
            f"{method} is no way of fitting this residual; expected bora or bc_interventions.",
            f"Call fit_{method}, or `bora online --method {method}`.",
        )
    torch.set_num_threads(1)
    config = control_config() if method == "bc_interventions" else (config or OnlineConfig())
    rewards = rewards or InterventionRewards()
    report = Report(tracker, progress)
    gamma = float(base.provenance.get("gamma", 0.97))
    recorded = list(Dataset.open(episodes).episodes(images=False))
    buffer = online_buffer(recorded, base, rewards, gamma)
    facts: dict[str, Any] = {
        "method": method,
        "residual": kind,
        "episodes": len(recorded),
        "windows": len(buffer.batch),
        "takeovers": buffer.takeovers,
        "rewards_hash": rewards.hash,
    }
    nothing = fresh_residual(base.spec.action, base.actor, kind, seed)
    trained = replace(base, residual=nothing, lam=0.0, provenance={**base.provenance, "method": method})
    if not enough_evidence(buffer.takeovers, config):
        return trained, {**facts, "skipped": f"fewer than {config.min_takeovers} takeovers"}
    require_critic(base, config)
    critic = base.critic
    calm = kind == "mlp" and config.w_net > 0 and len(offline) > 0
    demos = demonstrations(base, offline, gamma, report) if config.update_critic or calm else None
    if config.update_critic and critic is not None and demos is not None:
        critic, about = adapt_critic(critic, base, buffer, demos, config, gamma, seed, report, previous)
        facts |= {f"critic_{k}": v for k, v in about.items()}
    before = previous.residual if previous is not None else None
    under = previous if before is not None and config.stack else None
    windows = buffer if under is None else on_top(buffer, under)
    residual = fresh_residual(base.spec.action, base.actor, "constant", seed)
    facts |= fit_actor(
        residual, windows, base, config, critic, before if under is None else None, seed, report
    )
    if kind == "mlp":
        residual = with_network(residual, base, seed)
        facts |= fit_network(residual, windows, base, config, critic, demos if calm else None, seed, report)
    lam = config.lam(config.updates)
    if under is not None and before is not None:
        residual, lam = residual.on(before, under.lam, lam, base.unit()), 1.0
        facts["stacked"] = True
    return replace(trained, residual=residual, critic=critic, lam=lam), facts


def require_online_method(method: str) -> None:
    """Raise ConfigError for a word that is no method of online learning."""
    if method not in get_args(OnlineMethod):
        raise ConfigError(
            f"Unknown online method '{method}'.", f"Methods: {', '.join(get_args(OnlineMethod))}."
        )


def require_critic(base: Trained, config: OnlineConfig) -> None:
    """Raise an error where a policy has no critic and one is asked for.

    CheckpointError where it is to be trained, ConfigError where a term of the residual's loss asks it.
    """
    if base.critic is not None:
        return
    if config.update_critic:
        raise CheckpointError(
            "This policy has no critic to inherit.", "Start from a checkpoint of `bora train bora`."
        )
    for name in ("lambda_improve", "lambda_q"):
        if (weight := getattr(config, name)) > 0:
            raise ConfigError(
                f"{name} is {weight} and the policy has no critic.",
                "Start from a checkpoint of `bora train bora`, or set the weight to 0.",
            )


def require_made_by(base: Trained, episodes: Path) -> None:
    """Raise CheckpointError unless the logged base chunks are those of this policy.

    A chunk is a function of what is logged beside it: tokens, state and the seed of the noise.
    """
    for episode in Dataset.open(episodes).episodes(images=False):
        for decision in episode.decisions[:1]:
            z, state = stack_rows([decision.tokens]), stack_rows([episode.state[decision.t_start]])
            noise = chunk_noise(decision.noise_seed, base.spec)
            again = base.actor.base_chunk(z, state, noise, base.spec.steps)[0].numpy()
            if not (np.abs(again - decision.base) <= 1e-3 * base.spec.action.half_range).all():
                raise CheckpointError(
                    f"{episodes} was recorded with another policy than the one given; its base chunks differ.",
                    "Give --init with the policy the online run started from.",
                )


def control_config() -> OnlineConfig:
    """Return the control "BC on interventions": corrections alone, no evidence rule, no pull towards the base.

    The residual has the same form and its network the same restraint, so that these explain no difference.
    """
    return OnlineConfig(
        min_takeovers=1,
        stay_success=0.0,
        stay_other=0.0,
        lambda_anchor=0.0,
        lambda_improve=0.0,
        update_critic=False,
    )


def demonstrations(base: Trained, offline: Sequence[Path], gamma: float, report: Report) -> Sampler:
    """Return where windows of demonstrations come from; their tokens are in the datasets' caches."""
    buffer = load_buffer(
        offline, base.load_backbone(), horizon=base.spec.horizon, gamma=gamma, progress=report.progress
    )
    return Sampler(buffer, base.actor.state, base.actor.action)


def fresh_residual(spec: ActionSpec, actor: Actor, kind: ResidualKind, seed: int) -> ResidualActor:
    """Return a residual that is zero, bounded per group of action dimensions, and sees tokens as the expert does."""
    hand = spec.slice("hand")
    bound = [REACH["translation"]] * 3 + [REACH["rotation"]] * 3 + [REACH["hand"]] * (hand.stop - hand.start)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = actor.expert.config.sizes
        residual = ResidualActor(ResidualConfig(sizes=sizes, kind=kind, bound=tuple(bound)))
    if kind == "mlp":
        residual.context.load_state_dict(actor.expert.context.state_dict())
    return residual


def fit_actor(
    residual: ResidualActor,
    buffer: OnlineBuffer,
    base: Trained,
    config: OnlineConfig,
    critic: ChunkCritic | None,
    previous: ResidualActor | None,
    seed: int,
    report: Report,
) -> dict[str, Any]:
    """Train the constant part of a residual in place and return the numbers of its last update.

    Where both are there, half of the windows of a batch are a person's.
    """
    windows = buffer.for_actor
    alone, human = sides(windows)
    stay = stay_factor(len(alone), len(human))
    unit = base.unit()
    optimizer = torch.optim.Adam([residual.offset], lr=config.lr)
    rng = stream("residual", seed)
    info: dict[str, float] = {}
    residual.train()
    for update in range(config.updates):
        set_rate(optimizer, cosine(update, config.lr, config.updates, floor=0.05))
        loss, info = residual_loss(
            residual,
            windows.rows(draw_halves(rng, alone, human, config.batch)),
            unit,
            lam=config.lam(update),
            bc_weight=config.bc_weight(update),
            stay=stay,
            config=config,
            critic=critic,
            previous=previous,
        )
        step(loss, optimizer, residual, 1.0, "residual", update)
        report("residual", update, config.updates, {"loss": float(loss.detach()), **info})
    residual.eval()
    kept = {k: round(v, 6) for k, v in info.items() if k not in LOGGED_ONLY}
    return {"human_windows": len(human), "stay_factor": stay, **kept}


def with_network(constant: ResidualActor, base: Trained, seed: int) -> ResidualActor:
    """Return a residual with the constant part of another one, frozen, and a network that adds nothing yet."""
    residual = fresh_residual(base.spec.action, base.actor, "mlp", seed)
    with torch.no_grad():
        residual.offset.copy_(constant.offset)
    residual.offset.requires_grad_(False)
    return residual


def fit_network(
    residual: ResidualActor,
    buffer: OnlineBuffer,
    base: Trained,
    config: OnlineConfig,
    critic: ChunkCritic | None,
    demos: Sampler | None,
    seed: int,
    report: Report,
) -> dict[str, Any]:
    """Train the network of a residual in place and return the numbers of its last update.

    demos: where as many windows of demonstrations come from as there are online windows in a batch; None: none.
    """
    windows = buffer.for_actor
    alone, human = sides(windows)
    unit = base.unit()
    optimizer = torch.optim.Adam([p for p in residual.parameters() if p.requires_grad], lr=config.net_lr)
    rng, generator = stream("network", seed), torch.Generator().manual_seed(seed)
    info: dict[str, float] = {}
    residual.train()
    for update in range(config.updates):
        set_rate(optimizer, cosine(update, config.net_lr, config.updates, floor=0.05))
        loss, info = network_loss(
            residual,
            windows.rows(draw_halves(rng, alone, human, config.batch)),
            unit,
            lam=config.lam(config.updates),
            config=config,
            critic=critic,
            demos=None if demos is None else calm_windows(base, demos, config.batch, rng, generator),
            dropped=generator,
        )
        step(loss, optimizer, residual, 1.0, "network", update)
        report("network", update, config.updates, {"loss": float(loss.detach()), **info})
    residual.eval()
    return {f"network_{k}": round(v, 6) for k, v in info.items()}


def sides(windows: Batch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the windows that the policy drove and those that a person drove, int64 each."""
    human = is_human(windows.need("controller")).numpy()
    return np.flatnonzero(~human), np.flatnonzero(human)


def draw_halves(
    rng: np.random.Generator, alone: NDArray[np.int64], human: NDArray[np.int64], batch: int
) -> NDArray[np.int64]:
    """Return windows, half of them from each kind, or all from the one there is, int64 [batch]."""
    if not len(alone) or not len(human):
        return rng.choice(alone if len(alone) else human, batch)
    theirs, ours = draw_mixed(rng, len(alone), len(human), batch)
    return np.concatenate([alone[theirs], human[ours]])


@torch.no_grad()
def calm_windows(
    base: Trained, demos: Sampler, batch: int, rng: np.random.Generator, generator: torch.Generator
) -> Batch:
    """Return windows of successful demonstrations (of all, if none was) with what the base would do there."""
    rows = np.flatnonzero(demos.columns["success"].numpy())
    rows = rows if len(rows) else np.arange(len(demos))
    windows = demos.rows(rows[draw(rng, len(rows), batch)], rng)
    noise = torch.randn((base.spec.steps, *windows.a.shape), generator=generator)
    chunk = base.actor.expert.sample(windows.z, windows.s, noise, base.spec.steps)
    return replace(windows, a_base=chunk)


@torch.no_grad()
def on_top(buffer: OnlineBuffer, in_use: Trained) -> OnlineBuffer:
    """Return windows whose base chunk is what the policy in use makes of it: the base of the next residual."""
    batch, residual = buffer.batch, in_use.residual
    if residual is None:
        return buffer
    a_base = batch.need("a_base")
    final = compose(a_base, residual(batch.z, batch.s, a_base), in_use.lam, in_use.unit())
    return replace(buffer, batch=replace(batch, a_base=final))
