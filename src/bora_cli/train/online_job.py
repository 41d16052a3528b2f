"""What an online run is, and what one of its episodes needs to know."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bora_cli.control.alarm import Alarm
from bora_cli.data.files import in_use, write_json
from bora_cli.errors import ConfigError
from bora_cli.evaluate.collect import differences


@dataclass(frozen=True)
class OnlineJob:
    """What an online run is.

    data_hash: of all that was recorded in the offline episodes, "" if none are used.  operator: who takes over,
    "simulated" or "person".  limit_s: longest episode, s; 0 is the task's own limit.
    alarm: hash of the alarm that calls whoever takes over, "" if he watches.  None where whoever wrote it did not know.
    """

    checkpoint: str
    checkpoint_hash: str
    task: str
    setting: str
    gap: str
    method: str
    rounds: int
    episodes: int
    seed: int
    preset: str
    residual: str
    image_size: int
    profile: str
    profile_hash: str
    data_hash: str | None
    operator: str | None = "simulated"
    limit_s: float | None = 0.0
    alarm: str | None = ""

    @property
    def facts(self) -> dict[str, Any]:
        """The job as JSON values; what has a default appears only where it differs, so that old runs go on."""
        defaults = {f.name: f.default for f in fields(self)}
        return {k: v for k, v in asdict(self).items() if v != defaults[k]}

    @classmethod
    def complete(cls, facts: dict[str, Any]) -> dict[str, Any]:
        """Return the facts of a job with the defaults that they leave out, as an earlier version did."""
        return {f.name: f.default for f in fields(cls) if f.default is not MISSING} | facts


@dataclass(frozen=True)
class AssistedJob:
    """One round's episodes: who acts, where.

    live: file for people who look on, "" for none.  alarm: who takes over waits for it; None if he watches.
    """

    job: OnlineJob
    round: int
    policy: str
    policy_hash: str
    live: str = ""
    alarm: Alarm | None = None

    @property
    def meta(self) -> dict[str, Any]:
        """What every episode of the round says about its making."""
        return {**self.job.facts, "round": self.round, "policy": self.policy_hash}


def claim(out: Path, job: OnlineJob, unknown: Sequence[str] = ()) -> OnlineJob:
    """Write job.json, or check that the one there is the same; returns the job with what others knew of it.

    unknown: what of the job the caller cannot tell; it stays open (null) until somebody comes who can.
    Raises ConfigError if the directory holds another run, or something else.
    """
    file = out / "job.json"
    if not file.is_file():
        if in_use(out):
            raise ConfigError(f"{out} is not empty and holds no online run.", "Choose another --out.")
        write_json(file, _with(job, dict.fromkeys(unknown)).facts)
        return job
    asked = {k: v for k, v in asdict(job).items() if k not in unknown}
    there = OnlineJob.complete(json.loads(file.read_text()))
    known = {k: asked.get(k) if v is None else v for k, v in there.items()}
    if detail := differences(known, asked):
        raise ConfigError(f"{out} holds another online run ({detail}).", "Choose another --out.")
    job = _with(job, {k: known[k] for k in unknown})
    if known != there:
        write_json(file, job.facts)
    return job


def _with(job: OnlineJob, changes: dict[str, Any]) -> OnlineJob:
    return OnlineJob(**(asdict(job) | changes))
