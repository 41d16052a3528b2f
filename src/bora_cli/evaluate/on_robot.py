"""Count the successes of a policy on a robot, and record what it does, alone or with a person who may take over."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bora_cli.checkpoint import load_trained
from bora_cli.control.flight import FlightRecorder
from bora_cli.errors import SchemaMismatch
from bora_cli.evaluate.evaluate import Trial, acting_policy, checkpoint_hash, image_side, trial_of
from bora_cli.evaluate.metrics import human_share, takeovers, wilson
from bora_cli.evaluate.robot_session import Part, RobotJob, RobotSession, robot_facts
from bora_cli.evaluate.teleoperate import Driver
from bora_cli.models.policy import PolicySpec
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.protocol import Robot
from bora_cli.types import Controller, Episode


@dataclass(frozen=True)
class RobotResult:
    """Outcomes of a policy on a robot, as a person judged them.

    trials: one per episode.  helped: whether the person drove in it at all.  share: of all ticks, driven by the person.
    takeovers: of all episodes.  facts: of the session.  warnings: what a reader should know.
    """

    job: RobotJob
    trials: list[Trial]
    helped: list[bool]
    share: float
    takeovers: int
    facts: dict[str, Any]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """Return the numbers: k of n, also without help, 95 % Wilson interval of the unaided, and every trial."""
        alone = sum(t.success and not h for t, h in zip(self.trials, self.helped, strict=True))
        n = len(self.trials)
        return {
            **asdict(self.job),
            "episodes": n,
            "successes": sum(t.success for t in self.trials),
            "unaided_successes": alone,
            "wilson95": list(wilson(alone, n)) if n else None,
            "human_share": self.share,
            "takeovers": self.takeovers,
            "warnings": self.warnings,
            **{f"session_{key}": value for key, value in self.facts.items()},
            "trials": [{**asdict(t), "helped": h} for t, h in zip(self.trials, self.helped, strict=True)],
        }


def evaluate_on_robot(
    checkpoint: Path,
    robot: Robot,
    profile: HardwareProfile,
    driver: Driver,
    *,
    prompt: str,
    task: str = "",
    episodes: int = 20,
    limit_s: float = 60.0,
    assisted: bool = False,
    record: Path | None = None,
    video: str = "",
    flights: FlightRecorder | None = None,
) -> RobotResult:
    """Let a policy act on a robot, with a person who judges and, if `assisted`, takes over where it fails.

    record: also write the episodes with images into a dataset there, continuing an interrupted recording, whose
    episodes then count.  flights: as of `RobotSession`.  Raises CheckpointError, ConfigError or SchemaMismatch before
    anything moves.
    """
    checkpoint = Path(checkpoint)
    digest = checkpoint_hash(checkpoint)
    trained = load_trained(checkpoint)
    require_policy(trained.spec, profile, str(checkpoint))
    policy = acting_policy(str(checkpoint), digest)
    policy.lam = policy.own_lam
    job = RobotJob(
        robot=robot.spec.name,
        profile=profile.name,
        profile_hash=profile.hash,
        task=task or prompt,
        prompt=prompt,
        operator="person" if assisted else "none",
        image_size=image_side(trained.spec, checkpoint),
        limit_s=limit_s,
        checkpoint=str(checkpoint),
        checkpoint_hash=digest,
    )
    part = Part(policy)
    session = RobotSession(
        robot, profile, job, driver, part=lambda _: part, out=record, video=video, flights=flights
    )
    kept: list[Episode] = []
    if session.dataset is not None:
        kept = [session.dataset.episode(i, images=False) for i in range(len(session.dataset))]
    trials, controllers = [trial_of(e) for e in kept], [e.controller for e in kept]

    def done(episode: Episode) -> None:
        trials.append(trial_of(episode))
        controllers.append(episode.controller)

    session.run(episodes, done)
    return RobotResult(
        job,
        trials,
        [bool((c == Controller.HUMAN).any()) for c in controllers],
        human_share(controllers) if controllers else 0.0,
        sum(takeovers(c) for c in controllers),
        robot_facts(session),
        other_profiles(trained.provenance, profile),
    )


def require_policy(spec: PolicySpec, profile: HardwareProfile, what: str) -> None:
    """Raise SchemaMismatch unless a policy was made for the actions, the cameras and the period of a profile."""
    both = f"{what} and profile '{profile.name}'"
    spec.action.require_same(profile.action_spec, both)
    cameras = {camera.name for camera in profile.cameras}
    if missing := [name for name in spec.cameras if name not in cameras]:
        raise SchemaMismatch(
            f"{both}: the policy looks at {', '.join(missing)}; the profile has {', '.join(sorted(cameras))}.",
            "Use policy and profile of one rig.",
        )
    if abs(spec.dt - profile.dt) > 1e-6:
        raise SchemaMismatch(
            f"{both}: ticks last {spec.dt:g} s there and {profile.dt:g} s here.",
            "Use policy and profile of one rig.",
        )


def other_profiles(provenance: dict[str, Any], profile: HardwareProfile) -> list[str]:
    """Return a warning if the data of a policy were recorded under another profile than the one it acts under."""
    hashes = [str(x) for x in provenance.get("profile_hash") or [] if x]
    if not hashes or hashes == [profile.hash]:
        return []
    return [
        f"The policy was trained on data of profile {', '.join(hashes)}; '{profile.name}' is {profile.hash}:"
        " limits, rates or cameras differ."
    ]
