"""Collect, evaluate and replay in a Gymnasium environment, through the rig that its profile makes of it.

One process, one environment: nothing is known about whether a foreign environment may run twice.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bora_cli.checkpoint import load_trained
from bora_cli.control.loop import Demonstrator, demonstrate, roll_out
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError, DataError, SchemaMismatch
from bora_cli.evaluate.collect import open_or_create
from bora_cli.evaluate.evaluate import (
    EvalJob,
    EvalResult,
    acting_policy,
    checkpoint_hash,
    image_side,
    trial_of,
)
from bora_cli.evaluate.metrics import wilson
from bora_cli.evaluate.replay import Replay, execute
from bora_cli.profiles import EnvProfile
from bora_cli.seeds import scene_seeds, stream
from bora_cli.sim.foreign import EnvRig
from bora_cli.types import F32, Episode

Progress = Callable[[str, int, int], None]

REPLAYED = "replay"
SETTING = "as it comes"
"""What stands in a result where our own tasks have their setting."""


@dataclass(frozen=True)
class EnvJob:
    """What is collected in an environment; stored in the dataset, so that only the same collection continues it.

    operator: "replay" or MODULE:NAME.  source: what identifies the replayed dataset, "" without one.
    """

    profile: str
    profile_hash: str
    task: str
    operator: str
    source: str
    seed: int
    image_size: int


class Replayer:
    """An operator that repeats the executed actions of an episode and then gives up."""

    def __init__(self, episode: Episode) -> None:
        self._actions = episode.action
        self._tick = 0

    def begin(self, rig: Any) -> None:
        self._tick = 0

    def act(self, rig: Any) -> tuple[F32, bool]:
        self._tick += 1
        return self._actions[self._tick - 1], self._tick == len(self._actions)


def collect_env(
    profile: EnvProfile,
    *,
    out: Path,
    episodes: int | None = None,
    source: Path | None = None,
    operator: str = "",
    seed: int = 0,
    image_size: int = 64,
    progress: Progress | None = None,
) -> Dataset:
    """Record episodes of an environment into the dataset at `out`, continuing one of the same job.

    source: a dataset whose actions are executed again, episode by episode, from its initial states; `episodes` None is
    all of them.  operator: MODULE:NAME of a demonstrator of your own, made afresh for each episode.
    Raises ConfigError unless exactly one of them is given, SchemaMismatch if the source is of another rig.
    """
    if (source is None) == (not operator):
        raise ConfigError(
            "An environment needs somebody to drive it: recorded actions, or an operator.",
            "Give --replay DIR, or --operator MODULE:NAME.",
        )
    recorded = None if source is None else recorded_for(source, profile)
    count = 100 if episodes is None else episodes
    if recorded is not None:
        count = len(recorded) if episodes is None else episodes
        if count > len(recorded):
            raise ConfigError(
                f"{source} has {len(recorded)} episodes to replay; {count} were asked for.",
                f"Use --episodes {len(recorded)} or fewer.",
            )
    demonstrator = load_operator(operator) if operator else None
    job = EnvJob(
        profile.name,
        profile.hash,
        profile.env.id,
        operator or REPLAYED,
        f"{source.name}: {recorded.ticks} ticks" if source is not None and recorded is not None else "",
        seed,
        image_size,
    )
    seeds = scene_seeds("collect", seed, count)
    rig = EnvRig(profile, image_size=image_size)
    try:
        dataset = open_or_create(Path(out), asdict(job), rig)
        for index in range(len(dataset), count):
            meta: dict[str, Any] = {**asdict(job), "renderer": rig.backend}
            driver: Demonstrator
            if recorded is not None:
                episode = recorded.episode(index, images=False)
                meta |= {"source_episode": index, "source_success": episode.success}
                meta |= _start(rig, episode)
                driver = Replayer(episode)
            else:
                assert demonstrator is not None
                driver = demonstrator()
            dataset.append(demonstrate(rig, driver, scene_seed=_scene(meta, seeds[index]), meta=meta))
            if progress is not None:
                progress("collect", len(dataset), count)
    finally:
        rig.close()
    return dataset


def evaluate_env(
    checkpoint: Path,
    profile: EnvProfile,
    *,
    episodes: int = 100,
    seed: int = 0,
    record: Path | None = None,
    progress: Progress | None = None,
) -> EvalResult:
    """Run unaided episodes with the environment's seeds seed .. seed + episodes - 1.

    record: also write them with images into a dataset there, continuing an interrupted recording.
    Raises CheckpointError, ConfigError or SchemaMismatch before anything runs.
    """
    seeds = scene_seeds("eval", seed, episodes)
    digest = checkpoint_hash(checkpoint)
    trained = load_trained(checkpoint)
    _require_same_rig(
        trained.spec.action, trained.spec.state_names, trained.spec.dt, profile, str(checkpoint)
    )
    policy = acting_policy(str(checkpoint), digest)
    job = EvalJob(
        str(checkpoint),
        digest,
        profile.env.id,
        SETTING,
        "none",
        image_side(trained.spec, checkpoint),
        record=record is not None,
        profile=profile.name,
        profile_hash=profile.hash,
    )
    rig = EnvRig(profile, image_size=job.image_size)
    try:
        facts = {**asdict(job), "first": seeds[0]}
        dataset = open_or_create(record, facts, rig) if record is not None else None
        done = range(min(len(dataset), len(seeds))) if dataset is not None else range(0)
        trials = [] if dataset is None else [trial_of(dataset.episode(i, images=False)) for i in done]
        for scene_seed in seeds[len(trials) :]:
            policy.lam = policy.own_lam
            episode = roll_out(
                rig,
                policy,
                scene_seed=scene_seed,
                rng=stream("policy", scene_seed),
                meta={**facts, "operator": "none", "renderer": rig.backend},
                images=record is not None,
            )
            if dataset is not None:
                dataset.append(episode)
            trials.append(trial_of(episode))
            if progress is not None:
                progress("evaluate", len(trials), len(seeds))
    finally:
        rig.close()
    return EvalResult(job, trials, rig.backend, _warnings(trained.provenance, profile))


def _warnings(provenance: dict[str, Any], profile: EnvProfile) -> list[str]:
    """Return what a reader of the result should know."""
    trained_in = [known for known in provenance.get("profile_hash", []) if known]
    if not trained_in or profile.hash in trained_in:
        return []
    return [
        f"The policy learned from data of profile {', '.join(trained_in)}; '{profile.name}' is {profile.hash}:"
        " pictures, limits of time or the test of success may be others."
    ]


def replay_env(
    root: Path,
    profile: EnvProfile,
    *,
    index: int | None = None,
    film: bool = False,
    progress: Progress | None = None,
) -> list[Replay]:
    """Execute recorded actions open loop, from the recorded initial states; index None takes every episode.

    Foreign environments promise no exact repetition, so what counts is the outcome.  film: collect pictures too.
    Raises DataError for an index outside the dataset, SchemaMismatch if the dataset is of another rig.
    """
    dataset = recorded_for(root, profile)
    if index is not None and not 0 <= index < len(dataset):
        raise DataError(
            f"{root} has no episode {index}; expected 0 to {len(dataset) - 1}.", "Change --episode."
        )
    rig = EnvRig(profile)
    chosen = range(len(dataset)) if index is None else [index]
    results = []
    try:
        for i in chosen:
            episode = dataset.episode(i, images=False)
            rig.prepare(_scene(_start(rig, episode) | episode.meta, i))
            results.append(execute(rig, episode, i, state_names=dataset.state_names, film=film))
            if progress is not None:
                progress("replay", len(results), len(chosen))
    finally:
        rig.close()
    return results


def summary_of(replays: list[Replay]) -> dict[str, Any]:
    """Return the outcome of several replays: successes now and when they were recorded, with a 95 % interval."""
    successes = sum(r.success for r in replays)
    low, high = wilson(successes, len(replays))
    return {
        "episodes": len(replays),
        "successes": successes,
        "wilson95": [low, high],
        "recorded_successes": sum(r.recorded_success for r in replays),
        "same_outcome": sum(r.success == r.recorded_success for r in replays),
        "replays": [r.to_json() for r in replays],
    }


def recorded_for(root: Path, profile: EnvProfile) -> Dataset:
    """Return the dataset at `root`; raises SchemaMismatch unless it was recorded with a rig like the profile's."""
    dataset = Dataset.open(root)
    _require_same_rig(dataset.spec, dataset.state_names, 1 / dataset.fps, profile, str(root))
    return dataset


