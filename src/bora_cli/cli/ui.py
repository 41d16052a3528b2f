"""Everything that is printed.  stdout is data, stderr is talk; the only module that knows rich."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

WIDTH = 80
ONE_LINE = WIDTH - 16
"""Letters of summary and example that fit beside a command's name on the help screen."""
RARELY = 10.0
"""Seconds between two progress lines where nobody sees a terminal."""


class Progress(Protocol):
    """The callback the library reports with: `done` of `total` of a stage, and named numbers worth seeing."""

    def __call__(self, stage: str, done: int, total: int, **fields: Any) -> None: ...


class Entry(NamedTuple):
    """A command on the help screen."""

    name: str
    summary: str
    example: str


class Line(NamedTuple):
    """A line of a live view: what it is about, what there is to say, and whether that is good, bad or neither."""

    label: str
    text: str
    mood: str = ""


MOODS = {"": "", "good": "green", "busy": "cyan", "bad": "bold red"}


class Ui:
    """What one invocation says.  quiet: only results and errors."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """Print a line of talk on stderr."""
        if not self.quiet:
            _console(stderr=True).print(text, markup=False, highlight=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a line that even --quiet keeps."""
        _console(stderr=True).print(
            f"warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )

    def show(self, document: Any, as_json: bool, otherwise: Callable[[], None]) -> None:
        """Print a result on stdout: one JSON document, or whatever `otherwise` prints."""
        if as_json:
            sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")
            sys.stdout.flush()
        else:
            otherwise()

    def report(self, document: Mapping[str, Any], as_json: bool) -> None:
        """Print a result as one JSON document, or as a table; long lists only appear in JSON."""
        self.show(document, as_json, lambda: self.table("", ("", ""), list(_flat(document))))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table on stdout; numbers are aligned to the right."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False)
        table.show_header = any(columns)
        for column, name in enumerate(columns):
            numeric = bool(rows) and all(isinstance(row[column], int | float) for row in rows)
            table.add_column(Text(name, "dim"), justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value)) for value in row))
        _console(stderr=False).print(table)

    def line(self, text: str) -> None:
        """Print a line of result on stdout."""
        _console(stderr=False).print(text, markup=False, highlight=False, soft_wrap=True)

    def paragraph(self, text: str) -> None:
        """Print sentences of result on stdout, broken between words at the width of the terminal."""
        _console(stderr=False).print(text, markup=False, highlight=False)

    @contextmanager
    def progress(self, bars: bool = True) -> Iterator[Progress]:
        """Give a callback for the library: bars on a terminal, rare plain lines elsewhere, or without `bars`."""
        if self.quiet:
            yield _silent
        elif bars and _console(stderr=True).is_terminal:
            yield from _bars()
        else:
            yield _RareLines(self.say)

    @contextmanager
    def screen(self, title: str) -> Iterator[Callable[[Sequence[Line]], None]]:
        """Give a function that shows lines in the place of those before, on a terminal; rare plain text elsewhere."""
        from rich.live import Live
        from rich.panel import Panel
        from rich.table import Table
        from rich.text import Text

        console = _console(stderr=False)

        def drawn(lines: Sequence[Line]) -> Panel:
            table = Table.grid(padding=(0, 2))
            table.add_column(style="dim", no_wrap=True)
            table.add_column(overflow="fold")
            for line in lines:
                table.add_row(line.label, Text(line.text, MOODS[line.mood]))
            return Panel(table, title=title, title_align="left", width=min(console.width, WIDTH + 20))

        with Live(drawn([]), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            yield lambda lines: live.update(drawn(lines), refresh=True)

    def bell(self) -> None:
        """Ring the bell of the terminal."""
        if sys.stdout.isatty():
            sys.stdout.write("\a")
            sys.stdout.flush()


class _RareLines:
    """Progress where no terminal is: a line when a stage ends, and at most one per RARELY seconds before."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._stage = ""
        self._began = self._spoke = clock()
        self._first = 0

    def __call__(self, stage: str, done: int, total: int, **fields: Any) -> None:
        now = self._clock()
        if stage != self._stage:
            self._stage, self._began, self._spoke, self._first = stage, now, now, done
        if done < total and now - self._spoke < RARELY:
            return
        self._spoke = now
        left = ""
        if self._first < done < total:
            left = f", about {_duration((now - self._began) * (total - done) / (done - self._first))} left"
        self._say(f"{stage}: {done}/{total}{_fields(fields)}{left}")


def print_error(message: str, hint: str = "") -> None:
    """Print one red line, and the next step below it, on stderr."""
    console = _console(stderr=True)
    console.print(f"error: {message}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    if hint:
        console.print(f"hint: {hint}", markup=False, highlight=False, soft_wrap=True)


def print_help(usage: str, about: str, panels: Sequence[tuple[str, Sequence[Entry]]], footer: str) -> None:
    """Print the one-screen help on stdout: a panel per group, an example under each command."""
    from rich.text import Text

    console = _console(stderr=False)
    console.print(Text.assemble(("Usage: ", "bold"), usage))
    console.print(about, markup=False, highlight=False)
    width = min(console.width, WIDTH)

    def line(left: str, inner: Text, right: str) -> None:
        console.print(Text.assemble((left, "dim"), inner, (right, "dim")), soft_wrap=True)

    def row(*parts: tuple[str, str]) -> None:
        inner = Text.assemble(*parts)
        inner.truncate(width - 4, overflow="ellipsis", pad=True)
        line("│ ", inner, " │")

    for number, (title, entries) in enumerate(panels):
        ends = "├┤" if number else "╭╮"
        line(f"{ends[0]}─ ", Text(title), f" {'─' * (width - len(title) - 5)}{ends[1]}")
        for entry in entries:
            example = f"$ {entry.example}"
            if len(entry.summary) + len(example) <= ONE_LINE:
                row((f"{entry.name:<10}", "bold cyan"), (f"{entry.summary}  ", ""), (example, "dim"))
                continue
            row((f"{entry.name:<10}", "bold cyan"), (entry.summary, ""))
            row((" " * 10, ""), (example, "dim"))
    line("╰", Text("─" * (width - 2), "dim"), "╯")
    console.print(footer, markup=False, highlight=False)


def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Bars(*columns, console=_console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int, **fields: Any) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, note="")
            bars.update(tasks[stage], completed=done, total=total, note=_fields(fields))

        yield report


def _silent(stage: str, done: int, total: int, **fields: Any) -> None:
    """Report nothing."""


def _console(stderr: bool) -> Any:
    from rich.console import Console

    console = Console(stderr=stderr)
    if console.width > WIDTH and not console.is_terminal:
        console = Console(stderr=stderr, width=WIDTH)
    return console


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif (
            isinstance(value, list | tuple)
            and len(value) <= 4
            and not any(isinstance(x, Mapping) for x in value)
        ):
            yield f"{prefix}{key}", " ".join(_cell(x) for x in value) or "-"
        elif not isinstance(value, list | tuple):
            yield f"{prefix}{key}", value


def _fields(fields: dict[str, Any]) -> str:
    return "".join(f"  {name} {_cell(value)}" for name, value in fields.items())


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
