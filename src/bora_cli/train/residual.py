"""Fit the residual of an online round to all episodes so far.  No backbone runs here: tokens come from the log.

Everything the policy saw when it decided is in the decision log (tokens, base chunk), and while a person drives the
policy decides at every tick in shadow, so that each correction has its base chunk beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from bora_cli.algos.batch import Batch, concat, draw, draw_mixed
from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.bora_online import (
    OnlineConfig,
    enough_evidence,
    is_human,
    online_critic_loss,
    residual_loss,
    stay_factor,
)
from bora_cli.algos.rewards import InterventionRewards, takeovers
from bora_cli.algos.schedules import cosine
from bora_cli.checkpoint import Trained
from bora_cli.data.dataset import Dataset
from bora_cli.data.windows import Relabel, build_windows
from bora_cli.errors import CheckpointError, ConfigError, DataError
from bora_cli.models.critic import ChunkCritic
from bora_cli.models.nn import polyak_update
from bora_cli.models.policy import Actor, chunk_noise
from bora_cli.models.residual import ResidualActor, ResidualConfig, compose
from bora_cli.seeds import stream
from bora_cli.train.buffer import Sampler, load_buffer
from bora_cli.train.run import LOG_EVERY
from bora_cli.train.steps import adamw, set_rate, step
from bora_cli.train.tracker import Tracker
from bora_cli.types import ActionSpec, Controller, Decision, Episode

Progress = Callable[[str, int, int], None]
OnlineMethod = Literal["bora", "bc_interventions", "hg_dagger", "resfit"]
ResidualKind = Literal["constant", "low_rank", "mlp"]

LOGGED_ONLY = ("hinge_active",)
"""Numbers for the metrics file alone: a checkpoint that told them would be another one than without them."""
REACH = {"translation": 0.5, "rotation": 0.25, "hand": 0.6}
"""Largest residual in command units (half the range of an action dimension)."""


@dataclass(frozen=True)
class OnlineBuffer:
    """Windows of online episodes that start at a decision.

    batch: all n windows with base chunks, whole chunks for the critic.  executable: float32 [n, H], the mask cut to
    the ticks that are executed before the next decision, which is what a residual can change.
    """

    batch: Batch
    executable: torch.Tensor
    takeovers: int

    @property
    def for_actor(self) -> Batch:
        return replace(self.batch, mask=self.executable)


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
    kind: ResidualKind = "constant",
    previous: Trained | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> tuple[Trained, dict[str, Any]]:
    """Return the base policy with a residual learned from online episodes, and the facts of the training.

    base: the frozen policy; its weights are not touched.  episodes: the online dataset.  offline: datasets for the
    other half of the critic's batches.  rewards: how takeovers change the rewards of the online episodes, for the
    critic.  previous: the policy in use, whose residual anchors the new one.  With too little evidence the residual
    stays zero and lam is 0.
    Raises ConfigError for an unknown method and where a term asks a critic that is not there, CheckpointError or
    DataError if the episodes do not fit.
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
    residual = fresh_residual(base.spec.action, base.actor, kind, seed)
    facts: dict[str, Any] = {
        "method": method,
        "residual": kind,
        "episodes": len(recorded),
        "windows": len(buffer.batch),
        "takeovers": buffer.takeovers,
        "rewards_hash": rewards.hash,
    }
    trained = replace(base, residual=residual, lam=0.0, provenance={**base.provenance, "method": method})
    if not enough_evidence(buffer.takeovers, config):
        return trained, {**facts, "skipped": f"fewer than {config.min_takeovers} takeovers"}
    critic = base.critic
    if config.update_critic:
        critic, about = adapt_critic(base, buffer, offline, config, gamma, seed, report, previous)
        facts |= {f"critic_{k}": v for k, v in about.items()}
    elif critic is None:
        require_no_critic_terms(config)
    before = previous.residual if previous is not None else None
    if before is None or previous is None or not config.stack:
        facts |= fit_actor(residual, buffer, base, config, critic, before, seed, report)
        return replace(trained, critic=critic, lam=config.lam(config.updates)), facts
    unit = unit_of(base)
    facts |= fit_actor(residual, on_top(buffer, previous), base, config, critic, None, seed, report)
    stacked = residual.on(before, previous.lam, config.lam(config.updates), unit)
    return replace(trained, residual=stacked, critic=critic, lam=1.0), {**facts, "stacked": True}


