"""Online rounds: the policy acts, a person takes over where it fails, a residual learns, a test decides.

    OUT/job.json                 what is run; a continued run must be the same one
    OUT/episodes/                all online episodes, a dataset like any other (meta tells the round)
    OUT/round-K/policy/          checkpoint with the residual that round K trained
    OUT/round-K/metrics.jsonl    losses of the critic and of the residual
    OUT/round-K/round.json       what was collected, how training went, the release test; its presence ends the round
    OUT/policy/                  the policy that was released last

    OUT/weights.json             which of these policies the actor takes now

Each arrow collect -> update -> test -> release leaves files behind, so a run that is killed goes on at the arrow
where it was, and ends as an uninterrupted one.  One process does it all, or two do: an actor that collects and a
learner that does the rest (`bora_cli.train.meeting`); the result is the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from bora_cli.algos.bora_online import OnlineConfig
from bora_cli.checkpoint import Trained, load_trained, save_trained
from bora_cli.control.alarm import Alarm
from bora_cli.control.loop import roll_out
from bora_cli.control.telemetry import LIVE
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import copy_directory, write_json
from bora_cli.errors import ConfigError
from bora_cli.evaluate.collect import open_or_create, simulation
from bora_cli.evaluate.evaluate import acting_policy, checkpoint_hash, evaluate, image_side
from bora_cli.evaluate.guard import sim_profile
from bora_cli.evaluate.teleoperate import Stopped
from bora_cli.evaluate.workers import Workers
from bora_cli.seeds import scene_seeds, stream
from bora_cli.sim.gaps import parse_gap
from bora_cli.sim.operator import SimulatedOperator
from bora_cli.sim.responder import Responder
from bora_cli.sim.styles import CORRECTOR
from bora_cli.sim.watcher import Watcher
from bora_cli.train.crew import Crew, monitor
from bora_cli.train.hg_dagger import fit_hg_dagger
from bora_cli.train.meeting import (
    UNKNOWN,
    Role,
    Wait,
    patiently,
    playing,
    publish,
    round_of,
    weights_after,
)
from bora_cli.train.online_job import AssistedJob, OnlineJob, claim
from bora_cli.train.outcome import human_part, unchanged_because
from bora_cli.train.resfit import fit_resfit
from bora_cli.train.residual import ResidualKind, fit_residual, require_online_method
from bora_cli.train.tokens import content_of
from bora_cli.train.tracker import Tracker
from bora_cli.types import Episode, content_hash

Progress = Callable[[str, int, int], None]
Preset = Literal["sim", "paper"]

CONTROLS: dict[str, Callable[..., tuple[Trained, dict[str, Any]]]] = {
    "hg_dagger": fit_hg_dagger,
    "resfit": fit_resfit,
}
"""Methods that fit something else than the residual of `train.residual`."""
RELEASE_SCENES = 20
"""Paired unaided episodes with and without the residual that decide whether it is released."""


def assisted(item: tuple[AssistedJob, int]) -> Episode:
    """Run one episode with a simulated person beside the robot: (job, scene seed) -> episode."""
    assisted_job, scene_seed = item
    job = assisted_job.job
    sim = simulation(job.task, job.setting, job.gap, job.image_size, job.profile, job.profile_hash)
    policy = acting_policy(assisted_job.policy, assisted_job.policy_hash)
    policy.lam = policy.own_lam
    meta = assisted_job.meta | {"operator": "simulated", "renderer": sim.backend}
    looking_on = monitor(assisted_job, policy)
    looking_on.begin(round=assisted_job.round, scene=scene_seed)
    bell, rng = looking_on.bell, stream("watcher", scene_seed)
    return roll_out(
        sim,
        looking_on.policy,
        scene_seed=scene_seed,
        rng=stream("policy", scene_seed),
        meta=meta,
        watcher=Watcher(job.task, rng) if bell is None else Responder(job.task, rng, lambda: bell.rings),
        operator=SimulatedOperator(CORRECTOR, stream("operator", scene_seed)),
        on_tick=looking_on,
    )


class Simulated:
    """A scripted person beside the simulated robot, in as many processes as there are."""

    operator = "simulated"
    limit_s = 0.0

    def __init__(self, pool: Workers) -> None:
        self._pool = pool

    def heed(self, line: str) -> None:
        """Go on: a script never asks to stop."""

    def episodes(self, assisted_job: AssistedJob, scenes: Sequence[int]) -> Iterator[Episode]:
        """Yield one episode per scene, in order."""
        yield from self._pool.map(assisted, [(assisted_job, scene) for scene in scenes])


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
    residual: ResidualKind = "mlp",
    profile: str = "sim",
    data: list[Path] | None = None,
    crew: Crew | None = None,
    alarm: Alarm | None = None,
    role: Role = "both",
    wait: Wait | None = None,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Adapt a policy in rounds of assisted episodes and return what happened in each.

    crew: who takes over, by default the simulated operator.  If a person stops, also while something is learned,
    tested or waited for, what is finished stays, `stopped` is true in the result, and the same call goes on;
    `warnings` in that of a run that has ended says why the policy is unchanged, if it is.  alarm: calls whoever takes
    over, who does not watch then.
    role: collect, learn, or do both; two calls with one role each come to the same.  wait: called while there is
    nothing to do, with what is missing; by default it sleeps a second.
    preset: settings of the method "bora", sim or paper.  residual: what the correction may depend on.
    profile: limits that the robot keeps.
    data: offline datasets for the 1:1 mixture; those the checkpoint was trained on if absent.
    Raises ConfigError for bad input before anything runs, and if `out` holds another run; SchemaMismatch for a policy
    with other actions than the simulated robot's.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    require_online_method(method)
    _require_word("preset", preset, Preset)
    _require_word("residual", residual, ResidualKind)
    _require_word("role", role, Role)
    scene_seeds("online", seed, rounds * episodes)  # refuses numbers for which there are no scenes
    scene_seeds("release", seed, rounds * RELEASE_SCENES)
    hardware = sim_profile(profile)
    pool = workers or Workers(1)
    crew = crew or Simulated(pool)
    base = load_trained(checkpoint)
    mixes = method != "bc_interventions"
    offline = (data or _training_data(base, checkpoint)) if mixes and role != "actor" else []
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
        operator=crew.operator,
        limit_s=crew.limit_s,
        alarm=alarm.hash if alarm is not None else "",
    )
    if role != "learner":
        sim = simulation(task, setting, job.gap, job.image_size, profile, job.profile_hash)
        base.spec.action.require_same(sim.action_spec, f"{checkpoint} and the simulated robot")
    job = claim(out, job, UNKNOWN[role])

    def told(stage: str, done: int, of: int) -> None:
        crew.heed(f"{stage}: {done} of {of}")
        if progress is not None:
            progress(stage, done, of)

    learner = Learner(job, base, offline, out, pool, told)
    with playing(out, role) as check:

        def look_again(reason: str) -> None:
            check()
            crew.heed(f"waiting for {reason}")
            (wait or patiently)(reason)

        return _run(job, checkpoint, learner, crew, alarm, role, look_again, check, progress)


def _run(
    job: OnlineJob,
    checkpoint: Path,
    learner: Learner,
    crew: Crew,
    alarm: Alarm | None,
    role: Role,
    wait: Wait,
    check: Callable[[], None],
    progress: Progress | None,
) -> dict[str, Any]:
    """Play a role, or both, until there is nothing left to do in it."""
    out = learner.out
    acting = checkpoint
    done: list[dict[str, Any]] = []
    for index in range(1, job.rounds + 1):
        closed = (out / f"round-{index}" / "round.json").is_file()
        try:
            if role != "learner" and not closed:
                acting = weights_after(out, index - 1, checkpoint, wait) if role == "actor" else acting
                _collect(job, index, acting, out / "episodes", crew, alarm, check, progress)
            if role != "actor" and not closed:
                learner.close_round(index, acting, round_of(out, index, job.episodes, wait))
        except Stopped:
            return {"policy": str(acting), "job": job.facts, "rounds": done, "stopped": True}
        if role != "actor":
            done.append(json.loads((out / f"round-{index}" / "round.json").read_text()))
            acting = out / f"round-{index}" / "policy" if done[-1]["released"] else acting
            publish(out, index, acting)
    if role == "actor":
        return {"policy": str(acting), "job": job.facts, "rounds": [], "role": role}
    final = _release(acting, out / "policy")
    why = unchanged_because(done, job.method, job.preset)
    return {"policy": str(final), "job": job.facts, "rounds": done, "warnings": [why] if why else []}


@dataclass(frozen=True)
class Learner:
    """What happens to a round once it is collected: update, test, and a file that says what came of it."""

    job: OnlineJob
    base: Trained
    offline: list[Path]
    out: Path
    pool: Workers
    progress: Progress | None

    def close_round(self, index: int, acting: Path, collected: list[Episode]) -> None:
        """Learn from the episodes of all rounds so far, test, and write round.json.  acting: the policy in use."""
        job, folder = self.job, self.out / f"round-{index}"
        if not (folder / "policy" / "config.json").is_file():
            with closing(Tracker(folder / "metrics.jsonl")) as tracker:
                trained, facts = self._fit(acting, tracker)
            trained.provenance |= {"online_round": index, "training": facts}
            save_trained(folder / "policy", trained)
        test = _release_test(job, index, acting, folder / "policy", self.pool, self.progress)
        write_json(folder / "round.json", {"index": index, **human_part(collected), **test})

    def _fit(self, acting: Path, tracker: Tracker) -> tuple[Trained, dict[str, Any]]:
        """Train as the method says, on the episodes of all rounds so far."""
        job, episodes = self.job, self.out / "episodes"
        if job.method in CONTROLS:
            fit = CONTROLS[job.method]
            return fit(
                self.base, episodes, self.offline, seed=job.seed, tracker=tracker, progress=self.progress
            )
        in_use_now = load_trained(acting)
        return fit_residual(
            self.base,
            episodes,
            self.offline,
            method=job.method,
            seed=job.seed,
            config=OnlineConfig.preset(cast(Preset, job.preset)),
            kind=cast(ResidualKind, job.residual),
            previous=in_use_now if in_use_now.lam > 0 else None,
            tracker=tracker,
            progress=self.progress,
        )


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


def _collect(
    job: OnlineJob,
    index: int,
    acting: Path,
    root: Path,
    crew: Crew,
    alarm: Alarm | None,
    check: Callable[[], None],
    progress: Progress | None,
) -> None:
    """Record what is missing of a round's episodes; raises Stopped if a person stopped before there were all.

    check: raises if somebody else is the actor now.
    """
    sim = simulation(job.task, job.setting, job.gap, job.image_size, job.profile, job.profile_hash)
    facts = {k: v for k, v in job.facts.items() if k != "data_hash" or not root.is_dir()}
    dataset: Dataset = open_or_create(root, facts, sim)
    first = (index - 1) * job.episodes
    present = len(dataset) - first
    seeds = scene_seeds("online", job.seed, job.episodes, start=first)[present:]
    live = str((root.parent / LIVE).resolve())
    assisted_job = AssistedJob(job, index, str(acting), checkpoint_hash(acting), live, alarm)
    for episode in crew.episodes(assisted_job, seeds):
        check()
        dataset.append(episode)
        if progress is not None:
            progress(f"round {index}", len(dataset) - first, job.episodes)
    if len(dataset) - first < job.episodes:
        raise Stopped


def _release_test(
    job: OnlineJob, index: int, incumbent: Path, candidate: Path, pool: Workers, progress: Progress | None
) -> dict[str, Any]:
    """Run paired unaided episodes of the policy in use and of the new one; the better is kept.

    On a tie the base is kept, but an earlier residual gives way to one that was trained on more corrections.
    The controls of the method (any `method` but bora) are released untested: the test is part of BORA-Full.
    """
    trained = load_trained(candidate)
    unchanged = trained.lam == 0.0 and job.method != "hg_dagger"
    if unchanged or "skipped" in trained.provenance["training"]:
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
