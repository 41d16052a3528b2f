"""Switches of a scene that have nothing to do with its setting: hue, light, table, camera, other objects.

The setting (standard or unseen) decides about kinds and sizes.  These switches say how freely everything
around varies.  Each draws from a stream of its own, so none moves another, and none but `distractors` touches
the physics.  Switches that differ from the default are written behind the setting, "unseen,hue=any", and so
reach every episode, job and result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from bora_cli.errors import ConfigError
from bora_cli.sim.variation import HUES, require_setting

RANGES = ("fixed", "usual", "wide")
MAX_DISTRACTORS = 3


@dataclass(frozen=True)
class SceneOptions:
    """How freely scenes vary beyond their setting; every default is also what demonstrations are drawn from.

    hue: of the objects: seen (those of pre-training), held_out (green and violet, never in pre-training) or
    any.
    light: direction, brightness and, when wide, colour temperature.  table: colours of table and backdrop
    and, when wide, planks.  camera: place of the scene camera and, when wide, its aim and field of view.
    Each of these three is fixed (no variation), usual or wide.  distractors: 0 .. 3 objects of other tasks.
    Raises ConfigError for anything else.
    """

    hue: str = "seen"
    light: str = "usual"
    table: str = "usual"
    camera: str = "usual"
    distractors: int = 0

    def __post_init__(self) -> None:
        for name, known in _KNOWN.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"Scene option {name}={value} is unknown; expected one of"
                    f" {', '.join(str(k) for k in known)}.",
                    f"Write for instance {name}={known[-1]}.",
                )

    @property
    def identity(self) -> str:
        """What differs from the default, for instance "hue=any,distractors=2"; "default" if nothing does."""
        ours, usual = asdict(self), asdict(SceneOptions())
        return ",".join(f"{k}={v}" for k, v in ours.items() if v != usual[k]) or "default"


_KNOWN: dict[str, tuple[Any, ...]] = {
    "hue": tuple(HUES),
    "light": RANGES,
    "table": RANGES,
    "camera": RANGES,
    "distractors": tuple(range(MAX_DISTRACTORS + 1)),
}
_READ: dict[str, Callable[[str], Any]] = {"distractors": lambda text: int(text) if text.isdigit() else text}


def parse_options(text: str) -> SceneOptions:
    """Return the options that a command line names: "hue=any,light=wide" or "default".

    Raises ConfigError, which names the near word, for an unknown switch or value.
    """
    chosen: dict[str, Any] = {}
    for entry in text.split(",") if text not in ("", "default") else ():
        name, _, value = (part.strip() for part in entry.partition("="))
        if name not in _KNOWN:
            near = get_close_matches(name, list(_KNOWN), 1, 0.5)
            guess = f" Did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"'{name}' is not a switch of a scene.{guess}",
                f"Known switches: {', '.join(_KNOWN)}; for instance hue=any,light=wide.",
            )
        if name in chosen:
            raise ConfigError(f"Scene option {name} is given twice in '{text}'.", "Give it once.")
        chosen[name] = _READ.get(name, str)(value)
    return SceneOptions(**chosen)


def parse_setting(text: str) -> tuple[str, SceneOptions]:
    """Return setting and options of "unseen" or "unseen,hue=any,distractors=2".

    Raises ConfigError for an unknown setting, switch or value.
    """
    setting, _, options = text.partition(",")
    require_setting(setting.strip())
    return setting.strip(), parse_options(options)


def setting_identity(setting: str, options: SceneOptions) -> str:
    """Return the text of which `parse_setting` makes these two; just the setting where nothing differs."""
    return setting if options == SceneOptions() else f"{setting},{options.identity}"
