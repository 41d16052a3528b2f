# /// script
# requires-python = ">=3.11"
# dependencies = ["bora-cli", "marimo"]
# ///
"""Swap chunks and fingers, watch Q: `marimo run notebooks/swap_test.py -- --run DIR`."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Swap test")

with app.setup:
    from pathlib import Path

    import marimo as mo

    from bora_cli.analysis import figures, style, swap_figures, swaps
    from bora_cli.analysis.folder import read_folder
    from bora_cli.errors import DataError


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Swap test

    ### Does the critic listen to the action, or only look at the picture?

    A critic that scores the picture alone says "this looks like success" whatever the robot is about to do. So keep
    the state, replace the **executed chunk** by a worse one, and watch the action value **Q**. If Q does not fall,
    the critic cannot tell a policy what to do.
    """)
    return


@app.cell
def _():
    _run = mo.cli_args().get("run")
    _place = Path(str(_run)) if _run else mo.notebook_dir() / ".." / "datasets" / "example"
    try:
        folder, _trouble = read_folder(_place), None
        if folder.swaps is None:
            folder, _trouble = None, f"{_place} has no swapped chunks. Run `bora analyze` again, with images."
    except DataError as _error:
        folder, _trouble = None, _error
    if _trouble is not None and mo.app_meta().mode == "script":
        raise DataError(str(_trouble))
    mo.stop(folder is None, mo.callout(mo.md(f"**Nothing to show.** {_trouble}"), kind="danger"))
    return (folder,)


@app.cell
def _(folder):
    _ends = dict(folder.traces.select("episode", "success").unique().iter_rows())
    _names = {
        f"{e}: {'success' if _ends[e] else 'failure'}": e for e in folder.swaps["episode"].unique().sort()
    }
    _first = next((name for name in _names if "success" in name), next(iter(_names)))
    pick = mo.ui.dropdown(_names, value=_first, label="episode")
    return (pick,)


@app.cell
def _(folder, pick):
    _steps = folder.swaps.filter(folder.swaps["episode"] == pick.value)["tick"].unique().sort().to_list()
    scrub = mo.ui.slider(
        steps=_steps, value=_steps[len(_steps) // 2], label="tick", show_value=True, full_width=True
    )
    mo.vstack([pick, scrub])
    return (scrub,)


@app.cell
def _(folder, pick, scrub):
    state = swaps.state(folder.swaps, pick.value, scrub.value)
    _seen = folder.frame(pick.value, scrub.value)
    _picture = [mo.image(_seen[1], width=220, rounded=True, alt="the scene")] if _seen else []
    _q = style.paper(swap_figures.chunk_swaps(state), "chunks")
    mo.hstack([*_picture, mo.Html(_q)], widths=[1, 3] if _seen else [1], align="center", wrap=True)
    return (state,)


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## One joint, one finger

    Move a single part of the action away from what was executed, in *command units*: 1 is half its range. On the
    right: which parts Q depends on at all in this state. A flat line is a part that the critic does not hear.
    """)
    return


@app.cell
def _(state):
    _parts = state.filter(state["kind"] == "part")["part"].unique(maintain_order=True).to_list()
    part = mo.ui.dropdown(_parts, value=_parts[0], label="part", searchable=True)
    offset = mo.ui.slider(steps=list(swaps.OFFSETS), value=0.3, label="offset", show_value=True)
    mo.hstack([part, offset], justify="start", gap=2, wrap=True)
    return offset, part


@app.cell
def _(offset, part, state):
    mo.Html(style.paper(swap_figures.part_sweep(state, part.value, offset.value), "part"))
    return


@app.cell
def _(folder):
    _critic = folder.critic()
    mo.stop(_critic is None or not _critic.swap, mo.md("The full test is in the output of `bora analyze`."))
    mo.vstack(
        [
            mo.md("""
            ## Over all states of all successes

            How often the executed chunk scores higher, per kind of swap. **0.5 means deaf.** A chunk of another state
            and a flipped translation are plainly wrong, and a useful critic prefers the executed one nearly always.
            """),
            mo.Html(style.paper(figures.swap_bars(_critic.swap), "swap")),
            mo.md(f"Share of Q's variance that the action causes: **{_critic.action_sensitivity:.2f}**.")
            if _critic.action_sensitivity is not None
            else mo.md(""),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
