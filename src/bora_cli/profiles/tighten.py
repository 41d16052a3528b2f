"""A profile that tightens another one may not be looser in anything."""

from __future__ import annotations

from collections.abc import Iterator

from bora_cli.profiles.schema import CODE_LIMITS, HardwareProfile

LOOSE = 1 + 1e-9


def looser(profile: HardwareProfile, base: HardwareProfile) -> Iterator[str]:
    """Yield where `profile` allows more than `base`, as text with both numbers."""
    mine, theirs = profile.limits, base.limits
    for key in (*CODE_LIMITS, "cone_angle", "watchdog_operator"):
        value, allowed = getattr(mine, key), getattr(theirs, key)
        if allowed is not None and (value is None or value > allowed * LOOSE):
            yield f"limits.{key} {'not given' if value is None else f'{value:g}'} against {allowed:g}"
    if theirs.soft_start is not None and (mine.soft_start or 0.0) * LOOSE < theirs.soft_start:
        yield f"limits.soft_start {mine.soft_start or 0.0:g} against {theirs.soft_start:g} s"
    if theirs.cone_axis is not None and mine.cone_axis != theirs.cone_axis:
        yield f"limits.cone_axis {mine.cone_axis} against {theirs.cone_axis}"
    if theirs.fingertips is not None and not set(theirs.fingertips) <= set(mine.fingertips or ()):
        yield f"limits.fingertips without some of the {len(theirs.fingertips)} points"
    for name in ("workspace", "fingertip"):
        yield from _box(profile, base, name)
    for key in ("translation_per_tick", "rotation_per_tick"):
        if getattr(profile.arm, key) > getattr(base.arm, key) * LOOSE:
            yield f"arm.{key} {getattr(profile.arm, key):g} against {getattr(base.arm, key):g}"
    yield from _joints(profile, base)
    yield from _arm_joints(profile, base)


def _box(profile: HardwareProfile, base: HardwareProfile, name: str) -> Iterator[str]:
    for side, sign in (("low", -1), ("high", 1)):
        theirs = getattr(base.limits, f"{name}_{side}")
        mine = getattr(profile.limits, f"{name}_{side}")
        if theirs is None:
            continue
        if mine is None:
            yield f"limits.{name}_{side} not given"
            continue
        for axis, value, allowed in zip("xyz", mine, theirs, strict=True):
            if sign * (value - allowed) > 1e-9:
                yield f"limits.{name}_{side} {axis} {value:g} against {allowed:g} m"


def _joints(profile: HardwareProfile, base: HardwareProfile) -> Iterator[str]:
    names = [joint.name for joint in profile.hand.joints]
    if names != [joint.name for joint in base.hand.joints]:
        yield f"hand.joints {', '.join(names)} of another hand"
        return
    for mine, theirs in zip(profile.hand.joints, base.hand.joints, strict=True):
        if mine.low < theirs.low - 1e-9 or mine.high > theirs.high + 1e-9:
            yield f"joint {mine.name} {mine.low:g}..{mine.high:g} against {theirs.low:g}..{theirs.high:g} rad"
        if theirs.rate is not None and (mine.rate is None or mine.rate > theirs.rate * LOOSE):
            rate = "not given" if mine.rate is None else f"{mine.rate:g}"
            yield f"joint {mine.name} rate {rate} against {theirs.rate:g} rad/s"


def _arm_joints(profile: HardwareProfile, base: HardwareProfile) -> Iterator[str]:
    if base.arm.joints is None:
        return
    if profile.arm.joints is None:
        yield "arm.joints not given"
        return
    mine = {joint.name: joint for joint in profile.arm.joints}
    if list(mine) != [joint.name for joint in base.arm.joints]:
        yield f"arm.joints {', '.join(mine)} of another arm"
        return
    for theirs in base.arm.joints:
        joint = mine[theirs.name]
        if joint.low < theirs.low - 1e-9 or joint.high > theirs.high + 1e-9:
            yield f"arm joint {joint.name} {joint.low:g}..{joint.high:g} against {theirs.low:g}..{theirs.high:g} rad"
        if joint.rate > theirs.rate * LOOSE:
            yield f"arm joint {joint.name} rate {joint.rate:g} against {theirs.rate:g} rad/s"