def require_online_method(method: str) -> None:
    """Raise ConfigError for a word that is no method of online learning."""
    if method not in get_args(OnlineMethod):
        raise ConfigError(
            f"Unknown online method '{method}'.", f"Methods: {', '.join(get_args(OnlineMethod))}."
        )


def require_no_critic_terms(config: OnlineConfig) -> None:
    """Raise ConfigError if a term of the residual's loss asks a critic."""
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
            z, state = _stack([decision.tokens]), _stack([episode.state[decision.t_start]])
            noise = chunk_noise(decision.noise_seed, base.spec)
            again = base.actor.base_chunk(z, state, noise, base.spec.steps)[0].numpy()
            if not (np.abs(again - decision.base) <= 1e-3 * base.spec.action.half_range).all():
                raise CheckpointError(
                    f"{episodes} was recorded with another policy than the one given; its base chunks differ.",
                    "Give --init with the policy the online run started from.",
                )


def control_config() -> OnlineConfig:
    """Return the control "BC on interventions": corrections alone, no evidence rule, no pull towards the base."""
    return OnlineConfig(
        min_takeovers=1,
        stay_success=0.0,
        stay_other=0.0,
        lambda_anchor=0.0,
        lambda_improve=0.0,
        update_critic=False,
    )


def fresh_residual(spec: ActionSpec, actor: Actor, kind: ResidualKind, seed: int) -> ResidualActor:
    """Return a residual that is zero, bounded per group of action dimensions."""
    hand = spec.slice("hand")
    bound = [REACH["translation"]] * 3 + [REACH["rotation"]] * 3 + [REACH["hand"]] * (hand.stop - hand.start)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = actor.expert.config.sizes
        return ResidualActor(ResidualConfig(sizes=sizes, kind=kind, bound=tuple(bound)))


