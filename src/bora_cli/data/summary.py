"""What is in a dataset, in numbers for people."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from bora_cli.data.schema import ADDED
from bora_cli.types import Controller, content_hash

if TYPE_CHECKING:
    from bora_cli.data.dataset import Dataset

COUNTED = {
    "settings": "setting",
    "gaps": "gap",
    "operators": "operator",
    "qualities": "quality",
    "mistakes": "mistake",
    "renderers": "renderer",
    "profile_hashes": "profile_hash",
    "checkpoint_hashes": "checkpoint_hash",
}
"""Key of the summary -> key of `Episode.meta` whose values are counted; a missing one counts as "none"."""


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Return counts, shares and hashes of a dataset as JSON values.

    success: {"n", "of", "rate"}; rate is None without episodes.
    tasks: one such entry per task, setting and gap.  controllers: name -> {"ticks", "share"}.
    lengths: in ticks.  seconds: at the dataset's rate.  size_bytes: on disk.
    missing_columns: those that the version which made the dataset did not write.
    human_share: ticks in which a person had a share, of all ticks of episodes that a policy had a part in.
    """
    rows = dataset.rows()
    ticks = np.array([row.controller_ticks for row in rows], np.int64).reshape(-1, len(Controller))
    total = int(ticks.sum())
    lengths = [row.length for row in rows]
    groups: dict[tuple[str, str, str], list[bool]] = {}
    for row in rows:
        task = str(row.meta.get("task", row.prompt))
        key = (task, _text(row.meta.get("setting")), _text(row.meta.get("gap")))
        groups.setdefault(key, []).append(row.success)
    human = [Controller.HUMAN, Controller.BLENDED, Controller.ASSIST]
    driven = ticks[ticks[:, Controller.POLICY] > 0]
    out: dict[str, Any] = {
        "root": str(dataset.root),
        "robot_type": dataset.identity.robot_type,
        "fps": dataset.fps,
        "cameras": list(dataset.cameras),
        "image_size": list(dataset.image_size),
        "action_spec_hash": content_hash(dataset.spec.to_json()),
        "episodes": len(rows),
        "ticks": total,
        "seconds": total / dataset.fps,
        "success": _rate([row.success for row in rows]),
        "tasks": [
            {"task": task, "setting": setting, "gap": gap, **_rate(successes)}
            for (task, setting, gap), successes in sorted(groups.items())
        ],
        "instructions": dict(Counter(row.prompt for row in rows)),
        "lengths": {
            "min": min(lengths),
            "median": statistics.median(lengths),
            "mean": statistics.mean(lengths),
            "max": max(lengths),
        }
        if lengths
        else None,
        "controllers": {
            controller.name.lower(): {"ticks": n, "share": n / total}
            for controller, n in zip(Controller, ticks.sum(0).tolist(), strict=True)
            if n
        },
        "human_share": float(driven[:, human].sum() / driven.sum()) if len(driven) else None,
        "takeovers": sum(int(row.meta.get("takeovers", 0)) for row in rows),
        "decisions": sum(row.decisions for row in rows),
        "missing_columns": [name for name in ADDED if name not in dataset.identity.added],
        "size_bytes": sum(f.stat().st_size for f in dataset.root.rglob("*") if f.is_file()),
    }
    out |= {name: dict(Counter(_text(row.meta.get(key)) for row in rows)) for name, key in COUNTED.items()}
    return out


def _rate(successes: list[bool]) -> dict[str, Any]:
    n, of = sum(successes), len(successes)
    return {"n": n, "of": of, "rate": n / of if of else None}


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
