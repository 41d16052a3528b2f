"""Fine-tune the expert on the human segments of online episodes and on what was cloned before (HG-DAgger)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bora_cli.algos.batch import concat
from bora_cli.algos.bora_online import is_human
from bora_cli.algos.cp import CPConfig
from bora_cli.algos.hg_dagger import HGDaggerConfig, draw_aggregated, hg_dagger_loss
from bora_cli.algos.schedules import cosine
from bora_cli.checkpoint import Trained
from bora_cli.data.dataset import Dataset
from bora_cli.data.windows import raw_rewards
from bora_cli.errors import CheckpointError, DataError
from bora_cli.models.consistency import ConsistencyExpert
from bora_cli.models.nn import polyak_update
from bora_cli.models.policy import Actor
from bora_cli.seeds import stream
from bora_cli.train.buffer import Sampler, load_buffer
from bora_cli.train.online_windows import online_buffer
from bora_cli.train.residual import Progress, Report
from bora_cli.train.steps import adamw, set_rate, step
from bora_cli.train.tracker import Tracker


def fit_hg_dagger(
    base: Trained,
    episodes: Path,
    offline: Sequence[Path],
    *,
    seed: int = 0,
    config: HGDaggerConfig | None = None,
    cp: CPConfig | None = None,
    tracker: Tracker | None = None,
    progress: Progress | None = None,
) -> tuple[Trained, dict[str, Any]]:
    """Return the base policy with its expert trained on human segments, and the facts of the training.

    episodes: the online dataset.  offline: datasets whose successful demonstrations were cloned before.  Without a
    human tick the policy stays as it is.
    Raises CheckpointError for a policy with a diffusion head, DataError if nothing was cloned before.
    """
    torch.set_num_threads(1)
    config, cp = config or HGDaggerConfig(), cp or CPConfig()
    expert = base.actor.expert
    if not isinstance(expert, ConsistencyExpert):
        raise CheckpointError(
            "hg_dagger trains a consistency expert; this policy has a diffusion head.",
            "Start from a checkpoint of `bora train cp`, filtered_bc or bora.",
        )
    gamma = float(base.provenance.get("gamma", 0.97))
    recorded = list(Dataset.open(episodes).episodes(images=False))
    online = online_buffer(recorded, base, raw_rewards, gamma)
    human = online.batch.rows(torch.nonzero(is_human(online.batch.need("controller")))[:, 0])
    facts: dict[str, Any] = {
        "method": "hg_dagger",
        "episodes": len(recorded),
        "takeovers": online.takeovers,
        "human_windows": len(human),
    }
    trained = replace(base, residual=None, lam=0.0, provenance={**base.provenance, "method": "hg_dagger"})
    if not len(human):
        return trained, {**facts, "skipped": "nobody took over"}

    report = Report(tracker, progress)
    backbone = base.load_backbone()
    buffer = load_buffer(offline, backbone, horizon=base.spec.horizon, gamma=gamma, progress=progress)
    earlier = Sampler(buffer, base.actor.state, base.actor.action)
    rows = np.flatnonzero(buffer.windows.success)
    if not len(rows):
        raise DataError("No successful demonstration to keep cloning.", "Name better data with --data.")
    student, averaged = deepcopy(expert).train(), deepcopy(expert)
    optimizer = adamw(student, config.lr, cp.weight_decay)
    rng, generator = stream("hg_dagger", seed), torch.Generator().manual_seed(seed)
    info: dict[str, float] = {}
    for update in range(config.updates):
        set_rate(optimizer, cosine(update, config.lr, config.updates))
        old, new = draw_aggregated(rng, len(rows), len(human), config)
        batch = concat(earlier.rows(rows[old], rng), human.rows(new))
        loss, info = hg_dagger_loss(student, averaged, batch, config=config, cp=cp, generator=generator)
        step(loss, optimizer, student, cp.grad_clip, "hg_dagger", update)
        polyak_update(averaged, student, 1 - cp.ema)
        report("hg_dagger", update, config.updates, {"loss": float(loss.detach()), **info})
    actor = Actor(averaged.eval(), base.actor.state, base.actor.action)
    return replace(trained, actor=actor), {**facts, **{k: round(v, 6) for k, v in info.items()}}
