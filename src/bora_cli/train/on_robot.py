"""Online rounds on a robot: a person helps the policy, a residual learns, and a blind test says which is better.

    OUT/job.json                 what is run; a continued run must be the same one
    OUT/episodes/                all assisted episodes, a dataset like any other (meta tells the round)
    OUT/round-K/policy/          checkpoint with the residual that round K trained; learned.json has its hash
    OUT/round-K/test/            the unaided episodes of its test, a dataset
    OUT/round-K/round.json       what was collected, how training and test went; its presence ends the round
    OUT/live.jsonl               what the control loop is doing while somebody helps, for `bora console`
    OUT/policy/                  the policy that was released last

What `bora online` does in the simulator, with two differences that a robot asks for: scenes are arranged by hand, so a
test is a few pairs, judged by a person who is not told which policy acts; and while the learner works, the robot holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from bora_cli.checkpoint import load_trained
from bora_cli.control.alarm import Alarm, Bell
from bora_cli.control.flight import FlightRecorder
from bora_cli.control.telemetry import LIVE
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import copy_directory, write_json
from bora_cli.evaluate.evaluate import acting_policy, checkpoint_hash, image_side
from bora_cli.evaluate.monitor import Monitor
from bora_cli.evaluate.on_robot import other_profiles, require_policy
from bora_cli.evaluate.robot_session import Part, RobotJob, RobotSession
from bora_cli.evaluate.teleoperate import Driver, Stopped
from bora_cli.models.policy import VLAPolicy
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.protocol import Robot
from bora_cli.seeds import stream
from bora_cli.train.crew import judge, telemetry
from bora_cli.train.meeting import Wait, patiently, playing
from bora_cli.train.outcome import human_part, unchanged_because
from bora_cli.train.residual import ResidualKind
from bora_cli.train.robot_job import RoundsJob, claim
from bora_cli.train.robot_learner import learn_round, learned, mixed_in

Progress = Callable[[str, int, int], None]
Method = Literal["bora", "bc_interventions"]


@dataclass(frozen=True)
class Place:
    """A robot inside its limits, its profile, the person beside it, and where faults are written down."""

    robot: Robot
    profile: HardwareProfile
    driver: Driver
    flights: FlightRecorder | None = None


def rounds_on_robot(
    checkpoint: Path,
    place: Place,
    *,
    prompt: str,
    out: Path,
    rounds: int = 2,
    episodes: int = 10,
    pairs: int = 5,
    limit_s: float = 60.0,
    seed: int = 0,
    method: Method = "bora",
    preset: Literal["sim", "paper"] = "sim",
    residual: ResidualKind = "mlp",
    data: list[Path] | None = None,
    alarm: Alarm | None = None,
    elsewhere: bool = False,
    wait: Wait = patiently,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Adapt a policy on a robot and return what happened in each round; `stopped` is true where the person stopped.

    In the result, `warnings` is what a reader should know, also why the policy is unchanged once all rounds are over.

    data: offline datasets for the 1:1 mixture of the method "bora"; those the checkpoint was trained on if absent.
    alarm: calls the person when V of the checkpoint's critic is too low.  elsewhere: another process learns
    (`bora_cli.train.robot_learner`), and this one only acts; it calls `wait` meanwhile, with what is missing, and looks
    at the keys each time.  The person may stop while something is learned, too; what is not finished is begun anew.
    The same call goes on where it was interrupted.  Raises CheckpointError, ConfigError, DataError or SchemaMismatch
    before anything moves, RobotFault if the robot cannot obey any more.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    base = load_trained(checkpoint)
    require_policy(base.spec, place.profile, str(checkpoint))
    offline = [] if elsewhere else mixed_in(base, method, data)
    robot_job = RobotJob(
        robot=place.robot.spec.name,
        profile=place.profile.name,
        profile_hash=place.profile.hash,
        task=prompt,
        prompt=prompt,
        operator="person",
        image_size=image_side(base.spec, checkpoint),
        limit_s=limit_s,
        checkpoint=str(checkpoint),
        checkpoint_hash=checkpoint_hash(checkpoint),
    )
    called = alarm.hash if alarm is not None else ""
    job = RoundsJob(robot_job, method, rounds, episodes, pairs, seed, preset, residual, called)
    claim(out, job)
    warnings = other_profiles(base.provenance, place.profile)

    def told(stage: str, done: int, of: int) -> None:
        place.driver.heed(f"{stage}: {done} of {of}")
        if progress is not None:
            progress(stage, done, of)

    def learn(index: int, acting: Path) -> None:
        if not elsewhere:
            learn_round(job, base, index, acting, out, offline, told)
        while not learned(out / f"round-{index}"):
            reason = f"the learner of round {index}"
            place.driver.heed(f"waiting for {reason}")
            wait(reason)

    with playing(out, "actor" if elsewhere else "both"):
        result = _rounds(job, place, checkpoint, out, alarm, learn)
    return {**result, "warnings": [*warnings, *result["warnings"]]}


def _rounds(
    job: RoundsJob,
    place: Place,
    checkpoint: Path,
    out: Path,
    alarm: Alarm | None,
    learn: Callable[[int, Path], None],
) -> dict[str, Any]:
    """Go from round to round until the person stops or all are over.

    learn: returns with a round's policy there, or raises Stopped.
    """
    acting = checkpoint
    done: list[dict[str, Any]] = []
    for index in range(1, job.rounds + 1):
        folder = out / f"round-{index}"
        if not (folder / "round.json").is_file():
            stopped = {"policy": str(acting), "rounds": done, "stopped": True, "warnings": []}
            if not _collect(job, place, index, acting, out, alarm):
                return stopped
            try:
                learn(index, acting)
            except Stopped:
                return stopped
            outcome = _test(job, place, index, acting, folder)
            if outcome is None:
                return stopped
            write_json(folder / "round.json", {"index": index, **_human(job, index, out), **outcome})
        done.append(json.loads((folder / "round.json").read_text()))
        acting = folder / "policy" if done[-1]["released"] else acting
    final = copy_directory(acting, out / "policy")
    why = unchanged_because(done, job.method, job.preset)
    return {"policy": str(final), "rounds": done, "stopped": False, "warnings": [why] if why else []}


def _part(path: Path, title: str, facts: dict[str, Any]) -> Part:
    """Return an episode of the policy in a checkpoint."""
    digest = checkpoint_hash(path)
    policy = acting_policy(str(path), digest)
    policy.lam = policy.own_lam
    return Part(policy, title, {**facts, "policy": digest})


def _collect(job: RoundsJob, place: Place, index: int, acting: Path, out: Path, alarm: Alarm | None) -> bool:
    """Record what is missing of a round's assisted episodes; returns whether it is complete."""
    last = index * job.episodes
    bare = _part(acting, "", {"round": index})
    policy = bare.policy
    assert isinstance(policy, VLAPolicy)
    critic = judge(job.robot.checkpoint, job.robot.checkpoint_hash)
    bell = Bell(alarm) if alarm is not None else None
    monitor = Monitor(policy, critic, bell=bell, telemetry=telemetry(str((out / LIVE).resolve())))
    watched = replace(bare, policy=monitor.policy, monitor=monitor)

    def part(number: int) -> Part:
        at = number - (index - 1) * job.episodes + 1
        title = f"round {index}, episode {at} of {job.episodes}"
        return replace(watched, title=title, place=(at, job.episodes))

    session = RobotSession(
        place.robot,
        place.profile,
        job.robot,
        place.driver,
        part=part,
        out=out / "episodes",
        flights=place.flights,
    )
    session.run(last)
    assert session.dataset is not None
    return len(session.dataset) >= last