def online_buffer(
    episodes: Sequence[Episode], base: Trained, rewards: Relabel, gamma: float, horizon: int | None = None
) -> OnlineBuffer:
    """Return the windows of online episodes that start, and whose successor lies, at a logged decision.

    horizon: longest window, ticks; the policy's by default.  Base chunks are cut to it.
    Raises CheckpointError if the decisions were made by another backbone, DataError if there are none.
    """
    horizon, execute = horizon or base.spec.horizon, base.spec.execute
    logged: list[dict[int, Decision]] = [{d.t_start: d for d in e.decisions} for e in episodes]
    strange = {d.base_hash for e in logged for d in e.values()} - {base.backbone_hash}
    if strange:
        raise CheckpointError(
            f"The episodes were recorded with backbone {', '.join(strange)}; the policy has {base.backbone_hash}.",
            "Use episodes of this policy.",
        )
    w = build_windows(episodes, horizon=horizon, gamma=gamma, relabel=rewards)
    known = np.array([t in logged[e] for e, t in zip(w.episode, w.t, strict=True)], bool)
    known &= [not n or t in logged[e] for e, t, n in zip(w.episode, w.t_next, w.has_next, strict=True)]
    w = w.take(known & (w.controller != Controller.BLENDED))  # half of a ramp is not a correction
    if not len(w):
        raise DataError(
            "The online episodes hold no decision to learn from.", "Collect them with `bora online`."
        )
    alone = np.array([e.success and not e.intervened.any() for e in episodes], bool)
    now = [logged[e][t] for e, t in zip(w.episode, w.t, strict=True)]
    following = [logged[e].get(t, d) for e, t, d in zip(w.episode, w.t_next, now, strict=True)]
    actor = base.actor
    normal = actor.action.normalize
    mask = torch.from_numpy(w.mask)
    executable = mask.clone()
    executable[:, execute:] = 0.0
    batch = Batch(
        z=_stack([d.tokens for d in now]),
        s=actor.state.normalize(_stack([episodes[e].state[t] for e, t in zip(w.episode, w.t, strict=True)])),
        a=normal(torch.from_numpy(w.action)),
        mask=mask,
        r=torch.from_numpy(w.reward),
        d=torch.from_numpy(w.terminated),
        z_next=_stack([d.tokens for d in following]),
        s_next=actor.state.normalize(
            _stack([episodes[e].state[t] for e, t in zip(w.episode, w.t_next, strict=True)])
        ),
        has_next=torch.from_numpy(w.has_next),
        a_base=normal(_stack([d.base[:horizon] for d in now])),
        controller=torch.from_numpy(w.controller),
        demo=torch.from_numpy(w.demo),
        success=torch.from_numpy(w.success),
        unaided=torch.from_numpy(alone[w.episode]),
    )
    return OnlineBuffer(batch, executable, sum(len(takeovers(e.intervened)[0]) for e in episodes))


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
    """Train the residual in place and return the numbers of its last update."""
    windows = buffer.for_actor
    human = int(is_human(windows.need("controller")).sum())
    stay = stay_factor(len(windows) - human, human)
    unit = unit_of(base)
    optimizer = torch.optim.Adam([p for p in residual.parameters() if p.requires_grad], lr=config.lr)
    rng = stream("residual", seed)
    info: dict[str, float] = {}
    residual.train()
    for update in range(config.updates):
        set_rate(optimizer, cosine(update, config.lr, config.updates, floor=0.05))
        batch = windows.rows(draw(rng, len(windows), config.batch))
        loss, info = residual_loss(
            residual,
            batch,
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
    return {"human_windows": human, "stay_factor": stay, **kept}


def adapt_critic(
    base: Trained,
    buffer: OnlineBuffer,
    offline: Sequence[Path],
    config: OnlineConfig,
    gamma: float,
    seed: int,
    report: Report,
    in_use: Trained | None = None,
) -> tuple[ChunkCritic, dict[str, Any]]:
    """Return the inherited critic after updates on batches that are half offline, half online.

    in_use: the policy whose value the `td` bootstrap looks for; the base itself if None.
    Raises CheckpointError if the policy has no critic to inherit.
    """
    if base.critic is None:
        raise CheckpointError(
            "This policy has no critic to inherit.", "Start from a checkpoint of `bora train bora`."
        )
    backbone = base.load_backbone()
    data = load_buffer(offline, backbone, horizon=base.spec.horizon, gamma=gamma, progress=report.progress)
    sampler = Sampler(data, base.actor.state, base.actor.action)
    critic, target = deepcopy(base.critic).train(), deepcopy(base.critic)
    preset = OfflineConfig.preset(base.provenance.get("preset", "sim"))
    offline_config = preset.model_copy(update={"gamma": gamma})  # it goes on learning as it began
    optimizer = adamw(critic, config.critic_lr, 1e-4)
    rng = stream("online critic", seed)
    generator = torch.Generator().manual_seed(seed)
    info: dict[str, float] = {}
    for update in range(config.updates):
        old, new = draw_mixed(rng, len(sampler), len(buffer.batch), config.batch)
        batch = concat(sampler.rows(old, rng), buffer.batch.rows(new))
        loss, info = online_critic_loss(
            critic,
            target,
            base.critic,
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
    return compose(base, policy.residual(batch.z_next, batch.s_next, base), policy.lam, unit_of(policy))


@torch.no_grad()
def on_top(buffer: OnlineBuffer, in_use: Trained) -> OnlineBuffer:
    """Return windows whose base chunk is what the policy in use makes of it: the base of the next residual."""
    batch, residual = buffer.batch, in_use.residual
    if residual is None:
        return buffer
    a_base = batch.need("a_base")
    final = compose(a_base, residual(batch.z, batch.s, a_base), in_use.lam, unit_of(in_use))
    return replace(buffer, batch=replace(batch, a_base=final))


def unit_of(policy: Trained) -> torch.Tensor:
    """Return one command unit in normalised action units, float [A]."""
    return torch.from_numpy(policy.spec.action.half_range) / policy.actor.action.scale


def _stack(rows: Sequence[NDArray[Any]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float32))
