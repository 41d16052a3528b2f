"""Everything about a training run that can be known, and refused, before anything is encoded or trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bora_cli.algos.awr import AWRConfig
from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.cp import CPConfig
from bora_cli.algos.value import ValueFitConfig
from bora_cli.checkpoint import TINY, Trained, load_backbone, load_trained
from bora_cli.data.content import file_hash
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError, DataError
from bora_cli.models.adapt import Adaptation
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.diffusion import DDIM_STEPS, DiffusionConfig, DiffusionExpert
from bora_cli.models.nn import Sizes, fit_contexts
from bora_cli.models.normalize import Normalizer
from bora_cli.models.policy import Actor, PolicySpec
from bora_cli.models.vlm import Backbone
from bora_cli.train import parallel
from bora_cli.train.buffer import Buffer, require_same_robot
from bora_cli.train.checks import require_learnable
from bora_cli.train.methods import ADAPTS, ADVANTAGES, CRITICS, FOLLOWS, METHODS, WARM, WARM_UPS, Settings
from bora_cli.train.tokens import content_of

HORIZON, EXECUTE = 8, 4
STATE_FLOOR, ACTION_FLOOR = 1e-3, 0.02
"""Smallest standard deviation believed in: states in their units, actions as a share of half their range."""


@dataclass(frozen=True)
class Request:
    """What `bora train` was asked for.

    init: for `bora` and the decoupled baselines, the CP Base that spares the warm-up; for `bc_interventions`, the
    policy that was corrected.  updates: of the behaviour-cloning warm-up; the later phases scale with it.
    preset: sim or paper.  advantages: for `bora` and `awr`, a word of `ADVANTAGES`.  adapt: for the methods of
    `ADAPTS`, the part of the backbone that is trained in the second stage, see `Adaptation.parse`.
    critic, warm_up: of `bora`, words of `CRITICS` and `WARM_UPS`.
    held_out: datasets to look at while training, which nothing is trained on.
    share: how several processes train a backbone together, see `parallel`.
    """

    method: str
    data: tuple[Path, ...]
    backbone: str | None = None
    init: Path | None = None
    seed: int = 0
    updates: int | None = None
    preset: str = "sim"
    advantages: str = "learned"
    adapt: str = "none"
    critic: str = "iql"
    warm_up: str = "all"
    held_out: tuple[Path, ...] = ()
    share: parallel.Kind = "ddp"


@dataclass(frozen=True)
class Prepared:
    """A request that makes sense, with its backbone, start and numbers.  warnings: for whoever reads the result."""

    request: Request
    source: str
    vlm: Backbone
    spec: PolicySpec
    settings: Settings
    warm: Trained | None
    adaptation: Adaptation | None
    warnings: list[str]

    def job(self) -> dict[str, Any]:
        """Return what a continued run has to have in common with the interrupted one, as JSON values; no paths."""
        asked = self.request
        settings = {name: part.model_dump() for name, part in vars(self.settings).items()}
        return {
            "method": asked.method,
            "seed": asked.seed,
            "preset": asked.preset,
            "settings": settings,
            "advantages": asked.advantages,
            "adapt": str(self.adaptation) if self.adaptation is not None else "none",
            "backbone": self.vlm.hash,
            "init": file_hash(asked.init / "actor.safetensors")[:12] if asked.init is not None else None,
            "data": [content_of(Dataset.open(p)) for p in asked.data],
            "held_out": [content_of(Dataset.open(p)) for p in asked.held_out],
        }


def require_known(asked: Request) -> None:
    """Raise ConfigError for words that mean nothing, and for options that the method would not use."""
    method = asked.method
    if method not in METHODS:
        raise ConfigError(f"Unknown method '{method}'.", f"Methods: {', '.join(METHODS)}.")
    if asked.advantages not in ADVANTAGES:
        raise ConfigError(
            f"Unknown advantages '{asked.advantages}'.", f"Advantages: {', '.join(ADVANTAGES)}."
        )
    if asked.critic not in CRITICS:
        raise ConfigError(f"Unknown critic '{asked.critic}'.", f"Critics: {', '.join(CRITICS)}.")
    if asked.critic != "iql" and method != "bora":
        raise ConfigError(
            f"{method} has no choice of critic, so critic {asked.critic} would go unused.",
            "Leave it out, or train bora.",
        )
    _require_warm_up(asked)
    if asked.share not in parallel.KINDS:
        raise ConfigError(f"Unknown way to share '{asked.share}'.", f"Ways: {', '.join(parallel.KINDS)}.")
    if asked.advantages != "learned" and method not in FOLLOWS:
        raise ConfigError(
            f"{method} has no choice of advantages, so advantages {asked.advantages} would go unused.",
            "Leave it out, or train bora.",
        )
    if Adaptation.parse(asked.adapt) is not None and method not in ADAPTS:
        raise ConfigError(
            f"{method} leaves the backbone frozen, so adapt {asked.adapt} would go unused.",
            f"Leave it out, or train one of {', '.join(ADAPTS)}.",
        )
    if asked.share != "ddp" and Adaptation.parse(asked.adapt) is None:
        raise ConfigError(
            f"No part of the backbone is trained, so share {asked.share} would go unused.",
            "Leave it out, or say which part with --adapt.",
        )
    if method == "bc_interventions" and parallel.started() > 1:
        raise ConfigError(
            f"bc_interventions trains in one process, not in {parallel.started()}.",
            "Start it without torchrun.",
        )
    if asked.init is not None and method not in (*WARM, "bc_interventions"):
        raise ConfigError(
            f"{method} starts from nothing, so init {asked.init} would go unused.",
            "Leave it out, or train bora, which takes a CP Base as its warm-up.",
        )


def _require_warm_up(asked: Request) -> None:
    if asked.warm_up not in WARM_UPS:
        raise ConfigError(f"Unknown warm-up '{asked.warm_up}'.", f"Warm-ups: {', '.join(WARM_UPS)}.")
    if asked.warm_up == "all":
        return
    unused = f"so warm-up {asked.warm_up} would go unused."
    if asked.method != "bora":
        raise ConfigError(
            f"{asked.method} has no choice of warm-up, {unused}", "Leave it out, or train bora."
        )
    if asked.init is not None:
        raise ConfigError(f"{asked.init} is the warm-up already, {unused}", "Leave out one of the two.")
    if asked.preset == "paper":
        raise ConfigError(
            f"The paper's gate judges batches, not windows, {unused}",
            "Leave it out, or choose the sim preset.",
        )


def prepare(asked: Request) -> Prepared:
    """Return a request with all that it names loaded; raises ConfigError, DataError or CheckpointError."""
    require_known(asked)
    warnings = require_learnable(asked.method, asked.data)
    warm = load_trained(asked.init) if asked.init is not None else None
    source = asked.backbone or (warm.backbone if warm is not None else TINY)
    critic = CRITICS[asked.critic] | WARM_UPS[asked.warm_up]
    settings = settings_of(asked.preset, asked.updates, critic, ADVANTAGES[asked.advantages])
    first = Dataset.open(asked.data[0])
    for path in asked.data[1:]:
        both = f"{first.root} and {path}"
        require_same_robot(first.spec, first.state_names, 1 / first.fps, Dataset.open(path), both)
    vlm = load_backbone(source, first.cameras)
    if warm is not None and warm.backbone_hash != vlm.hash:
        raise CheckpointError(
            f"{asked.init} was trained on backbone {warm.backbone_hash}, not on {source} ({vlm.hash}).",
            "Give the same --backbone, or leave out --init.",
        )
    if source != TINY:  # the shipped one is fast enough on a CPU, where it gives the same tokens everywhere
        vlm.to(parallel.device())
    spec = policy_spec(
        first, vlm.cameras, DDIM_STEPS if asked.method == "diffusion" else settings.offline.steps
    )
    if warm is not None:
        if not isinstance(warm.actor.expert, ConsistencyExpert):
            raise CheckpointError(
                f"{asked.init} is a diffusion policy; {asked.method} improves a consistency expert.",
                "Give --init with the result of `bora train cp`, or leave it out.",
            )
        both = f"{asked.init} and {first.root}"
        require_same_robot(warm.spec.action, warm.spec.state_names, warm.spec.dt, first, both)
    _require_held_out(asked, first)
    adaptation = Adaptation.parse(asked.adapt)
    return Prepared(asked, source, vlm, spec, settings, warm, adaptation, warnings)


def _require_held_out(asked: Request, first: Dataset) -> None:
    trained_on = {content_of(Dataset.open(p)): p for p in asked.data} if asked.held_out else {}
    for path in asked.held_out:
        require_learnable("cp", [path])
        other = Dataset.open(path)
        require_same_robot(first.spec, first.state_names, 1 / first.fps, other, f"{first.root} and {path}")
        same = trained_on.get(content_of(other))
        if same is not None:
            raise ConfigError(
                f"The episodes of {path} are those of {same}, which are trained on; held-out ones were expected.",
                "Divide a dataset with `bora data split`.",
            )


def policy_spec(dataset: Dataset, cameras: Sequence[str], steps: int) -> PolicySpec:
    """Return what a policy trained on a dataset is made for."""
    missing = [c for c in cameras if c not in dataset.cameras]
    if missing:
        raise DataError(
            f"{dataset.root} has no camera {', '.join(missing)}; it has {', '.join(dataset.cameras) or 'none'}.",
            "Use a backbone made for these cameras."
            if dataset.cameras
            else "Execute its actions again with `bora collect --env NAME --replay DIR`, which takes pictures.",
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


def fresh_actor(buffer: Buffer, spec: PolicySpec, seed: int, diffusion: bool = False) -> Actor:
    """Return an untrained actor whose normalisers fit the buffer; actions have standard deviation 0.5.

    diffusion: give it a diffusion head instead of a consistency expert.
    """
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
        expert: ConsistencyExpert | DiffusionExpert
        if diffusion:
            expert = DiffusionExpert(DiffusionConfig(sizes=sizes))
        else:
            expert = ConsistencyExpert(ConsistencyConfig(sizes=sizes))
    fit_contexts(expert, buffer.tokens[0])
    return Actor(
        expert,
        Normalizer.fit(buffer.state, floor=STATE_FLOOR),
        Normalizer.fit(executed, std=0.5, floor=floor),
    )


def settings_of(
    preset: str, updates: int | None, critic: dict[str, Any], advantages: dict[str, Any]
) -> Settings:
    """Return the numbers of a preset; `updates` scales every phase in proportion.

    critic, advantages: changes of `OfflineConfig`, entries of `CRITICS`, `WARM_UPS` and `ADVANTAGES`.
    """
    if preset not in ("sim", "paper"):
        raise ConfigError(f"Unknown preset '{preset}'.", "Presets: sim, paper.")
    cp, offline = CPConfig(), OfflineConfig.preset("sim" if preset == "sim" else "paper")
    if preset == "paper":
        cp = cp.model_copy(update={"updates": 40_000, "batch": 64, "lr": 5e-5})
    value = ValueFitConfig(gamma=offline.gamma, lam=offline.gae_lambda)
    offline = offline.model_copy(update=critic)
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
    return Settings(cp, offline.model_copy(update=advantages), value, AWRConfig())
