"""Online rounds: the policy acts, a person takes over where it fails, a residual learns, a test decides.

    OUT/job.json                 what is run; a continued run must be the same one
    OUT/episodes/                all online episodes, a dataset like any other (meta tells the round)
    OUT/round-K/policy/          checkpoint with the residual that round K trained
    OUT/round-K/metrics.jsonl    losses of the critic and of the residual
    OUT/round-K/round.json       what was collected, how training went, the release test; its presence ends the round
    OUT/policy/                  the policy that was released last

Each arrow collect -> update -> test -> release leaves files behind, so a run that is killed goes on at the arrow
where it was, and ends as an uninterrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.checkpoint import Trained, load_trained, save_trained
from bora_cli.control.loop import roll_out
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import copy_directory, in_use, write_json
from bora_cli.errors import ConfigError
from bora_cli.evaluate.collect import differences, open_or_create, simulation
from bora_cli.evaluate.evaluate import acting_policy, checkpoint_hash, evaluate, image_side
from bora_cli.evaluate.guard import sim_profile
from bora_cli.evaluate.metrics import human_share, takeovers
from bora_cli.evaluate.workers import Workers
from bora_cli.seeds import scene_seeds, stream
from bora_cli.sim.gaps import parse_gap
from bora_cli.sim.operator import SimulatedOperator
from bora_cli.sim.styles import CORRECTOR
from bora_cli.sim.watcher import Watcher
from bora_cli.train.residual import ResidualKind, fit_residual, require_online_method
from bora_cli.train.tokens import content_of
from bora_cli.train.tracker import Tracker
from bora_cli.types import Episode, content_hash

Progress = Callable[[str, int, int], None]
Preset = Literal["sim", "paper"]

RELEASE_SCENES = 20
"""Paired unaided episodes with and without the residual that decide whether it is released."""


@dataclass(frozen=True)
class OnlineJob:
    """What an online run is.  data_hash: of all that was recorded in the offline episodes, "" if none are used."""

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
    data_hash: str


@dataclass(frozen=True)
class AssistedJob:
    """One round's episodes: who acts, where."""

    job: OnlineJob
    round: int
    policy: str
    policy_hash: str


def assisted(item: tuple[AssistedJob, int]) -> Episode:
    """Run one episode with a simulated person beside the robot: (job, scene seed) -> episode."""
    assisted_job, scene_seed = item
    job = assisted_job.job
    sim = simulation(job.task, job.setting, job.gap, job.image_size, job.profile, job.profile_hash)
    policy = acting_policy(assisted_job.policy, assisted_job.policy_hash)
    policy.lam = policy.own_lam
    meta = asdict(job) | {
        "round": assisted_job.round,
        "policy": assisted_job.policy_hash,
        "operator": "simulated",
        "renderer": sim.backend,
    }
    return roll_out(
        sim,
        policy,
        scene_seed=scene_seed,
        rng=stream("policy", scene_seed),
        meta=meta,
        watcher=Watcher(job.task, stream("watcher", scene_seed)),
        operator=SimulatedOperator(CORRECTOR, stream("operator", scene_seed)),
    )


