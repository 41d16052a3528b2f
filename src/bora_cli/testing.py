"""Prove a driver: everything `bora_cli.robot.protocol.Robot` promises, tried on a robot with small motions.

    from bora_cli.testing import check_robot
    from my_lab.franka import connect

    def test_our_driver() -> None:
        check_robot(connect)

It moves the robot: each axis by `step` and back, each rotation by `turn`, each hand joint by `bend`.  Try it on a
recording fake first, then with `bora robot check`, which keeps the limits of a profile, then with a hand on the
emergency stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import BoraError, RobotFault
from bora_cli.robot.frames import is_rotation, rotation_of, vector_of
from bora_cli.robot.protocol import Foreseeing, Reading, Robot, Target

F64 = NDArray[np.float64]

STILL_M, STILL_RAD = 0.002, 0.02
"""Motion that counts as none: m, rad."""
FAR_RAD = 0.2
"""How far the joints that an arm is sent may be from what it measures at rest."""
SAME = 1e-3
"""Difference between two targets that counts as none: m, rad."""


@dataclass(frozen=True)
class Motions:
    """How far the trial moves: step m, turn rad, bend rad; and for how long it waits, in ticks of the robot's dt."""

    step: float = 0.02
    turn: float = 0.1
    bend: float = 0.2
    approach: int = 60
    settle: int = 8


@dataclass(frozen=True)
class Finding:
    """What one check found wrong."""

    check: str
    message: str


