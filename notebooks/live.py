# /// script
# requires-python = ">=3.11"
# dependencies = ["bora-cli", "marimo"]
# ///
"""Follow a running collection or online round: `marimo run notebooks/live.py -- --run DIR`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Live")

with app.setup:
    import time
    from pathlib import Path

    import marimo as mo

    from bora_cli.analysis import online_figures as figures
    from bora_cli.analysis import style
    from bora_cli.analysis.live import alarms, last_words, read_live
    from bora_cli.cli.console import lines_of, totals
    from bora_cli.errors import DataError


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Live

    ### How is the run doing right now?

    Everything here is read from the run's own files, so looking costs the robot nothing: success so far, how much a
    person has to help, what the training says, and what somebody should look at.
    """)
    return


@app.cell
def _():
    _run = mo.cli_args().get("run")
    place = Path(str(_run)) if _run else mo.notebook_dir() / ".." / "datasets" / "example_online"
    every = mo.ui.refresh(options=["1s", "2s", "5s", "30s"], default_interval="5s", label="read again")
    window = mo.ui.slider(5, 50, value=20, step=5, label="show the last", show_value=True)
    mo.hstack([every, window], justify="start", gap=2, wrap=True)
    return every, place, window


@app.cell
def _(every, place):
    every
    try:
        now, _trouble = read_live(place), None
    except DataError as _error:
        if mo.app_meta().mode == "script":
            raise
        now, _trouble = None, _error
    mo.stop(now is None, mo.callout(mo.md(f"**Nothing to follow.** {_trouble}"), kind="danger"))
    return (now,)


@app.cell
def _(now):
    _e = now.episodes
    _aim = f" of {now.wanted}" if now.wanted else ""
    _k, _alone = int(_e["success"].sum()), int((_e["success"] & (_e["human_ticks"] == 0)).sum())
    _share = _e["human_ticks"].sum() / max(1, _e["ticks"].sum())
    _stats = [
        mo.stat(f"{_e.height}{_aim}", label="episodes", bordered=True),
        mo.stat(f"{_k / max(1, _e.height):.0%}", label="success", bordered=True),
        mo.stat(f"{_alone / max(1, _e.height):.0%}", label="success without help", bordered=True),
        mo.stat(f"{_share:.0%}", label="human share", bordered=True),
    ]
    mo.hstack(_stats, justify="start", gap=1, wrap=True)
    return


@app.cell
def _(now):
    _found = alarms(now, time.time())
    _state = "The run has ended." if now.done else "Nothing to worry about."
    _list = "\n".join(f"- {a}" for a in _found)
    mo.callout(mo.md(_list or _state), kind="warn" if _found else "success")
    return


@app.cell
def _(now):
    _words = last_words(now.path, time.time())
    mo.stop(not _words, mo.md("No control loop has told anything lately."))
    _lines = lines_of({**totals(now), "now": _words[0], "warnings": []}, processes=len(_words))
    _rows = "\n".join(f"| {line.label} | {line.text} |" for line in _lines)
    mo.md(f"## Right now\n\n| | |\n|:---|:---|\n{_rows}")
    return


@app.cell
def _(now, window):
    _last = now.episodes.tail(window.value)
    if _last.height:
        _shown = mo.Html(style.paper(figures.progress(_last), "progress"))
    else:
        _shown = mo.callout(mo.md("Waiting for the first episode."), kind="info")
    _shown
    return


@app.cell
def _(now):
    try:
        _shown = mo.Html(style.paper(figures.learning(now.metrics), "learning"))
    except DataError:
        _shown = mo.md("No training has begun.")
    mo.vstack([mo.md("## What the training says"), _shown])
    return


if __name__ == "__main__":
    app.run()
