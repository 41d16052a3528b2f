"""Where does the critic look?  Parts of the image are covered or recoloured, and V and Q are asked again.

Covering the object, or the hand, should change what the critic says; recolouring the background should not, and
covering a patch of it as large as the object and the hand should change less.  Masks are uint8 [n, C, h, w] with the
values of `bora_cli.sim.part_masks`; one row per state and picture:

    episode  int32    episode of the buffer
    tick     int32
    success  bool     outcome of the episode
    kind     str      "seen" (nothing changed) or one of KINDS
    area     float32  share of the pixels that changed
    v, q     float32  what the critic says; Q of the chunk that was executed
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from bora_cli.analysis.bootstrap import Estimate, episode_counts, interval, ratio_estimate
from bora_cli.analysis.critic_summary import OcclusionScore
from bora_cli.analysis.part_files import box_masks, file_masks
from bora_cli.analysis.recordings import Judged, pixels_of
from bora_cli.data.dataset import Dataset
from bora_cli.errors import DataError
from bora_cli.evaluate.resimulate import recorded, seen_parts
from bora_cli.evaluate.workers import Workers
from bora_cli.sim.part_masks import BACKGROUND, HAND, OBJECT
from bora_cli.types import F32, U8

if TYPE_CHECKING:
    from bora_cli.analysis.scorers import Scorer

Progress = Callable[[str, int, int], None]
Rows = NDArray[np.int64]

SEEN = "seen"
KINDS = ("object", "hand", "object_and_hand", "background_patch", "background_recoloured", "everything")
"""What is covered, by the mean colour of its camera: "background_patch" is the mask of object and hand elsewhere.

"background_recoloured" exchanges the colours of the background, and "everything" leaves nothing to see at all.
"""
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""When an episode is looked at, in normalised time."""
SHIFTS = 16
"""Random places that are tried for a background patch; the one with the largest part on the background is taken."""

SCHEMA: dict[str, pl.DataType] = {
    "episode": pl.Int32(),
    "tick": pl.Int32(),
    "success": pl.Boolean(),
    "kind": pl.String(),
    "area": pl.Float32(),
    "v": pl.Float32(),
    "q": pl.Float32(),
}


@dataclass(frozen=True)
class Masked:
    """Which episodes are looked at, and who says where hand and object are: a file, boxes, or else the simulator.

    episodes: how many.  data: the datasets, as the buffer was read.  cameras: of the policy.
    """

    episodes: int
    file: Path | None
    boxes: tuple[str, ...]
    data: Sequence[Path]
    cameras: tuple[str, ...]


