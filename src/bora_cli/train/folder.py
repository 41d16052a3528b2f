"""The directory of a training run, beside the checkpoint it makes:

    OUT.run/run.json          what is trained (method, numbers, hashes of data, backbone and start), and every start of
                              it with versions and a hash of the code; written before the first update
    OUT.run/metrics.jsonl     losses and diagnostics, only ever appended to
    OUT.run/profile.json      milliseconds per update of every phase, and how many of them waited for data
    OUT.run/best              checkpoint that imitates held-out episodes best, where there are such
    OUT.run/last, state/      while it trains: the policy as it is, and what an interrupted run goes on from

OUT itself is the policy after the last update.  Of several processes only the first one writes.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bora_cli.checkpoint import Trained, code_hash, package_versions, read_config, save_trained
from bora_cli.data.files import make_directory, write_json
from bora_cli.errors import ConfigError
from bora_cli.train import parallel
from bora_cli.train.run import Profile

log = logging.getLogger(__name__)


def folder_of(out: Path) -> Path:
    """Return the directory of the run that makes the checkpoint `out`."""
    out = out.resolve()
    return out.with_name(f"{out.name}.run")


def is_interrupted(out: Path) -> bool:
    """Return whether the training of a checkpoint was interrupted and can go on."""
    return _left(folder_of(out)) is not None


class RunFolder:
    """A run directory that is open.  continued: whether an interrupted run goes on.

    policy: set before anything is kept; returns what to write for an expert, with facts for its provenance.
    """

    def __init__(self, root: Path, job: dict[str, Any], starts: list[dict[str, Any]]) -> None:
        self.root, self.job, self.starts = root, job, starts
        self.continued = len(starts) > 1
        self.policy: Callable[[Any, Mapping[str, Any]], Trained] | None = None

    @classmethod
    def require_free(cls, out: Path, job: Mapping[str, Any]) -> None:
        """Raise ConfigError as `open` does, without changing anything."""
        _interrupted(folder_of(out), json.loads(json.dumps(dict(job))))

    @classmethod
    def open(cls, out: Path, job: Mapping[str, Any]) -> RunFolder:
        """Make the run directory of `out`, or go on with the interrupted run that it holds.

        job: JSON values that say what is trained; a run that finished, diverged or has saved nothing is replaced.
        Raises ConfigError if an interrupted run is another one.
        """
        root = folder_of(out)
        wanted = json.loads(json.dumps(dict(job)))
        found: list[dict[str, Any]] = []
        if parallel.first():
            found = _interrupted(root, wanted)
            if not found:
                shutil.rmtree(root, ignore_errors=True)
                make_directory(root / "state")
        parallel.wait()
        if not parallel.first() and (root / "run.json").is_file():
            found = json.loads((root / "run.json").read_text())["starts"]
        start = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": package_versions(),
            "code": code_hash(),
            "processes": parallel.size(),
        }
        if found and found[-1]["code"] != start["code"]:
            log.warning(
                "The code has changed since %s was started; it may not repeat itself bit for bit.", root
            )
        folder = cls(root, wanted, [*found, start])
        parallel.wait()
        folder._write(None)
        return folder

    @property
    def metrics(self) -> Path | None:
        """Where the numbers go; None in a process that does not write."""
        return self.root / "metrics.jsonl" if parallel.first() else None

    def state_file(self, phase: str) -> Path:
        """Return where the state of a phase is kept."""
        return self.root / "state" / f"{phase.replace(' ', '-')}.safetensors"

    def keep_policy(self, name: str, expert: Any, facts: Mapping[str, Any]) -> None:
        """Write a checkpoint with an expert into the run directory, in the place of the one of this name."""
        if self.policy is not None and parallel.first():
            save_trained(self.root / name, self.policy(expert, facts))

    def kept(self, name: str) -> dict[str, Any]:
        """Return the facts of a checkpoint that was kept, none if there is none."""
        if not (self.root / name / "config.json").is_file():
            return {}
        facts: dict[str, Any] = read_config(self.root / name)["provenance"]
        return facts

    def close(self, ended: str, profile: Mapping[str, Profile], finished: bool) -> None:
        """Write how the run ended and drop what only an interrupted one needs.  finished: its checkpoint is there."""
        if not parallel.first():
            return
        write_json(self.root / "profile.json", {name: p.summary() for name, p in profile.items() if p.update})
        self._write(ended)
        for name in ("state", "last") if finished else ("state",):
            shutil.rmtree(self.root / name, ignore_errors=True)

    def _write(self, ended: str | None) -> None:
        if parallel.first():
            facts = {"job": self.job, "starts": self.starts, "ended": ended}
            write_json(self.root / "run.json", facts)


def _interrupted(root: Path, job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the starts of the interrupted run of this job, none if there is no run to go on with."""
    before = _left(root)
    if before is None:
        return []
    old, job = dict(_flat(before["job"])), dict(_flat(job))
    differing = [k for k in {**old, **job} if old.get(k) != job.get(k)]
    if differing:
        what = "; ".join(f"{k} {_short(old.get(k))}, now {_short(job.get(k))}" for k in sorted(differing))
        raise ConfigError(
            f"{root} holds an interrupted training of something else: {what}.",
            "Repeat its command to finish it, choose another --out, or remove that directory.",
        )
    starts: list[dict[str, Any]] = before["starts"]
    return starts


def _left(root: Path) -> dict[str, Any] | None:
    """Return what run.json says of a run that was interrupted after it had saved something."""
    file = root / "run.json"
    if not file.is_file() or not any((root / "state").glob("*.safetensors")):
        return None
    about: dict[str, Any] = json.loads(file.read_text())
    return about if about["ended"] is None else None


def _flat(job: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested settings with names such as settings.cp.updates."""
    for key, value in job.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
