"""Make a dataset of ours of episodes that others recorded.

Our datasets say more than others do: what an action may be, whether an episode succeeded, how it ended and who
acted.  What a source lacks is chosen here, by an option or by a rule, and written down with the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.data.copy import Progress, no_progress, require_sound
from bora_cli.data.dataset import Dataset
from bora_cli.data.exchange import new_directory
from bora_cli.data.schema import CLOCKS, IMAGE_PREFIX
from bora_cli.data.sources import Source
from bora_cli.data.untrusted import malformed
from bora_cli.errors import ConfigError, CorruptEpisode, DataError, SchemaMismatch
from bora_cli.types import ActionSpec, Controller, Episode

REWARDS = ("next.reward", "reward", "rewards")
SUCCESSES = ("next.success", "success", "is_success")
ACTIONS = ("action", "actions")
PERSON_DRIVES = 2
"""The arbiter's phase in which a person drives."""
_MARGIN = 0.05
"""Share of the range by which limits taken from the data go beyond it."""
_LEAST = 1e-3
FASTEST = 16_384
"""Ticks per second above which a rate is a mistake."""
_GAP = 1.5
"""Periods between two ticks above which ticks are missing."""


@dataclass(frozen=True)
class ImportOptions:
    """What the source does not say.

    success_from: a column, "all" or "none"; "" uses a column of the usual name where there is one.
    state: columns that make up the state, in this order; empty for the usual ones.
    cameras: our name -> column; empty for all.  image_size: (height, width) in pixels to scale to, or None.
    spec: names, units and limits of actions, e.g. a profile's; None takes the limits from the data.
    hand: how many of the last actions belong to the hand, where there is no spec.  fps: 0 for the source's.
    instruction: replaces the source's, "" keeps it.  video: codec to keep images in, "" for PNG.
    episodes: which, None for all.
    """

    success_from: str = ""
    state: tuple[str, ...] = ()
    cameras: Mapping[str, str] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    spec: ActionSpec | None = None
    hand: int = 0
    fps: float = 0.0
    instruction: str = ""
    video: str = ""
    episodes: Sequence[int] | None = None


@dataclass(frozen=True)
class Mapped:
    """Which column of a source becomes what; the plan of an import."""

    action: str
    state: tuple[str, ...]
    reward: str
    success: str
    cameras: dict[str, str]
    size: tuple[int, int]
    fps: float
    action_names: tuple[str, ...]
    state_names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "action": self.action,
            "state": list(self.state),
            "reward": self.reward or "1 at success",
            "success_from": self.success,
            "cameras": self.cameras,
        }


def plan(source: Source, options: ImportOptions, names: Mapping[str, Sequence[str]]) -> Mapped:
    """Decide which column becomes what.

    names: column -> names of its numbers, where the source has them.
    Raises ConfigError or SchemaMismatch where the source leaves a choice that no option makes.
    """
    numbers = {n: s for n, (_, s) in source.shapes.items() if n not in source.cameras}
    action = next((name for name in ACTIONS if name in numbers), "")
    if not action:
        raise SchemaMismatch(
            f"{source.root} has no column 'action'; it has {', '.join(numbers)}.", "It cannot be imported."
        )
    state = options.state or _usual_state(source, numbers)
    for name in (
        *state,
        *([options.success_from] if options.success_from not in ("", "all", "none") else []),
    ):
        if name not in numbers:
            raise ConfigError(f"{source.root} has no column '{name}'.", f"It has {', '.join(numbers)}.")
    success = options.success_from or next((name for name in SUCCESSES if name in numbers), "")
    if not success:
        raise ConfigError(
            f"Nothing in {source.root} says whether an episode succeeded.",
            "Give --success-from COLUMN, or --success-from all (demonstrations that worked) or none.",
        )
    fps = options.fps or source.fps
    if fps == 0:
        raise ConfigError(f"{source.root} does not state its rate.", "Give --fps.")
    if not 0 < fps <= FASTEST:
        raise ConfigError(
            f"{source.root} has {fps:g} ticks per second; expected above 0 and at most {FASTEST}.",
            "Give --fps.",
        )
    cameras = dict(options.cameras) or {_plain(name): name for name in source.cameras}
    for camera, column in cameras.items():
        if column not in source.cameras:
            raise ConfigError(
                f"Camera {camera}: {source.root} has no images '{column}'.",
                f"It has {', '.join(source.cameras) or 'none'}.",
            )
    return Mapped(
        action=action,
        state=tuple(state),
        reward=next((name for name in REWARDS if name in numbers), ""),
        success=success,
        cameras=cameras,
        size=_size(source, cameras, options.image_size),
        fps=fps,
        action_names=_names((action,), numbers, names),
        state_names=_names(state, numbers, names),
    )


