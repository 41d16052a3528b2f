"""Who stands beside the robot while a round is collected: a scripted person, or somebody with a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from bora_cli.checkpoint import load_trained
from bora_cli.control.alarm import Bell
from bora_cli.control.telemetry import Telemetry
from bora_cli.evaluate.assist import Assistance, Place, ticks_of
from bora_cli.evaluate.collect import simulation
from bora_cli.evaluate.evaluate import acting_policy
from bora_cli.evaluate.guard import sim_profile
from bora_cli.evaluate.monitor import Monitor
from bora_cli.evaluate.teleoperate import Driver, Tally
from bora_cli.models.critic import ChunkCritic
from bora_cli.models.policy import VLAPolicy
from bora_cli.seeds import stream
from bora_cli.sim.limits import DT
from bora_cli.train.online_job import AssistedJob
from bora_cli.types import Episode


@lru_cache(maxsize=2)
def telemetry(path: str) -> Telemetry:
    """Return this process's way of telling people what happens in a run."""
    return Telemetry(Path(path))


@lru_cache(maxsize=2)
def judge(checkpoint: str, digest: str) -> ChunkCritic | None:
    """Return this process's copy of a policy's critic, None if it has none; for `digest` see `acting_policy`."""
    return load_trained(Path(checkpoint)).critic


def monitor(assisted: AssistedJob, policy: VLAPolicy) -> Monitor:
    """Return what looks on while a policy acts: with the base policy's critic, which the alarm was made for."""
    job = assisted.job
    return Monitor(
        policy,
        judge(job.checkpoint, job.checkpoint_hash),
        bell=Bell(assisted.alarm) if assisted.alarm is not None else None,
        telemetry=telemetry(assisted.live) if assisted.live else None,
    )


class Crew(Protocol):
    """Somebody who can be asked for episodes.

    operator: "simulated" or "person".  limit_s: longest episode, s; 0 is the task's own limit.
    """

    @property
    def operator(self) -> str: ...
    @property
    def limit_s(self) -> float: ...
    def episodes(self, assisted: AssistedJob, scenes: Sequence[int]) -> Iterator[Episode]:
        """Yield one episode per scene, in order; fewer where somebody stops."""
        ...

    def heed(self, line: str) -> None:
        """Tell what goes on between two rounds; raises Stopped if somebody asked to stop."""


class Person:
    """A person at a desk, beside the simulated robot; episodes take the time they take.

    driver: desk, devices and clock.  limit_s: longest episode, s; 0 is the task's own limit, a few seconds.
    """

    operator = "person"

    def __init__(self, driver: Driver, limit_s: float = 0.0) -> None:
        self._driver = driver
        self.limit_s = limit_s
        self.tally = Tally()

    def heed(self, line: str) -> None:
        """Say at the desk what goes on between two rounds; raises Stopped if the person asked to stop."""
        self._driver.heed(line)

    def episodes(self, assisted: AssistedJob, scenes: Sequence[int]) -> Iterator[Episode]:
        """Yield one episode per scene, until the person stops."""
        job = assisted.job
        longer = {"max_ticks": ticks_of(self.limit_s, DT)} if self.limit_s else {}
        rig = simulation(
            job.task, job.setting, job.gap, job.image_size, job.profile, job.profile_hash, **longer
        )
        policy = acting_policy(assisted.policy, assisted.policy_hash)
        policy.lam = policy.own_lam
        session = Assistance(rig, sim_profile(job.profile), self._driver)
        session.tally = self.tally
        looking_on = monitor(assisted, policy)
        first = job.episodes - len(scenes) + 1
        for number, scene in enumerate(scenes, first):
            episode = session.episode(
                looking_on.policy,
                scene_seed=scene,
                rng=lambda scene=scene: stream("policy", scene),  # type: ignore[misc]
                meta={**assisted.meta, "operator": self.operator, "renderer": rig.backend},
                place=Place(number, job.episodes, f"round {assisted.round}, "),
                monitor=looking_on,
            )
            if episode is None:
                return
            yield episode
