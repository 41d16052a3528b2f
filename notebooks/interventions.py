# /// script
# requires-python = ">=3.11"
# dependencies = ["bora-cli", "marimo"]
# ///
"""Where and why people took over: `marimo run notebooks/interventions.py -- --run DIR`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Interventions")

with app.setup:
    from pathlib import Path

    import marimo as mo

    from bora_cli.analysis import online_figures as figures
    from bora_cli.analysis import style
    from bora_cli.analysis.online import read_online
    from bora_cli.errors import DataError


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Interventions

    ### Where did a person take over, why, and what came of it?

    While the policy acts, somebody watches and takes over where it goes wrong. Those stretches are what the online
    phase learns from. If they are few, short and alike, a small correction is enough; if they are long and
    different each time, the policy lacks more than a correction.
    """)
    return


@app.cell
def _():
    _run = mo.cli_args().get("run")
    _place = Path(str(_run)) if _run else mo.notebook_dir() / ".." / "datasets" / "example_online"
    try:
        run, _trouble = read_online(_place), None
    except DataError as _error:
        if mo.app_meta().mode == "script":
            raise
        run, _trouble = None, _error
    mo.stop(run is None, mo.callout(mo.md(f"**Nothing to show.** {_trouble}"), kind="danger"))
    return (run,)


@app.cell
def _(run):
    _names = {
        f"{row['episode']}: tick {row['tick']}, {row['reason']}": i
        for i, row in enumerate(run.changes.iter_rows(named=True))
    }
    pick = mo.ui.dropdown(_names, value=next(iter(_names), None), label="takeover", searchable=True)
    pick if _names else mo.callout(mo.md("**Nobody took over in this run.**"), kind="warn")
    return (pick,)


@app.cell
def _(pick, run):
    _one = run.changes.row(pick.value, named=True) if pick.value is not None else None
    _episode = None if _one is None else _one["episode"]
    _views = []
    for _label, _tick in () if _one is None else (("takeover", _one["tick"]), ("release", _one["until"])):
        _image = run.frame(_episode, _tick)
        if _image is not None:
            _shown = mo.image(_image, width=200, rounded=True, alt=_label)
            _views.append(mo.vstack([_shown, mo.md(f"{_label}, tick {_tick}")], align="center"))
    _map = mo.Html(style.paper(figures.takeover_map(run, episode=_episode), "map"))
    _side = [mo.vstack(_views)] if _views else []
    mo.hstack([*_side, _map], widths=[1, 3.4] if _views else [1], align="center", wrap=True)
    return


@app.cell
def _(run):
    try:
        _shown = mo.Html(style.paper(figures.reasons(run), "reasons"))
    except DataError as _error:
        _shown = mo.callout(mo.md(str(_error)), kind="warn")
    mo.vstack([mo.md("## Why? The reasons that were given"), _shown])
    return


@app.cell
def _(run):
    _rounds = {"all rounds": None} | {f"round {i}": i for i in run.episodes["round"].unique().sort()}
    round_ = mo.ui.dropdown(_rounds, value="all rounds", label="corrections of")
    mo.vstack(
        [
            mo.md("""
            ## What did people change, and what was learned from it?

            Per dimension of the action: the person's command minus the policy's. A box away from zero is a correction
            that repeats, and a constant residual can learn it. A box around zero means that people corrected this way
            and that way, depending on the state.
            """),
            round_,
        ]
    )
    return (round_,)


@app.cell
def _(round_, run):
    try:
        _shown = mo.Html(style.paper(figures.corrections(run, round_=round_.value), "corrections"))
    except DataError as _error:
        _shown = mo.callout(mo.md(str(_error)), kind="warn")
    _shown
    return


if __name__ == "__main__":
    app.run()