def _test(job: RoundsJob, place: Place, index: int, acting: Path, folder: Path) -> dict[str, Any] | None:
    """Let both policies act in pairs of scenes, in an order that the person does not know; None if he stops.

    The new policy is released if it succeeded more often, or as often where the policy in use has a residual already.
    """
    candidate = folder / "policy"
    counted = {"base_k": 0, "residual_k": 0, "release_n": job.pairs}
    if load_trained(candidate).lam == 0.0:
        return {**counted, "release_n": 0, "released": False}
    if not job.pairs:
        return {**counted, "released": True}
    order = [stream("blind test", job.seed, index, pair).permutation(2).tolist() for pair in range(job.pairs)]

    def part(number: int) -> Part:
        new = order[number // 2][number % 2]
        again = "; arrange it as in the last episode" if number % 2 else ""
        title = f"round {index}, blind test {number + 1} of {2 * job.pairs}{again}"
        return _part(
            candidate if new else acting, title, {"round": index, "pair": number // 2, "new": bool(new)}
        )

    tested = RobotJob(**{**asdict(job.robot), "operator": "none"})
    session = RobotSession(
        place.robot,
        place.profile,
        tested,
        place.driver,
        part=part,
        out=folder / "test",
        flights=place.flights,
    )
    session.run(2 * job.pairs)
    assert session.dataset is not None
    rows = session.dataset.rows()
    if len(rows) < 2 * job.pairs:
        return None
    for row in rows:
        counted["residual_k" if row.meta["new"] else "base_k"] += int(row.success)
    ties_go_to_new = load_trained(acting).lam > 0
    ahead = counted["residual_k"] - counted["base_k"]
    return {**counted, "released": ahead > 0 or (ahead == 0 and ties_go_to_new)}


def _human(job: RoundsJob, index: int, out: Path) -> dict[str, Any]:
    """Return how much the person did in a round's assisted episodes."""
    dataset = Dataset.open(out / "episodes")
    numbers = range((index - 1) * job.episodes, index * job.episodes)
    return human_part([dataset.episode(number, images=False) for number in numbers])
