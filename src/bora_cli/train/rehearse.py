"""`bora train --dry-run`: what a training would take, found by a few updates of every phase on two episodes.

Everything is checked that `train` checks.  The updates are those of the real run, with batches of its size, on tokens
that are random numbers of the right shape; the backbone encodes a few images to be timed.  Nothing is written.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bora_cli.data.dataset import Dataset
from bora_cli.data.windows import build_windows
from bora_cli.errors import ConfigError
from bora_cli.train.buffer import Buffer, episodes_of
from bora_cli.train.methods import Settings, learn
from bora_cli.train.offline import set_up
from bora_cli.train.prepare import HORIZON, Prepared, Request, prepare
from bora_cli.train.run import Profile, Progress, one_thread
from bora_cli.train.tokens import COPIES, augment, cache_file, encode
from bora_cli.train.tracker import Tracker
from bora_cli.types import U8, Episode

UPDATES = 4
"""Updates of a phase that are timed, the first of which warms up."""
ENCODED = 16
"""Ticks whose images are encoded to time it."""
MB = 1e6


def rehearse(asked: Request, progress: Progress | None = None, updates: int = UPDATES) -> dict[str, Any]:
    """Return the sizes of data and networks, and estimates of memory and time, as JSON values.

    updates: how many of every phase are timed.
    Memory: the most this process held, plus what all the data adds to two episodes.  Time: medians of those updates
    on this machine as it is now; reading the data is not counted.
    Raises as `train` does before training, and ConfigError for `bc_interventions`.
    """
    if asked.method == "bc_interventions":
        raise ConfigError(
            "bc_interventions has no dry run: it takes seconds.",
            "Leave --dry-run out, or choose another method.",
        )
    one_thread()
    prepared = prepare(asked)
    datasets = [Dataset.open(path) for path in asked.data]
    episodes = episodes_of(datasets)
    missing = [d for d in datasets if not cache_file(d, prepared.vlm, COPIES).is_file()]
    few = _few(datasets)
    pixels = _pixels(few, prepared)
    buffer = _stand_in(few, prepared)
    small = replace(
        prepared, request=replace(asked, held_out=()), settings=_shortened(prepared.settings, updates)
    )
    run, actor, live = set_up(small, buffer, Tracker(None), progress, pixels=lambda: pixels)
    encoding = _seconds_to_encode(pixels, few[0].prompt, prepared)
    learned = learn(asked.method, run, actor, prepared.warm is not None, small.settings, lambda: pixels, live)

    ticks = sum(len(e) for e in episodes)
    windows = build_windows(episodes, horizon=HORIZON, stride=1, gamma=prepared.settings.offline.gamma)
    n, width = buffer.tokens.shape[2:]
    tokens = COPIES * ticks * n * width * 2
    columns = sum(column.nbytes for column in vars(windows).values())
    images = ticks * pixels[0].nbytes if live is not None or learned.decoupled is not None else 0
    phases = _phases(prepared, run.profile)
    if missing:
        views = COPIES * sum(d.ticks for d in missing)
        phases.insert(0, {"phase": "encode", "updates": views, "ms": 1e3 * encoding, "loading_ms": 0.0})
    for phase in phases:
        phase["seconds"] = round(phase["updates"] * phase["ms"] / 1e3, 1)
        phase["ms"] = round(phase["ms"], 2)
    return {
        "method": asked.method,
        "data": {
            "episodes": len(episodes),
            "ticks": ticks,
            "windows": len(windows),
            "tokens": f"{COPIES} views of {n} x {width} per tick",
            "tokens_mb": round(tokens / MB, 1),
            "windows_mb": round(columns / MB, 1),
            "images_mb": round(images / MB, 1),
        },
        "parameters": {
            "backbone": _count(prepared.vlm.model),
            "backbone_trained": sum(p.numel() for p in live.parameters) if live is not None else 0,
            "expert": _count(learned.expert),
            "critic": sum(_count(c) for c in (learned.critic, learned.decoupled) if c is not None),
        },
        "memory_mb": round(_peak() + (tokens + columns + images) / MB),
        "phases": phases,
        "seconds": round(sum(phase["seconds"] for phase in phases)),
    }


def _few(datasets: Sequence[Dataset]) -> list[Episode]:
    """Return two episodes with images, one that succeeded and one that failed where there are such."""
    where = [(d, i) for d in datasets for i in range(len(d))]
    succeeded = [d.episode(i, images=False).success for d, i in where]
    picks = [succeeded.index(kind) for kind in (True, False) if kind in succeeded] + list(range(len(where)))
    return [where[k][0].episode(where[k][1]) for k in list(dict.fromkeys(picks))[:2]]


def _pixels(episodes: Sequence[Episode], prepared: Prepared) -> U8:
    cameras = prepared.spec.cameras
    return np.concatenate([np.stack([e.images[c] for c in cameras], axis=1) for e in episodes])


def _stand_in(episodes: list[Episode], prepared: Prepared) -> Buffer:
    """Return a buffer of these episodes with random tokens."""
    ticks, vlm = sum(len(e) for e in episodes), prepared.vlm
    noise = torch.randn(COPIES, ticks, vlm.n_tokens, vlm.width, generator=torch.Generator().manual_seed(0))
    first = np.concatenate([[0], np.cumsum([len(e) for e in episodes])]).astype(np.int64)
    gamma = prepared.settings.offline.gamma
    return Buffer(
        tokens=noise.half(),
        state=torch.from_numpy(np.concatenate([e.state for e in episodes])),
        first=first,
        episodes=episodes,
        windows=build_windows(episodes, horizon=HORIZON, stride=1, gamma=gamma),
    )


def _shortened(settings: Settings, updates: int) -> Settings:
    few = {"updates": updates}
    return replace(
        settings,
        cp=settings.cp.model_copy(update=few),
        offline=settings.offline.model_copy(update={**few, "critic_updates": updates}),
        value=settings.value.model_copy(update=few),
    )


def _seconds_to_encode(pixels: U8, prompt: str, prepared: Prepared) -> float:
    """Return the seconds that one view of one tick takes."""
    images = pixels[:ENCODED]
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        encode(prepared.vlm, augment(images, np.random.default_rng(0)), [prompt] * len(images))
        taken.append(time.perf_counter() - started)
    return min(taken) / len(images)


def _phases(prepared: Prepared, profile: dict[str, Profile]) -> list[dict[str, Any]]:
    """Return the phases of the real run with the milliseconds that were measured."""
    cp, offline, value = prepared.settings.cp, prepared.settings.offline, prepared.settings.value
    whole = cp.updates + (offline.updates if prepared.request.method == "awr" else 0)
    updates = {"clone": whole, "improve": offline.updates}
    found = []
    for name, times in profile.items():
        stem, _, fold = name.rpartition(" ")
        values = stem.startswith("value")
        if values and fold != "1":
            continue  # all folds take equally long
        summary = times.summary()
        found.append(
            {
                "phase": stem.replace("value", "values", 1) if values else name,
                "updates": value.folds * value.updates
                if values
                else updates.get(name, offline.critic_updates),
                "ms": summary["ms"],
                "loading_ms": summary["loading_ms"],
            }
        )
    return found


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _peak() -> float:
    """Return the most memory that this process held, MB."""
    unit = 1.0 if sys.platform == "darwin" else 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB
