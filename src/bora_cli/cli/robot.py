"""`bora robot`: serve a robot to other machines, prove its driver, work with it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from bora_cli.cli import options as o
from bora_cli.cli import robot_online, robot_session

if TYPE_CHECKING:
    from bora_cli.robot.protocol import Robot

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
WHERE = "--robot HOST:5055 --token-file token --profile rig.toml --prompt 'lift the toy'"
COLLECT, EVAL = f"bora robot collect {WHERE} --out demos", f"bora robot eval policy {WHERE}"
ONLINE = f"bora robot online policy {WHERE} --out run --device spacemouse"
app.command("collect", epilog=f"Example: {COLLECT}")(robot_session.collect_command)
app.command("eval", epilog=f"Example: {EVAL}")(robot_session.eval_command)
app.command("online", epilog=f"Example: {ONLINE}")(robot_online.command)
app.command("learn", epilog="Example: bora robot learn policy run")(robot_online.learn_command)
NETWORK, SIMULATOR = "Network", "Simulator as the robot"


@app.command(epilog="Example: bora robot serve --profile sim --token-file token")
def serve(
    ctx: typer.Context,
    token_file: Annotated[Path, typer.Option(help="Secret both sides know; made if it is not there.")],
    profile: Annotated[str, typer.Option(metavar="NAME|FILE", help="Hardware profile.")] = "sim",
    driver: Annotated[
        str, typer.Option(metavar="MODULE:NAME", help="Makes the robot, from its profile; see docs/robot.md.")
    ] = "",
    flights: Annotated[Path, typer.Option(help="Where the last 30 s go when something goes wrong.")] = Path(
        "flights"
    ),
    bind: Annotated[str, typer.Option(help="Address to listen at.", rich_help_panel=NETWORK)] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 is any free one.", rich_help_panel=NETWORK)
    ] = 5055,
    task: Annotated[
        str, typer.Option(callback=o.known("task", o.TASKS), rich_help_panel=SIMULATOR)
    ] = "pick_toy",
    seed: Annotated[int, typer.Option(min=0, help="Scene.", rich_help_panel=SIMULATOR)] = 0,
    json: o.Json = False,
) -> None:
    """Serve a robot inside the limits of its profile; hold it whenever its client is silent.  Ctrl-C stops."""
    import time

    from bora_cli.control.flight import FlightRecorder
    from bora_cli.control.guard import GuardedRobot
    from bora_cli.profiles import load_profile, require_fit
    from bora_cli.robot.drivers import load_driver
    from bora_cli.robot.host import Host
    from bora_cli.robot.server import is_loopback, read_token
    from bora_cli.robot.server import serve as run

    ui = o.ui_of(ctx)
    hardware = require_fit(profile) if driver else load_profile(profile)
    token = read_token(token_file)
    robot = load_driver(driver, hardware) if driver else simulated(profile, task, seed, time.monotonic)
    recorder = FlightRecorder(flights)
    guarded = GuardedRobot.from_profile(robot, hardware, recorder=recorder)
    if not is_loopback(bind):
        ui.warn(f"{bind} can be reached from other machines; nothing is encrypted. A tunnel would be better.")

    def ready(address: str, at: int) -> None:
        document = {"robot": guarded.spec.name, "address": f"{address}:{at}", "token_file": str(token_file)}
        ui.show(document, json, lambda: ui.line(f"{guarded.spec.name} at {address}:{at}"))

    try:
        run(
            Host(
                guarded,
                token,
                silence=hardware.limits.watchdog,
                guarded=hardware.hash,
                on_loss=recorder.write,
            ),
            bind,
            port,
            ready=ready,
            stopped=_terminated(),
        )
    finally:
        guarded.close()


@app.command(epilog="Example: bora robot check --profile my_rig.toml --driver my_lab.franka:connect")
def check(
    ctx: typer.Context,
    profile: Annotated[str, typer.Option(metavar="NAME|FILE", help="Hardware profile.")] = "sim",
    driver: Annotated[
        str, typer.Option(metavar="MODULE:NAME", help="Makes the robot, from its profile.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Move without asking.")] = False,
    json: o.Json = False,
) -> None:
    """Prove a driver with small motions inside the limits of its profile; exit code 4 if it breaks its contract."""
    import time

    from bora_cli.control.guard import GuardedRobot
    from bora_cli.profiles import load_profile, require_fit
    from bora_cli.robot.drivers import load_driver
    from bora_cli.testing import CHECKS, Motions, robot_findings

    ui = o.ui_of(ctx)
    hardware = require_fit(profile) if driver else load_profile(profile)
    motions = Motions()
    if driver and not yes:
        ui.say(
            f"The robot will move each axis by {1e3 * motions.step:.0f} mm, turn by {motions.turn:g} rad, and bend each"
            f" joint by {motions.bend:g} rad. Is the emergency stop tested, and in reach?"
        )
        typer.confirm("Move it?", abort=True, err=True)
    clock, wait = (time.monotonic, time.sleep) if driver else _simulated_time()
    robot = load_driver(driver, hardware) if driver else simulated(profile, "press_button", 0, clock)
    guarded = GuardedRobot.from_profile(robot, hardware, clock=clock)
    with ui.progress() as progress:
        names = [name for name, _ in CHECKS]
        findings = robot_findings(
            lambda: guarded,
            wait=wait,
            clock=clock,
            tell=lambda name: progress(name, names.index(name) + 1, len(names)),
        )
    document = {"ok": not findings, "checks": names, "findings": [o.as_document(f) for f in findings]}

    def lines() -> None:
        for finding in findings:
            ui.line(f"{finding.check}: {finding.message}")
        if not findings:
            ui.line(f"{guarded.spec.name}: {len(names)} checks passed")

    ui.show(document, json, lines)
    if findings:
        raise typer.Exit(4)


def _simulated_time() -> tuple[Callable[[], float], Callable[[float], None]]:
    """Return a clock and a way to wait on it that takes no time."""
    passed = [0.0]

    def wait(seconds: float) -> None:
        passed[0] += seconds

    return lambda: passed[0], wait


def simulated(name: str, task: str, seed: int, clock: Callable[[], float]) -> Robot:
    """Return the simulator as the robot of a profile; raises ConfigError if the profile is for another one."""
    from bora_cli.errors import ConfigError
    from bora_cli.evaluate.guard import sim_profile
    from bora_cli.profiles import load_profile
    from bora_cli.sim.as_robot import SimRobot
    from bora_cli.sim.simulation import Simulation

    wanted = load_profile(name).robot.driver
    if wanted != "sim":
        raise ConfigError(
            f"Profile '{name}' is for the robot driver '{wanted}', which is not part of bora.",
            "Name what makes that robot: --driver MODULE:NAME; docs/robot.md has examples.",
        )
    profile = sim_profile(name)
    sim = Simulation(task, image_size=profile.cameras[0].width)
    return SimRobot(sim, scene_seed=seed, profile_hash=profile.hash, clock=clock)


def _terminated() -> Callable[[], bool]:
    """Return whether SIGTERM came since now; it ends the server in an orderly way, as Ctrl-C does."""
    came = Event()
    signal.signal(signal.SIGTERM, lambda *_: came.set())
    return came.is_set
