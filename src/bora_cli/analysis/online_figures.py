"""Figures of an online run: where people took over and why, what they changed, what was learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bora_cli.analysis.online import OnlineRun, columns
from bora_cli.analysis.style import (
    BAD,
    GOOD,
    HUMAN,
    INK,
    MUTED,
    PAPER,
    RULE,
    WIDE,
    house_style,
    light_grid,
    new_figure,
)
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import wilson

METRICS: tuple[tuple[str, str, str], ...] = (
    ("online critic", "v", "value V"),
    ("online critic", "ensemble_std", "spread of the critics"),
    ("residual", "residual_rms", "size of the residual"),
    ("residual", "corrections", "distance to the corrections"),
    ("residual", "improve", "improvement hinge"),
    ("residual", "stay", "change where nobody helped"),
)
"""(phase, number, title) of the panels of `learning`; a number that a run did not log is left out."""


@house_style
def takeover_map(run: OnlineRun, *, episode: int | None = None) -> Figure:
    """Draw every episode as a bar over its ticks, a person's ticks hatched, outcome at the end.

    episode: the one to emphasise.
    """
    e = run.episodes
    figure = new_figure(WIDE, 0.9 + 0.185 * e.height)
    ax = figure.subplots()
    y = np.arange(e.height)[::-1]
    for at, row in zip(y, e.iter_rows(named=True), strict=True):
        here = row["episode"] == episode
        ax.barh(at, row["ticks"], 0.72, color=MUTED if here else RULE, lw=0)
        ax.text(
            row["ticks"] + 0.8,
            at,
            ("success" if row["success"] else "failure") + ("" if row["takeovers"] else ", unaided"),
            va="center",
            fontsize=7,
            color=GOOD if row["success"] else BAD,
        )
        for left, width in _stretches(run.ticks, int(row["episode"])):
            ax.barh(at, width, 0.72, left=left, color=HUMAN, hatch="//////", ec=PAPER, lw=0)
    names = [f"{row['episode']}" for row in e.iter_rows(named=True)]
    ax.set_yticks(y, names, fontsize=7)
    ax.tick_params(axis="y", length=0)
    for index in e["round"].unique().sort().to_list()[1:]:
        first = int((e["round"] == index).arg_max() or 0)
        ax.axhline(y[first] + 0.5, color=MUTED, lw=0.8, ls=(0, (4, 3)))
        ax.text(
            1, y[first] + 0.3, f"round {index} ", transform=ax.get_yaxis_transform(), va="top", ha="right"
        )
    ax.set(xlim=(0, 1.16 * float(e["ticks"].to_numpy().max())), ylim=(-0.7, e.height - 0.3))
    ax.set(xlabel="tick", ylabel="episode")
    share = float(e["human_ticks"].to_numpy().sum() / max(1, e["ticks"].to_numpy().sum()))
    ax.set_title(
        f"{e.height} episodes, {run.changes.height} takeovers, hatched: a person, {share:.0%} of the ticks"
    )
    light_grid(ax, "x")
    return figure


@house_style
def corrections(run: OnlineRun, *, round_: int | None = None) -> Figure:
    """Draw per dimension what people changed (median, 25-75 % box) and what the residual added (mark).

    round_: one round, all if None.  The mark is the mean over the ticks that a released residual acted in; what was
    learned from a round's corrections acts from the next round on.  Raises DataError if nobody corrected anything.
    """
    ticks = run.ticks if round_ is None else run.ticks.filter(pl.col("round") == round_)
    given = columns(ticks, "correction")
    given = given[np.isfinite(given).all(1)] if len(given) else given
    if not len(given):
        raise DataError("No tick with a correction.", "Choose a round in which a person took over.")
    helped = run.episodes.filter(pl.col("lam") > 0)["episode"]
    acted = columns(ticks.filter(~pl.col("human") & pl.col("episode").is_in(helped.implode())), "residual")
    lo, middle, hi = np.percentile(given, [25, 50, 75], axis=0)
    figure = new_figure(WIDE, 2.9)
    ax = figure.subplots()
    x = np.arange(given.shape[1])
    arm = np.zeros(given.shape[1], bool)
    start, stop = run.spec.groups.get("arm", (0, 0))
    arm[start:stop] = True
    for part, hatch, label in ((arm, "", "people, arm"), (~arm, "/////", "people, hand")):
        if part.any():
            ax.bar(
                x[part],
                (hi - lo)[part],
                0.7,
                lo[part],
                color=RULE,
                hatch=hatch,
                ec=PAPER,
                lw=0.5,
                label=label,
            )
    ax.hlines(middle, x - 0.35, x + 0.35, color=INK, lw=1.4)
    if len(acted):
        ax.plot(x, acted.mean(0), "D", color=GOOD, mec=PAPER, mew=0.8, ms=6, label="residual, where it acted")
    ax.axhline(0, color=MUTED, lw=0.8)
    names = [n.replace("_", " ") for n in run.spec.names]
    ax.set_xticks(x, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7.5)
    ax.tick_params(axis="x", length=0)
    ax.spines["bottom"].set_visible(False)
    ax.set(ylabel="command units", xlim=(-0.7, x[-1] + 0.7))
    light_grid(ax)
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    where = "all rounds" if round_ is None else f"round {round_}"
    ax.set_title(f"{where}: {len(given)} corrected ticks, box 25-75 %, line median")
    return figure


@house_style
def reasons(run: OnlineRun) -> Figure:
    """Draw how often each reason for a takeover was given, rounds side by side."""
    c = run.changes
    if c.is_empty():
        raise DataError("Nobody took over in this run.", "There is no reason to draw.")
    names = c["reason"].value_counts(sort=True)["reason"].to_list()
    rounds = run.episodes["round"].unique().sort().to_list()
    figure = new_figure(WIDE, 0.85 + 0.42 * len(names))
    ax = figure.subplots()
    looks = ((GOOD, ""), (MUTED, "/////"), (RULE, "....."), (INK, "xxxx"))
    height = 0.8 / len(rounds)
    for j, number in enumerate(rounds):
        at = np.arange(len(names))[::-1] + 0.4 - (j + 0.5) * height
        counts = [c.filter((pl.col("round") == number) & (pl.col("reason") == n)).height for n in names]
        colour, hatch = looks[j % len(looks)]
        episodes = run.episodes.filter(pl.col("round") == number).height
        label = f"round {number}, {episodes} episodes"
        ax.barh(at, counts, height * 0.88, color=colour, hatch=hatch, ec=PAPER, lw=0.5, label=label)
        for y, n in zip(at, counts, strict=True):
            ax.text(n + 0.1, y, str(n), va="center", fontsize=7.5)
    ax.set_yticks(np.arange(len(names))[::-1], names)
    ax.tick_params(axis="y", length=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_xlabel("takeovers")
    light_grid(ax, "x")
    figure.legend(loc="outside upper right", ncols=len(rounds), fontsize=8)
    return figure


@house_style
def learning(metrics: pl.DataFrame) -> Figure:
    """Draw the numbers of `METRICS` over the updates, a line per round.  Raises DataError if nothing was logged.

    metrics: rows of `online.read_metrics`.
    """
    m = metrics
    shown = [(p, k, t) for p, k, t in METRICS if k in m.columns and m.filter(pl.col("phase") == p)[k].count()]
    if not shown:
        raise DataError("Nothing has been learned in this run yet.", "Wait for the first round's training.")
    rows = -(-len(shown) // 3)
    figure = new_figure(WIDE, 0.4 + 1.65 * rows)
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    for ax, (phase, key, title) in zip(panels, shown, strict=False):
        _metric(ax, m.filter(pl.col("phase") == phase), key)
        ax.set_title(title)
    for ax in panels[len(shown) :]:
        ax.set_axis_off()
    for ax in panels[max(0, len(shown) - 3) : len(shown)]:
        ax.set_xlabel("update")
    handles, labels = panels[0].get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower right", ncols=len(labels), fontsize=8)
    return figure


@house_style
def progress(episodes: pl.DataFrame, *, window: int = 10) -> Figure:
    """Draw success so far and the human share, episode by episode.

    episodes: columns success, ticks, human_ticks in the order of recording.  window: episodes of the running rate.
    """
    n = episodes.height
    if not n:
        raise DataError("There is no episode yet.", "Wait for the first one.")
    good = episodes["success"].to_numpy().astype(int)
    share = (episodes["human_ticks"] / episodes["ticks"]).to_numpy()
    x = np.arange(1, n + 1)
    figure = new_figure(WIDE, 3.1)
    top, low = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    k = np.cumsum(good)
    bounds = np.array([wilson(int(a), int(b)) for a, b in zip(k, x, strict=True)])
    top.fill_between(x, bounds[:, 0], bounds[:, 1], color=GOOD, alpha=0.16, lw=0)
    top.plot(x, k / x, color=GOOD, label="so far, 95 % Wilson")
    alone = np.cumsum(good * (share == 0))
    if share.any():
        top.plot(x, alone / x, color=INK, lw=1.2, ls=(0, (4, 2)), label="without help")
    elif n > window:
        last = np.convolve(good, np.ones(window) / window, "valid")
        top.plot(x[window - 1 :], last, color=INK, lw=1.2, ls=(0, (4, 2)), label=f"last {window}")
    top.plot(x[good == 1], np.full(good.sum(), 1.05), "|", color=GOOD, ms=7)
    top.plot(x[good == 0], np.full(n - good.sum(), -0.05), "|", color=BAD, ms=7)
    top.set(ylim=(-0.1, 1.1), ylabel="success")
    top.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    figure.legend(loc="outside upper right", ncols=2, fontsize=8)
    told = f", {alone[-1]} of them without help" if share.any() else ""
    top.set_title(f"{k[-1]} of {n} episodes succeeded{told}; marks: success above, failure below")
    low.bar(x, share, 0.8, color=HUMAN, hatch="////", ec=PAPER, lw=0.3)
    low.set(ylim=(0, max(0.3, 1.1 * float(share.max()))), ylabel="human share", xlabel="episode")
    low.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    low.set_xlim(0.4, max(n, 2) + 0.6)
    low.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (top, low):
        light_grid(ax)
    return figure


def _stretches(ticks: pl.DataFrame, episode: int) -> Sequence[tuple[int, int]]:
    """Return (first tick, length) of each stretch of a person's ticks in an episode."""
    human = ticks.filter(pl.col("episode") == episode)["human"].to_numpy().astype(int)
    edges = np.diff(human, prepend=0, append=0)
    return [(int(a), int(b - a)) for a, b in zip(*(np.flatnonzero(edges == s) for s in (1, -1)), strict=True)]


def _metric(ax: Axes, rows: pl.DataFrame, key: str) -> None:
    styles = ((GOOD, "-"), (INK, (0, (4, 2))), (MUTED, (0, (1, 1.2))), (BAD, (0, (6, 2, 1, 2))))
    for i, part in enumerate(
        rows.filter(pl.col(key).is_not_null()).partition_by("round", maintain_order=True)
    ):
        colour, style = styles[i % len(styles)]
        ax.plot(part["update"], part[key], color=colour, ls=style, lw=1.3, label=f"round {part['round'][0]}")
    ax.margins(y=0.12)
    ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(4))
    light_grid(ax)
