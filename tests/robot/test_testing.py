"""The test kit for drivers: it accepts good ones, and catches every one that was broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from bora_cli.control.guard import GuardedRobot
from bora_cli.errors import RobotFault
from bora_cli.robot.frames import rotation_of
from bora_cli.robot.protocol import Reading, Target
from bora_cli.sim.as_robot import SimRobot
from bora_cli.sim.simulation import Simulation
from bora_cli.testing import CHECKS, Finding, check_robot, robot_findings
from robot_fakes import ARM, DOWN, MIDDLE, PROFILE, SPEC, FakeClock, FakeRobot


def findings(robot: FakeRobot) -> list[Finding]:
    return robot_findings(lambda: robot, wait=robot.clock.sleep, clock=robot.clock)


@dataclass
class Slow(FakeRobot):
    """A robot that takes its time: at most 2 cm per 0.1 s towards its target."""

    goal: Target | None = None
    since: float = 0.0
    stops: bool = True

    def command(self, target: Target, *, deadline: float) -> Target:
        self.go_on()
        if self.clock() <= deadline and target.sound:
            super().command(self.at, deadline=deadline)
            if target.hand.shape != self.at.hand.shape:
                raise RobotFault("Another hand.")
            self.goal = Target(target.position.copy(), target.rotation.copy(), target.hand.copy())
        return self.goal or self.at

    def observe(self, images: bool = True) -> Reading:
        self.go_on()
        return replace(super().observe(images), target=self.goal or self.at)

    def hold(self) -> None:
        super().hold()
        if self.stops:
            self.goal = None

    def go_on(self) -> None:
        time, self.since = self.clock() - self.since, self.clock()
        if self.goal is not None:
            way = self.goal.position - self.at.position
            share = min(1.0, 0.2 * time / max(float(np.linalg.norm(way)), 1e-9))
            self.at = Target(self.at.position + share * way, self.goal.rotation, self.goal.hand)


def fake(**options: object) -> FakeRobot:
    return FakeRobot(FakeClock(), **options)  # type: ignore[arg-type]


def test_good_drivers_pass() -> None:
    clock = FakeClock()
    check_robot(lambda: FakeRobot(clock), wait=clock.sleep, clock=clock)
    check_robot(lambda: Slow(clock, since=clock()), wait=clock.sleep, clock=clock)
    guarded = GuardedRobot.from_profile(FakeRobot(clock), PROFILE, clock=clock)
    check_robot(lambda: guarded, wait=clock.sleep, clock=clock)


@pytest.mark.parametrize("guard", [False, True])
def test_the_simulator_passes(guard: bool) -> None:
    """In ten lines, as a laboratory would write it."""
    from bora_cli.profiles import load_profile

    clock = FakeClock()
    robot = SimRobot(Simulation("press_button", image_size=16), clock=clock)
    robot.spec = replace(robot.spec, joints=robot.spec.joints)
    made = GuardedRobot.from_profile(robot, load_profile("sim"), clock=clock) if guard else robot
    check_robot(lambda: made, wait=clock.sleep, clock=clock)


class Broken(FakeRobot):
    """A fake whose parts are replaced by functions of it."""

    def __init__(self, **parts: Callable[..., object]) -> None:
        super().__init__(FakeClock())
        self.parts = parts
        self.frozen_t = self.clock()

    def observe(self, images: bool = True) -> Reading:
        reading = super().observe(images)
        changed = self.parts.get("reading")
        return reading if changed is None else changed(self, reading)  # type: ignore[return-value]

    def command(self, target: Target, *, deadline: float) -> Target:
        changed = self.parts.get("command")
        if changed is not None:
            return changed(self, target, deadline)  # type: ignore[return-value]
        return super().command(target, deadline=deadline)

    def good(self, target: Target, deadline: float) -> Target:
        return super().command(target, deadline=deadline)

    def hold(self) -> None:
        super().hold()
        self.parts.get("hold", lambda robot: None)(self)

    def close(self) -> None:
        self.parts.get("close", lambda robot: None)(self)
        super().close()


def at(robot: FakeRobot, **parts: np.ndarray) -> Target:
    robot.at = replace(robot.at, **parts)
    return robot.at


def raising(*_: object) -> None:
    raise OSError("no cable")


def only_once(robot: Broken) -> None:
    if robot.closed:
        raise OSError("already closed")


def after_close(robot: Broken) -> None:
    if robot.closed:
        raise OSError("closed")


def flipped(target: Target, axis: int) -> Target:
    way = target.position - MIDDLE
    way[axis] *= -1
    return replace(target, position=MIDDLE + way)


def obeys(change: Callable[[Target], Target]) -> Broken:
    return Broken(command=lambda robot, target, deadline: robot.good(change(target), deadline) and target)


def drifting(robot: Broken, reading: Reading) -> Reading:
    return replace(reading, position=reading.position + 0.01 * (robot.clock() - 100.0))


def keeps_array(robot: Broken, target: Target, deadline: float) -> Target:
    robot.good(target, deadline)
    if target.sound and robot.clock() <= deadline:
        robot.at = target
    return robot.at


def same_array(robot: Broken, reading: Reading) -> Reading:
    robot.parts.setdefault("array", reading.position)  # type: ignore[arg-type]
    array: np.ndarray = robot.parts["array"]  # type: ignore[assignment]
    array[:] = robot.at.position
    return replace(reading, position=array)


def takes_anything(robot: Broken, target: Target, deadline: float) -> Target:
    return at(robot, position=target.position) if robot.clock() <= deadline else robot.at


def never_late(robot: Broken, target: Target, deadline: float) -> Target:
    return robot.good(target, np.inf)


def rolled(target: Target) -> Target:
    return target if not target.sound else replace(target, hand=np.roll(target.hand, 1))


def says_late_is_fine(robot: Broken, target: Target, deadline: float) -> Target:
    accepted = robot.good(target, deadline)
    return target if target.sound else accepted


def about_tool(target: Target) -> Target:
    return target if not target.sound else replace(target, rotation=DOWN @ target.rotation @ DOWN)


def not_quite(robot: Broken, target: Target, deadline: float) -> Target:
    robot.good(target, deadline)
    return replace(target, position=target.position + 0.05) if robot.at.sound and target.sound else robot.at


def images(**changes: object) -> Broken:
    return Broken(reading=lambda robot, reading: replace(reading, **changes) if reading.images else reading)


def stamp(change: Callable[[Broken, float], float]) -> Broken:
    return Broken(reading=lambda robot, reading: replace(reading, t=change(robot, reading.t)))


def measures(change: Callable[[Reading], dict[str, np.ndarray]]) -> Broken:
    return Broken(reading=lambda robot, reading: replace(reading, **change(reading)))


def moves_on(robot: FakeRobot) -> Slow:
    return Slow(robot.clock, since=robot.clock(), stops=False)


BROKEN: dict[str, tuple[Callable[[], FakeRobot], str, str]] = {
    "spec: degrees": (lambda: fake(spec=replace(SPEC, high=(90.0,) * 12)), "spec", "are these degrees?"),
    "spec: swapped limits": (
        lambda: fake(spec=replace(SPEC, low=SPEC.high, high=SPEC.low)),
        "spec",
        "low < high",
    ),
    "spec: a joint twice": (
        lambda: fake(spec=replace(SPEC, joints=("a",) * 12)),
        "spec",
        "a name of its own",
    ),
    "spec: no period": (lambda: fake(spec=replace(SPEC, dt=0.0)), "spec", "dt is 0.0 s"),
    "hold before reset raises": (
        lambda: Broken(hold=raising),
        "hold before reset",
        "raised OSError: no cable",
    ),
    "not at rest": (lambda: Broken(reading=drifting), "reset", "expected rest"),
    "reset fails": (lambda: fake(broken="observe"), "reset", "raised OSError: the cable is out"),
    "nan": (lambda: measures(lambda r: {"hand": r.hand * np.nan}), "readings", "hand is not finite"),
    "hand in degrees": (
        lambda: measures(lambda r: {"hand": np.degrees(r.hand) + 10}),
        "readings",
        "are these degrees",
    ),
    "float32": (
        lambda: measures(lambda r: {"hand": r.hand.astype(np.float32)}),
        "readings",
        "expected float64 (12,)",
    ),
    "left-handed": (lambda: measures(lambda r: {"rotation": -r.rotation}), "readings", "right-handed"),
    "stamps of another clock": (
        lambda: stamp(lambda r, t: t + 1.7e9),
        "readings",
        "in the future of the clock",
    ),
    "stamps in ms": (lambda: stamp(lambda r, t: t / 1e3), "readings", "is it another clock?"),
    "stamps stand still": (lambda: stamp(lambda r, t: r.frozen_t), "readings", "stand still"),
    "images unasked": (
        lambda: measures(lambda r: {"images": {"scene": np.zeros((4, 6, 3), np.uint8)}}),  # type: ignore[dict-item]
        "readings",
        "observe(images=False) gave images of scene",
    ),
    "another camera": (lambda: images(images={}), "images", "images of []; the spec has ['scene']"),
    "images transposed": (
        lambda: images(images={"scene": np.zeros((6, 4, 3), np.uint8)}),
        "images",
        "expected uint8 (4, 6, 3)",
    ),
    "images of floats": (lambda: images(images={"scene": np.zeros((4, 6, 3))}), "images", "is float64"),
    "images without stamps": (lambda: images(stamps={}), "images", "has no stamp"),
    "images of tomorrow": (lambda: images(stamps={"scene": 1e9}), "images", "in the future"),
    "readings change": (lambda: Broken(reading=same_array), "copies", "copy the arrays"),
    "keeps the caller's array": (lambda: Broken(command=keeps_array), "copies", "copy the target"),
    "x is flipped": (lambda: obeys(lambda t: flipped(t, 0)), "translation", "along x, it moved -20.0"),
    "x and y are swapped": (
        lambda: obeys(lambda t: replace(t, position=t.position[[1, 0, 2]] + [0.48, -0.48, 0])),
        "translation",
        "asked to move 20 mm along y, it moved +20.0 +0.0",
    ),
    "does not move": (
        lambda: obeys(lambda t: replace(t, position=MIDDLE.copy())),
        "translation",
        "along z, it moved",
    ),
    "says what it does not do": (lambda: Broken(command=not_quite), "translation", "return what is done"),
    "turns about the tool's axes": (lambda: obeys(about_tool), "rotation", "about y of base, it turned"),
    "tool point in another place": (
        lambda: obeys(
            lambda t: replace(t, position=t.position + t.rotation @ [0.2, 0, 0.2] - DOWN @ [0.2, 0, 0.2])
        ),
        "rotation",
        "it moved the tool point",
    ),
    "joints in another order": (
        lambda: obeys(rolled),
        "hand",
        "asked to bend th_dip by +0.20 rad, these bent: th_mcp",
    ),
    "a joint flipped": (
        lambda: obeys(lambda t: replace(t, hand=t.hand * ([-1] + [1] * (len(t.hand) - 1)))),
        "hand",
        "asked to bend th_dip by +0.20 rad, these bent: th_dip -0.20",
    ),
    "late commands move": (
        lambda: Broken(command=never_late),
        "deadline",
        "whose deadline was over moved 20.0 mm",
    ),
    "late commands are accepted": (
        lambda: Broken(command=says_late_is_fine),
        "deadline",
        "return the target in force",
    ),
    "nonsense is accepted": (lambda: Broken(command=takes_anything), "nonsense", "not a number was accepted"),
    "a short hand is accepted": (lambda: Broken(command=takes_anything), "nonsense", "was not refused"),
    "a reflection moves": (
        lambda: Broken(command=takes_anything),
        "nonsense",
        "reflection: it moved 20.0 mm",
    ),
    "goes on after hold": (lambda: moves_on(fake()), "hold", "after hold it moved"),
    "closes once": (lambda: Broken(close=only_once), "close", "raised OSError: already closed"),
    "hold after close raises": (lambda: Broken(hold=after_close), "close", "raised OSError: closed"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_driver_is_caught(name: str) -> None:
    make, check, says = BROKEN[name]
    found = findings(make())
    assert [f for f in found if f.check == check and says in f.message], found


def test_every_check_catches_something() -> None:
    assert {check for _, check, _ in BROKEN.values()} == {name for name, _ in CHECKS}


def test_everything_is_told_at_once() -> None:
    robot = Broken(hold=after_close, command=never_late)
    with pytest.raises(RobotFault) as fault:
        check_robot(lambda: robot, wait=robot.clock.sleep, clock=robot.clock)
    text = str(fault.value)
    assert "The driver breaks its contract in" in text
    assert "\n  deadline: a command whose deadline was over moved" in text
    assert "\n  close: " in text
    assert rotation_of(np.zeros(3)).shape == (3, 3)


class Forecasts(FakeRobot):
    """A fake with foresight: of its arm, which stands still, or of something else."""

    def __init__(self, says: Callable[[int], np.ndarray]) -> None:
        super().__init__(FakeClock())
        self.says, self.asked = says, 0

    def arm_along(self, positions: np.ndarray, rotations: np.ndarray) -> np.ndarray:
        self.asked += 1
        return self.says(self.asked)


@pytest.mark.parametrize(
    ("robot", "says"),
    [
        (
            Broken(reading=lambda _, seen: replace(seen, arm=np.zeros(7, np.float32))),
            "arm is float32 (7,); expected",
        ),
        (Broken(reading=lambda _, seen: replace(seen, arm=np.full(7, np.nan))), "arm is not finite"),
        (
            Broken(reading=lambda _, seen: replace(seen, arm=np.full(7, 90.0))),
            "the arm measures 90 rad; are these deg",
        ),
        (
            Forecasts(lambda n: np.tile(ARM, (2, 1))),
            "arm_along a way of 2 ticks gave (2, 7); expected (3, 7)",
        ),
        (
            Forecasts(lambda n: np.tile(ARM + 1e-3 * n, (3, 1))),
            "arm_along said something else about the same way",
        ),
        (Forecasts(lambda n: np.tile(ARM + 0.5, (3, 1))), "is 0.50 rad from what the arm measures"),
    ],
)
def test_an_arm_that_is_told_wrongly_is_caught(robot: FakeRobot, says: str) -> None:
    (found,) = findings(robot)
    assert (found.check, says in found.message) == ("readings", True), found
    assert findings(Forecasts(lambda n: np.tile(ARM, (3, 1)))) == []
