"""The learner of rounds on a robot: in the process of the robot, or in another one, on any computer that sees the run.

It waits for the episodes of a round, trains, and says so in a file; whoever acts waits for that file and for all that
it names.  Neither writes a file of the other, every file appears whole, and all that either knows is in files:

    OUT/episodes, OUT/round-K/round.json   the actor's
    OUT/round-K/policy                     the learner's
    OUT/round-K/learned.json               the learner's: {"hash": of that policy}
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.checkpoint import Trained, load_trained, save_trained
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import write_json
from bora_cli.errors import BoraError, ConfigError
from bora_cli.evaluate.evaluate import checkpoint_hash
from bora_cli.train.meeting import Wait, patiently, playing, round_of
from bora_cli.train.residual import fit_residual
from bora_cli.train.robot_job import RoundsJob, read_job
from bora_cli.train.tracker import Tracker

Progress = Callable[[str, int, int], None]
LEARNED = "learned.json"


def learn_elsewhere(
    checkpoint: Path,
    out: Path,
    *,
    data: list[Path] | None = None,
    wait: Wait = patiently,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Learn from every round of a run as soon as it is recorded; returns once all of them are learned from.

    checkpoint: the policy that the run began with.  data: as of `rounds_on_robot`.  wait: called while there is nothing
    to do, with what is missing.  The same call goes on where it was interrupted.
    Raises ConfigError for another policy or run, or where somebody else is the learner; DataError for bad data.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    base = load_trained(checkpoint)
    while (job := read_job(out)) is None:
        wait(f"{out} to be begun by `bora robot online --elsewhere`")
    if (digest := checkpoint_hash(checkpoint)) != job.robot.checkpoint_hash:
        raise ConfigError(
            f"{out} began with a policy of hash {job.robot.checkpoint_hash}; {checkpoint} has {digest}.",
            "Give a copy of the same policy.",
        )
    offline = mixed_in(base, job.method, data)
    with playing(out, "learner") as check:

        def look_again(reason: str) -> None:
            check()
            wait(reason)

        for index in range(1, job.rounds + 1):
            acting = _acting(out, index, checkpoint, look_again)
            if (out / f"round-{index}" / LEARNED).is_file():
                continue
            round_of(out, index, job.episodes, look_again)
            check()
            learn_round(job, base, index, acting, out, offline, progress)
    return {"run": str(out), "rounds": job.rounds, "method": job.method}


def learn_round(
    job: RoundsJob,
    base: Trained,
    index: int,
    acting: Path,
    out: Path,
    offline: list[Path],
    progress: Progress | None,
) -> None:
    """Train a round's residual from all episodes so far, and say so.  acting: the policy in use."""
    folder, in_use_now = out / f"round-{index}", load_trained(acting)
    if not (folder / "policy" / "config.json").is_file():
        with closing(Tracker(folder / "metrics.jsonl")) as tracker:
            trained, facts = fit_residual(
                base,
                out / "episodes",
                offline,
                method=job.method,
                seed=job.seed,
                config=OnlineConfig.preset("paper" if job.preset == "paper" else "sim"),
                kind=job.residual,  # type: ignore[arg-type]
                previous=in_use_now if in_use_now.lam > 0 else None,
                tracker=tracker,
                progress=progress,
            )
        trained.provenance |= {"online_round": index, "training": facts}
        save_trained(folder / "policy", trained)
    write_json(folder / LEARNED, {"hash": checkpoint_hash(folder / "policy")})


def mixed_in(base: Trained, method: str, data: list[Path] | None) -> list[Path]:
    """Return the offline datasets of the mixture; raises DataError if one is not there."""
    offline = [] if method == "bc_interventions" else data or [Path(p) for p in base.provenance["data"]]
    for path in offline:
        Dataset.open(path)
    return offline


def learned(folder: Path) -> bool:
    """Tell whether a round was learned from, and its policy is wholly there."""
    try:
        said = json.loads((folder / LEARNED).read_text())["hash"]
        return bool(checkpoint_hash(folder / "policy") == said)
    except (OSError, ValueError, KeyError, BoraError):  # not, or not wholly
        return False


def _acting(out: Path, index: int, base: Path, wait: Wait) -> Path:
    """Return the policy in use in a round, once the one before it is over."""
    acting = base
    for earlier in range(1, index):
        folder = out / f"round-{earlier}"
        while (released := _released(folder)) is None:
            wait(f"the test of round {earlier}")
        acting = folder / "policy" if released else acting
    return acting


def _released(folder: Path) -> bool | None:
    try:
        return bool(json.loads((folder / "round.json").read_text())["released"])
    except (OSError, ValueError, KeyError):  # it has not arrived, or not wholly
        return None
