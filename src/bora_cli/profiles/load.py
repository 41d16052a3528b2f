"""Find, read and check profiles; every finding names its file and line."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from bora_cli.errors import ConfigError
from bora_cli.profiles.env import EnvProfile
from bora_cli.profiles.lint import lint
from bora_cli.profiles.schema import HardwareProfile, Part, loosened
from bora_cli.profiles.tighten import looser

ROBOT_DRIVERS = ("sim",)
HAND_DRIVERS = ("sim",)
CAMERA_DRIVERS = ("sim",)
OPERATOR_DEVICES = ("simulated", "keyboard", "spacemouse", "gamepad", "udp")
"""What this version can drive.  A profile may name others; `check_profile` says so."""


@dataclass(frozen=True)
class ProfileFinding:
    """One remark on a profile; where: file:line.

    level: "error", it cannot be used; "unfit", no real robot may move with it; "warning"; "note".
    """

    level: Literal["error", "unfit", "warning", "note"]
    where: str
    message: str


def profile_directory() -> Path:
    """Return the directory of the profiles that come with bora (in the wheel, or in the repository)."""
    packaged = Path(__file__).parents[1] / "hw_profiles"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "hw_profiles"


def list_profiles() -> list[str]:
    """Return the names of the robot profiles that come with bora."""
    return sorted(path.stem for path in profile_directory().glob("*.toml") if not _is_environment(path))


def list_environments() -> list[str]:
    """Return the names of the profiles of Gymnasium environments that come with bora."""
    return sorted(path.stem for path in profile_directory().glob("*.toml") if _is_environment(path))


def find_profile(name_or_path: str | Path) -> Path:
    """Return the file of a profile given by name or by path; raises ConfigError with the near names."""
    text = str(name_or_path)
    if text.endswith(".toml") or "/" in text:
        if not Path(text).is_file():
            raise ConfigError(f"No hardware profile at {text}: there is no such file.", _known_profiles(text))
        return Path(text)
    path = profile_directory() / f"{text}.toml"
    if not path.is_file():
        raise ConfigError(f"Unknown hardware profile '{text}'.", _known_profiles(text))
    return path


def load_profile(name_or_path: str | Path) -> HardwareProfile:
    """Return a robot's profile; raises ConfigError that names file, line and remedy of the first mistake."""
    profile = read_profile(name_or_path)
    if isinstance(profile, EnvProfile):
        raise ConfigError(
            f"Profile '{name_or_path}' describes a Gymnasium environment, not a robot.",
            f"Use it as --env {name_or_path}.",
        )
    return profile


def load_environment(env: str | Path) -> EnvProfile:
    """Return the profile of a Gymnasium environment.

    env: name or .toml file of a profile, or the id of an environment that a profile of bora's describes.
    Raises ConfigError as `load_profile` does, and where no profile describes that environment.
    """
    text = str(env)
    known = list_environments()
    for name in known:
        profile = _read_environment(name)
        if text in (name, profile.env.id, profile.env.id.rpartition(":")[2]):
            return profile
    if text.endswith(".toml") or text in list_profiles():
        return _read_environment(text)
    raise ConfigError(
        f"No profile describes the environment '{text}'; those that come with bora: {', '.join(known)}.",
        "Write one with an [env] table and give its file: --env my_env.toml.",
    )


def _read_environment(text: str) -> EnvProfile:
    profile = read_profile(text) if _is_environment(find_profile(text)) else None
    if not isinstance(profile, EnvProfile):
        raise ConfigError(
            f"Profile '{text}' has no [env] table; expected the profile of a Gymnasium environment.",
            "Add the table, or choose another --env.",
        )
    return profile


def read_profile(name_or_path: str | Path) -> HardwareProfile | EnvProfile:
    """Return a profile of either kind; raises ConfigError that names file, line and remedy of the first mistake."""
    path = find_profile(name_or_path)
    profile, findings = _parse(path)
    if profile is None:
        first, more = findings[0], len(findings) - 1
        tail = f" ({more} more)" if more else ""
        raise ConfigError(
            f"{first.where}: {first.message}{tail}.", f"See all with `bora profile check {path}`."
        )
    return profile


def check_profile(name_or_path: str | Path) -> list[ProfileFinding]:
    """Return what a person should know before trusting a profile; an empty list means nothing to add."""
    path = find_profile(name_or_path)
    profile, findings = _parse(path)
    if isinstance(profile, EnvProfile):
        return [ProfileFinding("note", str(path), f"the environment '{profile.env.id}' was not opened")]
    return findings if profile is None else list(_remarks(profile, path))


def require_fit(name_or_path: str | Path) -> HardwareProfile:
    """Return a robot's profile; raises ConfigError if something in it keeps a robot from moving."""
    profile = load_profile(name_or_path)
    errors = [finding for finding in check_profile(name_or_path) if finding.level in ("error", "unfit")]
    if errors:
        more = f" ({len(errors) - 1} more)" if errors[1:] else ""
        raise ConfigError(
            f"Nothing moves with profile '{profile.name}': {errors[0].where}: {errors[0].message}{more}.",
            f"See all with `bora profile check {name_or_path}`.",
        )
    return profile


