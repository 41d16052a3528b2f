"""Measure the success of a policy: unaided episodes on given scenes, with a 95 % interval."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from bora_cli.checkpoint import load_trained, read_config
from bora_cli.control.loop import roll_out
from bora_cli.errors import CheckpointError
from bora_cli.evaluate.collect import open_or_create, simulation
from bora_cli.evaluate.guard import sim_profile
from bora_cli.evaluate.metrics import wilson
from bora_cli.evaluate.workers import Workers
from bora_cli.models.policy import PolicySpec, VLAPolicy
from bora_cli.seeds import RANGES, scene_seeds, stream
from bora_cli.sim.gaps import parse_gap
from bora_cli.sim.tasks import TASKS
from bora_cli.types import Episode, content_hash

Progress = Callable[[str, int, int], None]

CIRCUMSTANCES = ("seconds", "data", "init", "online_data", "held_out")
"""What a checkpoint says about its making that does not make it another policy."""


@dataclass(frozen=True)
class EvalJob:
    """What is evaluated.

    image_size: px, side of the images the policy was trained on.  lam: overrides the share of the residual (None
    keeps the checkpoint's).  profile_hash: of the hardware profile; "" in results of versions that wrote none.
    """

    checkpoint: str
    checkpoint_hash: str
    task: str
    setting: str
    gap: str
    image_size: int
    record: bool = False
    lam: float | None = None
    profile: str = "sim"
    profile_hash: str = ""


@dataclass(frozen=True)
class Trial:
    """The outcome of one episode."""

    scene_seed: int
    success: bool
    terminated: bool
    ticks: int


@dataclass(frozen=True)
class EvalResult:
    """Outcomes of all episodes of a job."""

    job: EvalJob
    trials: list[Trial]
    renderer: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def successes(self) -> int:
        return sum(t.success for t in self.trials)

    def to_json(self) -> dict[str, Any]:
        """Return the numbers: k of n, 95 % Wilson interval, and every trial."""
        n, k = len(self.trials), self.successes
        low, high = wilson(k, n)
        steps = [t.ticks for t in self.trials if t.success]
        return {
            **asdict(self.job),
            "successes": k,
            "episodes": n,
            "success_rate": k / n if n else None,
            "wilson95": [low, high],
            "mean_ticks_of_successes": sum(steps) / len(steps) if steps else None,
            "renderer": self.renderer,
            "warnings": self.warnings,
            "trials": [asdict(t) for t in self.trials],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EvalResult:
        names = EvalJob.__dataclass_fields__
        job = EvalJob(**{k: data[k] for k in names if k in data})
        return cls(job, [Trial(**t) for t in data["trials"]], data["renderer"], data["warnings"])


def checkpoint_hash(path: Path) -> str:
    """Return a short hash of everything a policy is.

    How long its training took, where its data and its backbone lay, and which state of the code made it are not part
    of it; the hashes of data and backbone are.
    """
    config = {k: v for k, v in read_config(path).items() if k != "code"}
    facts = {k: v for k, v in config.get("provenance", {}).items() if k not in CIRCUMSTANCES}
    backbone = config.get("backbone", {}).get("hash")
    files = sorted(Path(path).glob("*.safetensors"))
    weights = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files}
    return content_hash({"config": config | {"provenance": facts, "backbone": backbone}, "weights": weights})


@lru_cache(maxsize=3)
def acting_policy(checkpoint: str, digest: str) -> VLAPolicy:
    """Return this process's copy of a policy; `digest` makes a changed checkpoint load afresh."""
    torch.set_num_threads(1)
    return load_trained(Path(checkpoint)).policy()


def unaided(item: tuple[EvalJob, int]) -> Trial | Episode:
    """Run one episode without help: (job, scene seed) -> its outcome, or the whole episode if it is recorded."""
    job, scene_seed = item
    sim = simulation(job.task, job.setting, job.gap, job.image_size, job.profile, job.profile_hash)
    policy = acting_policy(job.checkpoint, job.checkpoint_hash)
    policy.lam = policy.own_lam if job.lam is None else job.lam
    episode = roll_out(
        sim,
        policy,
        scene_seed=scene_seed,
        rng=stream("policy", scene_seed),
        meta={**asdict(job), "operator": "none", "renderer": sim.backend},
        images=job.record,
    )
    return episode if job.record else trial_of(episode)


def trial_of(episode: Episode) -> Trial:
    """Return the outcome of an episode."""
    return Trial(int(episode.meta["scene_seed"]), episode.success, bool(episode.terminated[-1]), len(episode))


def evaluate(
    checkpoint: Path,
    *,
    task: str,
    setting: str = "standard",
    gap: str = "none",
    episodes: int = 100,
    seed: int = 0,
    scenes: Sequence[int] | None = None,
    lam: float | None = None,
    profile: str = "sim",
    record: Path | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
    label: str = "evaluate",
) -> EvalResult:
    """Run unaided episodes on the scenes seed .. seed + episodes - 1 (or on `scenes`).

    The noise of the policy depends on the scene only, so two policies meet equal conditions.
    record: also write the episodes with images into a dataset there, continuing an interrupted recording.
    Raises CheckpointError, ConfigError, DataError for bad input, before anything runs.
    """
    seeds = list(scenes) if scenes is not None else scene_seeds("eval", seed, episodes)
    checkpoint = Path(checkpoint)
    trained = load_trained(checkpoint)
    job = EvalJob(
        str(checkpoint),
        checkpoint_hash(checkpoint),
        task,
        setting,
        parse_gap(gap).identity,
        image_side(trained.spec, checkpoint),
        record=record is not None,
        lam=lam,
        profile=profile,
        profile_hash=sim_profile(profile).hash,
    )
    sim = simulation(task, setting, job.gap, job.image_size, profile, job.profile_hash)
    trained.spec.action.require_same(
        sim.action_spec, f"{checkpoint} and the simulated robot", _hint(trained.provenance)
    )
    dataset = None
    trials: list[Trial] = []
    if record is not None:
        dataset = open_or_create(record, {**asdict(job), "first": seeds[0]}, sim)
        trials = [trial_of(dataset.episode(i, images=False)) for i in range(min(len(dataset), len(seeds)))]
    pool = workers or Workers(1)
    for outcome in pool.map(unaided, [(job, s) for s in seeds[len(trials) :]]):
        if isinstance(outcome, Episode):
            assert dataset is not None
            dataset.append(outcome)
        trials.append(trial_of(outcome) if isinstance(outcome, Episode) else outcome)
        if progress is not None:
            progress(label, len(trials), len(seeds))
    return EvalResult(job, trials, sim.backend, _warnings(trained.provenance, task, seeds))


def _hint(provenance: Mapping[str, Any]) -> str:
    """Say what to do with a policy that does not fit the simulated robot.  provenance: of its checkpoint."""
    task = str(provenance.get("task") or "")
    if not task or task == "None" or set(task.split(", ")) & set(TASKS):
        return "Use data and checkpoint of one robot."
    return f"The policy was trained for {task}: name the profile of that environment with --env, not --task."


def image_side(spec: PolicySpec, what: Path) -> int:
    """Return the side of the images a policy was trained on, px; raises CheckpointError unless they are square."""
    height, width = spec.image_size
    if height != width:
        raise CheckpointError(
            f"{what} was trained on images of {height} x {width} px; the simulator renders square ones.",
            "Train on square images.",
        )
    return height


def _warnings(provenance: dict[str, Any], task: str, seeds: Sequence[int]) -> list[str]:
    """Return what a reader of the result should know."""
    found = []
    if provenance.get("task") not in (None, task):
        found.append(f"The checkpoint was trained for {provenance['task']}, not for {task}.")
    for purpose, (low, high) in RANGES.items():
        if purpose != "eval" and any(low <= s < high for s in seeds):
            found.append(
                f"Scenes {min(seeds)}..{max(seeds)} reach into those of '{purpose}' ({low}..{high - 1}):"
                " policies may have been trained, tuned or released on them."
            )
    return found
