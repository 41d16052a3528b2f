"""`bora train METHOD`: learn a policy from recorded episodes, on tokens that are computed once.

What the methods do is in `methods`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from bora_cli.algos.awr import AWRConfig
from bora_cli.algos.bora_offline import OfflineConfig
from bora_cli.algos.cp import CPConfig
from bora_cli.algos.value import ValueFitConfig
from bora_cli.checkpoint import TINY, Trained, load_backbone, load_trained, save_trained
from bora_cli.data.dataset import Dataset
from bora_cli.errors import CheckpointError, ConfigError, DataError
from bora_cli.models.adapt import Adaptation, trained_state
from bora_cli.models.consistency import ConsistencyConfig, ConsistencyExpert
from bora_cli.models.diffusion import DDIM_STEPS, DiffusionConfig, DiffusionExpert
from bora_cli.models.nn import Sizes, fit_contexts
from bora_cli.models.normalize import Normalizer
from bora_cli.models.policy import Actor, PolicySpec
from bora_cli.train.buffer import Buffer, Sampler, load_buffer, require_same_robot
from bora_cli.train.checks import require_learnable
from bora_cli.train.decoupled import load_pixels
from bora_cli.train.live import LiveTokens
from bora_cli.train.methods import ADAPTS, ADVANTAGES, FOLLOWS, METHODS, WARM, Learned, Settings, learn
from bora_cli.train.phases import Run
from bora_cli.train.residual import fit_residual, require_made_by
from bora_cli.train.tracker import Tracker
from bora_cli.types import content_hash

Progress = Callable[[str, int, int], None]
HORIZON, EXECUTE = 8, 4
STATE_FLOOR, ACTION_FLOOR = 1e-3, 0.02
"""Smallest standard deviation believed in: states in their units, actions as a share of half their range."""


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
    advantages: str = "learned",
    adapt: str = "none",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a policy on datasets and write it as a checkpoint to `out`.

    init: for `bora` and the decoupled baselines, the CP Base that spares the warm-up; for `bc_interventions`, the
    policy that was corrected.
    updates: of the behaviour-cloning warm-up; the later phases scale with it.  preset: sim or paper.
    advantages: for `bora` and `awr`, a word of `ADVANTAGES`.  adapt: for the methods of `ADAPTS`, the part of the
    backbone that is trained in the second stage, see `Adaptation.parse`.
    Raises ConfigError, DataError, CheckpointError for bad input before training, TrainingDiverged during it.
    """
    if method not in METHODS:
        raise ConfigError(f"Unknown method '{method}'.", f"Methods: {', '.join(METHODS)}.")
    if advantages not in ADVANTAGES:
        raise ConfigError(f"Unknown advantages '{advantages}'.", f"Advantages: {', '.join(ADVANTAGES)}.")
    if advantages != "learned" and method not in FOLLOWS:
        raise ConfigError(
            f"{method} has no choice of advantages, so advantages {advantages} would go unused.",
            "Leave it out, or train bora.",
        )
    adaptation = Adaptation.parse(adapt)
    if adaptation is not None and method not in ADAPTS:
        raise ConfigError(
            f"{method} leaves the backbone frozen, so adapt {adapt} would go unused.",
            f"Leave it out, or train one of {', '.join(ADAPTS)}.",
        )
    if method == "bc_interventions":
        return _clone_corrections(data, Path(out), init, seed, progress)
    if init is not None and method not in WARM:
        raise ConfigError(
            f"{method} starts from nothing, so init {init} would go unused.",
            "Leave it out, or train bora, which takes a CP Base as its warm-up.",
        )
    started = time.monotonic()
    torch.set_num_threads(1)  # networks this small are fastest, and repeatable, on one thread
    paths = [Path(p) for p in data]
    out = Path(out)
    warnings = require_learnable(method, paths)
    warm = load_trained(init) if init is not None else None
    source = backbone or (warm.backbone if warm is not None else TINY)
    settings = _settings(preset, updates, ADVANTAGES[advantages])
    offline = settings.offline

    first = Dataset.open(paths[0])
    vlm = load_backbone(source, first.cameras)
    if warm is not None and warm.backbone_hash != vlm.hash:
        raise CheckpointError(
            f"{init} was trained on backbone {warm.backbone_hash}, not on {source} ({vlm.hash}).",
            "Give the same --backbone, or leave out --init.",
        )
    spec = policy_spec(first, vlm.cameras, DDIM_STEPS if method == "diffusion" else offline.steps)
    if warm is not None:
        if not isinstance(warm.actor.expert, ConsistencyExpert):
            raise CheckpointError(
                f"{init} is a diffusion policy; {method} improves a consistency expert.",
                "Give --init with the result of `bora train cp`, or leave it out.",
            )
        both = f"{init} and {first.root}"
        require_same_robot(warm.spec.action, warm.spec.state_names, warm.spec.dt, first, both)
    buffer = load_buffer(paths, vlm, horizon=HORIZON, gamma=offline.gamma, progress=progress)
    actor = warm.actor if warm is not None else fresh_actor(buffer, spec, seed, method == "diffusion")
    sampler = Sampler(buffer, actor.state, actor.action)
    live = None
    if adaptation is not None:
        prompts = [e.prompt for e in buffer.episodes for _ in range(len(e))]
        pixels = load_pixels(paths, spec.cameras)
        live = LiveTokens(vlm, adaptation, pixels, prompts, offline.backbone_lr, seed)
    with closing(Tracker(out.with_name(f"{out.name}.metrics.jsonl"))) as tracker:
        run = Run(buffer, sampler, actor.expert.config.sizes, seed, tracker, progress)
        learned = learn(method, run, actor, warm is not None, settings, paths, spec.cameras, live)
    actor.expert = learned.expert
    trained = Trained(
        spec,
        actor,
        source,
        vlm.hash,
        _provenance(
            method,
            paths,
            buffer,
            seed,
            preset,
            settings,
            learned,
            init,
            live is not None,
            time.monotonic() - started,
        )
        | ({"advantages": advantages} if method in FOLLOWS else {})
        | ({"adapt": str(adaptation)} if adaptation is not None else {})
        | ({"warnings": warnings} if warnings else {}),
        learned.critic,
        decoupled=learned.decoupled,
        adaptation=adaptation,
        adapted=trained_state(vlm, adaptation) if adaptation is not None else None,
    )
    save_trained(out, trained)
    return {"checkpoint": str(out), **trained.provenance}


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
    trained.provenance |= {
        "training": facts,
        "init": str(init.resolve()),
        "online_data": str(episodes.resolve()),
    }
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


