"""`bora notebook`: open one of the notebooks on a run, or on the example that comes along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from bora_cli.cli import options as o
from bora_cli.errors import ConfigError, DataError

NOTEBOOKS: dict[str, str] = {
    "value_traces": "does the critic know how an episode ends?",
    "swap_test": "does it listen to the action?",
    "interventions": "where and why did people take over?",
    "rounds": "what did each online round bring?",
    "dataset": "are these recordings worth learning from?",
    "live": "how is the running collection doing?",
}
"""Name -> the question it answers."""
ALONE = "--no-sandbox"
"""Else marimo offers to install the packages that a notebook names, or advises how; they are here."""
_LISTED = " ".join(f"{name}: {question}" for name, question in NOTEBOOKS.items())


def notebook_command(
    ctx: typer.Context,
    *,
    name: Annotated[
        str, typer.Argument(metavar="NAME", callback=o.known("notebook", tuple(NOTEBOOKS)), help=_LISTED)
    ],
    run: Annotated[
        Path | None,
        typer.Option("--run", metavar="DIR", help="Run, dataset or analysis; else a small example."),
    ] = None,
    edit: Annotated[bool, typer.Option("--edit", help="With its code, to change it.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.", metavar="N")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page instead of opening it.")
    ] = None,
) -> None:
    """Open a notebook: one question, a few controls, figures that answer.

    It is served on this machine only. Ctrl-C ends it.
    """
    if run is not None and not run.is_dir():
        raise DataError(f"There is no directory {run}.", "Leave --run out to see the example.")
    if html is not None:
        if edit:
            raise typer.BadParameter("--edit and --html exclude each other.")
        if html.suffix != ".html" or not html.absolute().parent.is_dir():
            raise ConfigError(
                f"--html {html} cannot be written.", "Name a .html file in a directory that exists."
            )
        if run is not None:
            require_shown(name, run)
    ui = o.ui_of(ctx)
    done = subprocess.run(
        arguments(name, run=run, edit=edit, port=port, browser=browser, html=html), check=False
    )
    if html is not None and done.returncode == 0:
        ui.say(f"page: {html} (figures are in it; its controls need marimo's web site to look right)")
    raise typer.Exit(done.returncode)


def require_shown(name: str, run: Path) -> None:
    """Raise DataError where a notebook would have nothing to show of a run: a page of that would look like a result."""
    if name in ("value_traces", "swap_test"):
        from bora_cli.analysis.folder import read_folder

        if read_folder(run).swaps is None and name == "swap_test":
            raise DataError(f"{run} has no swapped chunks.", "Run `bora analyze` again, with images.")
    elif name == "dataset":
        from bora_cli.data.dataset import Dataset

        if not len(Dataset.open(run)):
            raise DataError(f"{run} has no episode yet.", "Record some first.")
    elif name == "live":
        from bora_cli.analysis.live import read_live

        read_live(run)
    else:
        from bora_cli.analysis.online import read_online

        read_online(run)


def arguments(
    name: str,
    *,
    run: Path | None = None,
    edit: bool = False,
    port: int = 0,
    browser: bool = True,
    html: Path | None = None,
) -> list[str]:
    """Return the command that opens a notebook, or that exports it."""
    file = str(directory() / f"{name}.py")
    marimo = [sys.executable, "-m", "marimo"]
    own = [] if run is None else ["--", "--run", str(run.resolve())]
    if html is not None:
        return [*marimo, "export", "html", file, "-o", str(html), "--no-include-code", "-f", ALONE, *own]
    served = ["--host", "127.0.0.1", *(["--port", str(port)] if port else [])]
    served += [ALONE, *([] if browser else ["--headless"])]
    return [*marimo, "edit" if edit else "run", *served, file, *own]


def directory() -> Path:
    """Return the directory of the notebooks: inside the package once installed, else the repository's."""
    packaged = Path(__file__).parents[1] / "notebooks"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "notebooks"