def check_robot(
    make: Callable[[], Robot],
    *,
    motions: Motions | None = None,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Raise RobotFault with everything that is wrong with the robot that `make` returns; it is closed at the end.

    wait: passes s (for a simulated robot, where time passes otherwise, a function that does nothing).  clock: the one
    the robot stamps with.
    """
    findings = robot_findings(make, motions=motions, wait=wait, clock=clock)
    if findings:
        text = "\n".join(f"  {finding.check}: {finding.message}" for finding in findings)
        raise RobotFault(
            f"The driver breaks its contract in {len(findings)} points:\n{text}",
            "The contract is bora_cli.robot.protocol.Robot.",
        )


def robot_findings(
    make: Callable[[], Robot],
    *,
    motions: Motions | None = None,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
    tell: Callable[[str], None] | None = None,
) -> list[Finding]:
    """Return everything that is wrong with a robot; tell: called with the name of each check before it runs."""
    found: list[Finding] = []
    trial = _Trial(make(), motions or Motions(), wait, clock)
    for name, check in CHECKS:
        if tell is not None:
            tell(name)
        try:
            found += [Finding(name, message) for message in check(trial)]
        except Exception as error:
            found.append(Finding(name, f"raised {type(error).__name__}: {error}"))
        if found and found[-1].check == name and name in DECISIVE:
            break
    try:
        trial.robot.close()
    except Exception as error:
        found.append(Finding("close", f"close raised {type(error).__name__}: {error}"))
    return found


@dataclass
class _Trial:
    """A robot under test; home: where it stood after its reset."""

    robot: Robot
    motions: Motions
    wait: Callable[[float], None]
    clock: Callable[[], float]
    home: Target = field(default_factory=lambda: Target(np.zeros(3), np.eye(3), np.zeros(0)))

    def go(self, target: Target) -> tuple[Target, Reading]:
        """Command a target until it is accepted, and some ticks more; return what was accepted and measured last."""
        calm = 0
        accepted = target
        for _ in range(self.motions.approach):
            accepted = self.robot.command(_copy(target), deadline=self.clock() + 2 * self.robot.spec.dt)
            self.wait(self.robot.spec.dt)
            reading = self.robot.observe(images=False)
            calm += _apart(accepted, target) <= SAME
            if calm > self.motions.settle:
                break
        return accepted, reading

    def moved(self, since: Reading) -> str:
        """Wait a little and return how the robot moved since a reading, "" if it did not."""
        for _ in range(self.motions.settle):
            self.wait(self.robot.spec.dt)
        now = self.robot.observe(images=False)
        shift = float(np.linalg.norm(now.position - since.position))
        turn = float(np.linalg.norm(vector_of(now.rotation @ since.rotation.T)))
        bend = float(np.abs(now.hand - since.hand).max(initial=0.0))
        if shift > STILL_M or max(turn, bend) > STILL_RAD:
            return f"moved {1e3 * shift:.1f} mm, turned {turn:.3f} rad, bent a joint by {bend:.3f} rad"
        return ""


def _spec(trial: _Trial) -> Iterator[str]:
    spec = trial.robot.spec
    if len(set(spec.joints)) != len(spec.joints) or not spec.joints:
        yield f"joints {spec.joints}; expected at least one, each with a name of its own"
    if not all(low < high for low, high in zip(spec.low, spec.high, strict=True)):
        yield f"joint limits {spec.low} to {spec.high} rad; expected low < high"
    if max(map(abs, (*spec.low, *spec.high)), default=0.0) > 2 * np.pi:
        yield f"joint limits {spec.low} to {spec.high} are more than a turn; are these degrees?"
    if not 0 < spec.dt < 10:
        yield f"dt is {spec.dt} s"


def _early_hold(trial: _Trial) -> Iterator[str]:
    trial.robot.hold()
    yield from ()


def _reset(trial: _Trial) -> Iterator[str]:
    reading = trial.robot.reset()
    if not reading.target.sound:
        yield "after reset the target is not finite, or its rotation is none"
        return
    trial.home = _copy(reading.target)
    if how := trial.moved(reading):
        yield f"after reset it {how}; expected rest"


def _readings(trial: _Trial) -> Iterator[str]:
    robot, joints = trial.robot, len(trial.robot.spec.joints)
    before = trial.clock()
    first = robot.observe(images=False)
    after = trial.clock()
    shapes = {"position": (3,), "rotation": (3, 3), "hand": (joints,)}
    for name, shape in shapes.items():
        value = getattr(first, name)
        if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != np.float64:
            kind = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
            yield f"{name} is {kind}; expected float64 {shape}"
            return
        if not np.isfinite(value).all():
            yield f"{name} is not finite: {value}"
    if not is_rotation(first.rotation, 1e-3):
        yield "rotation is not a right-handed rotation matrix"
    if np.abs(first.hand).max(initial=0.0) > 2 * np.pi:
        yield f"hand measures {np.abs(first.hand).max():.0f} rad; are these degrees?"
    if first.arm is not None:
        yield from _arm(trial, first.arm)
    if first.images:
        yield f"observe(images=False) gave images of {', '.join(first.images)}"
    if first.t > after + 1e-6:
        yield f"stamp {first.t:.3f} s is in the future of the clock ({after:.3f} s); is it another clock?"
    if first.t < before - 1.0:
        yield f"stamp {first.t:.3f} s is {before - first.t:.3g} s old; is it another clock?"
    trial.wait(robot.spec.dt)
    second = robot.observe(images=False)
    if trial.clock() > after and not second.t > first.t:
        yield f"stamps stand still at {second.t:.3f} s; expected the time of the measurement"


def _arm(trial: _Trial, arm: F64) -> Iterator[str]:
    """Look at the joints of an arm that tells them, and at what it says about a way that goes nowhere."""
    if not isinstance(arm, np.ndarray) or arm.ndim != 1 or arm.dtype != np.float64:
        kind = f"{arm.dtype} {arm.shape}" if isinstance(arm, np.ndarray) else type(arm).__name__
        yield f"arm is {kind}; expected float64 (N,)"
        return
    if not np.isfinite(arm).all():
        yield f"arm is not finite: {arm}"
    if np.abs(arm).max(initial=0.0) > 4 * np.pi:
        yield f"the arm measures {np.abs(arm).max():.0f} rad; are these degrees?"
    robot, home = trial.robot, trial.home
    if not isinstance(robot, Foreseeing):
        return
    rows = [
        robot.arm_along(np.tile(home.position, (2, 1)), np.tile(home.rotation, (2, 1, 1))) for _ in range(2)
    ]
    if rows[0].shape != (3, len(arm)):
        yield f"arm_along a way of 2 ticks gave {rows[0].shape}; expected {(3, len(arm))}"
    elif not np.array_equal(rows[0], rows[1]):
        yield "arm_along said something else about the same way; expected the same joints"
    elif not np.abs(rows[0] - arm).max() <= FAR_RAD:
        off = np.abs(rows[0] - arm).max()
        yield f"arm_along the way that stays put is {off:.2f} rad from what the arm measures"


def _images(trial: _Trial) -> Iterator[str]:
    spec = trial.robot.spec
    reading = trial.robot.observe(images=True)
    expected = {camera.name: (camera.height, camera.width, 3) for camera in spec.cameras}
    if set(reading.images) != set(expected):
        yield f"images of {sorted(reading.images)}; the spec has {sorted(expected)}"
    for name, image in reading.images.items():
        if image.dtype != np.uint8 or image.shape != expected.get(name, image.shape):
            yield f"image {name} is {image.dtype} {image.shape}; expected uint8 {expected[name]}"
        stamp = reading.stamps.get(name)
        if stamp is None:
            yield f"image {name} has no stamp"
        elif stamp > trial.clock() + 1e-6:
            yield f"image {name} is stamped {stamp:.3f} s, in the future of the clock"


def _independence(trial: _Trial) -> Iterator[str]:
    first = trial.robot.observe(images=False)
    kept = [first.position.copy(), first.rotation.copy(), first.hand.copy(), first.target.position.copy()]
    target = _shifted(trial.home, 2, trial.motions.step)
    trial.go(target)
    given = [first.position, first.rotation, first.hand, first.target.position]
    if not all(np.array_equal(a, b) for a, b in zip(kept, given, strict=True)):
        yield "a reading changed after it was returned; copy the arrays"
    sent = _copy(trial.home)
    trial.robot.command(sent, deadline=trial.clock() + 1.0)
    sent.position[:] = 1e3
    if not trial.robot.observe(images=False).target.position.max() < 1e2:
        yield "the driver kept the caller's array; copy the target"
    trial.go(trial.home)


def _translation(trial: _Trial) -> Iterator[str]:
    step = trial.motions.step
    for axis, name in enumerate("xyz"):
        before = trial.go(trial.home)[1]
        wanted = _shifted(trial.home, axis, step)
        accepted, after = trial.go(wanted)
        shift = after.position - before.position
        across = np.linalg.norm(np.delete(shift, axis))
        if shift[axis] < 0.5 * step or shift[axis] > 1.5 * step or across > 0.5 * step:
            yield f"asked to move {1e3 * step:.0f} mm along {name}, it moved {_mm(shift)} mm in base"
        yield from _honest(accepted, after, f"along {name}")
    trial.go(trial.home)


def _rotation(trial: _Trial) -> Iterator[str]:
    turn = trial.motions.turn
    for axis, name in enumerate("xyz"):
        before = trial.go(trial.home)[1]
        vector = turn * np.eye(3)[axis]
        _, after = trial.go(
            Target(trial.home.position, rotation_of(vector) @ trial.home.rotation, trial.home.hand)
        )
        turned = vector_of(after.rotation @ before.rotation.T)
        if np.linalg.norm(turned - vector) > 0.5 * turn:
            yield f"asked to turn {turn:.2f} rad about {name} of base, it turned {np.round(turned, 3)} rad"
        if np.linalg.norm(after.position - before.position) > 0.5 * trial.motions.step:
            yield f"turning about {name} it moved the tool point by {_mm(after.position - before.position)} mm"
    trial.go(trial.home)


def _hand(trial: _Trial) -> Iterator[str]:
    spec = trial.robot.spec
    for joint, name in enumerate(spec.joints):
        before = trial.go(trial.home)[1]
        room = spec.high[joint] - trial.home.hand[joint] >= trial.motions.bend
        bend = trial.motions.bend if room else -trial.motions.bend
        wanted = trial.home.hand.copy()
        wanted[joint] += bend
        accepted, after = trial.go(Target(trial.home.position, trial.home.rotation, wanted))
        bent = after.hand - before.hand
        others = float(np.abs(np.delete(bent, joint)).max(initial=0.0))
        if not 0.5 <= bent[joint] / bend <= 1.5 or others > 0.5 * abs(bend):
            moved = ", ".join(
                f"{n} {b:+.2f}" for n, b in zip(spec.joints, bent, strict=True) if abs(b) > 0.02
            )
            yield f"asked to bend {name} by {bend:+.2f} rad, these bent: {moved or 'none'}"
        if np.abs(accepted.hand - after.hand)[joint] > 0.5 * abs(bend):
            yield f"{name}: accepted {accepted.hand[joint]:.2f} rad but went to {after.hand[joint]:.2f} rad"
    trial.go(trial.home)


def _late(trial: _Trial) -> Iterator[str]:
    before = trial.go(trial.home)[1]
    accepted = trial.robot.command(_shifted(trial.home, 2, trial.motions.step), deadline=trial.clock() - 1.0)
    if how := trial.moved(before):
        yield f"a command whose deadline was over {how}"
    if accepted.position[2] > trial.home.position[2] + 0.5 * trial.motions.step:
        yield "a command whose deadline was over was accepted; return the target in force"


def _nonsense(trial: _Trial) -> Iterator[str]:
    home, nan = trial.home, np.nan
    up = home.position + np.array([0.0, 0.0, trial.motions.step])
    cases = {
        "a position that is not a number": Target(home.position * nan, home.rotation, home.hand),
        "a hand that is not a number": Target(up, home.rotation, home.hand * nan),
        "a rotation that is a reflection": Target(up, -home.rotation, home.hand),
        "a hand with a joint too few": Target(up, home.rotation, home.hand[:-1]),
    }
    for what, target in cases.items():
        before = trial.go(home)[1]
        refused = False
        try:
            accepted = trial.robot.command(target, deadline=trial.clock() + 1.0)
        except BoraError:
            refused = True
        else:
            if not accepted.sound:
                yield f"{what} was accepted; return the target in force"
        if what.endswith("few") and not refused:
            yield f"{what} was not refused; raise RobotFault (require_joints does)"
        if how := trial.moved(before):
            yield f"{what}: it {how}"


def _hold(trial: _Trial) -> Iterator[str]:
    robot = trial.robot
    trial.go(trial.home)
    robot.command(_shifted(trial.home, 2, trial.motions.step), deadline=trial.clock() + 2 * robot.spec.dt)
    robot.hold()
    at_hold = robot.observe(images=False)
    robot.hold()
    if how := trial.moved(at_hold):
        yield f"after hold it {how}"
    trial.go(trial.home)


def _close(trial: _Trial) -> Iterator[str]:
    trial.robot.close()
    trial.robot.close()
    trial.robot.hold()
    if not trial.robot.spec.joints:
        yield "after close the spec is gone"


CHECKS: tuple[tuple[str, Callable[[_Trial], Iterator[str]]], ...] = (
    ("spec", _spec),
    ("hold before reset", _early_hold),
    ("reset", _reset),
    ("readings", _readings),
    ("images", _images),
    ("copies", _independence),
    ("translation", _translation),
    ("rotation", _rotation),
    ("hand", _hand),
    ("deadline", _late),
    ("nonsense", _nonsense),
    ("hold", _hold),
    ("close", _close),
)
DECISIVE = ("spec", "reset", "readings")
"""Checks after whose failure the others would mean nothing, or do harm."""


def _honest(accepted: Target, measured: Reading, where: str) -> Iterator[str]:
    off = float(np.linalg.norm(accepted.position - measured.position))
    if off > 0.01:
        yield f"{where} it accepted a target {1e3 * off:.0f} mm from where it then stood; return what is done"


def _shifted(target: Target, axis: int, by: float) -> Target:
    return Target(target.position + by * np.eye(3)[axis], target.rotation.copy(), target.hand.copy())


def _copy(target: Target) -> Target:
    return Target(*(np.array(x, np.float64) for x in (target.position, target.rotation, target.hand)))


def _apart(a: Target, b: Target) -> float:
    pairs = ((a.position, b.position), (a.rotation, b.rotation), (a.hand, b.hand))
    return max(float(np.abs(x - y).max(initial=0.0)) for x, y in pairs)


def _mm(shift: F64) -> str:
    return " ".join(f"{1e3 * x:+.1f}" for x in shift)
