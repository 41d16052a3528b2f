"""`bora train METHOD`: learn a policy from recorded episodes, on tokens that are computed once.

What the methods do is in `methods`, what is asked before anything is trained in `prepare`, what a run leaves behind
in `folder`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bora_cli.checkpoint import Trained, load_backbone, load_trained, save_trained
from bora_cli.errors import ConfigError, TrainingDiverged
from bora_cli.models.adapt import trained_state
from bora_cli.models.policy import Actor
from bora_cli.train import parallel
from bora_cli.train.alarms import alarms
from bora_cli.train.buffer import Buffer, Sampler, load_buffer
from bora_cli.train.decoupled import load_pixels
from bora_cli.train.folder import RunFolder
from bora_cli.train.live import LiveTokens
from bora_cli.train.methods import ADVANTAGES, CRITICS, FOLLOWS, METHODS, Learned, learn
from bora_cli.train.prepare import (
    HORIZON,
    Prepared,
    Request,
    fresh_actor,
    policy_spec,
    prepare,
    require_known,
    settings_of,
)
from bora_cli.train.residual import fit_residual, require_made_by
from bora_cli.train.run import Progress, Run, one_thread
from bora_cli.train.tracker import Tracker
from bora_cli.types import U8, content_hash

__all__ = ["ADVANTAGES", "CRITICS", "METHODS", "fresh_actor", "policy_spec", "set_up", "train"]


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
    critic: str = "iql",
    warm_up: str = "all",
    held_out: Sequence[Path] = (),
    share: parallel.Kind = "ddp",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train a policy on datasets and write it as a checkpoint to `out`, with a run directory beside it.

    The options are those of `Request`.  A run that was interrupted is continued by the same call, and ends with the
    weights of one that was not.
    Raises ConfigError, DataError, CheckpointError for bad input before training, TrainingDiverged during it.
    """
    asked = Request(
        method=method,
        data=tuple(Path(p) for p in data),
        backbone=backbone,
        init=Path(init) if init is not None else None,
        seed=seed,
        updates=updates,
        preset=preset,
        advantages=advantages,
        adapt=adapt,
        critic=critic,
        warm_up=warm_up,
        held_out=tuple(Path(p) for p in held_out),
        share=share,
    )
    if method == "bc_interventions":
        require_known(asked)
        return _clone_corrections(asked, Path(out), progress)
    one_thread()
    with parallel.joined():
        return _train(prepare(asked), Path(out), progress)


def _train(prepared: Prepared, out: Path, progress: Progress | None) -> dict[str, Any]:
    started, asked = time.monotonic(), prepared.request
    job = prepared.job()
    RunFolder.require_free(out, job)
    shown = progress if parallel.first() else None
    gamma = prepared.settings.offline.gamma
    buffer = load_buffer(asked.data, prepared.vlm, horizon=HORIZON, gamma=gamma, progress=shown)
    folder = RunFolder.open(out, job)

    def pixels() -> U8:
        return load_pixels(asked.data, prepared.spec.cameras)

    with closing(Tracker(folder.metrics, continued=folder.continued)) as tracker:
        run, actor, live = set_up(prepared, buffer, tracker, shown, folder, pixels=pixels)

        def checkpoint(learned: Learned, facts: Mapping[str, Any]) -> Trained:
            about = _provenance(prepared, run, learned, started) | dict(facts)
            return _checkpoint(prepared, actor, learned, live, about)

        if live is None or not live.cut:  # putting the pieces together takes as long as many updates
            folder.policy = lambda expert, facts: checkpoint(Learned(expert), facts)
        try:
            learned = learn(
                asked.method,
                run,
                actor,
                prepared.warm is not None,
                prepared.settings,
                pixels,
                live,
            )
        except TrainingDiverged as error:
            folder.close(f"diverged: {error.message}", run.profile, finished=False)
            last = folder.root / "last"
            where = f" The policy before that is in {last}." if last.is_dir() else ""
            raise TrainingDiverged(error.message, error.hint + where) from error
    trained = checkpoint(learned, _findings(prepared, run, folder))
    if parallel.first():
        save_trained(out, trained)
    parallel.wait()
    folder.close("finished", run.profile, finished=True)
    return {"checkpoint": str(out), **trained.provenance}