def load_operator(name: str) -> Callable[[], Demonstrator]:
    """Return what MODULE:NAME names, a callable that makes a demonstrator (`begin(rig)`, `act(rig)`).

    Raises ConfigError if the module cannot be imported or has nothing callable of that name.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(
            f"Operator '{name}' is not of the form MODULE:NAME.", "As in my_package.expert:Expert."
        )
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(
            f"The module of operator {name} cannot be imported: {error}.",
            "Install it, or put its directory on PYTHONPATH.",
        ) from error
    if not callable(found):
        raise ConfigError(f"Module {module} has nothing callable named '{attribute}'.", "Change --operator.")
    made: Callable[[], Demonstrator] = found
    return made


def _start(rig: EnvRig, episode: Episode) -> dict[str, Any]:
    """Let the rig start where an episode did; returns what of that is worth keeping."""
    kept: dict[str, Any] = {
        name: episode.meta[name] for name in ("initial_state", "scene_seed") if name in episode.meta
    }
    rig.start_from(kept.get("initial_state"))
    return kept


def _scene(meta: dict[str, Any], otherwise: int) -> int:
    return int(meta.get("scene_seed", otherwise))


def _require_same_rig(
    spec: Any, state_names: tuple[str, ...], dt: float, profile: EnvProfile, what: str
) -> None:
    both = f"{what} and profile '{profile.name}'"
    spec.require_same(profile.action_spec, both)
    if tuple(state_names) != profile.state.names:
        differing = ", ".join(sorted(set(state_names) ^ set(profile.state.names))) or "their order"
        raise SchemaMismatch(
            f"{both}: states differ ({differing}).", "Use data and profile of one environment."
        )
    if not np.isclose(dt, profile.dt):
        raise SchemaMismatch(
            f"{both}: ticks last {dt:g} s there and {profile.dt:g} s here.",
            "Use data and profile of one environment.",
        )