def _is_environment(path: Path) -> bool:
    return re.search(r"^\s*\[env\]", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def _parse(path: Path) -> tuple[HardwareProfile | EnvProfile | None, list[ProfileFinding]]:
    text = path.read_text(encoding="utf-8")
    model: type[HardwareProfile | EnvProfile] = EnvProfile if _is_environment(path) else HardwareProfile
    try:
        profile = model.model_validate(tomllib.loads(text))
        findings = _not_tighter(profile, path, text) if isinstance(profile, HardwareProfile) else []
        return (None, findings) if findings else (profile, [])
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line.group(1)}" if line else str(path)
        return None, [ProfileFinding("error", where, f"not valid TOML ({error})")]
    except ValidationError as error:
        findings = []
        unknown_keys_first = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        for item in unknown_keys_first:
            loc = tuple(item["loc"])
            findings.append(
                ProfileFinding(
                    "error", f"{path}:{_line_of(text, loc)}", _explain(item["type"], loc, item, model)
                )
            )
        return None, findings


def _not_tighter(profile: HardwareProfile, path: Path, text: str) -> list[ProfileFinding]:
    """Return where a profile is looser than the one it says it tightens."""
    if profile.tightens is None:
        return []
    where = f"{path}:{_line_of(text, ('tightens',))}"
    beside = path.parent / profile.tightens
    try:
        base_path = beside if beside.is_file() else find_profile(profile.tightens)
        base = None if base_path.resolve() == path.resolve() else load_profile(base_path)
    except ConfigError as error:
        return [ProfileFinding("error", where, f"tightens '{profile.tightens}': {error.message}")]
    if base is None:
        return [ProfileFinding("error", where, "tightens itself; expected another profile")]
    return [
        ProfileFinding("error", where, f"looser than '{profile.tightens}': {what}")
        for what in looser(profile, base)
    ]


def _explain(kind: str, loc: tuple[int | str, ...], item: Any, model: type[Part]) -> str:
    """Return one of pydantic's findings in our words."""
    key = ".".join(str(part) for part in loc)
    if kind == "extra_forbidden":
        known = _keys_at(loc[:-1], model)
        near = get_close_matches(str(loc[-1]), known, 1, 0.5)
        guess = f"; did you mean '{near[0]}'?" if near else ""
        return f"unknown key '{key}'{guess} (known here: {', '.join(known)})"
    if kind == "missing":
        return f"key '{key}' is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    if kind == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key} is {item['input']!r}: {message[:1].lower()}{message[1:]}"


def _keys_at(loc: tuple[int | str, ...], schema: type[Part]) -> list[str]:
    """Return the keys the schema knows in the table at `loc`."""
    model: Any = schema
    for part in loc:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            model = next(_models_in(annotation), annotation)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[Part]]:
    """Yield the tables that an annotation such as `tuple[Joint, ...] | None` is about."""
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _models_in(inner)


def _line_of(text: str, loc: tuple[int | str, ...]) -> int:
    """Return the line number of a key in TOML text, or of the nearest table above it; 1 if there is none."""
    names = [part for part in loc if isinstance(part, str)]
    item = next((part for part in loc if isinstance(part, int)), 0)
    copies: Counter[str] = Counter()
    table: list[str] = []
    best, depth, other_item = 1, 0, False
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            table = here = header[2].split(".")
            other_item = header[1] == "[[" and copies[header[2]] != item
            copies[header[2]] += 1
        elif key := re.match(r'\s*"?([\w-]+)"?\s*=', line):
            here = [*table, key[1]]
        else:
            continue
        if not other_item and here == names[: len(here)] and len(here) > depth:
            best, depth = number, len(here)
    return best


def _remarks(profile: HardwareProfile, path: Path) -> Iterator[ProfileFinding]:
    text = path.read_text(encoding="utf-8")

    def remark(level: Literal["warning", "note"], message: str, *loc: int | str) -> ProfileFinding:
        return ProfileFinding(level, f"{path}:{_line_of(text, loc)}", message)

    parts: list[tuple[str, str, tuple[str, ...], tuple[int | str, ...]]] = [
        ("robot", profile.robot.driver, ROBOT_DRIVERS, ("robot", "driver")),
        ("hand", profile.hand.driver, HAND_DRIVERS, ("hand", "driver")),
        ("operator", profile.operator.device, OPERATOR_DEVICES, ("operator", "device")),
    ]
    for number, camera in enumerate(profile.cameras):
        parts.append((f"camera {camera.name}", camera.driver, CAMERA_DRIVERS, ("cameras", number, "driver")))
    for what, driver, known, loc in parts:
        if driver not in known:
            own = "" if what == "operator" else "; give yours as --driver MODULE:NAME, see docs/robot.md"
            yield remark(
                "warning",
                f"{what}: no driver '{driver}' in this version (there is: {', '.join(known)}){own}",
                *loc,
            )
    speed = profile.arm.translation_per_tick * profile.robot.control_rate
    if speed > profile.limits.tcp_speed * (1 + 1e-9):
        yield remark(
            "warning",
            f"arm.translation_per_tick asks for {speed:g} m/s,"
            f" limits.tcp_speed lets {profile.limits.tcp_speed:g} m/s through: large commands will be cut",
            "arm",
            "translation_per_tick",
        )
    for level, message, key in lint(profile):
        yield ProfileFinding(level, f"{path}:{_line_of(text, key)}", message)
    for text_of_limit in loosened(profile.limits):
        yield remark(
            "note", f"looser than the code, by {profile.limits.acknowledged_by}: {text_of_limit}", "limits"
        )


def _known_profiles(text: str) -> str:
    names = list_profiles()
    near = get_close_matches(Path(text).stem, names, 1, 0.5)
    guess = f"Did you mean '{near[0]}'? " if near else ""
    return f"{guess}Profiles that come with bora: {', '.join(names)}; or give the path of a .toml file."
