"""A guarded robot: its limits over time, its watchdogs, its faults, and what is left behind of them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.control.envelope import Envelope
from bora_cli.control.flight import FlightRecorder
from bora_cli.control.guard import GuardedRobot
from bora_cli.errors import LimitViolation, RobotFault
from bora_cli.robot.frames import rotation_of
from bora_cli.robot.protocol import Target
from robot_fakes import DOWN, MIDDLE, OPEN, PROFILE, FakeClock, FakeRobot

ENVELOPE = Envelope.from_profile(PROFILE)


class Rig:
    """A guarded fake robot with its clock; `go` is one tick towards a target."""

    def __init__(self, folder: Path | None = None) -> None:
        self.clock = FakeClock()
        self.robot = FakeRobot(self.clock)
        recorder = None if folder is None else FlightRecorder(folder, clock=self.clock)
        self.guarded = GuardedRobot.from_profile(self.robot, PROFILE, clock=self.clock, recorder=recorder)
        self.guarded.reset()

    def go(
        self,
        position: np.ndarray,
        hand: np.ndarray = OPEN,
        late: float = -0.2,
        observe: bool = True,
        after: float = 0.1,
    ) -> Target:
        self.clock.t += after
        if observe:
            self.guarded.observe()
        return self.guarded.command(Target(position, DOWN, hand), deadline=self.clock.t - late)

    def speed(self) -> float:
        last, now = self.robot.targets[-2:]
        return float(np.linalg.norm(now.position - last.position))


def read_flight(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return head and ticks of a recording."""
    head, *ticks = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return head, ticks


FAR = MIDDLE - np.array([0.15, 0.0, 0.0])


def test_what_is_sent_is_what_is_returned_and_it_arrives() -> None:
    rig = Rig()
    for _ in range(60):
        sent = rig.go(FAR)
        assert np.array_equal(sent.position, rig.robot.at.position)
    np.testing.assert_allclose(sent.position, FAR, atol=1e-6)
    assert rig.guarded.changed == ()


def test_a_target_far_away_is_approached_at_full_speed() -> None:
    rig = Rig()
    for _ in range(14):
        rig.go(FAR)
    assert rig.speed() == pytest.approx(ENVELOPE.high[0], rel=1e-4)
    assert "motion limits" in rig.guarded.changed


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ({"position": FAR * np.nan}, "hold: command not finite"),
        ({"position": FAR, "late": 0.05}, "hold: command 0.050 s late"),
        ({"position": FAR, "late": np.nan}, "hold: command nan s late"),
    ],
)
def test_a_command_that_does_not_count_brakes(trouble: dict[str, object], reason: str) -> None:
    rig = Rig()
    for _ in range(14):
        rig.go(FAR)
    before = rig.speed()
    for _ in range(ENVELOPE.ticks + 1):
        rig.go(**trouble)  # type: ignore[arg-type]
        assert rig.guarded.changed == (reason, "stopping")
        assert rig.speed() < before or before == 0.0
        before = rig.speed()
    assert rig.speed() == 0.0
    rig.go(FAR)
    assert 0 < rig.speed() <= 0.1 * ENVELOPE.translation.speed + 1e-12


def test_a_silent_robot_and_a_silent_camera_brake() -> None:
    for name, says in (("age", "robot silent for 0.250 s"), ("image_age", "camera scene silent for 0.350 s")):
        rig = Rig()
        for _ in range(14):
            rig.go(FAR)
        setattr(rig.robot, name, 0.25 if name == "age" else 0.35)
        rig.go(FAR)
        assert rig.guarded.changed == (f"hold: {says}", "stopping")
        setattr(rig.robot, name, 0.0)
        for _ in range(ENVELOPE.ticks):
            rig.go(MIDDLE)
        assert rig.speed() > 0


def test_nobody_observing_is_silence_too() -> None:
    rig = Rig()
    for _ in range(4):
        rig.go(FAR, observe=False)
    assert rig.guarded.changed[0] == "hold: robot silent for 0.400 s"


def test_after_a_pause_it_starts_softly() -> None:
    rig = Rig()
    for _ in range(14):
        rig.go(FAR)
    rig.go(FAR, after=0.5)
    assert rig.speed() <= 0.1 * ENVELOPE.translation.speed + 1e-12