def occlude(
    masked: Masked,
    buffer: Judged,
    scorer: Scorer,
    rng: np.random.Generator,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> tuple[pl.DataFrame, dict[str, U8]]:
    """Return the table of a critic, and all pictures of one state: camera -> uint8 [kinds, h, w, 3].

    Raises DataError, ConfigError or SchemaMismatch where nobody says what is where.
    """
    chosen = looked_at(buffer, masked.episodes, rng)
    images = images_at(masked.data, buffer, chosen, masked.cameras)
    size = (images.shape[2], images.shape[3])
    w = buffer.windows
    if masked.file is not None:
        rows = np.asarray(buffer.first[w.episode[chosen]] + w.t[chosen], np.int64)
        masks = file_masks(masked.file, masked.cameras, size, rows, int(buffer.first[-1]))
    elif masked.boxes:
        masks = box_masks(masked.boxes, masked.cameras, size, len(chosen))
    else:
        masks = simulated_masks(buffer, chosen, workers, progress)
    state = rng.bit_generator.state
    table = occlusion_table(buffer, scorer, chosen, images, masks, rng)
    rng.bit_generator.state = state  # the same pictures once more, for people
    middle = len(TIMES) // 2
    shown = {SEEN: images} | {k: p for k, (p, _) in pictures(images, masks, rng).items()}
    return table, {
        camera: np.stack([p[middle, c] for p in shown.values()]) for c, camera in enumerate(masked.cameras)
    }


def looked_at(buffer: Judged, episodes: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return windows at TIMES of up to `episodes` unaided episodes, half of them successes where there are enough.

    Raises DataError if there is no unaided episode long enough for a full chunk.
    """
    w = buffer.windows
    full = w.e == w.action.shape[1]
    long = set(w.episode[full].tolist())
    alone = [i for i, e in enumerate(buffer.episodes) if i in long and not e.intervened.any()]
    if not alone:
        raise DataError(
            "No unaided episode is as long as a chunk; there is no state to look at.",
            "Analyse longer episodes.",
        )
    order = rng.permutation(np.array(alone))
    succeeded = np.zeros(len(buffer.episodes), bool)
    succeeded[w.episode] = w.success
    outcome = succeeded[order]
    good, bad = order[outcome], order[~outcome]
    of_good = min(len(good), max(episodes - episodes // 2, episodes - len(bad)))
    chosen = np.sort(np.concatenate([good[:of_good], bad[: max(0, episodes - of_good)]]))
    found: list[int] = []
    for i in chosen:
        mine = np.flatnonzero(full & (w.episode == i))
        wanted = np.array(TIMES) * (buffer.first[i + 1] - buffer.first[i] - 1)
        found += sorted({int(mine[np.abs(w.t[mine] - t).argmin()]) for t in wanted})
    return np.array(found, np.intp)


def simulated_masks(
    buffer: Judged, chosen: NDArray[np.intp], workers: Workers | None = None, progress: Progress | None = None
) -> U8:
    """Return the masks of some windows' first ticks by bringing the simulator back to them, uint8 [n, C, h, w].

    Raises DataError for episodes that were not simulated here.
    """
    w = buffer.windows
    owners = np.unique(w.episode[chosen])
    jobs = [
        (recorded(buffer.episodes[i]), tuple(int(t) for t in w.t[chosen[w.episode[chosen] == i]]))
        for i in owners
    ]
    found = []
    for i, masks in enumerate((workers or Workers(1)).map(seen_parts, jobs)):
        found.append(masks)
        if progress is not None:
            progress("find hand and object", i + 1, len(jobs))
    return np.concatenate(found)


def images_at(data: Sequence[Path], buffer: Judged, chosen: NDArray[np.intp], cameras: Sequence[str]) -> U8:
    """Return the recorded images of some windows' first ticks, uint8 [n, C, h, w, 3].  data: as `buffer` was read."""
    w, found, start = buffer.windows, [], 0
    for path in data:
        dataset = Dataset.open(path)
        mine = chosen[(w.episode[chosen] >= start) & (w.episode[chosen] < start + len(dataset))]
        for i in np.unique(w.episode[mine]):
            episode = dataset.episode(int(i) - start)
            ticks = w.t[mine[w.episode[mine] == i]]
            found.append(pixels_of(episode, cameras)[ticks])
        start += len(dataset)
    return np.concatenate(found)


def pictures(images: U8, masks: U8, rng: np.random.Generator) -> dict[str, tuple[U8, F32]]:
    """Return the changed images uint8 [n, C, h, w, 3] and the share of changed pixels [n], per kind.

    Kinds whose part is nowhere to be seen are left out.
    """
    mean = images.mean(axis=(0, 2, 3)).round().astype(np.uint8)[None, :, None, None, :]
    shown = masks != BACKGROUND
    covered = {
        "object": masks == OBJECT,
        "hand": masks == HAND,
        "object_and_hand": shown,
        "background_patch": _elsewhere(shown, rng),
        "everything": np.ones_like(shown),
    }
    made = {k: (np.where(m[..., None], mean, images).astype(np.uint8), m) for k, m in covered.items()}
    made["background_recoloured"] = np.where(shown[..., None], images, images[..., [1, 2, 0]]), ~shown
    return {
        kind: (made[kind][0], made[kind][1].mean(axis=(1, 2, 3)).astype(np.float32))
        for kind in KINDS
        if made[kind][1].any()
    }


def occlusion_table(
    buffer: Judged, scorer: Scorer, chosen: NDArray[np.intp], images: U8, masks: U8, rng: np.random.Generator
) -> pl.DataFrame:
    """Ask the critic about the pictures of some windows.  images: uint8 [n, C, h, w, 3].  masks: uint8 [n, C, h, w].

    Raises DataError where masks and images differ in shape.
    """
    if masks.shape != images.shape[:-1]:
        raise DataError(
            f"The masks have shape {masks.shape}; expected {images.shape[:-1]} (states, cameras, rows, columns).",
            "Make one mask per camera, as large as its image.",
        )
    w = buffer.windows
    rows: Rows = np.asarray(buffer.first[w.episode[chosen]] + w.t[chosen], np.int64)
    changed = {SEEN: (images, np.zeros(len(chosen), np.float32))} | pictures(images, masks, rng)
    tables = []
    for kind, (picture, area) in changed.items():
        v, q = scorer.glance(rows, picture, w.action[chosen], w.mask[chosen])
        columns = {
            "episode": w.episode[chosen],
            "tick": w.t[chosen],
            "success": w.success[chosen],
            "kind": [kind] * len(chosen),
            "area": area,
            "v": v,
            "q": q,
        }
        tables.append(pl.DataFrame(columns, schema_overrides=SCHEMA))
    return pl.concat(tables)


def occlusion_scores(table: pl.DataFrame, *, rng: np.random.Generator) -> tuple[OcclusionScore, ...]:
    """Return per kind by how much V and Q changed, and how well V still tells the outcomes apart.

    v_change, q_change: mean absolute change in standard deviations of what was said about the unchanged images.
    auroc: of the episodes' mean V over the states looked at; None with one outcome.  95 % intervals over episodes.
    Raises DataError where a value is not finite.
    """
    if not (table["v"].is_finite() & table["q"].is_finite()).all():
        raise DataError("The critic's values are not finite.", "Check that training did not diverge.")
    seen = table.filter(pl.col("kind") == SEEN)
    _, episode = np.unique(seen["episode"].to_numpy(), return_inverse=True)
    count = np.bincount(episode).astype(np.float64)  # states per episode
    success = np.bincount(episode, seen["success"].to_numpy()) > 0
    scale = {c: float(seen[c].to_numpy().std()) or float("nan") for c in ("v", "q")}
    found = []
    for kind in (SEEN, *KINDS):
        part = table.filter(pl.col("kind") == kind)
        if part.is_empty():
            continue
        change = {}
        for c in ("v", "q"):
            moved = np.abs(part[c].to_numpy() - seen[c].to_numpy()) / scale[c]
            change[c] = ratio_estimate(np.bincount(episode, moved).astype(np.float64), count, rng=rng)[0]
        means = np.bincount(episode, part["v"].to_numpy()) / count
        told = _auroc(means, success, rng) if 1 < success.sum() < len(success) - 1 else None
        found.append(
            OcclusionScore(
                kind=kind,
                n=part.height,
                episodes=len(count),
                area=float(part["area"].to_numpy().mean()),
                **_numbers("v_change", change["v"]),
                **_numbers("q_change", change["q"]),
                **_numbers("auroc", told),
            )
        )
    return tuple(found)


def _numbers(name: str, e: Estimate | None) -> dict[str, float | None]:
    values = (None, None, None) if e is None or not np.isfinite(e.value) else (e.value, e.lo, e.hi)
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), values, strict=True))


def _auroc(score: NDArray[np.float64], success: NDArray[np.bool_], rng: np.random.Generator) -> Estimate:
    """Return the AUROC of a score per episode; the bootstrap draws successes and failures separately."""
    good, bad = score[success], score[~success]
    wins = (good[:, None] > bad) + 0.5 * (good[:, None] == bad)
    a, b = (episode_counts(len(x), 1000, rng).astype(np.float64) for x in (good, bad))
    samples = ((a @ wins) * b).sum(1) / (len(good) * len(bad))
    return Estimate(float(wins.mean()), *interval(samples), len(score))


def _elsewhere(shown: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return each mask moved to another place, as far as it covers background there, [n, C, h, w]."""
    n, cameras, h, w = shown.shape
    found = np.zeros_like(shown)
    for i in range(n):
        for c in range(cameras):
            places: Sequence[tuple[int, int]] = [
                (int(rng.integers(h)), int(rng.integers(w))) for _ in range(SHIFTS)
            ]
            moved = [np.roll(shown[i, c], place, (0, 1)) & ~shown[i, c] for place in places]
            found[i, c] = max(moved, key=lambda m: int(m.sum()))
    return found
