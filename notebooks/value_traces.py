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


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Value traces

    ### Does the critic know how an episode will end?

    While a policy acts, the critic says at every tick how much return it still expects: the value **V**.
    If it sees what matters, V rises along episodes that end well and falls in those that go wrong - before
    they end. Pick an episode, drag through its ticks, and compare the picture with the curve.
    """)
    return


@app.cell
def _():
    _run = mo.cli_args().get("run")
    _place = Path(str(_run)) if _run else mo.notebook_dir() / ".." / "datasets" / "example"
    try:
        folder, _trouble = read_folder(_place), None
    except DataError as _error:
        if mo.app_meta().mode == "script":
            raise
        folder, _trouble = None, _error
    mo.stop(folder is None, mo.callout(mo.md(f"**Nothing to show.** {_trouble}"), kind="danger"))
    return (folder,)


@app.cell
def _(folder):
    _names = {
        f"{row['episode']}: {'success' if row['success'] else 'failure'}, {row['ticks']} ticks"
        + (", with takeover" if row["intervened"] else ""): row["episode"]
        for row in outcomes(folder.traces).iter_rows(named=True)
    }
    _pictured = [name for name, number in _names.items() if number in folder.thumbnails]
    _first = next((name for name in _pictured if "failure" in name), (_pictured or list(_names))[0])
    pick = mo.ui.dropdown(_names, value=_first, label="episode", searchable=True)
    return (pick,)


@app.cell
def _(folder, pick):
    episode = folder.traces.filter(folder.traces["episode"] == pick.value)
    _last = episode.height - 1
    scrub = mo.ui.slider(0, max(1, _last), value=_last // 2, label="tick", show_value=True, full_width=True)
    mo.vstack([pick, scrub])
    return episode, scrub


@app.cell
def _(episode, folder, pick, scrub):
    _here = episode[min(scrub.value, episode.height - 1)]
    _seen = folder.frame(pick.value, scrub.value)
    _notes = [
        f"**tick {scrub.value}**",
        f"V = {_here['v'][0]:.2f}",
        f"Q = {_here['q'][0]:.2f}" if np.isfinite(_here["q"][0]) else "no Q",
        "a person has a share in the action" if _here["intervened"][0] else "the policy acts alone",
        f"picture of tick {_seen[0]}" if _seen else "no picture of this episode",
    ]
    _trace = mo.Html(
        style.paper(figures.episode_trace(folder.traces, pick.value, tick=scrub.value), "episode")
    )
    _picture = [mo.image(_seen[1], width=220, rounded=True)] if _seen else []
    _row = mo.hstack([*_picture, _trace], widths=[1, 3.2] if _seen else [1], align="center", wrap=True)
    mo.vstack([mo.md(" · ".join(_notes)), _row])
    return


@app.cell
def _(folder, pick):
    _bands = figures.value_traces(folder.traces, episode=pick.value, frames=folder.strip(pick.value))
    mo.vstack([mo.md("## All episodes over normalised time"), mo.Html(style.paper(_bands, "traces"))])
    return


@app.cell
def _(folder):
    _cloud = figures.value_cloud(folder.traces)
    brush = mo.ui.matplotlib(_cloud.axes[0], debounce=True)
    _box = mo.Html(style.scrolling(brush.text, _cloud))
    mo.vstack([mo.md("## Which steps are those? Drag a box over the points"), _box])
    return (brush,)


@app.cell
def _(brush, folder):
    _t = folder.traces
    _inside = brush.value.get_mask(_t["t_norm"].to_numpy(), _t["v"].to_numpy()) if brush.value else None
    if _inside is None or not _inside.any():
        _shown = mo.md("No step is chosen.")
    else:
        _listed = _t.filter(_inside).select("episode", "tick", "v", "q", "mc_return", "success", "intervened")
        _shown = mo.ui.table(_listed, selection=None, page_size=5)
    _shown
    return


@app.cell
def _(folder):
    alone = autonomous(folder.traces)
    try:
        _early = value_tests.auroc_over_time(alone, rng=np.random.default_rng(0))
        _late = value_tests.auroc_over_time(alone, rng=np.random.default_rng(0), align="end")
        _told = value_tests.first_above(_early)
        _answer = "never" if _told is None else f"from {_told:.0%} of the episode on"
        _text = mo.md(f"AUROC exceeds 0.8 **{_answer}** (episodes in which nobody took over).")
        _shown = mo.vstack([_text, mo.Html(style.paper(figures.auroc_over_time(_early, _late), "auroc"))])
    except DataError as _error:
        _shown = mo.callout(mo.md(f"**No AUROC.** {_error}"), kind="warn")
    mo.vstack([mo.md("## How early does V tell?"), _shown])
    return (alone,)


@app.cell
def _(alone):
    try:
        _fit = value_tests.calibration(alone, rng=np.random.default_rng(0))
        _text = mo.md("Below the dashed line the critic was too optimistic.")
        _shown = mo.vstack([_text, mo.Html(style.paper(figures.reliability(_fit), "reliability"))])
    except DataError as _error:
        _shown = mo.callout(mo.md(f"**No calibration.** {_error}"), kind="warn")
    mo.vstack([mo.md("## Can V be taken at its word?"), _shown])
    return


if __name__ == "__main__":
    app.run()
