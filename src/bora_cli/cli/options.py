"""Options that several commands share, and the checks that answer a wrong name with the near one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from bora_cli.cli.ui import Ui
from bora_cli.errors import CheckpointError, ConfigError, DataError

TASKS = ("pick_toy", "open_box", "press_button", "pick_place", "pull_tissue")
SETTINGS = ("standard", "unseen")
GAPS = (
    "none",
    "bias",
    "friction",
    "camera_shift",
    "deployment",
    "scale",
    "overshoot",
    "payload",
    "latency",
    "weak_hand",
)
QUALITIES = ("mixed", "expert")
MISTAKES = (
    "off_centre",
    "wrong_height",
    "early_closing",
    "early_release",
    "hesitation",
    "wrong_object",
    "jitter",
)
OPERATORS = ("simulated",)
METHODS = (
    "cp",
    "diffusion",
    "filtered_bc",
    "awr",
    "decoupled",
    "decoupled_value",
    "bora",
    "bc_interventions",
)
ADVANTAGES = ("learned", "q_minus_v", "constant", "random", "flipped")
CRITICS = ("iql", "ranked")
WARM_UPS = ("all", "gated")
ADAPTATIONS = ("none", "full", "last_blocks", "lora")
ONLINE_METHODS = ("bora", "bc_interventions", "hg_dagger", "resfit")
PRESETS = ("sim", "paper")
RESIDUALS = ("mlp", "constant")


def ui_of(ctx: typer.Context) -> Ui:
    """Return the Ui that the root command made."""
    return ctx.obj if isinstance(ctx.obj, Ui) else Ui()


def was_given(ctx: typer.Context, name: str) -> bool:
    """Tell whether a parameter stood on the command line, rather than having its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def known(what: str, names: Sequence[str]) -> Callable[[str], str]:
    """Return an option callback that accepts only `names`."""

    def check(value: str) -> str:
        if value not in names:
            near = get_close_matches(value, names, 1, 0.5)
            guess = f" Did you mean '{near[0]}'?" if near else ""
            raise typer.BadParameter(
                f"'{value}' is not a {what}.{guess} Expected one of: {', '.join(names)}."
            )
        return value

    return check


def known_gap(value: str) -> str:
    """Accept gap names joined by "+"; what follows an "@", the strength, is left to the library."""
    check = known("gap", GAPS)
    for part in value.split("+"):
        check(part.partition("@")[0])
    return value


def known_adaptation(value: str) -> str:
    """Accept a part of the backbone; its size behind an "@" and switches behind commas are left to the library."""
    known("part of a backbone", ADAPTATIONS)(value.partition(",")[0].partition("@")[0])
    return value


def known_setting(value: str) -> str:
    """Accept a setting; return the switches of the scene behind it in the one way that records have them."""
    name, comma, _ = value.partition(",")
    known("setting", SETTINGS)(name.strip())
    if not comma:
        return name
    from bora_cli.sim.scene_options import parse_setting, setting_identity

    return setting_identity(*parse_setting(value))


def known_quality(value: str) -> str:
    """Accept expert, mixed, or shares of mistakes such as early_release=0.3,wrong_height@1.5=0.2."""
    if "=" not in value:
        return known("quality", QUALITIES)(value)
    for part in value.split(","):
        known("mistake", MISTAKES)(part.partition("=")[0].partition("@")[0].strip())
    return value


def choice(names: Sequence[str]) -> str:
    """Return the names as help lists them."""
    return ", ".join(names)


def as_document(record: Any) -> dict[str, Any]:
    """Return a frozen dataclass as JSON values."""
    return dataclasses.asdict(record)


def require_checkpoint(path: Path) -> None:
    """Raise CheckpointError unless `path` looks like a checkpoint; costs nothing and imports little."""
    from bora_cli.data.files import recover_directory

    recover_directory(path)
    if not (path / "config.json").is_file():
        what = "it has no config.json" if path.is_dir() else "there is no such directory"
        raise CheckpointError(
            f"No checkpoint at {path}: {what}.", "Name a directory that `bora train --out` made."
        )


