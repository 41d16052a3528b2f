"""A person drives the simulator in real time, and what he does is recorded as demonstrations.

The person sits at a *desk*: a window or a terminal, which shows him what happens and has the keys.  Between two ticks
nothing happens but looking at the keys, so a key is seen within milliseconds.  Episodes are written between episodes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from bora_cli.control.loop import Rig, demonstrate
from bora_cli.data.dataset import Dataset
from bora_cli.evaluate.collect import open_or_create
from bora_cli.evaluate.guard import guarded, sim_profile
from bora_cli.input.device import Device
from bora_cli.input.hand import HandMap
from bora_cli.input.keyboard import Keyboard
from bora_cli.input.keys import KeyPress
from bora_cli.input.person import Person
from bora_cli.input.synergies import Synergies
from bora_cli.profiles import HardwareProfile
from bora_cli.seeds import scene_seeds
from bora_cli.sim.gaps import parse_gap
from bora_cli.sim.simulation import Simulation
from bora_cli.types import F32, U8, Episode, Observation

POLL_S = 0.005
"""Seconds between two looks at the keys."""
BEGIN, SUCCESS, FAILURE, DISCARD, STOP = "begin", "success", "failure", "discard", "stop"
SESSION_KEYS = {
    "enter": BEGIN,
    "y": SUCCESS,
    "n": FAILURE,
    "z": DISCARD,
    "delete": DISCARD,
    "q": STOP,
    "escape": STOP,
    "ctrl-c": STOP,
}
SESSION_HELP = (
    ("enter", "begin the episode"),
    ("y / n", "end it: success / failure"),
    ("z", "discard it and try the scene again"),
    ("q", "stop"),
)


@dataclass(frozen=True)
class TeleopJob:
    """What is recorded; stored in the dataset so that a continued recording is the same recording."""

    profile: str
    profile_hash: str
    task: str
    setting: str
    gap: str
    seed: int
    image_size: int
    limit_s: float
    operator: str = "person"


@dataclass(frozen=True)
class Scene:
    """What the person sees at one instant: pictures uint8 [H, W, 3] by camera, and lines of text."""

    pictures: dict[str, U8]
    lines: tuple[str, ...]


class Desk(Protocol):
    """Where the person sits.

    picture_size: side in px of the pictures it shows, 0 if it shows none.  gone: it was closed.
    """

    @property
    def picture_size(self) -> int: ...
    @property
    def gone(self) -> bool: ...
    def pressed(self) -> list[KeyPress]:
        """Return the keys pressed since the last call; never waits."""
        ...

    def show(self, scene: Scene) -> None:
        """Show what there is to see now."""


@dataclass
class Tally:
    """What came of a session: counts of episodes and ticks.  late: ticks that began after their time."""

    recorded: int = 0
    successes: int = 0
    discarded: int = 0
    ticks: int = 0
    late: int = 0


class Stopped(Exception):
    """The person wants no more of this; nothing is wrong."""


@dataclass(frozen=True)
class Driver:
    """A person at a desk with devices; the keyboard is one of them only if it drives.

    clock: monotonic seconds.  sleep: waits that many seconds.
    """

    desk: Desk
    keyboard: Keyboard
    devices: Sequence[Device]
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    frame: str = "view"
    fingers_by: int | None = None
    synergies: Synergies | None = None

    def orders(self) -> Iterator[str]:
        """Yield what was asked for about the episode since the last call; all other keys drive."""
        for press in self.desk.pressed():
            order = SESSION_KEYS.get(press.key)
            if order is None:
                self.keyboard.press(press.key, press.t)
            else:
                yield order

    def heed(self, line: str) -> None:
        """Say at the desk what is going on while nobody drives; raises Stopped if the person asked to stop.

        Whatever else was pressed since the last call means nothing.
        """
        self.desk.show(Scene({}, ("", line, "q to stop; the same command goes on")))
        if STOP in list(self.orders()) or self.desk.gone:
            raise Stopped


class Session:
    """Episodes driven by one person, in one scene after the other.

    dataset: where they are recorded, None to record nothing.  Discarding an episode repeats its scene, so that a
    recording is not made of the easy ones.
    """

    def __init__(self, job: TeleopJob, driver: Driver, out: Path | None = None, video: str = "") -> None:
        profile = sim_profile(job.profile)
        self.job, self._driver = job, driver
        self._sim = Simulation(
            job.task, setting=job.setting, gap=parse_gap(job.gap), image_size=job.image_size
        )
        self._sim.max_ticks = max(1, round(job.limit_s / self._sim.dt))
        rig = guarded(self._sim, profile)
        self.dataset: Dataset | None = None
        if out is not None:
            self.dataset = open_or_create(out, asdict(job), rig, video)
        self.person = person_at(rig, profile, driver, self._view)
        self.rig = LiveRig(rig, driver, self._poll, self._show)
        self._done = len(self.dataset) if self.dataset is not None else 0
        self._order = ""
        self._note = ""
        self.tally = Tally()

    def run(self, episodes: int | None = None) -> Tally:
        """Let the person drive until he stops, or until so many episodes are recorded (or driven, without a dataset).

        Raises ConfigError if the seed has no more scenes.  However it ends, the devices are let go.
        """
        try:
            while episodes is None or self.tally.recorded < episodes:
                scene = scene_seeds("collect", self.job.seed, 1, start=self._done)[0]
                self._sim.prepare(scene)
                if not self._wait_for_begin():
                    break
                episode = self._drive(scene)
                if self._order == STOP:
                    break
                if self._order == DISCARD:
                    self.tally.discarded += 1
                    self._note = "discarded; the same scene again"
                    continue
                self._keep(episode)
            return self.tally
        finally:
            self._sim.close()
            self.person.close()

    @property
    def waiting(self) -> bool:
        """Whether no episode runs."""
        return self.rig.waiting

    def _drive(self, scene: int) -> Episode:
        self._order = ""
        self.rig.begin()
        meta = {
            **asdict(self.job),
            "devices": [device.name for device in self._driver.devices],
            "mistake": None,
            "renderer": self._sim.backend,
        }
        episode = demonstrate(self.rig, self.person, scene_seed=scene, meta=meta)
        self.tally.ticks += len(episode)
        self.tally.late += self.rig.late
        return episode

    def _keep(self, episode: Episode) -> None:
        """Record an episode as the person judged it, or as the simulator did where he said nothing."""
        judged = self._order in (SUCCESS, FAILURE) and not episode.success and bool(episode.terminated[-1])
        success = self._order == SUCCESS if judged else episode.success
        meta = {
            **episode.meta,
            "judged_by": "person" if judged else "simulator",
            "simulator_success": bool(episode.success),
            "late_ticks": self.rig.late,
        }
        self._note = f"{'success' if success else 'failure'}, {len(episode)} ticks"
        if success != episode.success:
            self._note += "; the simulator saw no success"
        if self.dataset is not None:
            self.dataset.append(replace(episode, success=success, meta=meta))
        self._done += 1
        self.tally.recorded += 1
        self.tally.successes += int(success)

    def _wait_for_begin(self) -> bool:
        """Show the scene until the person begins; returns whether he did, rather than stop."""
        self._order = ""
        self.rig.wait_until(lambda: self._order in (BEGIN, STOP), "press enter to begin, q to stop")
        return self._order == BEGIN

    def _poll(self) -> None:
        """Look at the keys: some drive, some are about the episode."""
        for order in self._driver.orders():
            if self._order != STOP and (order != BEGIN or self.waiting):
                self._order = order
        if self._driver.desk.gone:
            self._order = STOP
        if self._order in (SUCCESS, FAILURE, DISCARD, STOP):
            self.person.finish()

    def _show(self, obs: Observation, extra: tuple[str, ...] = ()) -> None:
        """Give the desk what there is to see."""
        desk, person = self._driver.desk, self.person
        of = f"/{self.job.limit_s:g} s" if not self.waiting else ""
        state = [
            f"{self.tally.successes}/{self.tally.recorded} successes",
            f"episode {self._done}",
            f"{self.rig.tick * self._sim.dt:.1f}{of}" if of else "ready",
            f"axes move the {person.mode}",
            f"step {self._driver.keyboard.step:g}",
            *([f"hand to {person.going_to}"] if person.going_to else []),
        ]
        lines = [f'"{obs.prompt}"', "  ".join(state), *person.troubles, *([self._note] if self._note else [])]
        desk.show(Scene(pictures_for(desk, self._sim, obs), (*lines, *extra)))

    def _view(self) -> float:
        return view_of(self._sim)


class LiveRig:
    """A rig whose ticks take as long as they should; while it waits, the person is listened to.

    poll: looks at the keys.  show: gives the desk an observation, and further lines if there are any.
    tick, late: ticks of the episode so far, and those of them that took too long.  behind: by how many seconds the last
    one did.
    """

    def __init__(
        self,
        rig: Rig,
        driver: Driver,
        poll: Callable[[], None],
        show: Callable[..., None],
    ) -> None:
        self._rig, self._driver, self._poll, self._show = rig, driver, poll, show
        self._deadline = 0.0
        self.waiting = True
        self.tick = self.late = 0
        self.behind = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rig, name)

    def begin(self) -> None:
        """Start the clock of an episode."""
        self.waiting = False
        self.tick = self.late = 0

    def prepare(self, scene_seed: int) -> None:
        """Prepare the scene; time counts from then on."""
        self._rig.prepare(scene_seed)
        self._deadline = self._driver.clock()

    def observe(self, images: bool = True) -> Observation:
        """Observe, and show the person what a policy would see."""
        obs: Observation = self._rig.observe(images)
        if images and not self.waiting:
            self._show(obs)
        return obs

    def wait_until(self, over: Callable[[], bool], line: str) -> None:
        """Show the scene, with a line about it, and look at the keys until something is over."""
        obs = self.observe()
        while not over():
            self._show(obs, (line,))
            self._poll()
            if not over():
                self._driver.sleep(10 * POLL_S)

    def step(self, action: F32) -> Any:
        """Execute one tick, then wait until its time is over; a tick that took longer counts as late."""
        result = self._rig.step(action)
        self.tick += 1
        self._deadline += self._rig.dt
        now = self._driver.clock()
        self.behind = max(0.0, now - self._deadline)
        if now > self._deadline:
            self.late += 1
            self._deadline = now  # lost time is not caught up: a person cannot drive faster
        self._poll()
        while (left := self._deadline - self._driver.clock()) > 0:
            self._driver.sleep(min(POLL_S, left))
            self._poll()
        return result

    def hold(self) -> None:
        """End the clock of the episode, and hold."""
        self.waiting = True
        self._rig.hold()


def person_at(rig: Any, profile: HardwareProfile, driver: Driver, view: Callable[[], float]) -> Person:
    """Return the person behind the devices.  view: rad, where he looks, asked for when he takes the controls."""
    spec = rig.action_spec
    group = spec.slice("hand")
    hand = HandMap.build(
        spec.names[group],
        spec.low[group],
        spec.high[group],
        profile.postures,
        profile.limits.hand_rate,
        driver.synergies,
    )
    return Person(
        spec,
        rig.dt,
        hand,
        driver.devices,
        clock=driver.clock,
        yaw=view if driver.frame == "view" else lambda: 0.0,
        signs=profile.operator.axis_signs,
        fingers_by=driver.fingers_by,
        watchdog=profile.limits.device_trust,
    )


def view_of(sim: Any) -> float:
    """Return the direction, rad, in which a person looks at the scene: that of its camera, seen from above."""
    x, y, _ = -sim.privileged().view
    return math.atan2(y, x)


def pictures_for(desk: Desk, rig: Any, obs: Observation) -> dict[str, U8]:
    """Return what a desk shows of an observation, by camera: larger where the renderer is fast enough."""
    if not desk.picture_size:
        return {}
    if getattr(rig, "backend", "rays") == "rays":
        return {camera: enlarged(image, desk.picture_size) for camera, image in obs.images.items()}
    return {camera: rig.frame(camera, desk.picture_size, fancy=False) for camera in obs.images}


def enlarged(image: U8, size: int) -> U8:
    """Return an image [H, W, 3] with every pixel repeated, as large as fits into `size` px."""
    factor = max(1, size // max(image.shape[:2]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
