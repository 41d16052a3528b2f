"""How late the ticks of a control loop begin while a learner trains beside it.

    OMP_NUM_THREADS=1 python benchmarks/control.py [--seconds 60] [--rate 10] [--learners none process thread]

The loop observes, and commands a robot that answers at once, through the whole safety envelope; with `--work-ms` it
also computes for that long per tick, as a policy would.  The learner updates a residual-sized network as fast as it
can: in another process (as `bora online` is meant to run) of lower priority, or in a thread of the loop's process (the
pattern of several other projects).  Lateness is how long after its absolute deadline a tick begins.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import threading
import time
from typing import Any

import numpy as np

from bora_cli.control.guard import GuardedRobot
from bora_cli.control.pace import Pacer
from bora_cli.profiles import load_profile
from bora_cli.robot.protocol import Reading, RobotSpec, Target

PROFILE = load_profile("franka_dexhand021")
DOWN = np.diag([1.0, -1.0, -1.0])
LEARNERS = ("none", "process", "thread")
NICER = 10
"""By how much a learner process lowers its own priority."""


class StillRobot:
    """A robot that is at once where it is sent."""

    def __init__(self) -> None:
        joints = PROFILE.hand.joints
        self.spec = RobotSpec(
            "still",
            tuple(joint.name for joint in joints),
            tuple(joint.low for joint in joints),
            tuple(joint.high for joint in joints),
            PROFILE.dt,
        )
        self._at = Target(np.array([0.45, 0.0, 0.25]), DOWN, np.array(PROFILE.postures["open"]))

    def reset(self) -> Reading:
        return self.observe(images=False)

    def observe(self, images: bool = True) -> Reading:
        at = self._at
        return Reading(time.monotonic(), at.position.copy(), at.rotation.copy(), at.hand.copy(), at)

    def command(self, target: Target, *, deadline: float) -> Target:
        self._at = target
        return target

    def hold(self) -> None:
        """Stand still."""

    def close(self) -> None:
        """Have nothing to let go of."""


def learn(stop: Any, counted: Any, lower_priority: bool) -> None:
    """Train until told to stop; counted.value: updates so far."""
    if lower_priority:
        os.nice(NICER)
    import torch  # the loop's process must not pay for it where the learner is another one

    torch.set_num_threads(1)
    network = torch.nn.Sequential(
        torch.nn.Linear(768, 256),
        torch.nn.Mish(),
        torch.nn.Linear(256, 256),
        torch.nn.Mish(),
        torch.nn.Linear(256, 144),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    inputs, targets = torch.randn(4096, 768), torch.randn(4096, 144)
    while not stop.is_set():
        rows = torch.randint(0, len(inputs), (256,))
        loss = (network(inputs[rows]) - targets[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        counted.value += 1


def drive(seconds: float, rate: float, work_ms: float) -> dict[str, float]:
    """Run the loop and return how late its ticks were."""
    robot = GuardedRobot.from_profile(StillRobot(), PROFILE)
    at = robot.reset().target
    pacer = Pacer(1.0 / rate)
    pacer.start()
    for tick in range(round(seconds * rate)):
        robot.observe(images=False)
        end = time.monotonic() + work_ms / 1e3
        while time.monotonic() < end:
            np.dot(np.ones((64, 64)), np.ones((64, 64)))
        goal = at.position + np.array([0.0, 0.05 * np.sin(tick / 20), 0.0])
        robot.command(Target(goal, at.rotation, at.hand), deadline=time.monotonic() + 0.2)
        pacer.wait()
    found = pacer.punctuality
    return {
        "ticks": found.ticks,
        "p50_ms": round(found.p50_ms, 2),
        "p99_ms": round(found.p99_ms, 2),
        "max_ms": round(found.max_ms, 2),
        "missed": found.missed,
    }


def measure(learner: str, seconds: float, rate: float, work_ms: float) -> dict[str, Any]:
    """Return lateness beside one kind of learner, and how fast that learned."""
    context = multiprocessing.get_context("spawn")
    stop, counted = context.Event(), context.Value("q", 0)
    beside: Any = None
    if learner == "process":
        beside = context.Process(target=learn, args=(stop, counted, True), daemon=True)
    elif learner == "thread":
        beside = threading.Thread(target=learn, args=(stop, counted, False), daemon=True)
    if beside is not None:
        beside.start()
        while counted.value < 10:
            time.sleep(0.05)
    before, began = counted.value, time.monotonic()
    late = drive(seconds, rate, work_ms)
    speed = (counted.value - before) / (time.monotonic() - began)
    stop.set()
    if beside is not None:
        beside.join()
    return {"learner": learner, **late, "updates_per_s": round(speed, 1)}


def main() -> None:
    """Measure each kind of learner and print one JSON document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=10.0, help="Hz")
    parser.add_argument("--work-ms", type=float, default=0.0, help="computation per tick")
    parser.add_argument("--learners", nargs="+", default=list(LEARNERS), choices=LEARNERS)
    given = parser.parse_args()
    rows = [measure(learner, given.seconds, given.rate, given.work_ms) for learner in given.learners]
    document = {"cores": os.cpu_count(), "load": os.getloadavg()[0], "rate_hz": given.rate, "rows": rows}
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
