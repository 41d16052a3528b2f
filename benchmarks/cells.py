"""What benchmarks of policies share: what they make once and read from then on, and how it is told.

Whatever is there is not made again, so a benchmark can be interrupted and asked for more later.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bora_cli.data.files import write_json
from bora_cli.evaluate.collect import collect
from bora_cli.evaluate.evaluate import EvalResult, Progress, evaluate
from bora_cli.evaluate.metrics import Result, wilson
from bora_cli.evaluate.workers import Workers
from bora_cli.train.offline import train

SETTINGS = ("standard", "unseen")
DEMONSTRATIONS = {
    "pick_place": "off_centre=0.15,wrong_height=0.06,early_release=0.06,wrong_object=0.05,early_closing=0.06",
    "press_button": "off_centre@1.3=0.5,wrong_height@1.2=0.25,early_release=0.15",
    "pull_tissue": "off_centre=0.18,wrong_height=0.08,early_release=0.08,wrong_object=0.08,early_closing=0.08",
}
"""Quality of the demonstrations of a task, else `mixed`: chosen once on tuning scenes so that CP Base succeeds in about
half of the standard scenes."""
SCENES = 1000
"""Evaluation scenes of a seed; the next seed's follow."""


def slug(name: str) -> str:
    """Return the name of a row as files have it."""
    return name.replace(", ", "-").replace(" ", "_")


def demonstrations(
    root: Path, task: str, seed: int, *, episodes: int, quality: str | None = None, pool: Workers
) -> Path:
    """Return the dataset ROOT/demos of a task and seed, wholly collected.  quality: else that of the task."""
    found = root / "demos"
    quality = quality or DEMONSTRATIONS.get(task, "mixed")
    collect(task=task, episodes=episodes, out=found, quality=quality, seed=seed, workers=pool)
    return found


def trained(
    root: Path, name: str, method: str, *, data: Path, seed: int, init: Path | None = None, **options: Any
) -> Path:
    """Return the policy ROOT/policies/NAME; options: of `bora_cli.train.offline.train`."""
    policy = root / "policies" / slug(name)
    if not (policy / "config.json").is_file():
        train(method, data=[data], out=policy, init=init, seed=seed, **options)
    return policy


def evaluated(
    policy: Path,
    file: Path,
    name: str,
    *,
    task: str,
    setting: str,
    seed: int,
    episodes: int,
    gap: str = "none",
    pool: Workers,
    progress: Progress | None = None,
) -> list[Result]:
    """Return the unaided episodes of a policy on the evaluation scenes of a seed, and keep them in `file`.

    name: of the method in the results.
    """
    if not file.is_file():
        made = evaluate(
            policy,
            task=task,
            setting=setting,
            gap=gap,
            episodes=episodes,
            seed=SCENES * seed,
            workers=pool,
            progress=progress,
        )
        write_json(file, made.to_json())
    found = read(file, name, seed)
    print(f"{task} {seed} {name}, {setting}: {sum(r.success for r in found)}/{len(found)}", flush=True)
    return found


def read(file: Path, name: str, seed: int) -> list[Result]:
    """Return what `evaluated` kept."""
    job = (done := EvalResult.from_json(json.loads(file.read_text()))).job
    return [Result(name, job.setting, job.gap, seed, t.scene_seed, t.success, t.ticks) for t in done.trials]


def counted(k: int, n: int) -> str:
    """Return k of n as text, with the rate and its 95 % Wilson interval."""
    low, high = wilson(k, n)
    return f"{k}/{n} = {k / n:.2f} ({low:.2f}-{high:.2f})"


def points(value: float, low: float, high: float) -> str:
    """Return a difference of rates and its interval as text, in points."""
    return f"{100 * value:+.0f} ({100 * low:+.0f} to {100 * high:+.0f})"
