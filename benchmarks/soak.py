"""Two hundred online episodes while everything around them breaks, and an audit of what is left.

    OMP_NUM_THREADS=1 python benchmarks/soak.py --out SCRATCH [--episodes 200] [--seed 0]

Three processes: an actor (a person with a device beside a policy, on a robot behind the guard, recording), a learner
that reads the dataset while it grows and publishes weights through a file, and this one, which starts them again when
they die.  Loop, arbiter, guard, flight recorder, session and dataset are those of `bora robot eval`.  The robot is the
simulator and time is simulated, so that the same seed breaks the same things at the same ticks; policy and learner are
stand-ins of a few lines: what they learn is not what is tried here.

Most episodes get one fault: the device is lost while its wearer drives, images stop, the robot falls silent, its driver
raises or measures what is not a number, the disk is full, the actor is killed (acting, or recording), the learner is
killed.  Audited: every acknowledged episode is in the dataset as it was, once, and that is whole; the robot stood still
where it had to and never left its limits, those of its arm's joints among them; what moved is what was recorded; every
planned fault befell and is in a log.  A run that is interrupted goes on.

Exit code 0 if the audit found nothing.  Anything that was lost, or moved and should not, a fault without a trace, or a
process that cannot be kept alive: exit code 1, and `problems` says which.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet  # noqa: F401  (imported once, before all forks)
from soak_world import (
    LOG,
    TICKS,
    WEIGHTS,
    BadRobot,
    Cap,
    Desk,
    Plan,
    Wanderer,
    World,
    append_line,
    failing_disk,
    lines_of,
    soak_profile,
)

from bora_cli.control.arbiter import Phase
from bora_cli.control.connect import within_limits
from bora_cli.control.flight import FlightRecorder
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import write_json
from bora_cli.errors import BoraError, DataError
from bora_cli.evaluate.robot_session import Part, RobotJob, RobotSession
from bora_cli.evaluate.teleoperate import Driver
from bora_cli.input.keyboard import Keyboard
from bora_cli.types import Controller, Episode

SEEN = {
    "images stop": r"Flight recording \(hold: camera",
    "robot silent": r"Flight recording \(hold: robot silent",
    "driver fails": r"Flight recording \(OSError: the cable is out",
    "not a number": r"Flight recording \(RobotFault: sim measured numbers that are not finite",
    "disk full": r"act ends: OSError: \[Errno 28\]",
    "actor killed acting": r"actor ended with -9",
    "actor killed recording": r"actor ended with -9",
    "learner killed": r"learner ended with -9",
}
"""What the log has to say between the fault and the beginning of the next episode; a lost device is in the dataset."""
STANDS = ("device lost", "images stop", "robot silent")
"""Faults after which the robot has to be at rest."""
RESTARTS = 20
"""How often a process may end by itself beside the faults that end it."""


def act(out: Path, episodes: int, seed: int) -> None:
    """Run what is missing of the episodes."""
    world, profile = World(out, seed), soak_profile()
    robot = BadRobot(world, profile)
    recorder = FlightRecorder(out / "flights", clock=world.clock)
    guarded = within_limits(robot, profile, recorder=recorder, clock=world.clock)
    policy = Wanderer(world)
    driver = Driver(Desk(world), Keyboard(()), (Cap(world),), world.clock, world.sleep)
    job = RobotJob("sim", profile.name, profile.hash, "soak", "soak", "person", 16, TICKS * profile.dt)
    part = Part(policy)
    session = RobotSession(guarded, profile, job, driver, part=lambda _: part, out=out / "episodes")
    assert session.dataset is not None
    append = session.dataset.append

    def append_on_a_bad_disk(episode: Episode) -> int:
        with failing_disk(world):
            return append(replace(episode, meta={**episode.meta, "weights": policy.version}))

    def done(episode: Episode) -> None:
        moved, recorded = np.sum(robot.steps, axis=0), episode.action[:, :3].sum(axis=0)
        line = {
            "episode": world.episode, "ticks": len(episode), "sum": float(episode.action.sum()),
            "unrecorded_m": float(np.abs(moved - recorded).max()), "commands": len(robot.steps), "stood": robot.stood,
        }  # fmt: skip
        robot.stood = 0
        append_line(out / "acknowledged.jsonl", line)
        policy.reload()
        world.begin(world.episode + 1)

    session.dataset.append = append_on_a_bad_disk  # type: ignore[method-assign]
    policy.reload()
    world.begin(len(session.dataset))
    session.run(episodes, done)


# ----------------------------------------------------------------------------------------------- the learner


def learn(out: Path) -> None:
    """Publish the mean correction of the people in the dataset, as often as it grows, until killed."""
    path = out / WEIGHTS
    version = int(json.loads(path.read_text())["version"]) if path.exists() else 0
    known = -1
    while True:
        time.sleep(0.2)
        acknowledged = len(lines_of(out / "acknowledged.jsonl"))
        if acknowledged <= known:
            continue
        try:
            dataset = Dataset.open(out / "episodes")
        except DataError as error:
            LOG.info("learner waits: %s", error.message)
            continue
        count = len(dataset)
        episodes = [dataset.episode(i, images=False) for i in range(max(0, count - 5), count)]
        rows = [(e.human - e.proposed)[e.controller == Controller.HUMAN][:, :3] for e in episodes]
        corrections = np.concatenate([np.zeros((1, 3)), *rows])
        known, version = acknowledged, version + 1
        weights = out / "weights" / f"{version:05d}.json"
        write_json(weights, {"version": version, "offset": (0.2 * corrections.mean(axis=0)).tolist()})
        write_json(path, {"version": version, "weights": str(weights)})
        LOG.info("learner publishes %d from %d episodes", version, count)


# -------------------------------------------------------------------------------------------- the supervisor


def child(role: Callable[..., None], *given: Any) -> int:
    """Run a role in a process of its own, which inherits what is imported; returns its number."""
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        role(*given)
        code = 0
    except (BoraError, OSError) as error:
        LOG.info("%s ends: %s: %s", role.__name__, type(error).__name__, error)
    except BaseException:
        LOG.exception("%s ends", role.__name__)
    finally:
        os._exit(code)


def supervise(out: Path, episodes: int, seed: int) -> None:
    """Keep actor and learner alive until the episodes are there; kill the learner where the plan says so."""
    roles: dict[str, tuple[Any, ...]] = {"actor": (act, out, episodes, seed), "learner": (learn, out)}
    running = {name: child(*role) for name, role in roles.items()}
    log = out / "events.log"
    killed = len(re.findall(SEEN["learner killed"], log.read_text()))
    left = episodes + RESTARTS
    try:
        while True:
            for name, role in roles.items():
                number, status = os.waitpid(running[name], os.WNOHANG)
                if not number:
                    continue
                code = os.waitstatus_to_exitcode(status)
                LOG.info("%s ended with %d", name, code)
                if name == "actor" and code == 0:
                    del running[name]
                    return
                left -= 1
                if left < 0:
                    del running[name]
                    LOG.error("%s cannot be kept alive", name)
                    return
                running[name] = child(*role)
            if asked_kills(out) > killed:
                killed += 1
                os.kill(running["learner"], signal.SIGKILL)
            time.sleep(0.02)
    finally:
        for number in running.values():
            os.kill(number, signal.SIGKILL)
            os.waitpid(number, 0)


def asked_kills(out: Path) -> int:
    """Return how often the learner should have been killed by now."""
    return sum(line["fault"] == "learner killed" for line in lines_of(out / "injected.jsonl"))


def audit(out: Path, episodes: int, seed: int) -> dict[str, Any]:
    """Return what is missing, and what was counted."""
    dataset = Dataset.open(out / "episodes")
    acknowledged, injected = lines_of(out / "acknowledged.jsonl"), lines_of(out / "injected.jsonl")
    problems = [f"moved: {line}" for line in lines_of(out / "violations.jsonl")]
    problems += [f"dataset: {finding}" for finding in check(out / "episodes")]
    if len(dataset) != episodes:
        problems.append(f"{len(dataset)} episodes; expected {episodes}")
    versions = []
    twice = Counter(line["episode"] for line in acknowledged)
    problems += [f"episode {episode} was recorded {n} times" for episode, n in twice.items() if n > 1]
    for line in acknowledged:
        if line["episode"] >= len(dataset):
            problems.append(f"episode {line['episode']} was acknowledged, and is not there")
            continue
        episode = dataset.episode(line["episode"], images=False)
        if (len(episode), float(episode.action.sum())) != (line["ticks"], line["sum"]):
            problems.append(f"episode {line['episode']} is not what was acknowledged")
        if line["unrecorded_m"] > 1e-4:
            problems.append(f"episode {line['episode']}: {line['unrecorded_m']:.2g} m moved unrecorded")
    versions = [int(row.meta["weights"]) for row in dataset.rows()]
    if versions != sorted(versions):
        problems.append("weights went back")
    segments = re.split(r"(?m)^.*episode (\d+) begins\n", (out / "events.log").read_text())
    text: Counter[int] = Counter()
    said: dict[int, str] = {}
    for number, part in zip(segments[1::2], segments[2::2], strict=True):
        said[int(number)] = said.get(int(number), "") + part
        text[int(number)] += 1
    for line in injected:
        where, fault = line["episode"], line["fault"]
        if where >= len(dataset):
            seen = False
        elif fault == "device lost":
            seen = bool((dataset.episode(where, images=False).phase == Phase.HELD).any())
        elif fault == "learner killed":
            seen = re.search(SEEN[fault], said[where] + said.get(where + 1, "")) is not None
        else:
            seen = re.search(SEEN[fault], said[where]) is not None
        if not seen:
            problems.append(f"no trace of '{fault}' in episode {where}")
    planned = [Plan.of(seed, i).fault for i in range(episodes)]
    befell = {(line["episode"], line["fault"]) for line in injected}
    problems += [
        f"'{f}' never befell episode {i}" for i, f in enumerate(planned) if f and (i, f) not in befell
    ]
    stood = sum(line["stood"] for line in acknowledged)
    if not stood and any(fault in STANDS for fault in planned):
        problems.append("no command came where the robot had to stand still")
    return {
        "ok": not problems,
        "problems": problems,
        "episodes": len(dataset),
        "acknowledged": len(acknowledged),
        "ticks": dataset.ticks,
        "commands_judged": sum(line["commands"] for line in acknowledged),
        "commands_that_had_to_stand_still": stood,
        "injected": dict(Counter(line["fault"] for line in injected)),
        "planned": dict(Counter(fault for fault in planned if fault)),
        "beginnings": int(sum(text.values())),
        "versions_of_weights": versions[-1] if versions else 0,
        "flights": len(list((out / "flights").glob("*.jsonl"))),
    }


def main() -> None:
    """Run, or go on with, a soak, and print the audit as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(
        filename=given.out / "events.log", level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    logging.getLogger("bora_cli.data").setLevel(logging.ERROR)  # leftovers of those who were killed
    began = time.monotonic()
    supervise(given.out, given.episodes, given.seed)
    found = audit(given.out, given.episodes, given.seed)
    print(json.dumps({**found, "seconds": round(time.monotonic() - began)}, indent=1))
    raise SystemExit(0 if found["ok"] else 1)


if __name__ == "__main__":
    main()
