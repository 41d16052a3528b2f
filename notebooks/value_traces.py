# /// script
# requires-python = ">=3.11"
# dependencies = ["bora-cli", "marimo"]
# ///
"""Value traces of a run: `marimo run notebooks/value_traces.py -- --run DIR`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Value traces")

with app.setup:
    from pathlib import Path

    import marimo as mo
    import numpy as np

    from bora_cli.analysis import figures, style, value_tests
    from bora_cli.analysis.folder import read_folder
    from bora_cli.analysis.traces import autonomous, outcomes
    from bora_cli.errors import DataError


@app.function
def show(figure, name):
    """Show a figure as SVG on paper, so that it reads the same in a light and in a dark browser."""
    paper = "background:#fff;color-scheme:light;padding:10px;border-radius:8px;overflow-x:auto"
    return mo.Html(f'<div style="{paper}">{style.svg(figure, name)}</div>')


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Value traces: does the critic know how an episode will end?

    While a policy acts, the critic says at every tick how much return it still expects: the value **V**.
    If it sees what matters, V rises along episodes that end well and falls in those that go wrong - before
    they end. Pick an episode, drag through its ticks, and compare the picture with the curve.
    """)
    return


@app.cell
def _():
    run = mo.cli_args().get("run")
    place = Path(str(run)) if run else mo.notebook_dir() / ".." / "datasets" / "example"
    try:
        folder, trouble = read_folder(place), None
    except DataError as error:
        folder, trouble = None, error
    mo.stop(trouble is not None, mo.callout(mo.md(f"**Nothing to show.** {trouble}"), kind="danger"))
    return (folder,)


@app.cell
def _(folder):
    episodes = outcomes(folder.traces)
    names = {
        f"{row['episode']}: {'success' if row['success'] else 'failure'}, {row['ticks']} ticks"
        + (", with takeover" if row["intervened"] else ""): row["episode"]
        for row in episodes.iter_rows(named=True)
    }
    first = next(
        (k for k, e in names.items() if e in folder.thumbnails and "failure" in k), next(iter(names))
    )
    pick = mo.ui.dropdown(names, value=first, label="episode", searchable=True)
    return (pick,)


@app.cell
def _(folder, pick):
    last = folder.traces.filter(folder.traces["episode"] == pick.value).height - 1
    scrub = mo.ui.slider(0, max(1, last), value=last // 2, label="tick", show_value=True, full_width=True)
    mo.vstack([pick, scrub])
    return last, scrub


@app.cell
def _(folder, last, pick, scrub):
    seen = folder.frame(pick.value, scrub.value)
    picture = mo.image(seen[1], width=220, rounded=True) if seen else mo.md("*no picture of this episode*")
    here = folder.traces.filter(folder.traces["episode"] == pick.value)[min(scrub.value, last)]
    q = here["q"][0]
    said = f"**tick {scrub.value}** · V = {here['v'][0]:.2f}" + (f" · Q = {q:.2f}" if np.isfinite(q) else "")
    who = "a person has a share in the action" if here["intervened"][0] else "the policy acts alone"
    note = f"{said} · {who}" + (f" · picture of tick {seen[0]}" if seen else "")
    trace = figures.episode_trace(folder.traces, pick.value, tick=scrub.value)
    mo.vstack([mo.md(note), mo.hstack([picture, show(trace, "episode")], widths=[1, 3.2], align="center")])
    return


@app.cell
def _(folder, pick):
    strip = folder.strip(pick.value)
    bands = figures.value_traces(folder.traces, episode=pick.value, frames=strip)
    mo.vstack([mo.md("## All episodes over normalised time"), show(bands, "traces")])
    return


@app.cell
def _(folder):
    alone = autonomous(folder.traces)
    try:
        early = value_tests.auroc_over_time(alone, rng=np.random.default_rng(0))
        late = value_tests.auroc_over_time(alone, rng=np.random.default_rng(0), align="end")
        told = value_tests.first_above(early)
        answer = "never" if told is None else f"from {told:.0%} of the episode on"
        auroc = mo.vstack(
            [
                mo.md(f"## How early does V tell?\nAUROC exceeds 0.8 **{answer}** (unaided episodes only)."),
                show(figures.auroc_over_time(early, late), "auroc"),
            ]
        )
    except DataError as error:
        early, auroc = [], mo.callout(mo.md(f"**No AUROC.** {error}"), kind="warn")
    auroc
    return (alone,)


@app.cell
def _(alone):
    try:
        fit = value_tests.calibration(alone, rng=np.random.default_rng(0))
        reliability = mo.vstack(
            [
                mo.md("## Can V be taken at its word?\nBelow the dashed line the critic was too optimistic."),
                show(figures.reliability(fit), "reliability"),
            ]
        )
    except DataError as error:
        reliability = mo.callout(mo.md(f"**No calibration.** {error}"), kind="warn")
    reliability
    return


if __name__ == "__main__":
    app.run()
