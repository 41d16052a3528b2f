"""`bora online`: the policy acts, somebody takes over where it fails, a correction is learned and tested."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from bora_cli.cli import devices as d
from bora_cli.cli import options as o
from bora_cli.cli.ui import Ui
from bora_cli.cli.used import require_used
from bora_cli.errors import ConfigError

TAKES = {
    "bora": ("--data", "--preset", "--residual"),
    "bc_interventions": ("--residual",),
    "hg_dagger": ("--data",),
    "resfit": ("--data",),
}
"""What a method takes beside the options that all take: a control that only copies corrections has no critic."""
WAIT_S, LISTEN_S = 1.0, 0.05
"""Seconds between two looks for what is waited for, where nobody sits at a desk, and where somebody does."""
ROLES = ("both", "actor", "learner")
WINDOWS = ("tk", "none", "off")


def command(
    ctx: typer.Context,
    *,
    checkpoint: o.Checkpoint,
    task: Annotated[
        str,
        typer.Option("--task", metavar="TASK", help="As the policy's.", callback=o.known("task", o.TASKS)),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Run to make or continue.")],
    gap: Annotated[
        str, typer.Option("--gap", metavar="GAP", help="See docs/suite.md.", callback=o.known_gap)
    ] = "none",
    setting: Annotated[
        str,
        typer.Option("--setting", metavar="SETTING", help="Or unseen.", callback=o.known_setting),
    ] = "standard",
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="Collect, learn, test.")] = 2,
    episodes: Annotated[int, typer.Option(min=1, metavar="N", help="Episodes per round.")] = 10,
    seed: o.Seed = 0,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Mixed in; else that of CHECKPOINT."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD",
            help="bora (default), bc_interventions, hg_dagger, resfit.",
            callback=o.known("method", o.ONLINE_METHODS),
            show_default=False,
        ),
    ] = "bora",
    preset: o.Preset = "sim",
    residual: o.Residual = "mlp",
    profile: Annotated[str, typer.Option(metavar="PROFILE", help="Limits kept.")] = "sim",
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="You take over: keyboard, spacemouse ...",
            callback=d.known_device,
            show_default=False,
        ),
    ] = None,
    window: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="tk (default), none (terminal), off.",
            callback=o.known("window", WINDOWS),
            show_default=False,
        ),
    ] = "tk",
    limit: Annotated[float, typer.Option(metavar="S", help="Longest episode with you.")] = 30.0,
    token: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="Shared with a udp sender.", show_default=False),
    ] = None,
    hand: Annotated[
        Path | None,
        typer.Option("--hand", metavar="FILE", help="Synergies of `bora hand fit`.", show_default=False),
    ] = None,
    pedal: d.Pedals = None,
    alarm: Annotated[
        str | None,
        typer.Option(metavar="REPORT", help="Call for help, don't watch.", show_default=False),
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            metavar="ROLE",
            help="both (default), actor or learner.",
            callback=o.known("role", ROLES),
            show_default=False,
        ),
    ] = "both",
    workers: o.WorkerCount = 0,
    json: o.Json = False,
) -> None:
    """Let the policy act, take over where it fails, learn a correction on top.

    Released if it helps. A script takes over, or you (--device): docs/online.md.
    """
    require_used(ctx, method, TAKES)
    _require_person(ctx, device, window, limit, role)
    pedals = d.pedals(pedal, beside_policy=True)
    o.require_checkpoint(checkpoint)
    o.require_writable(out)
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.workers import Workers
    from bora_cli.train.online import run_rounds

    ui = o.ui_of(ctx)
    with (
        claimed(out) if role == "both" else nullcontext(),
        _crew(out, device, window, limit, profile, token, hand, pedals, ui.quiet) as crew,
        ui.progress(bars=crew is None) as progress,
        Workers(workers or None) as pool,
    ):
        result = run_rounds(
            checkpoint,
            task=task,
            gap=gap,
            setting=setting,
            rounds=rounds,
            episodes=episodes,
            seed=seed,
            out=out,
            method=method,
            preset=cast('Literal["sim", "paper"]', preset),
            residual=cast('Literal["constant", "mlp"]', residual),
            data=data or None,
            profile=profile,
            crew=crew,
            alarm=alarm_from(alarm, checkpoint),
            role=cast('Literal["both", "actor", "learner"]', role),
            wait=waiting(ui, WAIT_S if crew is None else LISTEN_S),
            workers=pool,
            progress=progress,
        )
    finished = result["rounds"]
    names = ("", *(f"round {done['index']}" for done in finished))
    keys = [key for key in finished[0] if key != "index"] if finished else []
    rows = [(key, *(done[key] for done in finished)) for key in keys]
    ui.show(result, json, lambda: ui.table("", names, rows) if rows else None)
    if result.get("role") == "actor":
        ui.say("all episodes are recorded; the learner does the rest.")
        return
    if result.get("stopped"):
        ui.say("stopped; every finished episode is kept, and the same command goes on.")
        return
    for warning in result["warnings"]:
        ui.warn(warning)
    if not result["warnings"]:
        ui.say(f"next: bora eval {result['policy']} --task {task} --gap {gap}")


def _require_person(
    ctx: typer.Context, device: list[str] | None, window: str, limit: float, role: str
) -> None:
    """Raise ConfigError for options of a person without one, and for a keyboard that nobody can press."""
    given = [f"--{name}" for name in ("window", "limit") if o.was_given(ctx, name)]
    given += ["--token-file"] if o.was_given(ctx, "token") else []
    given += [f"--{name}" for name in ("hand", "pedal") if o.was_given(ctx, name)]
    if device and role == "learner":
        raise ConfigError("A learner meets no person; --device is the actor's.", "Leave --device out.")
    if given and not device:
        raise ConfigError(
            f"{', '.join(given)} needs a person; the simulated one has no use for it.",
            "Give --device keyboard, or leave it out.",
        )
    if not 1 <= limit <= 600:
        raise ConfigError(f"--limit {limit:g} is not in the range 1 to 600.", "Choose another one.")
    if (
        window == "off"
        and device
        and any(name.removeprefix(d.FINGERS).partition(":")[0] == "keyboard" for name in device)
    ):
        raise ConfigError(
            "--window off hears no keys, so --device keyboard could never drive.",
            "Use --window none in a terminal, or another device.",
        )
    if window == "off" and o.was_given(ctx, "pedal"):
        raise ConfigError(
            "--window off hears no keys, so nor a --pedal, which is one.", "Use --window none in a terminal."
        )


def waiting(ui: Ui, seconds: float = WAIT_S) -> Callable[[str], None]:
    """Return what waits a moment for the other process, and says once what for."""
    told = ""

    def wait(reason: str) -> None:
        nonlocal told
        if reason != told:
            ui.say(f"waiting for {reason}")
            told = reason
        time.sleep(seconds)

    return wait


def alarm_from(report: str | None, checkpoint: Path) -> Any:
    """Return the alarm that an analysis of this policy allows, None without one.

    report: folder of `bora analyze`; behind an "@" the share of successes in which it may ring, 0.05 otherwise.
    Raises ConfigError for a share that is none.
    """
    if report is None:
        return None
    folder, share = alarm_of(report)
    from bora_cli.analysis.alarm import fit_alarm
    from bora_cli.analysis.folder import TRACES
    from bora_cli.analysis.traces import read_traces
    from bora_cli.checkpoint import load_trained

    spec = load_trained(checkpoint).spec
    return fit_alarm(read_traces(folder / TRACES), every=spec.execute, dt=spec.dt, false_alarms=share)


def alarm_of(report: str) -> tuple[Path, float]:
    """Return folder and share of false alarms that "FOLDER" or "FOLDER@SHARE" means."""
    folder, _, word = report.rpartition("@")
    if not folder:
        return Path(word), 0.05
    try:
        share = float(word)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise ConfigError(
            f"--alarm {report}: '{word}' is not a share of false alarms; expected 0 to 1.",
            "Write REPORT, or REPORT@0.2.",
        )
    return Path(folder), share


@contextmanager
def _crew(
    out: Path,
    names: list[str] | None,
    window: str,
    limit: float,
    profile: str,
    token: Path | None,
    hand: Path | None,
    pedals: dict[str, str],
    quiet: bool,
) -> Iterator[Any]:
    """Give the person at the desk with the devices, None for the simulated one."""
    if not names:
        yield None
        return
    from bora_cli.cli.desk import EmptyDesk, SharedDesk, TerminalDesk, WindowDesk
    from bora_cli.evaluate.assist import ASSIST_HELP
    from bora_cli.evaluate.guard import sim_profile
    from bora_cli.evaluate.teleoperate import Driver
    from bora_cli.input.key_file import KEYS, KeyFile
    from bora_cli.input.keyboard import Keyboard
    from bora_cli.input.synergies import load_synergies
    from bora_cli.train.crew import Person

    hardware = sim_profile(profile)
    synergies, puck = load_synergies(hand) if hand is not None else None, d.fingers_by(names)
    keyboard = Keyboard(tuple(hardware.postures), pedals)
    desk: Any = EmptyDesk()
    if window != "off":
        desk = WindowDesk(ASSIST_HELP) if window == "tk" else TerminalDesk(ASSIST_HELP, quiet)
    with (
        d.opened(names, keyboard, hardware, token, beside_policy=True) as opened,
        desk,
        closing(KeyFile(out / KEYS)) as elsewhere,
    ):
        shared = SharedDesk(desk, elsewhere)
        seat = Driver(shared, keyboard, opened, time.monotonic, time.sleep, "view", puck, synergies)
        yield Person(seat, limit)
