"""What a running collection or online run has done so far, read from its files; nothing waits for whoever looks.

The files are the ones that the terminal's progress comes from too: episode rows, which appear whole, and the
append-only metrics files.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bora_cli.analysis.online import EPISODES, RUN, committed, read_metrics, read_online, read_rounds
from bora_cli.analysis.summary import Round
from bora_cli.control.telemetry import LIVE
from bora_cli.data.files import read_json
from bora_cli.data.row_index import read_rows
from bora_cli.data.rows import count_episodes
from bora_cli.errors import DataError

QUIET_FACTOR = 5.0
"""A run is called silent when no episode came for this many times the usual gap, and at least QUIET_SECONDS."""
QUIET_SECONDS = 60.0
ENDED_SECONDS = 3600.0
"""After so long without an episode a run is taken to have ended, not to be late."""
TAIL = 65536
"""Bytes of the end of the control loop's records that are looked at."""
FORGOTTEN_SECONDS = 600.0
"""After so long a record says nothing about now."""
FAILURES = 5
SMALL_DISK = 2e9
"""Bytes of free space below which a recording is in danger."""
HEAVY = 0.5


@dataclass(frozen=True)
class Live:
    """The state of a run: episodes so far (`online.EPISODES`), logged updates, finished rounds.

    wanted: episodes that the job will record, 0 where it does not say.  job: what is run.  still: it is a copy
    of a run that has ended, so nothing is late.
    """

    path: Path
    job: dict[str, Any]
    episodes: pl.DataFrame
    metrics: pl.DataFrame
    rounds: tuple[Round, ...] = ()
    wanted: int = 0
    still: bool = False

    @property
    def done(self) -> bool:
        """Whether everything that the job asked for is there."""
        return self.still or (0 < self.wanted <= self.episodes.height and self._trained)

    @property
    def _trained(self) -> bool:
        wanted = int(self.job.get("rounds", 0))
        return len(self.rounds) >= wanted


def read_live(path: Path) -> Live:
    """Read what is there: an online run, a demo run, a dataset that is being recorded, or a copy of an online run.

    A run without an episode yet has an empty table.  Raises DataError if there is no run at all.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"There is nothing at {path}.", "Give the --out of a running `bora` command.")
    if (path / RUN).is_file():
        run = read_online(path)
        return Live(path, run.job, run.episodes, run.metrics, run.rounds, run.episodes.height, still=True)
    if (path / "online" / "job.json").is_file():
        path = path / "online"
    elif (path / "demo.json").is_file():
        path = path / "demos"
    if (path / "job.json").is_file():
        job = read_json(path / "job.json")
        wanted = int(job.get("rounds", 1)) * int(job.get("episodes", 0))
        return Live(path, job, _episodes(path / "episodes"), read_metrics(path), read_rounds(path), wanted)
    if (path / "meta" / "bora.json").is_file():
        extra = read_json(path / "meta" / "bora.json").get("extra", {})
        job = extra.get("job", {})
        return Live(path, job, _episodes(path), read_metrics(path))
    raise DataError(
        f"{path} is neither an online run nor a dataset.", "Give the --out of a running `bora` command."
    )


def _episodes(root: Path) -> pl.DataFrame:
    """Return the episodes that are committed; asks nothing that whoever appends could be held up by."""
    if not (root / "meta" / "info.json").is_file():
        return pl.DataFrame(schema=EPISODES)
    rows = [
        {
            "episode": row.index,
            "round": int(row.meta.get("round", 1)),
            "scene": int(row.meta.get("scene_seed", -1)),
            "success": row.success,
            "ticks": row.length,
            "human_ticks": row.human_ticks,
            "takeovers": int(row.meta.get("takeovers", 0)),
            "lam": None,
            "finished": committed(root, row.index),
        }
        for row in read_rows(root, count_episodes(root), False)
    ]
    return pl.DataFrame(rows, schema=EPISODES)


def last_words(path: Path, now: float) -> list[dict[str, Any]]:
    """Return the last record of every process that told something lately, newest first; see `control.telemetry`.

    path: of the run.  now: seconds since 1970.  Each record also has `age`, s.  A line that is still being written is
    left out, and only the end of the file is read.
    """
    try:
        with open(path / LIVE, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            lines = file.read().split(b"\n")[:-1]
    except OSError:  # nobody has told anything yet
        return []
    newest: dict[int, dict[str, Any]] = {}
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # the end of the file began within it
            continue
        if isinstance(record, dict) and now - float(record.get("t", 0.0)) <= FORGOTTEN_SECONDS:
            newest[int(record.get("pid", 0))] = record | {"age": now - float(record["t"])}
    return sorted(newest.values(), key=lambda record: float(record["age"]))


def alarms(live: Live, now: float) -> list[str]:
    """Return what somebody should look at, most urgent first.  now: seconds since 1970."""
    found = []
    free = shutil.disk_usage(live.path).free
    if free < SMALL_DISK and not live.still:
        found.append(f"Only {free / 1e9:.1f} GB are free where the episodes are written.")
    for name in (c for c in live.metrics.columns if live.metrics[c].dtype.is_float()):
        values = live.metrics[name].drop_nulls()
        if not values.is_finite().all():
            found.append(f"The number '{name}' of the training is not finite.")
    e = live.episodes
    if not e.height:
        return found
    silence = now - float(e["finished"][-1])
    gaps = np.diff(e["finished"].to_numpy())
    usual = float(np.median(gaps)) if gaps.size else math.inf
    late = gaps.size and max(QUIET_SECONDS, QUIET_FACTOR * usual) < silence < ENDED_SECONDS
    if late and not live.done:
        found.append(
            f"No episode for {silence:.0f} s; one took {usual:.0f} s before. It may be training, or stopped."
        )
    last = e.tail(FAILURES)
    if last.height == FAILURES and not last["success"].any():
        found.append(f"The last {FAILURES} episodes failed.")
    share = float(last["human_ticks"].to_numpy().sum() / max(1, last["ticks"].to_numpy().sum()))
    if share > HEAVY:
        found.append(
            f"A person drove {100 * share:.0f} % of the last {last.height} episodes: the policy hardly acts."
        )
    again = last.filter(pl.col("takeovers") >= 3)
    if again.height:
        found.append(f"Episode {again['episode'][-1]} needed {again['takeovers'][-1]} takeovers.")
    return found