def import_source(
    source: Source,
    out: Path,
    options: ImportOptions,
    *,
    names: Mapping[str, Sequence[str]] | None = None,
    kind: str,
    progress: Progress = no_progress,
) -> Dataset:
    """Write episodes of a source as a dataset of ours; nothing is left at `out` if that fails.

    names: as for `plan`.  kind: what the source is, for the record.
    Raises DataError or ConfigError naming the episode and column that does not fit.
    """
    with malformed(source.root):
        mapped = plan(source, options, names or {})
    chosen = list(range(len(source.lengths)) if options.episodes is None else options.episodes)
    spec = options.spec or _spec_of(source, mapped, chosen, options.hand, progress)
    if spec.dim != len(mapped.action_names):
        raise SchemaMismatch(
            f"{source.root} has actions of {len(mapped.action_names)} numbers; the profile has {spec.dim}.",
            "Use the profile of the robot that was recorded.",
        )
    limits = "the profile" if options.spec else f"the data, widened by {_MARGIN:.0%}"
    record = {"from": kind, "name": source.root.name, "limits": limits, **mapped.to_json()}
    with new_directory(out) as fresh:
        dataset = Dataset.create(
            fresh,
            spec,
            mapped.state_names,
            sorted(mapped.cameras),
            image_size=mapped.size,
            fps=mapped.fps,
            robot_type=record["name"] or "imported",
            extra={"imported": record},
            video=options.video,
        )
        for done, index in enumerate(chosen):
            with malformed(f"{source.root}, episode {index}", "Leave the episode out with --episodes."):
                episode = _episode(source, index, mapped, spec, options, record)
            dataset.append(episode)
            progress("import", done + 1, len(chosen))
        require_sound(fresh, name=source.root)
    return Dataset.open(out)


def _episode(
    source: Source,
    index: int,
    mapped: Mapped,
    spec: ActionSpec,
    options: ImportOptions,
    record: dict[str, Any],
) -> Episode:
    ticks = int(source.lengths[index])
    wanted = [mapped.action, *mapped.state, *([mapped.reward] if mapped.reward else [])]
    others = (mapped.success, "terminated", "truncated", "timestamp", *CLOCKS)
    extra = [n for n in others if n in source.shapes]
    columns = source.columns(index, list(dict.fromkeys([*wanted, *extra])))
    action = _finite(columns[mapped.action], mapped.action, index, source.root).reshape(ticks, -1)
    parts = [_finite(columns[name], name, index, source.root).reshape(ticks, -1) for name in mapped.state]
    state = np.concatenate(parts, axis=1) if parts else np.zeros((ticks, 0), np.float32)
    if mapped.success in ("all", "none"):
        success = mapped.success == "all"
    else:
        success = bool(np.asarray(columns[mapped.success]).reshape(ticks, -1).any())
    reward = np.zeros(ticks, np.float32)
    reward[-1] = float(success)
    if mapped.reward:
        reward = _finite(columns[mapped.reward], mapped.reward, index, source.root).reshape(ticks, -1).sum(1)
    last = np.arange(ticks) == ticks - 1
    known = {n: bool(np.ravel(columns[n])[-1]) for n in ("terminated", "truncated") if n in columns}
    terminated = known.get("terminated", not known["truncated"] if "truncated" in known else success)
    applied = spec.clip(action)
    meta: dict[str, Any] = {
        "operator": "recorded elsewhere",
        "source": record["name"],
        "source_episode": index,
        "clipped_ticks": int((np.abs(applied - action) > 1e-4 * spec.half_range).any(axis=1).sum()),
    }
    clocks: dict[str, Any] = {
        n: np.ravel(columns[n]) for n in CLOCKS if n in columns and columns[n].dtype == np.int64
    }
    gaps = _gaps(columns.get("timestamp"), mapped.fps)
    if gaps:
        meta["gaps"] = gaps
    images = {
        camera: _scaled(source.frames(index, column, range(ticks)), mapped.size)
        for camera, column in mapped.cameras.items()
    }
    return Episode(
        images=images,
        state=state,
        action=applied,
        proposed=action,
        human=action.copy(),
        controller=np.full(ticks, Controller.DEMO, np.uint8),
        phase=np.full(ticks, PERSON_DRIVES, np.uint8),
        reward=reward,
        terminated=last & terminated,
        truncated=last & (not terminated),
        success=success,
        prompt=options.instruction or str(source.tasks[index]) or "do the task",
        meta=meta,
        **clocks,
    )


