"""What rounds on a robot are, in the file that makes a run go on only as what it began as."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bora_cli.data.files import in_use, write_json
from bora_cli.errors import ConfigError
from bora_cli.evaluate.collect import differences
from bora_cli.evaluate.robot_session import RobotJob

JOB = "job.json"


@dataclass(frozen=True)
class RoundsJob:
    """What rounds on a robot are.

    episodes: per round, assisted.  pairs: per test, 0 releases untested.  alarm: hash of the one that calls the person,
    "" for none.
    """

    robot: RobotJob
    method: str
    rounds: int
    episodes: int
    pairs: int
    seed: int
    preset: str
    residual: str
    alarm: str = ""


def claim(out: Path, job: RoundsJob) -> None:
    """Write job.json, or check that the one there is the same; raises ConfigError where it is another one."""
    file, asked = out / JOB, {**asdict(job), **asdict(job.robot)}
    if not job.alarm:
        del asked["alarm"]
    if not file.is_file():
        if in_use(out):
            raise ConfigError(f"{out} is not empty and holds no online run.", "Choose another --out.")
        write_json(file, asked)
        return
    asked.pop("robot")
    if detail := differences(json.loads(file.read_text()), asked):
        raise ConfigError(f"{out} holds another online run ({detail}).", "Choose another --out.")


def read_job(out: Path) -> RoundsJob | None:
    """Return the job of a run, None where there is none yet.  Raises ConfigError for a run that is not on a robot."""
    try:
        facts: dict[str, Any] = json.loads((out / JOB).read_text())
    except (OSError, ValueError):  # it has not arrived, or not wholly
        return None
    names = [f.name for f in fields(RoundsJob) if f.name not in ("robot", "alarm")]
    if missing := [n for n in (*names, *(f.name for f in fields(RobotJob))) if n not in facts]:
        raise ConfigError(
            f"{out} holds no rounds on a robot (its job has no {', '.join(missing)}).",
            "Give the --out of `bora robot online`; for rounds in the simulator there is `bora online --role`.",
        )
    robot = RobotJob(**{f.name: facts[f.name] for f in fields(RobotJob)})
    return RoundsJob(robot, **{name: facts[name] for name in names}, alarm=facts.get("alarm", ""))
