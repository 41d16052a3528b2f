"""An online run as tables: what happened in its rounds, when and why a person took over, what the residual learned.

`read_online` reads the directory of `bora online` (also while it is running), or the small copy of one that
`write_online` makes:

    run.json           the job, its rounds, names and groups of the action
    metrics.parquet    one row per logged update: round, phase, update, and the numbers of that phase
    episodes.parquet   one row per episode: episode, round, scene, success, ticks, human_ticks, takeovers, lam, finished
    ticks.parquet      one row per tick: episode, round, tick, controller, human, correction, residual
    changes.parquet    one row per takeover: episode, round, tick, until, reason, success
    frames/episode_0003_tick_0012.webp    the scene at some takeovers

correction, residual: float32 [A] in command units (1 = half the range of a dimension); the person's command minus
the policy's, NaN where nobody commanded, and what the residual added to the policy's base chunk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bora_cli.analysis.media import read_image, webp_image
from bora_cli.analysis.summary import Round
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import read_json, write_json
from bora_cli.data.schema import EPISODE_PATH, episode_file
from bora_cli.errors import DataError
from bora_cli.types import F32, U8, ActionSpec, Episode

RUN = "run.json"
TABLES = ("metrics", "episodes", "ticks", "changes")
CAMERA_INDEX = 0
EPISODES: dict[str, pl.DataType] = {
    "episode": pl.Int32(),
    "round": pl.Int32(),
    "scene": pl.Int64(),
    "success": pl.Boolean(),
    "ticks": pl.Int32(),
    "human_ticks": pl.Int32(),
    "takeovers": pl.Int32(),
    "lam": pl.Float32(),
    "finished": pl.Float64(),
}
"""finished: seconds of the wall clock since 1970 when the episode was committed."""
CHANGES: dict[str, pl.DataType] = {
    "episode": pl.Int32(),
    "round": pl.Int32(),
    "tick": pl.Int32(),
    "until": pl.Int32(),
    "reason": pl.String(),
    "success": pl.Boolean(),
}


@dataclass(frozen=True)
class OnlineRun:
    """An online run; see the module's docstring for the tables."""

    path: Path
    job: dict[str, Any]
    rounds: tuple[Round, ...]
    spec: ActionSpec
    metrics: pl.DataFrame
    episodes: pl.DataFrame
    ticks: pl.DataFrame
    changes: pl.DataFrame

    def frame(self, episode: int, tick: int) -> U8 | None:
        """Return the scene at a tick, uint8 [H, W, 3], or None where no picture was kept."""
        small = self.path / "frames" / f"episode_{episode:04d}_tick_{tick:04d}.webp"
        if small.is_file():
            return read_image(small)
        if (self.path / "episodes").is_dir():
            dataset = Dataset.open(self.path / "episodes")
            if dataset.cameras:
                images = dataset.episode(episode).images[dataset.cameras[CAMERA_INDEX]]
                return np.asarray(images[min(tick, len(images) - 1)])
        return None


def read_online(path: Path) -> OnlineRun:
    """Read an online run, or the online part of a demo run, or a small copy.

    Raises DataError if there is none, or if it has no episode yet.
    """
    path = Path(path)
    place = next(
        (p for p in (path, path / "online") if (p / RUN).is_file() or (p / "job.json").is_file()), None
    )
    if place is None:
        raise DataError(
            f"{path} holds no online run." if path.is_dir() else f"There is nothing at {path}.",
            "Give the directory that `bora online --out` or `bora demo --out` made.",
        )
    if (place / RUN).is_file():
        return _copy(place)
    if not (place / "episodes" / "meta" / "info.json").is_file():
        raise DataError(f"The online run {place} has no episode yet.", "Wait for the first one.")
    dataset = Dataset.open(place / "episodes")
    if not len(dataset):
        raise DataError(f"The online run {place} has no episode yet.", "Wait for the first one.")
    parts = [_episode_tables(i, dataset.episode(i, images=False), dataset) for i in range(len(dataset))]
    return OnlineRun(
        place,
        read_json(place / "job.json"),
        read_rounds(place),
        dataset.spec,
        read_metrics(place),
        pl.concat([p[0] for p in parts]),
        pl.concat([p[1] for p in parts]),
        pl.concat([p[2] for p in parts]),
    )


def read_rounds(path: Path) -> tuple[Round, ...]:
    """Return the finished rounds of an online run, in order."""
    names = [f.name for f in fields(Round)]
    found = [read_json(file) for file in path.glob("round-*/round.json")]
    return tuple(sorted((Round(**{k: r[k] for k in names}) for r in found), key=lambda r: r.index))