def run_rounds(
    checkpoint: Path,
    *,
    task: str,
    out: Path,
    gap: str = "none",
    setting: str = "standard",
    rounds: int = 2,
    episodes: int = 10,
    seed: int = 0,
    method: str = "bora",
    preset: Preset = "sim",
    residual: ResidualKind = "constant",
    profile: str = "sim",
    data: list[Path] | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Adapt a policy in rounds of assisted episodes and return what happened in each.

    preset: settings of the method "bora", sim or paper.  residual: what the correction may depend on.
    profile: limits that the robot keeps.
    data: offline datasets for the 1:1 mixture; those the checkpoint was trained on if absent.
    Raises ConfigError for bad input before anything runs, and if `out` holds another run.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    require_online_method(method)
    _require_word("preset", preset, Preset)
    _require_word("residual", residual, ResidualKind)
    scene_seeds("online", seed, rounds * episodes)  # refuses numbers for which there are no scenes
    scene_seeds("release", seed, rounds * RELEASE_SCENES)
    hardware = sim_profile(profile)
    base = load_trained(checkpoint)
    offline = [] if method != "bora" else data or _training_data(base, checkpoint)
    job = OnlineJob(
        checkpoint=str(checkpoint),
        checkpoint_hash=checkpoint_hash(checkpoint),
        task=task,
        setting=setting,
        gap=parse_gap(gap).identity,
        method=method,
        rounds=rounds,
        episodes=episodes,
        seed=seed,
        preset=preset,
        residual=residual,
        image_size=image_side(base.spec, checkpoint),
        profile=profile,
        profile_hash=hardware.hash,
        data_hash=_data_hash(offline),
    )
    _claim(out, job)
    pool = workers or Workers(1)
    acting, done = checkpoint, []
    for index in range(1, rounds + 1):
        folder = out / f"round-{index}"
        if not (folder / "round.json").is_file():
            collected = _collect(job, index, acting, out / "episodes", pool, progress)
            if not (folder / "policy" / "config.json").is_file():
                in_use_now = load_trained(acting)
                with closing(Tracker(folder / "metrics.jsonl")) as tracker:
                    trained, facts = fit_residual(
                        base,
                        out / "episodes",
                        offline,
                        method=method,
                        seed=seed,
                        config=OnlineConfig.preset(preset),
                        kind=residual,
                        previous=in_use_now if in_use_now.lam > 0 else None,
                        tracker=tracker,
                        progress=progress,
                    )
                trained.provenance |= {"online_round": index, "training": facts}
                save_trained(folder / "policy", trained)
            test = _release_test(job, index, acting, folder / "policy", pool, progress)
            write_json(folder / "round.json", {"index": index, **_human(collected), **test})
        done.append(json.loads((folder / "round.json").read_text()))
        acting = folder / "policy" if done[-1]["released"] else acting
    final = _release(acting, out / "policy")
    return {"policy": str(final), "job": asdict(job), "rounds": done}


def _training_data(base: Trained, checkpoint: Path) -> list[Path]:
    """Return the datasets that a policy was trained on; raises ConfigError if they are not there any more."""
    paths = [Path(p) for p in base.provenance["data"]]
    if gone := [str(p) for p in paths if not p.is_dir()]:
        raise ConfigError(
            f"{checkpoint} was trained on {', '.join(gone)}, where nothing is now.",
            "Name the dataset with --data.",
        )
    return paths


def _data_hash(paths: list[Path]) -> str:
    """Return a hash of the content of datasets, wherever they lie; "" for none."""
    return content_hash([content_of(Dataset.open(path)) for path in paths]) if paths else ""


def _require_word(name: str, value: str, allowed: Any) -> None:
    """Raise ConfigError unless the value is one of a Literal's."""
    if value not in get_args(allowed):
        raise ConfigError(f"Unknown {name} '{value}'.", f"Choose one of {', '.join(get_args(allowed))}.")


def _claim(out: Path, job: OnlineJob) -> None:
    """Write job.json, or check that the one there is the same."""
    file = out / "job.json"
    if not file.is_file():
        if in_use(out):
            raise ConfigError(f"{out} is not empty and holds no online run.", "Choose another --out.")
        write_json(file, asdict(job))
        return
    if detail := differences(json.loads(file.read_text()), asdict(job)):
        raise ConfigError(f"{out} holds another online run ({detail}).", "Choose another --out.")


def _collect(
    job: OnlineJob, index: int, acting: Path, root: Path, pool: Workers, progress: Progress | None
) -> list[Episode]:
    """Record what is missing of a round's episodes and return the whole round, without images."""
    sim = simulation(job.task, job.setting, job.gap, job.image_size, job.profile, job.profile_hash)
    dataset: Dataset = open_or_create(root, asdict(job), sim)
    first = (index - 1) * job.episodes
    present = len(dataset) - first
    seeds = scene_seeds("online", job.seed, job.episodes, start=first)[present:]
    assisted_job = AssistedJob(job, index, str(acting), checkpoint_hash(acting))
    for episode in pool.map(assisted, [(assisted_job, s) for s in seeds]):
        dataset.append(episode)
        if progress is not None:
            progress(f"round {index}", len(dataset) - first, job.episodes)
    return [dataset.episode(i, images=False) for i in range(first, first + job.episodes)]


def _human(episodes: list[Episode]) -> dict[str, Any]:
    """Return how much a person did in these episodes."""
    controllers = [e.controller for e in episodes]
    return {
        "episodes": len(episodes),
        "ticks": sum(len(e) for e in episodes),
        "human_ticks": sum(int(e.intervened.sum()) for e in episodes),
        "takeovers": sum(takeovers(c) for c in controllers),
        "human_share": human_share(controllers),
        "successes": sum(e.success for e in episodes),
        "unaided_successes": sum(e.success and not e.intervened.any() for e in episodes),
    }


def _release_test(
    job: OnlineJob, index: int, incumbent: Path, candidate: Path, pool: Workers, progress: Progress | None
) -> dict[str, Any]:
    """Run paired unaided episodes of the policy in use and of the new one; the better is kept.

    On a tie the base is kept, but an earlier residual gives way to one that was trained on more corrections.
    The controls of the method (any `method` but bora) are released untested: the test is part of BORA-Full.
    """
    if load_trained(candidate).lam == 0.0:
        return {"base_k": 0, "residual_k": 0, "release_n": 0, "released": False}
    if job.method != "bora":
        return {"base_k": 0, "residual_k": 0, "release_n": 0, "released": True}
    scenes = scene_seeds("release", job.seed, RELEASE_SCENES, start=(index - 1) * RELEASE_SCENES)
    successes = [
        evaluate(
            policy,
            task=job.task,
            setting=job.setting,
            gap=job.gap,
            scenes=scenes,
            profile=job.profile,
            workers=pool,
            progress=progress,
            label=f"release test {index}, {name}",
        ).successes
        for policy, name in ((incumbent, "policy in use"), (candidate, "new policy"))
    ]
    ties_go_to_new = load_trained(incumbent).lam > 0
    released = successes[1] > successes[0] or (ties_go_to_new and successes[1] == successes[0])
    return {
        "base_k": successes[0],
        "residual_k": successes[1],
        "release_n": RELEASE_SCENES,
        "released": released,
    }


def _release(source: Path, target: Path) -> Path:
    """Copy a checkpoint to its final place, wholly or not at all."""
    return copy_directory(source, target)
