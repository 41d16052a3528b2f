"""`bora console`: what an online run is doing right now, from a process of its own, which the robot never waits for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from bora_cli.cli import options as o
from bora_cli.cli.ui import Line, Ui
from bora_cli.errors import NoDevice

EVERY_S = 0.22
"""Seconds between two looks: 4 to 5 per second."""
FILES_EVERY_S = 1.0
"""Seconds between two looks at episodes and metrics, which cost more."""
SILENT_S = 3.0
KEYS = (
    ("enter", "begin"),
    ("y", "success"),
    ("n", "failure"),
    ("z", "discard"),
    ("t", "take over, hand back"),
    ("q", "stop the session"),
)
LATE_MS = 20.0
"""Lateness of a tick that is worth a colour."""


def command(
    ctx: typer.Context,
    *,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The --out of an online run, or of a demo.")],
    once: Annotated[bool, typer.Option("--once", help="Show it once and end.")] = False,
    keys: Annotated[bool, typer.Option(help="Send keys to a person's session.")] = True,
    json: o.Json = False,
) -> None:
    """Watch a run live: who drives, what the critic thinks, how punctual it is.

    It reads what the run writes, several times a second, and rings when the
    critic foresees failure. Ctrl-C closes the console; the run goes on.
    """
    from bora_cli.analysis.live import alarms, last_words, read_live

    ui = o.ui_of(ctx)
    live = read_live(run)
    if once or json:
        words, warnings = last_words(live.path, time.time()), alarms(live, time.time())
        document = {**totals(live), "now": words[0] if words else None, "warnings": warnings}
        ui.show(document, json, lambda: _print(ui, lines_of(document)))
        return
    shown, looked, rang = live, time.monotonic(), False
    with _pressed(live.path, keys) as poll, ui.screen(f"bora console {run}") as show:
        try:
            while True:
                poll()
                if time.monotonic() - looked > FILES_EVERY_S:
                    shown, looked = read_live(run), time.monotonic()
                words = last_words(live.path, time.time())
                now = words[0] if words else None
                rings = bool(now and now.get("alarm") and now["age"] < SILENT_S)
                if rings and not rang:
                    ui.bell()
                rang = rings
                document = {**totals(shown), "now": now, "warnings": alarms(shown, time.time())}
                show(lines_of(document, processes=len(words), keys=keys))
                time.sleep(EVERY_S)
        except KeyboardInterrupt:
            return


def totals(live: Any) -> dict[str, Any]:
    """Return what the episodes and the training of a run say so far.  live: `bora_cli.analysis.live.Live`."""
    e = live.episodes
    ticks, driven = int(e["ticks"].sum() or 0), int(e["human_ticks"].sum() or 0)
    update = live.metrics.tail(1).to_dicts() if live.metrics.height else []
    return {
        "run": str(live.path),
        "task": live.job.get("task"),
        "gap": live.job.get("gap"),
        "episodes": e.height,
        "wanted": live.wanted,
        "successes": int(e["success"].sum() or 0),
        "takeovers": int(e["takeovers"].sum() or 0),
        "human_share": driven / ticks if ticks else None,
        "rounds_finished": len(live.rounds),
        "rounds": live.job.get("rounds"),
        "training": {k: update[0][k] for k in ("round", "phase", "update")} if update else None,
        "done": live.done,
        "released": [r.index for r in live.rounds if r.released],
    }


def lines_of(document: Mapping[str, Any], processes: int = 1, keys: bool = False) -> list[Line]:
    """Return the lines of the console.  document: `totals`, `now` and `warnings`."""
    now = document["now"]
    lines = [Line("run", f"{document['task']}, gap {document['gap']}"), *_so_far(document)]
    if document["done"]:
        return [*lines, *_ended(document)]
    lines += _now(now, processes) if now else [Line("robot", "nobody has told anything yet")]
    lines += [Line("look", warning, "bad") for warning in document["warnings"]]
    if keys:
        lines.append(Line("keys", "  ".join(f"{key} {what}" for key, what in KEYS)))
    return lines


def _so_far(document: Mapping[str, Any]) -> list[Line]:
    share, trained = document["human_share"], document["training"]
    of = f" of {document['wanted']}" if document["wanted"] else ""
    lines = [
        Line("episodes", f"{document['episodes']}{of}, {document['successes']} successes"),
        Line(
            "person",
            "-"
            if share is None
            else f"drove {100 * share:.0f} % of the ticks, {document['takeovers']} takeovers",
        ),
    ]
    if trained and not document["done"]:
        text = f"round {trained['round']}: {trained['phase']}, update {trained['update']}"
        lines.append(Line("training", text))
    return lines


def _ended(document: Mapping[str, Any]) -> list[Line]:
    """Return the lines about a run of which nothing more will come."""
    released = document["released"]
    policy = f"released after round {released[-1]}" if released else "unchanged, no round's was released"
    return [Line("state", "the run has ended", "good"), Line("policy", policy)]


def _now(now: Mapping[str, Any], processes: int) -> list[Line]:
    """Return the lines about the newest record of a control loop."""
    where = f"tick {now['tick']}" + (f" of round {now['round']}" if "round" in now else "")
    if "number" in now:
        where = f"episode {now['number']} of {now['of']}, {where}"
    silent = now["age"] > SILENT_S
    others = f"  ({processes} at work, this is the newest)" if processes > 1 else ""
    said = f"{where}, said {now['age']:.1f} s ago{others}" if silent else f"{where}{others}"
    driving = now["drives"] != "policy"
    why = f", {now['reason']}" if now["reason"] else ""
    v, q, lam = (_number(now.get(name)) for name in ("v", "q", "lam"))
    lines = [
        Line("robot", said),
        Line("drives", f"{now['drives']} ({now['phase']}){why}", "busy" if driving else ""),
        Line(
            "critic",
            f"V {v}  Q {q}" + (f"  expected {_number(now['expected'])}" if "expected" in now else ""),
        ),
        Line("residual", f"lambda {lam}"),
    ]
    if now.get("alarm"):
        lines.append(Line("HELP", "the critic foresees failure: look, and take over if you must", "bad"))
    if now.get("over"):
        lines.append(Line("outcome", "success" if now["success"] else "no success"))
    late = now.get("late_ms")
    pace = f"{_number(now.get('hz'))} ticks/s"
    if late is not None:
        pace += f", last tick {late:.0f} ms late, {now['late_ticks']} late so far"
    lines.append(Line("pace", pace, "bad" if late is not None and late > LATE_MS else ""))
    if "device_age_s" in now:
        age = now["device_age_s"]
        lines.append(Line("device", "silent" if age is None else f"last heard {age:.1f} s ago"))
    if now.get("trouble"):
        lines.append(Line("device", str(now["trouble"]), "bad"))
    if now.get("dropped"):
        lines.append(Line("look", f"{now['dropped']} records were dropped: the disk is slow", "bad"))
    return lines


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3g}"


def _print(ui: Ui, lines: Sequence[Line]) -> None:
    for line in lines:
        ui.line(f"{line.label:<9} {line.text}")


@contextmanager
def _pressed(run: Path, keys: bool) -> Iterator[Any]:
    """Give a function that sends the keys pressed here to the session; without a terminal it does nothing."""
    from bora_cli.input.key_file import ALLOWED, press
    from bora_cli.input.key_file import KEYS as FILE
    from bora_cli.input.keys import TerminalKeys

    terminal = TerminalKeys()
    heard = False
    if keys:
        with suppress(NoDevice):
            terminal.__enter__()
            heard = True

    def poll() -> None:
        for pressed in terminal.poll() if heard else ():
            if pressed.key in ALLOWED:
                press(run / FILE, pressed.key)

    try:
        yield poll
    finally:
        if heard:
            terminal.__exit__()
