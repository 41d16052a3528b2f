"""`bora data import`, `export` and `view`: what comes from others, goes to others, or before somebody's eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bora_cli.cli import options as o
from bora_cli.errors import ConfigError

FIRST = 10
"""Episodes that `view` shows where none are named."""
FORMATS = ("lerobot", "lerobot-v2.1", "csv", "parquet")
Episodes = Annotated[str, typer.Option("--episodes", metavar="3,7,10:20", help="Which; a:b ends before b.")]


def import_command(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="LeRobot directory, .hdf5 or .npz file.")],
    out: o.Out,
    success_from: Annotated[
        str, typer.Option(metavar="COL|all|none", help="What says that one succeeded.")
    ] = "",
    profile: Annotated[str, typer.Option(metavar="NAME|FILE", help="Has the limits; needed for .npz.")] = "",
    state: Annotated[
        list[str] | None, typer.Option(metavar="COL", help="Part of the state; repeat, in order.")
    ] = None,
    camera: Annotated[
        list[str] | None, typer.Option(metavar="NAME=COL", help="Camera to take; repeat.")
    ] = None,
    image_size: Annotated[str, typer.Option(metavar="HxW", help="Scale images to this size, px.")] = "",
    hand: Annotated[
        int, typer.Option(min=0, show_default=False, metavar="N", help="The last N actions are the hand's.")
    ] = 0,
    fps: Annotated[
        float, typer.Option(min=0, show_default=False, metavar="HZ", help="Rate, if the source has none.")
    ] = 0.0,
    instruction: Annotated[str, typer.Option(metavar="TEXT", help="Replaces the source's.")] = "",
    numbers: Episodes = "",
    video: Annotated[str, typer.Option(metavar="CODEC", help="Keep images as video, e.g. h264.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would become what.")] = False,
    json: o.Json = False,
) -> None:
    """Make a dataset of what somebody else recorded: LeRobot v3.0 or v2.1, robomimic, .npz.

    Without a profile, limits of actions come from the data. Pickles are
    refused: they run code. Begin with --dry-run, which shows what was found.
    """
    o.require_new(out)
    from bora_cli.data.filters import parse_numbers
    from bora_cli.data.foreign import ImportOptions, plan
    from bora_cli.data.importing import import_any, open_foreign, refuse_pickles

    ui = o.ui_of(ctx)
    refuse_pickles(source)
    if source.suffix.lower() == ".npz":
        document = _import_npz(ui, source, out, profile, dry_run)
        ui.report(document, json)
        return
    spec = None
    if profile:
        from bora_cli.profiles.load import read_profile

        spec = read_profile(profile).action_spec
    chosen = ImportOptions(
        success_from=success_from,
        state=tuple(state or ()),
        cameras=_cameras(camera or []),
        image_size=_size(image_size),
        spec=spec,
        hand=hand,
        fps=fps,
        instruction=instruction,
        video=video,
    )
    document = {"dataset": str(out), "dry_run": dry_run}
    if not (source / "meta" / "bora.json").is_file():
        found, names, kind = open_foreign(source)
        count = len(found.lengths)
        picked = parse_numbers(numbers, count) if numbers else None
        import dataclasses

        chosen = dataclasses.replace(chosen, episodes=picked)
        mapped = plan(found, chosen, names)
        document |= {"from": kind, "episodes": count if picked is None else len(picked), **mapped.to_json()}
        document |= {"limits": "the profile" if spec else "the data"}
    elif numbers:
        raise ConfigError(
            f"{source} is a dataset of ours; --episodes cannot choose from it here.", "Use `bora data split`."
        )
    else:
        document |= {"from": "bora"}
    if not dry_run:
        with ui.progress() as progress:
            dataset = import_any(source, out, chosen, progress=progress)
        document |= {"episodes": len(dataset), "ticks": dataset.ticks}
    ui.report(document, json)


def export_command(
    ctx: typer.Context,
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Dataset directory.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="PATH", help="New directory, or new file of a table.")
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--format", metavar=o.choice(FORMATS), help="What to write.", callback=o.known("format", FORMATS)
        ),
    ] = "lerobot",
    episode: Annotated[
        int | None, typer.Option(metavar="N", help="Episode of the table; -1 is the last.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written.")] = False,
    json: o.Json = False,
) -> None:
    """Write a dataset for others: LeRobot v3.0 or v2.1 without our columns, or an episode as a table."""
    o.require_datasets([root])
    from bora_cli.data.dataset import Dataset
    from bora_cli.data.export import export_lerobot, export_table

    ui = o.ui_of(ctx)
    document: dict[str, Any] = {"out": str(out), "format": kind, "dry_run": dry_run}
    if kind in ("csv", "parquet"):
        if episode is None:
            raise ConfigError(f"--format {kind} writes one episode.", "Say which with --episode N.")
        if out.suffix != f".{kind}":
            raise ConfigError(f"--out {out} does not end in .{kind}.", f"Name it episode.{kind}.")
        row = Dataset.open(root, gather=False).row(episode)
        document |= {"episode": row.index, "ticks": row.length}
        if not dry_run:
            export_table(root, episode, out)
    else:
        o.require_new(out)
        document |= {"episodes": len(Dataset.open(root, gather=False))}
        if not dry_run:
            with ui.progress() as progress:
                version = "v2.1" if kind.endswith("v2.1") else "v3.0"
                export_lerobot(root, out, version=version, progress=progress)
    ui.report(document, json)


def view_command(
    ctx: typer.Context,
    root: Annotated[Path, typer.Argument(metavar="DIR", help="Dataset directory.")],
    numbers: Episodes = "",
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="COND", help="Such as success=false; repeat.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of `bora analyze` on this dataset: values.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="New .html or .rrd file. Default: a temporary page."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    json: o.Json = False,
) -> None:
    """Write a page in which episodes can be scrubbed: images, actions, who acted, rewards.

    One file that needs no network. Without a choice the first ten episodes
    are shown. page.html#3/20 opens at tick 20 of episode 3. With --out
    FILE.rrd it is a recording for the viewer of rerun instead (extra rerun).
    """
    o.require_datasets([root])
    if out is not None and (out.suffix not in (".html", ".rrd") or out.exists()):
        what = "already exists" if out.exists() else "is neither a .html nor a .rrd file"
        raise ConfigError(f"--out {out} {what}.", "Choose another --out.")
    recording = out is not None and out.suffix == ".rrd"
    if recording and show:
        raise ConfigError("--open shows pages, not recordings.", f"Give `rerun {out}` to see it.")
    from bora_cli.data.dataset import Dataset
    from bora_cli.data.files import write_bytes
    from bora_cli.data.filters import matching, parse_numbers
    from bora_cli.data.rerun_file import write_recording
    from bora_cli.data.view import view_page

    ui = o.ui_of(ctx)
    dataset = Dataset.open(root, gather=False)
    chosen = parse_numbers(numbers, len(dataset)) if numbers else list(range(len(dataset)))
    if where:
        kept = set(matching(dataset.rows(), where))
        chosen = [index for index in chosen if index in kept]
    if not chosen:
        raise ConfigError(f"No episode of {root} is meant.", "`bora data info` says what there is.")
    picked = chosen if numbers else chosen[:FIRST]
    values = _values(run, dataset, picked) if run else None
    with ui.progress() as progress:
        if out is not None and recording:
            write_recording(dataset, picked, path := out, values, progress)
        else:
            page = view_page(dataset, picked, values, progress).encode()
            write_bytes(path := out or _temporary(), page)
    if show:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    size = path.stat().st_size
    document = {"page": str(path), "episodes": picked, "bytes": size}
    ui.show(document, json, lambda: ui.line(str(path)))
    left = len(chosen) - len(picked)
    ui.say(
        f"{len(picked)} episodes, {size / 1e6:.1f} MB" + (f"; {left} more with --episodes" if left else "")
    )


def _temporary() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="bora-view-")) / "view.html"


def _values(run: Path, dataset: Any, episodes: list[int]) -> dict[int, dict[str, Any]]:
    """Return what the critic said about some episodes, v and q per tick."""
    import polars as pl

    from bora_cli.analysis.folder import read_folder

    traces = read_folder(run).traces
    out = {}
    for index in episodes:
        found = traces.filter(pl.col("episode") == index).sort("tick")
        row = dataset.row(index)
        if len(found) != row.length or bool(found["success"][0]) != row.success:
            raise ConfigError(
                f"{run} is the analysis of other episodes: {len(found)} ticks of episode {index}; expected"
                f" {row.length}.",
                "Run `bora analyze` on this dataset alone.",
            )
        out[index] = {name: found[name].to_numpy() for name in ("v", "q")}
    return out


def _import_npz(ui: Any, source: Path, out: Path, profile: str, dry_run: bool) -> dict[str, Any]:
    if not profile:
        raise ConfigError(
            f"{source} says nothing about what its numbers are.",
            "Name the environment's profile with --profile; `bora profile list` has some.",
        )
    from bora_cli.data.import_npz import import_npz, try_npz
    from bora_cli.profiles.load import load_environment

    environment = load_environment(profile)
    document: dict[str, Any] = {"dataset": str(out), "from": "npz", "profile": profile, "dry_run": dry_run}
    if dry_run:
        lengths = try_npz(source, environment)
        document |= {"episodes": len(lengths), "ticks": sum(lengths)}
    else:
        with ui.progress() as progress:
            dataset = import_npz(source, out, environment, progress=progress)
        document |= {"episodes": len(dataset), "ticks": dataset.ticks}
    return document


def _cameras(pairs: list[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if not all(pair.partition("="))]
    if wrong:
        raise ConfigError(
            f"--camera {wrong[0]} is not NAME=COLUMN.", "For example scene=observation.images.top."
        )
    return {pair.partition("=")[0]: pair.partition("=")[2] for pair in pairs}


def _size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and (width or height).isdigit()) or not int(height) * int(width or height):
        raise ConfigError(f"--image-size {text} is no size.", "For example 64 or 120x160 (height x width).")
    return int(height), int(width or height)
