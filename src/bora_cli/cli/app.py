"""The command tree of `bora`, its help screen, and the one place that turns errors into exit codes."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bora_cli import __version__
from bora_cli.cli import (
    analyze,
    collect,
    compare,
    console,
    data,
    demo,
    doctor,
    evaluate,
    hand,
    notebook,
    online,
    profile,
    robot,
    sim,
    teleop,
    train,
)
from bora_cli.cli.ui import Entry, Ui, print_error, print_help
from bora_cli.errors import BoraError

ABOUT = "Turn a robot policy that half works into one that works."
FOOTER = """\
bora COMMAND --help explains a command. Results go to stdout, talk to stderr.
Options anywhere: --quiet  --debug (tracebacks); here: --version, --help"""

Function = Callable[..., Any]
COMMANDS: tuple[tuple[str, tuple[tuple[Entry, Function | typer.Typer], ...]], ...] = (
    (
        "Start",
        (
            (Entry("demo", "See the whole method on this machine, in minutes.", "bora demo"), demo.command),
            (Entry("doctor", "Check this installation.", "bora doctor"), doctor.command),
        ),
    ),
    (
        "Learn",
        (
            (
                Entry(
                    "collect",
                    "Record demonstrations into a dataset.",
                    "bora collect --task pick_toy --episodes 100 --out demos",
                ),
                collect.command,
            ),
            (
                Entry(
                    "teleop",
                    "Drive the simulator yourself, and record it.",
                    "bora teleop --profile sim --task pick_toy --out mine",
                ),
                teleop.command,
            ),
            (
                Entry("hand", "Learn how fingers move together.", "bora hand fit demos --out hand.json"),
                hand.app,
            ),
            (
                Entry(
                    "train",
                    "Train a policy from datasets, without a robot.",
                    "bora train bora --data demos --out policy",
                ),
                train.train_command,
            ),
            (
                Entry(
                    "online",
                    "Act, take over where it fails, learn a correction.",
                    "bora online policy --task pick_toy --gap deployment --out run",
                ),
                online.command,
            ),
            (
                Entry("console", "Watch an online run, live.", "bora console run"),
                console.command,
            ),
        ),
    ),
    (
        "Judge",
        (
            (
                Entry("eval", "Count successes, with an interval.", "bora eval policy --task pick_toy"),
                evaluate.eval_command,
            ),
            (
                Entry(
                    "analyze",
                    "Ask the critic: figures and numbers.",
                    "bora analyze policy --data rollouts --out report",
                ),
                analyze.analyze_command,
            ),
            (
                Entry("compare", "Say which of several runs is better.", "bora compare runs/a runs/b"),
                compare.compare_command,
            ),
            (
                Entry("notebook", "Look into a run in the browser.", "bora notebook rounds --run run"),
                notebook.notebook_command,
            ),
            (
                Entry("report", "Write the report of a demo run afresh.", "bora report runs/demo-pick_toy-0"),
                demo.report_command,
            ),
            (
                Entry(
                    "replay",
                    "Execute a recorded episode again.",
                    "bora replay demos --episode 3 --video film.webp",
                ),
                evaluate.replay_command,
            ),
        ),
    ),
    (
        "Look after",
        (
            (
                Entry("data", "Look into, mend, merge, import datasets.", "bora data info demos"),
                data.app,
            ),
            (
                Entry("profile", "Make, show and check hardware profiles.", "bora profile show sim"),
                profile.app,
            ),
            (
                Entry("robot", "Serve a robot, or prove its driver.", "bora robot serve --token-file token"),
                robot.app,
            ),
            (
                Entry("sim", "Picture the tasks.", "bora sim gallery --out gallery.webp"),
                sim.app,
            ),
            (
                Entry("pretrain", "Make another vision-language backbone.", "bora pretrain --out backbone"),
                train.pretrain_command,
            ),
        ),
    ),
)
DISK_TROUBLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
GLOBAL_FLAGS = ("--quiet", "--debug")


class HelpScreen(TyperGroup):
    """The root command: a group whose help is one screen with an example under each command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        panels = [(title, [entry for entry, _ in commands]) for title, commands in COMMANDS]
        print_help("bora COMMAND [ARGUMENTS]", ABOUT, panels, FOOTER)


def print_version(wanted: bool) -> None:
    """Print the version and leave, if asked."""
    if wanted:
        Ui().line(f"bora {__version__}")
        raise typer.Exit


def build() -> typer.Typer:
    """Return the command tree."""
    app = typer.Typer(
        cls=HelpScreen,
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback()(root)
    for _, commands in COMMANDS:
        for entry, target in commands:
            if isinstance(target, typer.Typer):
                app.add_typer(target, name=entry.name, help=entry.summary, epilog=f"Example: {entry.example}")
            else:
                app.command(entry.name, epilog=f"Example: {entry.example}")(target)
    return app


def root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=print_version, help="Show the version."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only results and errors.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of expected errors.")] = False,
) -> None:
    """Turn a robot policy that half works into one that works."""
    ctx.obj = Ui(quiet)


def global_flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with --quiet and --debug moved to the front, so that they work anywhere."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [a for a in arguments[:end] if a in GLOBAL_FLAGS]
    return [*flags, *(a for a in arguments[:end] if a not in GLOBAL_FLAGS), *arguments[end:]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    given = global_flags_first(list(sys.argv[1:] if arguments is None else arguments))
    try:
        build()(given, prog_name="bora")
    except BoraError as error:
        if "--debug" in given:
            traceback.print_exc()
        print_error(error.message, error.hint)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in DISK_TROUBLE or "--debug" in given:
            raise
        print_error(f"{error.strerror}: {error.filename}.", "Free some space, or choose another directory.")
        sys.exit(3)
    except SystemExit as leaving:
        if leaving.code == 130:
            print_error("stopped by Ctrl-C.", "No recorded episode is lost; run the same command again.")
        raise
