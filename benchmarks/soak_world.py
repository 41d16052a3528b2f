"""The world of `soak.py`: simulated time, a robot, a device and a disk that break as a plan says, and who uses them."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bora_cli.control.envelope import Envelope
from bora_cli.control.joints import ArmLimits
from bora_cli.evaluate.teleoperate import Scene
from bora_cli.input.device import RELEASE, TAKE_OVER, DeviceSample
from bora_cli.input.keys import KeyPress
from bora_cli.profiles import HardwareProfile, load_profile
from bora_cli.profiles.schema import ArmJoint
from bora_cli.robot.frames import vector_of
from bora_cli.robot.protocol import Reading, Target
from bora_cli.sim.arm_hand import ARM_HIGH, ARM_LOW
from bora_cli.sim.as_robot import SimRobot
from bora_cli.sim.simulation import Simulation
from bora_cli.types import Decision, Observation

LOG = logging.getLogger("soak")
TICKS = 36
"""Longest episode."""
GRACE = 12
"""Ticks within which a robot has to be at rest after something fell silent: the watchdog's, and its braking."""
SHARE = 0.7
"""Of the episodes, that get a fault."""
FATAL = ("driver fails", "not a number", "disk full", "actor killed acting", "actor killed recording")
FAULTS = ("device lost", "images stop", "robot silent", "learner killed", *FATAL)
ROOM = 0.1
"""How far inside the simulated arm's own joint ranges the profile stays, rad."""
STILL = 1e-9
WEIGHTS = "pointer.json"


def soak_profile() -> HardwareProfile:
    """Return the simulator's profile with the limits that `bora profile check` asks of a real robot's."""
    profile = load_profile("sim")
    more = {
        "acceleration": 2.0, "jerk": 40.0, "rotation_acceleration": 10.0, "rotation_jerk": 200.0,
        "soft_start": 0.5, "watchdog_robot": 0.2, "watchdog_cameras": 0.3, "cone_axis": (0.0, 0.0, -1.0),
        "cone_angle": 0.8, "fingertips": ((0.0, 0.0, 0.04),), "fingertip_low": (0.2, -0.4, 0.0),
        "fingertip_high": (0.8, 0.4, 0.6),
    }  # fmt: skip
    joints = tuple(
        ArmJoint(name=f"arm_{i}", low=f"{low + ROOM} rad", high=f"{high - ROOM} rad", rate="3 rad/s")
        for i, (low, high) in enumerate(zip(ARM_LOW, ARM_HIGH, strict=True), 1)
    )
    arm = profile.arm.model_copy(update={"joints": joints})
    return profile.model_copy(update={"limits": profile.limits.model_copy(update=more), "arm": arm})


@dataclass(frozen=True)
class Plan:
    """What happens to one episode: a fault, "" for none, from a tick on, for so many ticks; step: of an append."""

    fault: str
    at: int
    ticks: int
    step: int
    takes_over: int

    @classmethod
    def of(cls, seed: int, episode: int) -> Plan:
        rng = np.random.default_rng([seed, episode])
        fault = str(rng.choice(FAULTS)) if rng.random() < SHARE else ""
        takes_over = int(rng.integers(3, 7))
        at = takes_over + 6 if fault == "device lost" else int(rng.integers(3, 14))
        return cls(fault, at, int(rng.integers(GRACE + 3, GRACE + 7)), int(rng.integers(1, 9)), takes_over)


