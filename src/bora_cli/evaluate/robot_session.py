"""A person at a real robot: drives it, or lets a policy act, watches and takes over, and says how it went.

The desk, the keys and the devices are those of `bora teleop`.  Ticks begin at absolute deadlines; while the loop waits
for the next one, the person is listened to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bora_cli.control.arbiter import Event, Phase
from bora_cli.control.flight import FlightRecorder
from bora_cli.control.loop import Policy, Tick, demonstrate, roll_out
from bora_cli.control.pace import Pacer
from bora_cli.control.rig import RobotRig, Verdict
from bora_cli.errors import RobotFault
from bora_cli.evaluate.collect import open_or_create
from bora_cli.evaluate.teleoperate import (
    BEGIN,
    DISCARD,
    FAILURE,
    POLL_S,
    SESSION_KEYS,
    STOP,
    SUCCESS,
    Driver,
    Scene,
    Tally,
    enlarged,
    person_at,
)
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.protocol import Robot
from bora_cli.seeds import stream
from bora_cli.types import Episode, Observation

if TYPE_CHECKING:
    from bora_cli.evaluate.monitor import Monitor

ENDS = (SUCCESS, FAILURE, DISCARD, STOP)


@dataclass(frozen=True)
class RobotJob:
    """What is recorded on a robot; stored in the dataset, so that only the same recording continues it.

    task: a name for summaries.  operator: "person" where one drives or may take over, else "none".  limit_s: longest
    episode, s.  checkpoint, checkpoint_hash: of the policy that acts, "" where a person drives alone.
    """

    robot: str
    profile: str
    profile_hash: str
    task: str
    prompt: str
    operator: str
    image_size: int
    limit_s: float
    checkpoint: str = ""
    checkpoint_hash: str = ""
    setting: str = "as it comes"
    gap: str = "none"


@dataclass(frozen=True)
class Part:
    """What is special about one episode: who acts, where it stands in a run, and what its record says besides.

    policy: without one the person demonstrates.  title: shown to the person.  monitor: looks on while its policy acts;
    its alarm calls the person, and those at the console hear from it.  place: number of the episode, and of how many.
    """

    policy: Policy | None = None
    title: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    monitor: Monitor | None = None
    place: tuple[int, int] = (0, 0)


class RobotSession:
    """Episodes on one robot, one after the other, judged by the person.

    robot: kept in the limits of the profile (`bora_cli.control.connect.within_limits`).  part: index of an episode ->
    what is special about it.  out: dataset that is made or continued, None to record nothing.  Discarding an episode
    repeats it.  A fault of the robot ends the session; episodes that were recorded are on disk.
    flights: gets the last ticks where an episode breaks off or nobody drives; a fault of the robot is written down by
    whoever keeps its limits.
    """

    def __init__(
        self,
        robot: Robot,
        profile: HardwareProfile,
        job: RobotJob,
        driver: Driver,
        *,
        part: Callable[[int], Part] = lambda index: Part(),
        out: Path | None = None,
        video: str = "",
        flights: FlightRecorder | None = None,
    ) -> None:
        self.job, self._driver, self._part_of = job, driver, part
        self._flights, self._held = flights, False
        self.rig = RobotRig(
            robot,
            profile,
            prompt=job.prompt,
            max_ticks=max(1, round(job.limit_s / profile.dt)),
            judge=self._judge,
            pacer=Pacer(profile.dt, now=driver.clock, sleep=self._sleep),
            image_size=job.image_size,
            seen=self._show,
            recorder=flights,
        )
        rig: Any = self.rig
        self.dataset = open_or_create(out, asdict(job), rig, video) if out is not None else None
        self.person = person_at(self.rig, profile, driver, lambda: 0.0)
        self.tally = Tally()
        self._done = len(self.dataset) if self.dataset is not None else 0
        self._part = Part()
        self._order = self._note = ""
        self._waiting = True
        self._ticks = 0

    def run(self, episodes: int | None = None, done: Callable[[Episode], None] | None = None) -> Tally:
        """Run episodes until there are so many, or until the person stops.

        episodes: in the dataset, with those it had before; without a dataset, of this session.  done: called with
        every episode that counts, after it was recorded.  However this ends, the robot holds.
        Raises RobotFault if the robot cannot obey any more.
        """
        try:
            warm: Policy | None = None
            while episodes is None or self._done < episodes:
                self._part = self._part_of(self._done)
                policy = self._part.policy
                if policy is not None and policy is not warm:
                    warm = policy
                    policy.decide(self.rig.observe(), np.random.default_rng(0))  # the first decision is slow
                if not self._wait_for_begin():
                    break
                episode = self._play()
                if self._order == STOP:
                    break
                if self._order == DISCARD:
                    self.tally.discarded += 1
                    self._note = "discarded; once more"
                    continue
                self._keep(episode, done)
            return self.tally
        finally:
            self.rig.hold()

    def _play(self) -> Episode:
        index, missed = self._done, self.rig.pacer.missed
        self._order, self._waiting, self._ticks, self._held = "", False, 0, False
        policy = self._part.policy
        meta = {**asdict(self.job), "renderer": self.rig.backend, **self._part.facts}
        images = self.dataset is not None or self._driver.desk.picture_size > 0
        try:
            if policy is None:
                meta |= {"devices": [device.name for device in self._driver.devices], "mistake": None}
                episode = demonstrate(self.rig, self.person, scene_seed=index, meta=meta, images=images)
            else:
                helped = self.job.operator == "person"
                if helped:
                    meta["devices"] = [device.name for device in self._driver.devices]
                episode = roll_out(
                    self.rig,
                    policy,
                    scene_seed=index,
                    rng=stream("policy", index),
                    meta=meta,
                    watcher=self.person.watch() if helped else None,
                    operator=self.person if helped else None,
                    images=images,
                    on_tick=self._told_by(self._monitor(index)),
                )
        except RobotFault:
            raise
        except BaseException as error:  # Ctrl-C too: of this episode nothing else is kept
            self._written(f"{type(error).__name__}: {error}".removesuffix(": "))
            raise
        finally:
            self._waiting = True
        self.tally.ticks += len(episode)
        missed = self.rig.pacer.missed - missed
        self.tally.late += missed
        return replace(episode, meta={**episode.meta, "missed_ticks": missed})

    def _monitor(self, index: int) -> Monitor | None:
        """Return what looks on during this episode, told that it begins; None where nothing does."""
        monitor, (number, of) = self._part.monitor, self._part.place
        if monitor is not None:
            where = {key: self._part.facts[key] for key in ("round",) if key in self._part.facts}
            monitor.begin(self._beside, number=number, of=of, scene=index, **where)
        return monitor

    def _told_by(self, monitor: Monitor | None) -> Callable[[Tick], None]:
        """Return what is told about every tick: the monitor, and the flight recorder once nobody drives."""

        def told(tick: Tick) -> None:
            if monitor is not None:
                monitor(tick)
            held = tick.phase == Phase.HELD
            if held and not self._held:
                why = f"held: {tick.event.name.lower().replace('_', ' ')}"
                trouble = f" ({tick.reason})" if tick.event is Event.OPERATOR_LOST and tick.reason else ""
                self._written(why + trouble)
            self._held = held

        return told

    def _written(self, why: str) -> None:
        if self._flights is not None:
            self._flights.write(why)

    @property
    def _rings(self) -> bool:
        bell = self._part.monitor.bell if self._part.monitor is not None else None
        return bell is not None and bell.rings and not self._waiting

    def _beside(self) -> dict[str, Any]:
        """Return what only somebody at the desk knows, for those who look on."""
        pacer = self.rig.pacer
        return {
            "late_ms": 1e3 * pacer.behind,
            "late_ticks": pacer.missed,
            "device_age_s": self.person.age,
            "trouble": "; ".join(self.person.troubles),
        }

    def _keep(self, episode: Episode, done: Callable[[Episode], None] | None) -> None:
        """Record an episode as the person judged it; one that ran out of time is a failure."""
        judged = self._order in (SUCCESS, FAILURE)
        episode = replace(episode, meta={**episode.meta, "judged_by": "person" if judged else "clock"})
        self._note = f"{'success' if episode.success else 'failure'}, {len(episode)} ticks"
        if self.dataset is not None:
            self.dataset.append(episode)
        self._done += 1
        self.tally.recorded += 1
        self.tally.successes += int(episode.success)
        if done is not None:
            done(episode)

    def _judge(self) -> Verdict:
        """Return whether the person ended the episode; asked once per tick."""
        self._ticks += 1
        self._poll()
        if self._order not in ENDS:
            return ""
        return "success" if self._order == SUCCESS else "failure"

    def _wait_for_begin(self) -> bool:
        """Show what the cameras see until the person begins; returns whether he did, rather than stop."""
        self._order = ""
        while self._order not in (BEGIN, STOP):
            self.rig.observe(images=self._driver.desk.picture_size > 0)
            self._poll()
            if self._order not in (BEGIN, STOP):
                self._driver.sleep(10 * POLL_S)
        return self._order == BEGIN

    def _sleep(self, seconds: float) -> None:
        """Wait, and listen to the person meanwhile."""
        end = self._driver.clock() + seconds
        while (left := end - self._driver.clock()) > 0:
            self._driver.sleep(min(POLL_S, left))
            if left > POLL_S:
                self._poll()

    def _poll(self) -> None:
        """Look at the keys: some drive, some are about the episode."""
        desk = self._driver.desk
        for press in desk.pressed():
            order = SESSION_KEYS.get(press.key)
            if order is None:
                self._driver.keyboard.press(press.key, press.t)
            elif self._order not in ENDS and (order == STOP or (order == BEGIN) == self._waiting):
                self._order = order
        if desk.gone:
            self._order = STOP

    def _show(self, obs: Observation) -> None:
        """Give the desk what there is to see."""
        desk, person, tally = self._driver.desk, self.person, self.tally
        size = desk.picture_size
        pictures = {name: enlarged(image, size) for name, image in obs.images.items()} if size else {}
        driving = "YOU drive" if self._part.policy is None or person.driving else "the policy drives"
        state = [
            f"{tally.successes}/{tally.recorded} successes",
            self._part.title or f"episode {self._done}",
            "ready" if self._waiting else f"{self._ticks * self.rig.dt:.1f}/{self.job.limit_s:g} s",
            f"{driving}, axes move the {person.mode}" if driving.startswith("YOU") else driving,
            *(["THE CRITIC FORESEES FAILURE"] if self._rings else []),
            *([f"hand to {person.going_to}"] if person.going_to else []),
        ]
        extra = ("arrange the scene, then press enter to begin; q to stop",) if self._waiting else ()
        note = (self._note,) if self._note else ()
        desk.show(Scene(pictures, (f'"{obs.prompt}"', "  ".join(state), *person.troubles, *note, *extra)))


def robot_facts(session: RobotSession) -> dict[str, Any]:
    """Return what a person wants to know after a session: counts, and how punctual the ticks were."""
    late = session.rig.pacer.punctuality
    return {
        **vars(session.tally),
        "late_p99_ms": round(late.p99_ms, 2),
        "late_max_ms": round(late.max_ms, 2),
        "missed_ticks": late.missed,
    }
