"""The walk before a session: stop, limits, cameras, device, each tried with the person who is going to stand there.

Nothing here is believed because a profile says so: the person presses the button, pushes the cap and looks at the
pictures, and what came of it is written down.  The only motion is the stop test, and it is asked for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

from bora_cli.control.envelope import Envelope
from bora_cli.control.joints import SERVO, ArmLimits
from bora_cli.errors import BoraError, Unanswered
from bora_cli.input.device import AXES, Device
from bora_cli.profiles import HardwareProfile
from bora_cli.robot.protocol import Reading, Robot, Target
from bora_cli.types import U8

LOGGER = logging.getLogger(__name__)
STOP_STEPS = 12
"""Ticks for which the stop test moves up."""
STOP_STEP_M = 0.004
CREEP_M = 0.002
"""Motion after a stop that counts as none."""
LOOKS = 8
"""Images asked of every camera."""
REST_S, PUSH_S = 1.5, 20.0
"""Seconds for which a device must be still, and within which an asked push must come."""
PUSHED = 0.3
"""Share of full deflection that counts as a push."""
PUSHES = (("away from you", 0, 1), ("to your left", 1, 1), ("up", 2, 1))

State = Literal["ok", "fail", "skipped"]


@dataclass(frozen=True)
class Step:
    """One step of the walk: what was tried, how it ended, and what was seen or answered."""

    name: str
    state: State
    detail: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Companion(Protocol):
    """The person who walks along."""

    def tell(self, text: str) -> None:
        """Say what to do next."""

    def asks(self, question: str) -> bool:
        """Ask a question, and return whether the answer was yes; raises Unanswered if nobody is there."""
        ...

    def shows(self, camera: str, image: U8) -> str:
        """Put a picture, uint8 [H, W, 3], where the person can look at it, and return where that is."""
        ...


def walk(
    robot: Robot,
    profile: HardwareProfile,
    devices: Sequence[Device],
    companion: Companion,
    *,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], None] = time.sleep,
) -> Iterator[Step]:
    """Yield what came of each step.

    robot: kept in the limits of the profile.  devices: those the person will hold; the keyboard needs no test.
    clock: of the robot's stamps.  A step that fails does not end the walk, except that nothing moves after a failed
    emergency stop, or where the robot cannot be read or stands outside its limits.
    Raises Unanswered, with the robot on hold, as soon as the companion does: nothing is tried without a person.
    """
    safe = []
    first: tuple[tuple[str, Callable[..., tuple[bool, str]], tuple[Any, ...]], ...] = (
        ("limits", _limits, (profile, companion)),
        ("robot", _robot, (robot, profile, clock)),
        ("emergency stop", _emergency_stop, (robot, companion)),
    )
    for name, step, given in first:
        done = _tried(name, step, *given)
        safe.append(done.state == "ok")
        yield done
    for camera in profile.cameras:
        name = camera.name
        yield _tried(f"camera {name}", _camera, robot, profile, name, companion, clock, wait)
    for device in devices:
        yield _tried(f"device {device.name}", _device, device, companion, clock, wait)
    if not devices:
        yield Step("device", "skipped", "none that could be tested; name one with --device")
    if not all(safe):
        yield Step("stop", "skipped", "nothing moves before limits, robot and emergency stop are well")
        return
    try:
        yield _tried("stop", _stop, robot, profile, companion, clock, wait)
    finally:
        robot.hold()


def _tried(name: str, step: Callable[..., tuple[bool | None, str]], *given: Any) -> Step:
    try:
        fine, detail = step(*given)
    except Unanswered:  # without a person there is no walk
        raise
    except BoraError as error:
        return Step(name, "fail", str(error))
    except Exception as error:  # whatever a driver raises belongs into the record
        LOGGER.exception("The step '%s' of the walk failed", name)
        return Step(name, "fail", f"{type(error).__name__}: {error}")
    return Step(name, "skipped" if fine is None else "ok" if fine else "fail", detail)


def _limits(profile: HardwareProfile, companion: Companion) -> tuple[bool, str]:
    """Read the limits out; whoever stands beside the robot has to agree with them."""
    limits = profile.limits
    box = " x ".join(
        f"{low:g} to {high:g}" for low, high in zip(limits.workspace_low, limits.workspace_high, strict=True)
    )
    told = (
        f"workspace {box} m, tool {limits.tcp_speed:g} m/s and {limits.rotation_speed:g} rad/s,"
        f" hand {limits.hand_rate:g} rad/s, hold after {limits.watchdog:g} s of silence,"
        f" a device is believed for {limits.device_trust:g} s"
    )
    if profile.arm.joints is not None:
        told += "; joints " + ", ".join(
            f"{joint.name} {joint.low:g} to {joint.high:g} rad" for joint in profile.arm.joints
        )
    companion.tell(f"Limits of '{profile.name}': {told}.")
    agreed = companion.asks("Are these the limits of this rig, and is nobody inside the workspace?")
    return agreed, told if agreed else f"not agreed to: {told}"


def _robot(robot: Robot, profile: HardwareProfile, clock: Callable[[], float]) -> tuple[bool, str]:
    """Look at the robot without moving it: fresh numbers, inside the limits."""
    reading = robot.observe(images=False)
    age = clock() - reading.t
    allowed = profile.limits.watchdog_robot or profile.limits.watchdog
    if age > allowed:
        return False, f"its measurement is {age:.3f} s old, allowed {allowed:g} s"
    where = Envelope.from_profile(profile).trespass(reading.target.position, reading.target.rotation)
    arm = ArmLimits.from_profile(profile)
    if arm is not None and reading.arm is None:
        return False, "the profile limits the joints of the arm, and the robot does not measure them"
    if arm is not None and reading.arm is not None:
        where = where or arm.trespass(reading.arm, SERVO)
    if where:
        return False, f"it stands outside its limits: {where}; move it in by hand"
    at = ", ".join(f"{x:.3f}" for x in reading.position)
    return True, f"{robot.spec.name}, tool at {at} m, measured {1e3 * age:.0f} ms ago"


def _emergency_stop(robot: Robot, companion: Companion) -> tuple[bool, str]:
    """Let the person press the button, because no software can."""
    companion.tell("A stop in software is not an emergency stop.")
    if not companion.asks("Press the emergency stop now. Did the robot brake, or lose its power?"):
        return False, "pressed: the person saw no stop; do not use this robot"
    if not companion.asks(
        "Release it and recover the robot. Is it ready, and the button in reach of your hand?"
    ):
        return False, "pressed: it stopped; not ready again, or not in reach"
    robot.reset()
    return True, "pressed: it stopped; in reach; the robot recovered"


def _camera(
    robot: Robot,
    profile: HardwareProfile,
    name: str,
    companion: Companion,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> tuple[bool, str]:
    """Look a few times: images must be new, young, not all of one colour, and what the person expects to see."""
    robot.observe(images=True)  # the first one starts cameras, and renderers
    stamps, oldest, image = [], 0.0, None
    for _ in range(LOOKS):
        seen = robot.observe(images=True)
        if name not in seen.images:
            return False, f"the robot has no images of it; it has {', '.join(seen.images) or 'none'}"
        image = seen.images[name]
        stamps.append(seen.stamps[name])
        oldest = max(oldest, clock() - seen.stamps[name])
        wait(profile.dt)
    assert image is not None
    allowed = profile.limits.watchdog_cameras or 2 * profile.dt
    fresh = len(set(stamps))
    if oldest > allowed:
        return False, f"an image was {oldest:.3f} s old, allowed {allowed:g} s"
    if fresh < LOOKS // 2:
        return False, f"it stands still: {fresh} new images in {LOOKS} looks over {LOOKS * profile.dt:g} s"
    if int(image.max()) - int(image.min()) < 8:
        return False, f"its image is of one colour ({image.mean():.0f} of 255); is the lens covered?"
    place = companion.shows(name, image)
    told = f"{fresh} new images in {LOOKS} looks, oldest {1e3 * oldest:.0f} ms, {image.shape[1]}x{image.shape[0]} px"
    if not companion.asks(f"Look at {place}. Is this camera '{name}', sharp, and of now?"):
        return False, f"{told}; not what the person expects"
    return True, told


def _device(
    device: Device, companion: Companion, clock: Callable[[], float], wait: Callable[[float], None]
) -> tuple[bool, str]:
    """Watch a device at rest, then ask for three pushes: drift, swapped and mirrored axes show."""
    device.begin()
    companion.tell(f"Take your hands off {device.name}.")
    end = clock() + REST_S
    while clock() < end:
        sample = device.read(clock())
        if sample is not None and sample.moving:
            return (
                False,
                f"it moves by itself: {_axis(sample.twist)}; is the dead band of the profile too small?",
            )
        wait(0.01)
    for words, axis, sign in PUSHES:
        companion.tell(f"Push {device.name} {words}, and hold it until the next line.")
        twist = _pushed(device, clock, wait)
        if twist is None:
            return (
                False,
                f"no push {words} within {PUSH_S:g} s{'; ' + device.trouble if device.trouble else ''}",
            )
        strongest = int(np.argmax(np.abs(twist)))
        if strongest != axis or np.sign(twist[axis]) != sign:
            return (
                False,
                f"pushed {words}, it said {_axis(twist)}; expected {'+' if sign > 0 else '-'}{AXES[axis]}",
            )
    return True, "still at rest; away is +x, left is +y, up is +z"


def _pushed(device: Device, clock: Callable[[], float], wait: Callable[[float], None]) -> Any:
    """Return the twist of the next clear push after the device was let go, [6], or None."""
    end, released = clock() + PUSH_S, False
    while clock() < end:
        sample = device.read(clock())
        strength = 0.0 if sample is None else float(np.abs(sample.twist).max())
        released = released or strength < PUSHED / 2
        if sample is not None and released and strength >= PUSHED:
            return sample.twist
        wait(0.01)
    return None


def _stop(
    robot: Robot,
    profile: HardwareProfile,
    companion: Companion,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> tuple[bool | None, str]:
    """Move up a little and hold in the middle of it; then again, and only stop commanding."""
    up = STOP_STEPS * STOP_STEP_M
    if not companion.asks(
        f"The robot will rise by at most {2e3 * up:.0f} mm and stop twice. Hand on the emergency stop: may it move?"
    ):
        return None, "the person did not want it to move"
    robot.reset()
    told = []
    for way in ("hold", "silence"):
        begun = robot.observe(images=False)
        _rise(robot, profile, clock, wait)
        stopped = robot.observe(images=False)
        if way == "hold":
            robot.hold()
        else:
            wait(2 * profile.limits.watchdog)  # a guard holds with the next command, a server by itself
            stopped = robot.observe(images=False)
        wait(3 * profile.dt)
        rest = _settled(robot, profile, wait)
        wait(5 * profile.dt)
        later = robot.observe(images=False)
        creep = float(np.linalg.norm(later.position - rest.position))
        moved = float(np.linalg.norm(stopped.position - begun.position))
        if moved < CREEP_M:
            return False, f"it did not move before the stop by {way}: {1e3 * moved:.1f} mm"
        if creep > CREEP_M:
            return False, f"after the stop by {way} it went on: {1e3 * creep:.1f} mm"
        path = float(np.linalg.norm(rest.position - stopped.position))
        told.append(f"{way}: at rest after {1e3 * path:.1f} mm more")
    return True, "; ".join(told)


def _rise(
    robot: Robot, profile: HardwareProfile, clock: Callable[[], float], wait: Callable[[float], None]
) -> None:
    at = robot.observe(images=False).target
    for _ in range(STOP_STEPS):
        higher = Target(at.position + np.array([0.0, 0.0, STOP_STEP_M]), at.rotation, at.hand)
        at = robot.command(higher, deadline=clock() + profile.limits.watchdog)
        wait(profile.dt)


def _settled(robot: Robot, profile: HardwareProfile, wait: Callable[[float], None]) -> Reading:
    """Return where the robot comes to rest, or is after 2 s."""
    last = robot.observe(images=False)
    for _ in range(max(1, round(2.0 / profile.dt))):
        wait(profile.dt)
        now = robot.observe(images=False)
        if np.linalg.norm(now.position - last.position) < CREEP_M / 4:
            return now
        last = now
    return last


def _axis(twist: Any) -> str:
    """Return the strongest axis of a twist [6] in words."""
    strongest = int(np.argmax(np.abs(twist)))
    return f"{twist[strongest]:+.2f} on {AXES[strongest]}"