def _usual_state(source: Source, numbers: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    if "observation.state" in numbers:
        return ("observation.state",)
    return tuple(
        sorted(name for name, shape in numbers.items() if name.startswith("obs/") and len(shape) == 1)
    )


def _names(
    columns: Sequence[str], numbers: Mapping[str, tuple[int, ...]], names: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Return a distinct name for every number of some columns."""
    out: list[str] = []
    for column in columns:
        width = int(np.prod(numbers[column], dtype=int))
        known = [str(name) for name in names.get(column, ())]
        fallback = [f"{_plain(column)}_{i}" for i in range(width)]
        out += known if len(known) == width else fallback
    if len(set(out)) != len(out):
        out = [f"{name}_{i}" for i, name in enumerate(out)]
    return tuple(out)


def _plain(column: str) -> str:
    name = column.removeprefix(IMAGE_PREFIX).removeprefix("observation.").removeprefix("obs/")
    return name.replace("/", "_").replace("{", "(").replace("}", ")").lstrip(".") or "column"


def _size(source: Source, cameras: Mapping[str, str], wanted: tuple[int, int] | None) -> tuple[int, int]:
    sizes = {name: source.shapes[column][1][:2] for name, column in cameras.items()}
    if wanted is not None or not sizes:
        return wanted or (64, 64)
    if len(set(sizes.values())) > 1:
        detail = ", ".join(f"{name} {w} x {h}" for name, (h, w) in sizes.items())
        raise ConfigError(
            f"The cameras of {source.root} have different sizes ({detail} px).",
            "Give --image-size for all, or choose cameras with --camera.",
        )
    height, width = next(iter(sizes.values()))
    return height, width


def _spec_of(
    source: Source, mapped: Mapped, episodes: Sequence[int], hand: int, progress: Progress
) -> ActionSpec:
    """Return limits a little wider than what was ever commanded."""
    dim = len(mapped.action_names)
    if not 0 <= hand <= dim:
        raise ConfigError(f"--hand {hand}, but there are {dim} actions.", f"Choose 0 to {dim}.")
    low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
    for done, index in enumerate(episodes):
        with malformed(f"{source.root}, episode {index}", "Leave the episode out with --episodes."):
            found = source.columns(index, [mapped.action])[mapped.action]
            rows = _finite(found, mapped.action, index, source.root).reshape(-1, dim)
        low, high = np.minimum(low, rows.min(0)), np.maximum(high, rows.max(0))
        progress("limits", done + 1, len(episodes))
    if not len(episodes):
        raise DataError(f"{source.root} has no episodes.", "There is nothing to import.")
    wider = np.maximum(_MARGIN * (high - low), _LEAST)
    return ActionSpec(
        names=mapped.action_names,
        units=("unknown",) * dim,
        low=(low - wider).astype(np.float32),
        high=(high + wider).astype(np.float32),
        groups={"arm": (0, dim - hand), "hand": (dim - hand, dim)},
    )


def _finite(values: NDArray[Any], name: str, index: int, root: Path) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        rows = np.asarray(values).astype(np.float32)
    bad = ~np.isfinite(rows)
    if bad.any():
        tick = int(np.flatnonzero(bad.reshape(len(rows), -1).any(axis=1))[0])
        raise CorruptEpisode(
            f"{root}, episode {index}: {name} is {np.ravel(rows[tick])[np.ravel(bad[tick])][0]} at tick {tick}.",
            "Leave the episode out with --episodes.",
        )
    return rows


def _gaps(times: NDArray[Any] | None, fps: float) -> list[int]:
    """Return the ticks before which ticks are missing."""
    if times is None:
        return []
    steps = np.diff(np.ravel(times).astype(np.float64))
    found: list[int] = (np.flatnonzero(steps > _GAP / fps) + 1).tolist()
    return found


def _scaled(images: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if images.shape[1:3] == size:
        return images
    from PIL import Image

    height, width = size
    scaled = [Image.fromarray(image).resize((width, height), Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(image) for image in scaled])