def read_metrics(path: Path) -> pl.DataFrame:
    """Return all logged updates of an online run; a last line that is still being written is left out."""
    rows = []
    for file in sorted(path.glob("round-*/metrics.jsonl")):
        number = int(file.parent.name.partition("-")[2])
        rows += [{"round": number, **row} for row in metrics_lines(file)]
    if not rows:
        return pl.DataFrame(schema={"round": pl.Int64(), "phase": pl.String(), "update": pl.Int64()})
    return pl.DataFrame(rows, infer_schema_length=None)


def metrics_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of an append-only metrics file that are complete."""
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict):
            yield row


def write_online(path: Path, run: OnlineRun, frames: Mapping[tuple[int, int], U8]) -> None:
    """Write the small copy of an online run.  frames: (episode, tick) -> uint8 [H, W, 3]."""
    (path / "frames").mkdir(parents=True, exist_ok=True)
    rounds = [asdict(r) for r in run.rounds]
    write_json(path / RUN, {"job": run.job, "rounds": rounds, "action": run.spec.to_json()})
    for name in TABLES:
        getattr(run, name).write_parquet(path / f"{name}.parquet", compression="zstd")
    for (episode, tick), image in frames.items():
        (path / "frames" / f"episode_{episode:04d}_tick_{tick:04d}.webp").write_bytes(webp_image(image))


def committed(root: Path, index: int) -> float:
    """Return when an episode of a dataset came to exist, seconds since 1970."""
    return episode_file(root, EPISODE_PATH, index).stat().st_mtime


def columns(table: pl.DataFrame, name: str) -> F32:
    """Return a column of rows as float32 [n, A]."""
    width = table.schema[name].shape[0]  # type: ignore[attr-defined]
    return np.asarray(table[name].to_numpy(), np.float32).reshape(table.height, width)


def _copy(path: Path) -> OnlineRun:
    head = read_json(path / RUN)
    missing = [name for name in TABLES if not (path / f"{name}.parquet").is_file()]
    if missing:
        raise DataError(f"{path} lacks {missing[0]}.parquet.", "Make the copy again.")
    tables = [pl.read_parquet(path / f"{name}.parquet") for name in TABLES]
    rounds = tuple(Round(**r) for r in head["rounds"])
    return OnlineRun(path, head["job"], rounds, ActionSpec.from_json(head["action"]), *tables)


def _episode_tables(
    index: int, e: Episode, dataset: Dataset
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return the rows of one episode: episode, ticks, takeovers."""
    n, half = len(e), dataset.spec.half_range
    number = int(e.meta.get("round", 1))
    residual = np.zeros_like(e.action)
    for d in e.decisions:
        part = slice(d.t_start, d.t_start + d.executed)
        residual[part] = ((d.final - d.base) / half)[: len(residual[part])]
    acting = [d.lam for d in e.decisions if not d.shadow]
    one = {
        "episode": index,
        "round": number,
        "scene": int(e.meta.get("scene_seed", -1)),
        "success": bool(e.success),
        "ticks": n,
        "human_ticks": int(e.intervened.sum()),
        "takeovers": int(e.meta.get("takeovers", 0)),
        "lam": float(np.mean(acting)) if acting else 0.0,
        "finished": committed(dataset.root, index),
    }
    wide = pl.Array(pl.Float32, dataset.spec.dim)
    ticks = pl.DataFrame(
        {
            "episode": np.full(n, index, np.int32),
            "round": np.full(n, number, np.int32),
            "tick": np.arange(n, dtype=np.int32),
            "controller": e.controller,
            "human": e.intervened,
            "correction": pl.Series(((e.human - e.proposed) / half).astype(np.float32), dtype=wide),
            "residual": pl.Series(residual.astype(np.float32), dtype=wide),
        }
    )
    return pl.DataFrame([one], schema=EPISODES), ticks, pl.DataFrame(list(_changes(index, e)), schema=CHANGES)


def _changes(index: int, e: Episode) -> Iterator[dict[str, Any]]:
    events = e.meta.get("control_changes", [])
    for i, event in enumerate(events):
        if event["event"] != "takeover":
            continue
        until = next((x["tick"] for x in events[i + 1 :] if x["event"] == "release"), len(e))
        yield {
            "episode": index,
            "round": int(e.meta.get("round", 1)),
            "tick": int(event["tick"]),
            "until": int(until),
            "reason": str(event.get("reason", "")) or "no reason given",
            "success": bool(e.success),
        }
