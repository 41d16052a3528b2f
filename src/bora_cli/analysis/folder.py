"""The folder that `bora analyze` writes and that the notebook and the committed example are.

traces.parquet                         the value-trace table (`bora_cli.analysis.traces`)
swaps.parquet                          what the critic says about other chunks (`bora_cli.analysis.swaps`), optional
critic.json                            the critic's marks (`CriticSummary`), optional
frames/episode_0003_tick_0012.webp     thumbnails of some episodes (scene camera)
summary.json                           numbers of the run, optional
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from bora_cli.analysis.critic_summary import CriticSummary
from bora_cli.analysis.media import read_image, webp_image
from bora_cli.analysis.summary import RunSummary
from bora_cli.analysis.swaps import read_swaps
from bora_cli.analysis.traces import outcomes, read_traces, write_traces
from bora_cli.data.files import read_json
from bora_cli.errors import DataError
from bora_cli.types import U8

TRACES = "traces.parquet"
SWAPS = "swaps.parquet"
CRITIC = "critic.json"
_NAME = re.compile(r"episode_(\d+)_tick_(\d+)\.webp")


@dataclass(frozen=True)
class TraceFolder:
    """A loaded folder: the table, its thumbnails (episode -> tick -> file), and the run's numbers.

    swaps: the swap table, None where there is none.
    """

    path: Path
    traces: pl.DataFrame
    thumbnails: dict[int, dict[int, Path]]
    summary: RunSummary | None
    swaps: pl.DataFrame | None = None

    def frame(self, episode: int, tick: int) -> tuple[int, U8] | None:
        """Return the thumbnail nearest to a tick as (its tick, uint8 [H, W, 3]), or None if there is none."""
        ticks = self.thumbnails.get(episode)
        if not ticks:
            return None
        nearest = min(ticks, key=lambda t: abs(t - tick))
        return nearest, read_image(ticks[nearest])

    def critic(self) -> CriticSummary | None:
        """Return the critic's marks, from the run's summary or from what `bora analyze` wrote; None without any."""
        if self.summary is not None and self.summary.critic is not None:
            return self.summary.critic
        file = self.path / CRITIC
        if not file.is_file():
            return None
        return CriticSummary.from_json(read_json(file))

    def strip(self, episode: int, count: int = 8) -> list[tuple[int, U8]]:
        """Return up to `count` thumbnails spread evenly over an episode as (tick, uint8 [H, W, 3])."""
        ticks = sorted(self.thumbnails.get(episode, {}))
        if len(ticks) > count:
            ticks = [ticks[round(i * (len(ticks) - 1) / (count - 1))] for i in range(count)]
        return [(t, read_image(self.thumbnails[episode][t])) for t in ticks]


def write_folder(
    path: Path,
    traces: pl.DataFrame,
    frames: Mapping[int, Mapping[int, U8]] | None = None,
    summary: RunSummary | None = None,
    swaps: pl.DataFrame | None = None,
) -> None:
    """Write a trace folder; a swap table of an earlier call is removed where none is given.

    frames: episode -> tick -> uint8 [H, W, 3]; 64 to 160 pixels and ten ticks per episode are plenty.
    Thumbnails of an earlier call that are not in `frames` are removed.
    Raises DataError if a thumbnail belongs to a tick that the table does not have.
    """
    lengths = dict(outcomes(traces).select("episode", "ticks").iter_rows())
    pictures = {(e, t): image for e, ticks in (frames or {}).items() for t, image in ticks.items()}
    for episode, tick in pictures:
        if not 0 <= tick < lengths.get(episode, 0):
            raise DataError(
                f"A thumbnail belongs to tick {tick} of episode {episode}, which is not in the trace table.",
                "Number the frames like the rows of the table.",
            )
    folder = path / "frames"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("episode_*_tick_*.webp"):
        old.unlink()
    for (episode, tick), image in pictures.items():
        (folder / f"episode_{episode:04d}_tick_{tick:04d}.webp").write_bytes(webp_image(image))
    if summary is not None:
        summary.save(path / "summary.json")
    (path / SWAPS).unlink(missing_ok=True)
    if swaps is not None:
        swaps.write_parquet(path / SWAPS, compression="zstd")
    write_traces(path / TRACES, traces)


def read_folder(path: Path) -> TraceFolder:
    """Load a trace folder, or the folder of a run that has one in it (directly or as `analysis/`).

    Raises DataError if there is no trace table in any of these places.
    """
    places = [path, path / "analysis"]
    found = next((p for p in places if (p / TRACES).is_file()), None)
    if found is None:
        raise DataError(
            f"There is no {TRACES} in {path} nor in its analysis folder.",
            "Run `bora analyze` on this run first, or give another folder.",
        )
    thumbnails: dict[int, dict[int, Path]] = {}
    for file in sorted((found / "frames").glob("*.webp")):
        if match := _NAME.fullmatch(file.name):
            thumbnails.setdefault(int(match[1]), {})[int(match[2])] = file
    summaries = [p / "summary.json" for p in (found, path) if (p / "summary.json").is_file()]
    summary = RunSummary.load(summaries[0]) if summaries else None
    swaps = read_swaps(found / SWAPS) if (found / SWAPS).is_file() else None
    return TraceFolder(found, read_traces(found / TRACES), thumbnails, summary, swaps)
