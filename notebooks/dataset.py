# /// script
# requires-python = ">=3.11"
# dependencies = ["bora-cli", "marimo"]
# ///
"""Browse and judge recorded data: `marimo run notebooks/dataset.py -- --run DIR`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Dataset")

with app.setup:
    from pathlib import Path

    import marimo as mo
    import numpy as np

    from bora_cli.analysis import dataset_figures as figures
    from bora_cli.analysis import style
    from bora_cli.data.check import check
    from bora_cli.data.dataset import Dataset
    from bora_cli.errors import DataError

    SAMPLED = 200


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Dataset

    ### Are these recordings worth learning from?

    A policy becomes what it is shown. Before training, look: how many episodes succeed, what the failures are,
    whether pictures and actions fit together, whether actions sit at their limits, and whether files are damaged.
    """)
    return


@app.cell
def _():
    _run = mo.cli_args().get("run")
    _place = Path(str(_run)) if _run else mo.notebook_dir() / ".." / "datasets" / "example_demos"
    try:
        data, _trouble = Dataset.open(_place), None
        if not len(data):
            data, _trouble = None, f"{_place} has no episode yet."
    except DataError as _error:
        data, _trouble = None, _error
    if _trouble is not None and mo.app_meta().mode == "script":
        raise DataError(str(_trouble))
    mo.stop(data is None, mo.callout(mo.md(f"**Nothing to show.** {_trouble}"), kind="danger"))
    return (data,)


@app.cell
def _(data):
    _names = {
        f"{r.index}: {'success' if r.success else 'failure'}, {r.length} ticks": r.index for r in data.rows()
    }
    pick = mo.ui.dropdown(_names, value=next(iter(_names)), label="episode", searchable=True)
    return (pick,)


@app.cell
def _(data, pick):
    episode = data.episode(pick.value)
    _last = len(episode) - 1
    scrub = mo.ui.slider(0, max(1, _last), value=_last // 2, label="tick", show_value=True, full_width=True)
    mo.vstack([pick, scrub])
    return episode, scrub


@app.cell
def _(data, episode, scrub):
    _tick = min(scrub.value, len(episode) - 1)
    _views = [
        mo.vstack([mo.image(images[_tick], width=180, rounded=True, alt=name), mo.md(name)], align="center")
        for name, images in episode.images.items()
    ]
    _signals = mo.Html(style.paper(figures.signals(episode, data.spec, data.state_names, _tick), "signals"))
    _said = mo.md(f"**“{episode.prompt}”** · reward so far {episode.reward[: _tick + 1].sum():.2f}")
    _row = mo.hstack(
        [mo.vstack(_views), _signals], widths=[1, 3.6] if _views else [0, 1], align="center", wrap=True
    )
    mo.vstack([_said, _row])
    return


@app.cell
def _(data, pick):
    _map = mo.Html(style.paper(figures.episodes(data.rows(), marked=pick.value), "episodes"))
    mo.vstack([mo.md("## All episodes"), _map])
    return


@app.cell
def _(data):
    _some = np.unique(np.linspace(0, len(data) - 1, min(len(data), SAMPLED)).round().astype(int))
    _actions = np.concatenate([data.episode(int(i), images=False).action for i in _some])
    mo.vstack(
        [
            mo.md("## How is the range of every dimension used?"),
            mo.Html(style.paper(figures.ranges(_actions, data.spec), "ranges")),
        ]
    )
    return


@app.cell
def _(data):
    _found = check(data.root)
    _rows = [
        {"severity": f.severity, "episode": f.episode, "what": f.message, "remedy": f.remedy} for f in _found
    ]
    _said = mo.md("**Nothing found.** Files, shapes, limits and outcomes agree.")
    mo.vstack(
        [
            mo.md("## What `bora data check` finds"),
            mo.ui.table(_rows, selection=None) if _rows else mo.callout(_said, kind="success"),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
