"""`bora robot collect` and `bora robot eval`: what a person does with a policy, or a device, at a real robot."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from bora_cli.cli import devices as d
from bora_cli.cli import options as o
from bora_cli.errors import ConfigError

ROBOT, PERSON = "Robot", "Person"
ANSWER_S = 1.0
"""Longest wait for an answer of the server, asked three times; the server holds by itself long before."""

Address = Annotated[
    str,
    typer.Option("--robot", metavar="HOST:PORT", help="Of `bora robot serve`.", rich_help_panel=ROBOT),
]
Secret = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="The server's secret.", rich_help_panel=ROBOT),
]
Driver = Annotated[
    str,
    typer.Option(
        "--driver",
        metavar="MODULE:NAME",
        help="Instead: a driver in this process.",
        show_default=False,
        rich_help_panel=ROBOT,
    ),
]
Profile = Annotated[str, typer.Option(metavar="NAME|FILE", help="Its profile.", rich_help_panel=ROBOT)]
Prompt = Annotated[str, typer.Option("--prompt", metavar="TEXT", help="Told to the robot.")]
Limit = Annotated[float, typer.Option(metavar="S", help="Longest episode, 1 to 600 s.")]
Window = Annotated[
    str,
    typer.Option(metavar="NAME", help="tk, or none (terminal only).", rich_help_panel=PERSON),
]
Hand = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Synergies from `bora hand fit`.", rich_help_panel=PERSON),
]
Flights = Annotated[
    Path,
    typer.Option(metavar="DIR", help="Where faults are recorded.", rich_help_panel=ROBOT),
]
UdpToken = Annotated[
    Path | None,
    typer.Option("--udp-token-file", metavar="FILE", help="Secret of a udp device.", rich_help_panel=PERSON),
]


@dataclass(frozen=True)
class Where:
    """Which robot is meant: at an address, or made by a driver in this process."""

    robot: str
    token_file: Path | None
    driver: str
    profile: str
    flights: Path = Path("flights")

    def __post_init__(self) -> None:
        if bool(self.robot) == bool(self.driver):
            raise ConfigError(
                f"{'Both' if self.robot else 'Neither'} --robot and --driver given; expected one of them.",
                "A robot on this computer: --driver MODULE:NAME. Behind a server: --robot HOST:PORT.",
            )
        if self.robot and self.token_file is None:
            raise ConfigError(
                "--robot without --token-file.", "Name a copy of the file that `bora robot serve` was given."
            )
        if self.robot and self.token_file is not None and not self.token_file.is_file():
            raise ConfigError(
                f"There is no file {self.token_file}.",
                "Copy the one that `bora robot serve --token-file` made.",
            )


@dataclass(frozen=True)
class Place:
    """Where the person sits.

    keys: file of the keys that are pressed at `bora console`; None hears none.  pedals: as `d.pedals` returns them.
    beside_policy: whether the person watches a policy and takes over, rather than to drive all the time.
    """

    window: str
    hand: Path | None
    udp_token: Path | None
    devices: Sequence[str]
    quiet: bool
    keys: Path | None = None
    pedals: Mapping[str, str] = field(default_factory=dict)
    beside_policy: bool = False


def require_sane(window: str, limit: float, image_size: int = 64) -> None:
    """Raise an error of usage for an unknown window, a limit in s or an image size in px that makes no sense."""
    o.known("window", ("tk", "none"))(window)
    for name, value, low, high in (("limit", limit, 1, 600), ("image-size", image_size, 16, 512)):
        if not low <= value <= high:
            raise ConfigError(
                f"--{name} {value:g} is not in the range {low} to {high}.", "Choose another one."
            )


def collect_command(
    ctx: typer.Context,
    *,
    prompt: Prompt,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Dataset to make or continue.")],
    profile: Profile,
    robot: Address = "",
    token_file: Secret = None,
    driver: Driver = "",
    device: d.Names = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="How many in all; else by key.", show_default=False)
    ] = None,
    limit: Limit = 60.0,
    image_size: Annotated[int, typer.Option(metavar="PX", help="Side of the images, 16 to 512.")] = 64,
    window: Window = "tk",
    hand: Hand = None,
    pedal: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Pedal that grips.", show_default=False, rich_help_panel=PERSON),
    ] = None,
    udp_token_file: UdpToken = None,
    flights: Flights = Path("flights"),
    json: o.Json = False,
) -> None:
    """Record demonstrations on a robot, driven by a person.

    Enter begins an episode, y or n ends it, z discards it, q stops.
    """
    o.require_writable(out)
    where = Where(robot, token_file, driver, profile, flights)
    require_sane(window, limit, image_size)
    pedals = d.pedals(pedal, beside_policy=False)
    from bora_cli.control.flight import FlightRecorder
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.robot_session import RobotJob, RobotSession, robot_facts

    ui = o.ui_of(ctx)
    place = Place(window, hand, udp_token_file, device or ["keyboard"], ui.quiet, pedals=pedals)
    with claimed(out), station(where, place) as (guarded, hardware, seat):
        job = RobotJob(
            robot=guarded.spec.name,
            profile=hardware.name,
            profile_hash=hardware.hash,
            task=prompt,
            prompt=prompt,
            operator="person",
            image_size=image_size,
            limit_s=limit,
        )
        session = RobotSession(guarded, hardware, job, seat, out=out, flights=FlightRecorder(flights))
        session.run(episodes)
    assert session.dataset is not None
    ui.report({"dataset": str(out), **robot_facts(session), "all": session.dataset.summary()}, json)
    if len(session.dataset):
        ui.say(f"next: bora data check {out}; bora train filtered_bc --data {out} --out policy")


def eval_command(
    ctx: typer.Context,
    *,
    checkpoint: o.Checkpoint,
    prompt: Prompt,
    profile: Profile,
    robot: Address = "",
    token_file: Secret = None,
    driver: Driver = "",
    device: d.Names = None,
    episodes: o.Episodes = 20,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Dataset to make or continue.", show_default=False)
    ] = None,
    limit: Limit = 60.0,
    window: Window = "tk",
    hand: Hand = None,
    pedal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY",
            help="Pedal that grips; or takeover=KEY.",
            show_default=False,
            rich_help_panel=PERSON,
        ),
    ] = None,
    udp_token_file: UdpToken = None,
    flights: Flights = Path("flights"),
    json: o.Json = False,
) -> None:
    """Let a policy act on a robot, judged by a person, who can help with --device.

    Enter begins an episode, y or n ends it, t takes over and hands back.
    """
    o.require_checkpoint(checkpoint)
    where = Where(robot, token_file, driver, profile, flights)
    require_sane(window, limit)
    helps = device is not None
    pedals = d.pedals(pedal, beside_policy=helps)
    if record is not None:
        o.require_writable(record)
    from bora_cli.cli.environment import counted
    from bora_cli.control.flight import FlightRecorder
    from bora_cli.data.files import claimed
    from bora_cli.evaluate.on_robot import evaluate_on_robot

    ui = o.ui_of(ctx)
    claim = nullcontext() if record is None else claimed(record)
    place = Place(
        window, hand, udp_token_file, device or ["keyboard"], ui.quiet, pedals=pedals, beside_policy=helps
    )
    with claim, station(where, place) as (guarded, hardware, seat):
        result = evaluate_on_robot(
            checkpoint,
            guarded,
            hardware,
            seat,
            prompt=prompt,
            episodes=episodes,
            limit_s=limit,
            assisted=helps,
            record=record,
            flights=FlightRecorder(flights),
        )
    document = result.to_json()
    for warning in result.warnings:
        ui.warn(warning)

    def sentence() -> None:
        if not document["episodes"]:
            ui.line("no episode was run")
            return
        ui.line(counted(document["unaided_successes"], document["episodes"], document["wilson95"]) + " alone")
        ui.line(
            f"{document['takeovers']} take-overs, {100 * document['human_share']:.0f} % of the ticks by a person"
        )

    ui.show(document, json, sentence)
    if record is not None and document["takeovers"]:
        ui.say(f"next: bora train bc_interventions --init {checkpoint} --data {record} --out corrected")


@contextmanager
def station(where: Where, place: Place) -> Iterator[tuple[Any, Any, Any]]:
    """Open desk, robot and devices; yield robot, profile and the person's seat; let all of them go in the end.

    No robot is connected with an unfit profile, or without the window that was asked for.
    """
    from bora_cli.cli.desk import SharedDesk, TerminalDesk, WindowDesk
    from bora_cli.evaluate.assist import ASSIST_HELP
    from bora_cli.evaluate.teleoperate import SESSION_HELP
    from bora_cli.evaluate.teleoperate import Driver as Seat
    from bora_cli.input.key_file import KeyFile
    from bora_cli.input.keyboard import HELP, Keyboard
    from bora_cli.input.synergies import load_synergies
    from bora_cli.profiles import load_profile, require_fit

    hardware = load_profile(where.profile)
    if hardware.robot.driver != "sim":
        require_fit(where.profile)
    synergies = load_synergies(place.hand) if place.hand is not None else None
    puck = d.fingers_by(place.devices)
    keyboard = Keyboard(tuple(hardware.postures), place.pedals)
    guide = ASSIST_HELP if place.beside_policy else (*SESSION_HELP, *HELP)
    desk: Any = WindowDesk(guide) if place.window == "tk" else TerminalDesk(guide, place.quiet)
    with (
        desk,
        closing(connected(where, hardware)) as robot,
        d.opened(
            place.devices, keyboard, hardware, place.udp_token, beside_policy=place.beside_policy
        ) as opened,
        nullcontext() if place.keys is None else closing(KeyFile(place.keys)) as elsewhere,
    ):
        shared = desk if elsewhere is None else SharedDesk(desk, elsewhere)
        yield (
            robot,
            hardware,
            Seat(shared, keyboard, opened, time.monotonic, time.sleep, "view", puck, synergies),
        )


def connected(where: Where, hardware: Any) -> Any:
    """Return the robot inside the limits of its profile, which here or its server keeps."""
    from bora_cli.control.connect import within_limits
    from bora_cli.control.flight import FlightRecorder
    from bora_cli.profiles import require_fit
    from bora_cli.robot.client import RemoteRobot
    from bora_cli.robot.drivers import load_driver
    from bora_cli.robot.server import read_token

    if where.driver:
        robot: Any = load_driver(where.driver, require_fit(where.profile))
        kept = ""
    else:
        assert where.token_file is not None
        robot = RemoteRobot.connect(where.robot, read_token(where.token_file), timeout=ANSWER_S)
        kept = robot.guarded
    try:
        if not kept and hardware.robot.driver != "sim":
            require_fit(where.profile)
        return within_limits(robot, hardware, kept=kept, recorder=FlightRecorder(where.flights))
    except Exception:
        robot.close()
        raise