def require_datasets(paths: Sequence[Path]) -> None:
    """Raise DataError unless each path looks like a dataset."""
    for path in paths:
        if not (path / "meta" / "info.json").is_file():
            what = "it has no meta/info.json" if path.is_dir() else "there is no such directory"
            remedy = "Make one with `bora collect --out`."
            if not path.exists() and path.with_name(f".{path.name}.unfinished").is_dir():
                remedy = f"`bora data repair {path}` brings it back; a rewrite was interrupted."
            elif (path / "meta" / "bora.json").is_file():
                remedy = f"`bora data repair {path}` makes it again."
            elif (path / "traces.parquet").is_file():
                what = "it is an analysis of episodes"
                remedy = f"Look at it with `bora notebook value_traces --run {path}`."
            elif (path / "demo.json").is_file():
                what = "it is a demo run"
                remedy = (
                    f"Its datasets are {path / 'demos'}, {path / 'rollouts'} and {path / 'online/episodes'}."
                )
            raise DataError(f"No dataset at {path}: {what}.", remedy)


def require_new(path: Path) -> None:
    """Raise ConfigError unless `path` is new or an empty directory, in a place that can be written to."""
    require_writable(path)
    if path.is_dir() and any(path.iterdir()):
        raise ConfigError(
            f"--out {path} already holds something; expected a new or empty directory.",
            "Choose another --out, or remove that one yourself.",
        )


def require_writable(path: Path) -> None:
    """Raise ConfigError unless `path` can be made, or written to; asked before hours of work, not after."""
    parent = path.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise ConfigError(f"--out {path}: {parent} is a file.", "Choose another --out.")
    if not os.access(parent, os.W_OK):
        raise ConfigError(f"--out {path}: {parent} cannot be written to.", "Choose another --out.")


def require_film(path: Path | None) -> None:
    """Raise ConfigError unless a film can be written to `path`."""
    if path is None:
        return
    if path.suffix != ".webp":
        raise ConfigError(
            f"--video {path} is not a .webp file; bora writes WebP films.", "Name it film.webp."
        )
    if not path.parent.is_dir():
        raise ConfigError(f"--video {path}: there is no directory {path.parent}.", "Create it first.")


Task = Annotated[
    str,
    typer.Option("--task", metavar="TASK", help=choice(TASKS), callback=known("task", TASKS)),
]
Setting = Annotated[
    str,
    typer.Option(
        metavar="SETTING",
        help="standard or unseen; with switches: unseen,hue=any,light=wide.",
        callback=known_setting,
    ),
]
Gap = Annotated[
    str,
    typer.Option(
        metavar="GAP",
        help="none, deployment, bias@0.5+latency and others, see docs/suite.md.",
        callback=known_gap,
    ),
]
Preset = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Numbers: sim (default) or paper.",
        callback=known("preset", PRESETS),
        show_default=False,
    ),
]
Residual = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="mlp (default) or constant, a vector.",
        callback=known("residual", RESIDUALS),
        show_default=False,
    ),
]
Profile = Annotated[str, typer.Option(metavar="NAME|FILE", help="Hardware profile: limits kept.")]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Same seed, same result.")]
Episodes = Annotated[int, typer.Option(min=1, metavar="N", help="How many episodes.")]
WorkerCount = Annotated[
    int,
    typer.Option("--workers", min=0, metavar="N", help="Processes; else one per core.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Data = Annotated[
    list[Path], typer.Option("--data", metavar="DIR", help="Dataset to read; repeat for several.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="New directory for the result.")]
Checkpoint = Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="Directory made by `bora train`.")]
Film = Annotated[Path | None, typer.Option("--video", metavar="FILE.webp", help="Also write a film.")]