def append_line(path: Path, document: dict[str, Any]) -> None:
    """Add a line that is on disk when this returns."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(document) + "\n")
        file.flush()
        os.fsync(file.fileno())


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a file, none where there is none."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@dataclass
class World:
    """Simulated time, the episode that runs, and its fault."""

    out: Path
    seed: int
    t: float = 100.0
    episode: int = -1
    tick: int = 0
    plan: Plan = field(default_factory=lambda: Plan("", 0, 0, 0, 0))
    trouble_since: int | None = None

    def clock(self) -> float:
        return self.t

    def sleep(self, seconds: float) -> None:
        self.t += seconds

    def begin(self, episode: int) -> None:
        """Begin an episode; a fault that was injected before is not injected again."""
        self.episode, self.tick, self.trouble_since = episode, 0, None
        self.plan = Plan.of(self.seed, episode)
        LOG.info("episode %d begins", episode)
        if any(line["episode"] == episode for line in lines_of(self.out / "injected.jsonl")):
            self.plan = replace(self.plan, fault="")

    def due(self, fault: str) -> bool:
        """Tell whether a fault is there at this tick; its first tick is written down before it happens."""
        plan = self.plan
        if plan.fault != fault or not plan.at <= self.tick < plan.at + plan.ticks:
            return False
        if self.trouble_since is None:
            self.trouble_since = self.tick
            self.inject(fault)
        return True

    def inject(self, fault: str) -> None:
        append_line(self.out / "injected.jsonl", {"episode": self.episode, "fault": fault, "tick": self.tick})
        LOG.info("fault: %s in episode %d at tick %d", fault, self.episode, self.tick)


class BadRobot:
    """The simulator as a robot that stops measuring, seeing and answering, and judges what it is told to do."""

    def __init__(self, world: World, profile: HardwareProfile) -> None:
        self._world, self._envelope = world, Envelope.from_profile(profile)
        arm = ArmLimits.from_profile(profile)
        assert arm is not None
        self._arm = arm
        self._robot = SimRobot(
            Simulation("press_button", image_size=16), profile_hash=profile.hash, clock=world.clock
        )
        self.spec = self._robot.spec
        self._last: Reading | None = None
        self._frozen: Reading | None = None
        self._at: Target | None = None
        self.steps: list[np.ndarray] = []
        self.stood = 0

    def reset(self) -> Reading:
        self.steps, reading = [], self._robot.reset()
        self._at = reading.target
        return reading

    def observe(self, images: bool = True) -> Reading:
        world, seen = self._world, self._robot.observe(images)
        world.due("learner killed")  # by the supervisor, who reads what was injected
        if world.due("driver fails"):
            raise OSError("the cable is out")
        if world.due("actor killed acting"):
            os.kill(os.getpid(), signal.SIGKILL)
        if world.due("not a number"):
            return replace(seen, position=np.full(3, np.nan))
        if world.due("robot silent"):
            seen = replace(seen, t=self._last.t if self._last is not None else seen.t)
        elif images and world.due("images stop"):
            self._frozen = self._frozen or seen
            seen = replace(seen, images=self._frozen.images, stamps=self._frozen.stamps)
        else:
            self._frozen = None
        self._last = seen
        return seen

    def arm_along(self, positions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        return self._robot.arm_along(positions, rotations)

    def command(self, target: Target, *, deadline: float) -> Target:
        world, before = self._world, self._at
        accepted = self._at = self._robot.command(target, deadline=deadline)
        assert before is not None
        step = accepted.position - before.position
        turn = vector_of(accepted.rotation @ before.rotation.T)
        moved = float(np.abs(np.concatenate([step, turn, accepted.hand - before.hand])).max())
        self.steps.append(step)
        where = self._envelope.trespass(accepted.position, accepted.rotation)
        where = where or self._arm.trespass(self._robot.arm_along(np.zeros((0, 3)), np.zeros((0, 3, 3)))[0])
        if where or np.linalg.norm(step) > self._envelope.translation.speed + 1e-7:
            self._violated(f"left its limits: {where or step}")
        since = world.trouble_since
        silent = world.plan.fault in ("device lost", "images stop", "robot silent")
        if silent and since is not None and since + GRACE <= world.tick < world.plan.at + world.plan.ticks:
            self.stood += 1
            if moved > STILL:
                self._violated(f"moved by {moved:.3g} in spite of '{world.plan.fault}'")
        world.tick += 1
        return accepted

    def hold(self) -> None:
        self._robot.hold()

    def close(self) -> None:
        self._robot.close()

    def _violated(self, what: str) -> None:
        world = self._world
        append_line(
            world.out / "violations.jsonl", {"episode": world.episode, "tick": world.tick, "what": what}
        )


class Cap:
    """A device whose wearer takes over, pushes, and takes over again once his device has come back."""

    name, frame = "cap", "base"

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def trouble(self) -> str:
        return "unplugged" if self._world.due("device lost") else ""

    def begin(self) -> None:
        """Have nothing to forget."""

    def read(self, now: float) -> DeviceSample | None:
        world, plan = self._world, self._world.plan
        if world.due("device lost"):
            return None
        returns = plan.at + plan.ticks + 2 if plan.fault == "device lost" else plan.takes_over + 12
        pressed = {plan.takes_over: (TAKE_OVER,), returns: (TAKE_OVER,)}
        if plan.fault != "device lost":
            pressed[returns] = (RELEASE,)
        twist = np.array([0.3, 0.2, 0.1, 0.0, 0.1, 0.0]) * np.sin(0.3 * world.tick + world.episode)
        return DeviceSample(now, twist, pressed.get(world.tick, ()))

    def close(self) -> None:
        """Have nothing to let go of."""


class Wanderer:
    """A policy that wanders about; its residual is a constant that the learner publishes."""

    execute = 4

    def __init__(self, world: World) -> None:
        self._world = world
        self.version, self.offset = 0, np.zeros(3)

    def reload(self) -> None:
        """Take the newest weights; called between episodes only."""
        path = self._world.out / WEIGHTS
        if path.exists():
            weights = json.loads(Path(json.loads(path.read_text())["weights"]).read_text())
            self.version, self.offset = int(weights["version"]), np.array(weights["offset"])

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        row = np.concatenate([np.zeros(6), obs.state[-12:] + rng.normal(0, 0.05, 12)])
        row[:3] = rng.normal(0, 0.008, 3) + self.offset
        row[3:6] = rng.normal(0, 0.03, 3)
        chunk = np.tile(row, (8, 1)).astype(np.float32)
        return Decision(0, 0, "", 0.0, 4, chunk, chunk, chunk, np.zeros((1, 1), np.float16))


class Desk:
    """Somebody who begins every episode at once and ends some of them."""

    picture_size = 0
    gone = False

    def __init__(self, world: World) -> None:
        self._world, self._waiting = world, True

    def show(self, scene: Scene) -> None:
        self._waiting = "press enter" in " ".join(scene.lines)

    def pressed(self) -> list[KeyPress]:
        world = self._world
        ends = world.episode % 3 and world.tick >= TICKS - 2 - world.episode % 5
        key = "enter" if self._waiting else "yn"[world.episode % 2] if ends else ""
        return [KeyPress(key, world.t)] if key else []


@contextmanager
def failing_disk(world: World) -> Iterator[None]:
    """Let the n-th sync or rename of an append fail, or kill this process."""
    fault, real, calls = world.plan.fault, {name: getattr(os, name) for name in ("fsync", "replace")}, [0]
    if fault not in ("disk full", "actor killed recording"):
        yield
        return
    world.inject(fault)

    def call(name: str, *given: Any) -> Any:
        calls[0] += 1
        if calls[0] == world.plan.step:
            if fault == "actor killed recording":
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real[name](*given)

    try:
        for name in real:
            setattr(os, name, lambda *given, name=name: call(name, *given))
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)
