"""A person beside a policy, in real time: he watches it work, takes over where it fails, and says how it went.

The desk, the keys and the devices are those of `bora_cli.evaluate.teleoperate`; what differs is that a policy drives
until the person asks for the controls, and again when he gives them back.  Any rig will do: the simulator, or a robot
as `bora_cli.control.rig` makes one of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bora_cli.control.alarm import Bell
from bora_cli.control.loop import Policy, Rig, roll_out
from bora_cli.control.rig import Outcome
from bora_cli.evaluate.teleoperate import (
    BEGIN,
    DISCARD,
    FAILURE,
    STOP,
    SUCCESS,
    Driver,
    LiveRig,
    Scene,
    Tally,
    person_at,
    pictures_for,
    view_of,
)
from bora_cli.input.keyboard import HELP
from bora_cli.profiles import HardwareProfile
from bora_cli.types import F32, Episode, Observation

if TYPE_CHECKING:
    from bora_cli.evaluate.monitor import Monitor

ASSIST_HELP = (
    ("enter", "let the policy begin"),
    ("t", "take over, and hand back"),
    ("y / n", "end the episode: success / failure"),
    ("z", "discard it and try the scene again"),
    ("q", "stop; the same command goes on"),
    *HELP,
)
"""Keys and what they do, for people."""
ORDERS = (SUCCESS, FAILURE, DISCARD, STOP)


@dataclass(frozen=True)
class Place:
    """Where in a run an episode stands, for the person: its number, counted from 1, and of how many."""

    number: int
    of: int
    title: str = ""


class Assistance:
    """One person beside a policy, for as many episodes as there are.

    rig: stepped in real time by this object.  profile: whose postures, signs and rates hold.  view: rad, where the
    person looks, seen from above; by default the direction of the simulator's camera.
    """

    def __init__(
        self, rig: Rig, profile: HardwareProfile, driver: Driver, view: Callable[[], float] | None = None
    ) -> None:
        self._bare, self._driver = rig, driver
        self.person = person_at(rig, profile, driver, view or (lambda: view_of(rig)))
        self._watcher = self.person.watch()
        self.rig = _Judged(LiveRig(rig, driver, self._poll, self._show), self._verdict)
        self._order = self._note = ""
        self._place = Place(1, 1)
        self._bell: Bell | None = None
        self.tally = Tally()

    @property
    def stopped(self) -> bool:
        """Whether the person wants no further episode."""
        return self._order == STOP

    def episode(
        self,
        policy: Policy,
        *,
        scene_seed: int,
        rng: Callable[[], np.random.Generator],
        meta: dict[str, Any],
        place: Place | None = None,
        monitor: Monitor | None = None,
    ) -> Episode | None:
        """Let the policy act in a scene, with the person beside it; None once he stops.

        rng: makes the noise of the policy; a scene that is tried again has the same.  monitor: looks on, and its alarm
        calls the person.
        Success is what the person said where he ended the episode, and what the rig saw where he did not.
        """
        self._place = place or self._place
        self._bell = monitor.bell if monitor is not None else None
        while True:
            self._bare.prepare(scene_seed)
            if not self._wait_for_begin():
                return None
            self._order = ""
            self.rig.begin()
            if monitor is not None:
                where = {key: meta[key] for key in ("round",) if key in meta}
                number, of = self._place.number, self._place.of
                monitor.begin(self._beside, number=number, of=of, scene=scene_seed, **where)
            episode = roll_out(
                self.rig,
                policy,
                scene_seed=scene_seed,
                rng=rng(),
                meta={**meta, "devices": [device.name for device in self._driver.devices]},
                watcher=self._watcher,
                operator=self.person,
                on_tick=monitor,
            )
            self.tally.ticks += len(episode)
            self.tally.late += self.rig.late
            if self._order == STOP:
                return None
            if self._order == DISCARD:
                self.tally.discarded += 1
                self._note = "discarded; the same scene again"
                continue
            return self._judged(episode)

    def close(self) -> None:
        """Hold, and let the devices go."""
        self._bare.hold()
        self.person.close()

    def _judged(self, episode: Episode) -> Episode:
        """Return an episode with what the person said about it, and what the rig saw."""
        judged = self.rig.judged
        self.tally.recorded += 1
        self.tally.successes += int(episode.success)
        self._note = f"{'success' if episode.success else 'failure'}, {len(episode)} ticks"
        meta = {
            **episode.meta,
            "judged_by": "person" if judged else "simulator",
            "simulator_success": bool(episode.success) and not judged,
            "late_ticks": self.rig.late,
        }
        return replace(episode, meta=meta)

    def _beside(self) -> dict[str, Any]:
        """Return what only somebody at the desk knows, for those who look on."""
        return {
            "late_ms": 1e3 * self.rig.behind,
            "late_ticks": self.rig.late,
            "device_age_s": self.person.age,
            "trouble": "; ".join(self.person.troubles),
        }

    def _verdict(self) -> str:
        return self._order if self._order in ORDERS else ""

    def _wait_for_begin(self) -> bool:
        """Show the scene until the person begins; returns whether he did, rather than stop."""
        self._order = ""
        self.rig.wait_until(lambda: self._order in (BEGIN, STOP), "press enter to begin, q to stop")
        return self._order == BEGIN

    def _poll(self) -> None:
        """Look at the keys: some drive, some are about the episode."""
        for order in self._driver.orders():
            if self._order not in ORDERS and (order != BEGIN or self.rig.waiting):
                self._order = order
        if self._driver.desk.gone:
            self._order = STOP

    def _show(self, obs: Observation, extra: tuple[str, ...] = ()) -> None:
        """Give the desk what there is to see."""
        person, place, tally = self.person, self._place, self.tally
        driver = f"YOU drive the {person.mode}" if person.driving else "the policy drives"
        state = [
            f"{tally.successes}/{tally.recorded} successes",
            f"{place.title}episode {place.number}/{place.of}",
            "ready" if self.rig.waiting else f"{self.rig.tick * self._bare.dt:.1f} s",
            *([] if self.rig.waiting else [driver]),
            *(["THE CRITIC FORESEES FAILURE"] if self._bell is not None and self._bell.rings else []),
            *([f"hand to {person.going_to}"] if person.going_to else []),
        ]
        lines = [f'"{obs.prompt}"', "  ".join(state), *person.troubles, *([self._note] if self._note else [])]
        desk = self._driver.desk
        desk.show(Scene(pictures_for(desk, self._bare, obs), (*lines, *extra)))


class _Judged:
    """A rig on which a person has the last word: his verdict ends the episode, and is its reward."""

    def __init__(self, rig: LiveRig, verdict: Callable[[], str]) -> None:
        self._rig, self._verdict = rig, verdict
        self.judged = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rig, name)

    def begin(self) -> None:
        """Start an episode that nobody has judged."""
        self.judged = False
        self._rig.begin()

    def step(self, action: F32) -> Any:
        """Execute one tick; a verdict of the person ends the episode, unless the rig ended it before."""
        result = self._rig.step(action)
        verdict = self._verdict()
        if not verdict or result.terminated:
            return result
        self.judged, success = True, verdict == SUCCESS
        return Outcome(result.applied, result.reward + float(success), True, False, success)


def ticks_of(limit_s: float, dt: float) -> int:
    """Return a time limit in ticks; 0 stays 0, which is the task's own limit."""
    return math.ceil(limit_s / dt - 1e-9) if limit_s else 0