def test_silence_between_two_commands_is_written_down(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.go(FAR)
    rig.go(FAR, after=0.5)
    rig.go(FAR)
    rig.guarded.hold()
    rig.go(FAR, after=9.0)  # after a hold nobody is expected to command
    (path,) = tmp_path.glob("*.jsonl")
    assert read_flight(path)[0]["reason"] == "hold: no command for 0.500 s"


def test_commands_that_come_too_fast_do_not_move_it_faster() -> None:
    rig = Rig()
    for _ in range(14):
        rig.go(FAR)
    start, began = rig.robot.at.position.copy(), rig.clock.t
    taken = len(rig.robot.targets)
    for _ in range(60):
        rig.go(MIDDLE, after=0.01)
    assert len(rig.robot.targets) - taken <= 6 + 2
    rig.go(MIDDLE, after=0.01)
    rig.go(MIDDLE, after=0.0)
    assert rig.guarded.changed == ("refused: too many commands",)
    moved = np.linalg.norm(rig.robot.at.position - start)
    assert moved <= (rig.clock.t - began + 2 * PROFILE.dt) * PROFILE.limits.tcp_speed


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1), st.floats(0.001, 0.4)),
        min_size=5,
        max_size=40,
    )
)
def test_over_any_time_it_stays_inside(moves: list[tuple[float, float, float, float]]) -> None:
    rig = Rig()
    was = rig.robot.at
    for x, y, z, after in moves:
        sent = rig.go(MIDDLE + np.array([x, y, z]), hand=OPEN + x, after=after)
        assert ENVELOPE.trespass(sent.position, sent.rotation) == ""
        assert np.linalg.norm(sent.position - was.position) <= ENVELOPE.translation.speed + 1e-9
        assert (np.abs(sent.hand - was.hand) <= ENVELOPE.hand_rate + 1e-9).all()
        was = sent


def test_a_driver_that_moves_its_target_by_itself_is_held(tmp_path: Path) -> None:
    """As where an arm slips, and its controller draws the target after it."""
    clock = FakeClock()
    robot = FakeRobot(clock)
    recorder = FlightRecorder(tmp_path, clock=clock)
    guarded = GuardedRobot.from_profile(robot, PROFILE, clock=clock, recorder=recorder)
    guarded.reset()
    command = robot.command

    def slips(target: Target, *, deadline: float) -> Target:
        up = Target(target.position + np.array([0.0, 0.0, 0.046]), target.rotation, target.hand)
        return command(up, deadline=deadline)

    robot.command = slips  # type: ignore[method-assign]
    clock.sleep(PROFILE.dt)
    guarded.command(Target(MIDDLE, DOWN, OPEN), deadline=np.inf)
    assert robot.holds == [clock.t]
    assert guarded.changed[0] == "hold: the driver moved the target by 46 mm in one tick"
    (flight,) = tmp_path.iterdir()
    assert "moved the target by 46 mm" in flight.read_text()
    robot.command = command  # type: ignore[method-assign]
    clock.sleep(PROFILE.dt)
    guarded.observe()
    after = guarded.command(Target(MIDDLE, DOWN, OPEN), deadline=np.inf)
    assert abs(after.position[2] - MIDDLE[2] - 0.046) < 0.002  # it goes on from there, softly


def test_a_driver_that_clamps_is_believed() -> None:
    rig = Rig()
    rig.robot.broken = "clamps"
    for _ in range(40):
        sent = rig.go(MIDDLE - np.array([0.05, 0.0, 0.0]))
    assert sent.position[0] == pytest.approx(MIDDLE[0] - 0.01)


def test_a_hand_that_is_clamped_does_not_slow_the_arm() -> None:
    rig = Rig()
    take = rig.robot.command

    def clamps(target: Target, *, deadline: float) -> Target:
        rig.robot.at = replace(take(target, deadline=deadline), hand=OPEN.copy())
        return rig.robot.at

    rig.robot.command = clamps  # type: ignore[method-assign]
    for _ in range(14):
        sent = rig.go(FAR, hand=OPEN + 0.3)
    assert np.array_equal(sent.hand, OPEN)
    assert np.linalg.norm(sent.position - MIDDLE) > 0.1