def set_up(
    prepared: Prepared,
    buffer: Buffer,
    tracker: Tracker,
    progress: Progress | None,
    folder: RunFolder | None = None,
    *,
    pixels: Callable[[], U8],
) -> tuple[Run, Actor, LiveTokens | None]:
    """Return what the phases share, the actor to start from and, where it is trained, the backbone.

    pixels: returns the images of all ticks of the buffer, uint8 [M, C, h, w, 3].
    """
    asked, spec, offline = prepared.request, prepared.spec, prepared.settings.offline
    warm, diffusion = prepared.warm, asked.method == "diffusion"
    actor = warm.actor if warm is not None else fresh_actor(buffer, spec, asked.seed, diffusion)
    sampler = Sampler(buffer, actor.state, actor.action)
    held_out = None
    if asked.held_out:
        kept = load_buffer(asked.held_out, prepared.vlm, horizon=HORIZON, gamma=offline.gamma, copies=1)
        held_out = Sampler(kept, actor.state, actor.action)
    run = Run(
        buffer,
        sampler,
        actor.expert.config.sizes,
        asked.seed,
        tracker,
        progress,
        folder,
        held_out,
    )
    if prepared.adaptation is None:
        return run, actor, None
    live = LiveTokens(
        prepared.vlm,
        prepared.adaptation,
        pixels(),
        [e.prompt for e in buffer.episodes for _ in range(len(e))],
        offline.backbone_lr,
        asked.seed,
        asked.share,
        lambda: load_backbone(prepared.source, spec.cameras),
    )
    return run, actor, live


def _checkpoint(
    prepared: Prepared, actor: Actor, learned: Learned, live: LiveTokens | None, about: dict[str, Any]
) -> Trained:
    vlm = prepared.vlm if live is None else live.backbone
    return Trained(
        prepared.spec,
        Actor(learned.expert, actor.state, actor.action),
        prepared.source,
        vlm.hash,
        about,
        learned.critic,
        decoupled=learned.decoupled,
        adaptation=prepared.adaptation,
        adapted=trained_state(vlm, prepared.adaptation) if prepared.adaptation is not None else None,
    )


def _findings(prepared: Prepared, run: Run, folder: RunFolder) -> dict[str, Any]:
    """Return what a reader of the result should know: warnings, alarms, and how it did on held-out episodes."""
    largest = max(float(abs(e.reward).max()) for e in run.buffer.episodes)
    offline = prepared.settings.offline
    if prepared.request.method in ("cp", "filtered_bc"):  # their improvement follows nobody's advantages
        offline = offline.model_copy(update={"advantage": "constant"})
    usual = settings_of(prepared.request.preset, None, {}, {}).cp.updates
    asked = usual if prepared.request.updates is None else prepared.request.updates
    alarmed = alarms(run.tracker.rows, offline, largest or 1.0, asked / usual)
    found: dict[str, Any] = {}
    for name, value in (("warnings", prepared.warnings), ("alarms", alarmed)):
        if value:
            found[name] = value
    best = folder.kept("best")
    if best:
        found["best"] = {k: best[k] for k in ("phase", "update", "bc_val")}
    return found


def _clone_corrections(asked: Request, out: Path, progress: Progress | None) -> dict[str, Any]:
    """Train the control "BC on interventions" on the episodes of an online run."""
    init, data = asked.init, asked.data
    if init is None or len(data) != 1:
        raise ConfigError(
            "bc_interventions needs one dataset of online episodes and the policy that made them.",
            "Give --data RUN/online/episodes and --init with the policy the online run started from.",
        )
    base, episodes = load_trained(init), data[0]
    require_made_by(base, episodes)
    trained, facts = fit_residual(
        base, episodes, [], method="bc_interventions", seed=asked.seed, progress=progress
    )
    trained.provenance |= {
        "training": facts,
        "init": str(init.resolve()),
        "online_data": str(episodes.resolve()),
    }
    save_trained(out, trained)
    return {"checkpoint": str(out), **trained.provenance}


def _provenance(prepared: Prepared, run: Run, learned: Learned, started: float) -> dict[str, Any]:
    """Return what a checkpoint says about its making."""
    asked, settings = prepared.request, prepared.settings
    method, offline = asked.method, settings.offline
    judged = learned.critic is not None or learned.decoupled is not None
    improved = method not in ("cp", "diffusion") or prepared.adaptation is not None
    episodes = run.buffer.episodes
    metas = [e.meta for e in episodes]
    tasks = sorted({str(m.get("task")) for m in metas})
    facts = {
        "method": method,
        "task": tasks[0] if len(tasks) == 1 else ", ".join(tasks),
        "data": [str(p.resolve()) for p in asked.data],
        "data_hash": content_hash([[m, len(e), e.success] for m, e in zip(metas, episodes, strict=True)]),
        "profile_hash": sorted({str(m.get("profile_hash", "")) for m in metas}),
        "episodes": len(metas),
        "demonstration_success": f"{sum(e.success for e in episodes)}/{len(metas)}",
        "seed": asked.seed,
        "preset": asked.preset,
        "gamma": offline.gamma,
        "clone_updates": settings.cp.updates,
        "improve_updates": offline.updates if improved else 0,
        "critic_updates": offline.critic_updates if judged else 0,
        "init": str(asked.init) if asked.init is not None else None,
        "seconds": round(time.monotonic() - started, 1),
    }
    if asked.held_out:
        facts["held_out"] = [str(p.resolve()) for p in asked.held_out]
    if method in FOLLOWS:
        facts["advantages"] = asked.advantages
    if method == "bora":
        facts |= {"critic": asked.critic, "warm_up": asked.warm_up}
    if prepared.adaptation is not None:
        facts["adapt"] = str(prepared.adaptation)
    return facts
