"""Collect demonstrations with an operator, episode by episode, into a dataset that can be continued."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bora_cli.control.loop import demonstrate
from bora_cli.control.safety import GuardedRig
from bora_cli.data.dataset import Dataset
from bora_cli.data.schema import IDENTITY
from bora_cli.errors import ConfigError
from bora_cli.evaluate.guard import guarded, sim_profile
from bora_cli.evaluate.workers import Workers
from bora_cli.seeds import scene_seeds, stream
from bora_cli.sim.foreign import EnvRig
from bora_cli.sim.gaps import parse_gap
from bora_cli.sim.operator import SimulatedOperator, style_of_quality
from bora_cli.sim.simulation import Simulation
from bora_cli.types import Episode

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CollectJob:
    """What is collected; stored in the dataset so that a continued collection is the same collection."""

    profile: str
    profile_hash: str
    task: str
    setting: str
    gap: str
    operator: str
    quality: str
    seed: int
    image_size: int


@lru_cache(maxsize=4)
def simulation(
    task: str,
    setting: str,
    gap: str,
    image_size: int,
    profile: str = "sim",
    profile_hash: str = "",
    max_ticks: int = 0,
) -> Simulation | GuardedRig:
    """Return this process's simulation of a task inside the limits of a profile; gap as `bora collect --gap`.

    profile_hash: of the profile when the job was made.  max_ticks: after which an episode is truncated, 0 for the
    task's own number.  Raises ConfigError if the profile has changed since, or
    cannot drive the simulator.
    """
    hardware = sim_profile(profile)
    if profile_hash not in ("", hardware.hash):
        raise ConfigError(
            f"Profile '{profile}' has changed: its hash is {hardware.hash}, the job began with {profile_hash}.",
            "Restore the profile, or begin again in another --out.",
        )
    sim = Simulation(task, setting=setting, gap=parse_gap(gap), image_size=image_size)
    sim.max_ticks = max_ticks or sim.max_ticks
    return guarded(sim, hardware)


def demonstrate_once(item: tuple[CollectJob, int]) -> Episode:
    """Record one demonstration: (job, scene seed) -> episode."""
    job, scene_seed = item
    sim = simulation(job.task, job.setting, job.gap, job.image_size, job.profile, job.profile_hash)
    style = style_of_quality(job.quality, stream("operator style", scene_seed), job.task)
    operator = SimulatedOperator(style, stream("operator", scene_seed))
    meta = {
        **asdict(job),
        "mistake": style.mistake,
        "style": asdict(style),
        "renderer": sim.backend,
    }
    return demonstrate(sim, operator, scene_seed=scene_seed, meta=meta)


def collect(
    *,
    task: str,
    episodes: int,
    out: Path,
    profile: str = "sim",
    operator: str = "simulated",
    quality: str = "mixed",
    setting: str = "standard",
    gap: str = "none",
    seed: int = 0,
    image_size: int = 64,
    video: str = "",
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Record `episodes` demonstrations of a task into the dataset at `out`, continuing one that is part of the job.

    video: a codec of `bora_cli.data.video.CODECS`, "" for PNG.
    Episode i always uses the same scene and operator whatever the number of processes, so an interrupted collection
    that is continued equals an uninterrupted one.
    Raises ConfigError if `out` holds another job's data.
    """
    hardware = sim_profile(profile)
    job = CollectJob(
        profile, hardware.hash, task, setting, parse_gap(gap).identity, operator, quality, seed, image_size
    )
    seeds = scene_seeds("collect", seed, episodes)
    sim = simulation(task, setting, job.gap, image_size, profile, job.profile_hash)
    dataset = open_or_create(Path(out), asdict(job), sim, video)
    pool = workers or Workers(1)
    for episode in _recorded(pool, job, seeds[len(dataset) :]):
        dataset.append(episode)
        if progress is not None:
            progress("collect", len(dataset), episodes)
    return dataset


def _recorded(pool: Workers, job: CollectJob, seeds: list[int]) -> Iterator[Episode]:
    yield from pool.map(demonstrate_once, [(job, s) for s in seeds])


def open_or_create(
    root: Path, job: dict[str, Any], sim: Simulation | GuardedRig | EnvRig, video: str = ""
) -> Dataset:
    """Open the dataset of a job, or create it; video: how the images are kept, see `Dataset.create`.

    Raises ConfigError if the directory belongs to another job or the job does not say under which profile it
    records, DataError if the directory holds something else.
    """
    if not job.get("profile_hash"):
        raise ConfigError(
            f"The recording into {root} has no profile_hash; expected the hash of its hardware profile.",
            "Take it from `load_profile(...).hash`.",
        )
    if not (root / IDENTITY).is_file():
        return Dataset.create(
            root,
            spec=sim.action_spec,
            state_names=sim.state_names,
            cameras=sim.cameras,
            image_size=job["image_size"],
            fps=round(1 / sim.dt),
            robot_type=job["profile"],
            extra={"job": job},
            video=video,
        )
    dataset = Dataset.open(root)
    if dataset.identity.video != video:
        there, asked = (codec or "PNG" for codec in (dataset.identity.video, video))
        raise ConfigError(f"{root} keeps images as {there}; {asked} was asked for.", "Choose another --out.")
    if detail := differences(dataset.info.get("job", {}), job):
        raise ConfigError(f"{root} holds another collection ({detail}).", "Choose another --out.")
    return dataset


def differences(before: dict[str, Any], asked: dict[str, Any]) -> str:
    """Say in what a stored job and the one that is asked for differ; "" if they are the same.

    Where a checkpoint lies does not matter, what it is does: a run that was moved goes on.
    """
    keys = [k for k in asked if k != "checkpoint" and before.get(k) != asked[k]]
    return ", ".join(f"{k} {before.get(k)!r} there, {asked[k]!r} asked" for k in keys)
