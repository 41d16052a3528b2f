# /// script
# requires-python = ">=3.11"
# dependencies = ["bora-cli", "marimo"]
# ///
"""Round by round: `marimo run notebooks/rounds.py -- --run DIR`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Rounds")

with app.setup:
    from pathlib import Path

    import marimo as mo
    import polars as pl

    from bora_cli.analysis import figures, online_figures, style
    from bora_cli.analysis.online import read_online
    from bora_cli.errors import DataError


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Rounds

    ### Does every round of help make the policy need less of it?

    A round records assisted episodes, trains a residual on them, and releases it only if it beats the policy in use
    on scenes kept for that purpose. Success without help should rise and the human share should fall.
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
    _tested = [r for r in run.rounds if r.release_n]
    if _tested:
        _shown = mo.Html(style.paper(figures.rounds(_tested), "rounds"))
    else:
        _shown = mo.callout(mo.md("**No round has ended with a release test yet.**"), kind="warn")
    _shown
    return


@app.cell
def _(run):
    _facts = run.job
    mo.md(
        f"Task **{_facts.get('task', '?')}**, {_facts.get('setting', '?')} objects, gap"
        f" **{_facts.get('gap', '?')}**, residual {_facts.get('residual', '?')}."
        f" {run.episodes.height} episodes, {len(run.rounds)} of {_facts.get('rounds', '?')} rounds ended."
    )
    return


@app.cell
def _(run):
    _names = {f"round {i}": i for i in run.episodes["round"].unique().sort()}
    upto = mo.ui.dropdown({"all rounds": None} | _names, value="all rounds", label="episodes of")
    mo.vstack([mo.md("## Episode by episode, with a person beside the robot"), upto])
    return (upto,)


@app.cell
def _(run, upto):
    _chosen = run.episodes if upto.value is None else run.episodes.filter(pl.col("round") == upto.value)
    _lam = _chosen["lam"].mean()
    _share = "" if _lam is None else f" The residual acted with a mean share λ = **{_lam:.2f}**."
    mo.vstack(
        [
            mo.Html(style.paper(online_figures.progress(_chosen), "progress")),
            mo.md(f"{_chosen.height} episodes, {int(_chosen['takeovers'].sum())} takeovers.{_share}"),
        ]
    )
    return


@app.cell
def _(run):
    try:
        _shown = mo.Html(style.paper(online_figures.learning(run.metrics), "learning"))
    except DataError as _error:
        _shown = mo.callout(mo.md(str(_error)), kind="warn")
    mo.vstack(
        [
            mo.md("""
            ## What happened in training

            The residual should settle, its distance to the corrections should fall, and where nobody helped it should
            change little. The hinge acts where the critic prefers the base chunk to the final one.
            """),
            _shown,
        ]
    )
    return


if __name__ == "__main__":
    app.run()