def _settings(preset: str, updates: int | None, changes: dict[str, Any]) -> Settings:
    """Return the numbers of a preset with changes of `OfflineConfig`; `updates` scales every phase in proportion."""
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
    return Settings(cp, offline.model_copy(update=changes), value, AWRConfig())


def _provenance(
    method: str,
    paths: list[Path],
    buffer: Buffer,
    seed: int,
    preset: str,
    settings: Settings,
    learned: Learned,
    init: Path | None,
    adapted: bool,
    seconds: float,
) -> dict[str, Any]:
    """Return what a checkpoint says about its making."""
    cp, offline = settings.cp, settings.offline
    judged = learned.critic is not None or learned.decoupled is not None
    improved = method not in ("cp", "diffusion") or adapted
    metas = [e.meta for e in buffer.episodes]
    successes = sum(e.success for e in buffer.episodes)
    tasks = sorted({str(m.get("task")) for m in metas})
    return {
        "method": method,
        "task": tasks[0] if len(tasks) == 1 else ", ".join(tasks),
        "data": [str(p.resolve()) for p in paths],
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
        "improve_updates": offline.updates if improved else 0,
        "critic_updates": offline.critic_updates if judged else 0,
        "init": str(init) if init is not None else None,
        "seconds": round(seconds, 1),
    }