def test_it_does_not_begin_outside() -> None:
    clock = FakeClock()
    robot = FakeRobot(clock)
    robot.at = Target(MIDDLE - np.array([0.3, 0, 0]), DOWN, OPEN)
    guarded = GuardedRobot.from_profile(robot, PROFILE, clock=clock)
    with pytest.raises(LimitViolation, match=r"fake stands outside its limits: tool at 0.180 0.000 0.250 m"):
        guarded.reset()
    assert robot.holds
    robot.at = Target(MIDDLE, rotation_of([1.5, 0, 0]) @ DOWN, OPEN)
    with pytest.raises(LimitViolation, match="off the cone's axis"):
        guarded.reset()


def test_hold_is_the_drivers_and_the_next_command_begins_where_it_stands() -> None:
    rig = Rig()
    for _ in range(14):
        rig.go(FAR)
    rig.guarded.hold()
    assert rig.robot.holds == [rig.clock.t]
    rig.robot.at = Target(MIDDLE + np.array([0.05, 0.1, 0]), DOWN, OPEN)
    sent = rig.go(FAR)
    assert (
        np.linalg.norm(sent.position - (MIDDLE + np.array([0.05, 0.1, 0])))
        <= 0.1 * ENVELOPE.translation.speed
    )


@pytest.mark.parametrize("broken", ["observe", "nan", "command"])
def test_a_fault_holds_and_leaves_a_recording(broken: str, tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(5):
        rig.go(FAR)
    rig.robot.broken = broken
    with pytest.raises((OSError, RobotFault)):
        rig.go(FAR)
    assert rig.robot.holds
    (path,) = tmp_path.glob("flight-*.jsonl")
    head, ticks = read_flight(path)
    assert ("finite" if broken == "nan" else "the cable is out") in head["reason"]
    assert head["ticks"] == len(ticks) == 5
    assert ticks[-1]["position"] == rig.robot.targets[-1].position.tolist()


def test_a_stop_leaves_one_recording(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for late in (-0.2, 0.1, 0.1, 0.1, -0.2, -0.2):
        rig.go(FAR, late=late)
    (path,) = tmp_path.glob("flight-*.jsonl")
    assert read_flight(path)[0]["reason"] == "hold: command 0.100 s late"


def test_hold_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.robot.broken = "hold"
    with caplog.at_level(logging.ERROR):
        rig.guarded.hold()
        rig.guarded.close()
    assert "The driver of fake failed to hold; use the emergency stop" in caplog.text
    assert rig.robot.closed


def test_another_hand_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.go(FAR)
    with pytest.raises(RobotFault, match=r"fake expects \(\(3,\), \(3, 3\), \(12,\)\)"):
        rig.go(FAR, hand=np.zeros(6))
    assert rig.robot.holds == [rig.clock.t]
    (path,) = tmp_path.glob("flight-*.jsonl")
    head, recorded = read_flight(path)
    assert "Target with position, rotation and hand of shapes ((3,), (3, 3), (6,))" in head["reason"]
    assert len(recorded) == 1


def test_the_recorder_keeps_half_a_minute(tmp_path: Path) -> None:
    clock = FakeClock(0.0)
    recorder = FlightRecorder(tmp_path / "deep" / "folder", clock=clock)
    for tick in range(500):
        clock.t = tick * 0.1
        recorder.note(tick=tick, far=np.inf, text="a")
    path = recorder.write("because")
    assert path is not None
    head, ticks = read_flight(path)
    assert ticks[0]["tick"] == 200
    assert ticks[-1] == {"t": pytest.approx(49.9), "tick": 499, "far": np.inf, "text": "a"}
    assert head == {"version": 1, "reason": "because", "t": pytest.approx(49.9), "ticks": 300}
    assert [p.suffix for p in path.parent.iterdir()] == [".jsonl"]


def test_a_disk_that_refuses_is_no_second_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    assert FlightRecorder(tmp_path / "file", clock=FakeClock()).write("because") is None
    assert "Flight recording (because) could not be written" in caplog.text
