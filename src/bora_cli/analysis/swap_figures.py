"""Figures of swapped chunks: what the critic says in one state when the chunk, or one part of it, is another."""

from __future__ import annotations

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bora_cli.analysis.critic_summary import Counterfactual
from bora_cli.analysis.figures import SWAP_TITLES
from bora_cli.analysis.style import BAD, GOOD, INK, MUTED, PAPER, WIDE, house_style, light_grid, new_figure
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import wilson


@house_style
def chunk_swaps(state: pl.DataFrame, *, marked: str = "") -> Figure:
    """Draw Q of the executed chunk and of every bad one in one state, with the spread of the ensemble.

    state: rows of one state (`swaps.state`).  marked: the kind to emphasise.
    """
    executed = _executed(state)
    bad = state.filter(~pl.col("kind").is_in(["executed", "part"]) & pl.col("differs"))
    figure = new_figure(WIDE, 0.95 + 0.27 * (bad.height + 1))
    ax = figure.subplots()
    names = ["executed chunk", *(SWAP_TITLES.get(k, k.replace("_", " ")) for k in bad["kind"])]
    q = np.array([executed[0], *bad["q"]])
    spread = np.array([executed[1], *bad["q_std"]])
    y = np.arange(len(q))[::-1]
    ax.axvline(executed[0], color=MUTED, lw=0.8, ls=(0, (4, 3)))
    for at, value, s, kind in zip(y, q, spread, ["executed", *bad["kind"]], strict=True):
        worse = value < executed[0] or kind == "executed"
        colour = INK if kind == "executed" else GOOD if worse else BAD
        ax.errorbar(
            value,
            at,
            xerr=s,
            fmt="o" if worse else "s",
            ms=9 if kind == marked else 6,
            mfc=colour if worse else PAPER,
            color=colour,
            elinewidth=2 if kind == marked else 0.9,
            capsize=2,
        )
    ax.set_yticks(y, names)
    for label, kind in zip(ax.get_yticklabels(), ["executed", *bad["kind"]], strict=True):
        label.set_fontweight("bold" if kind in (marked, "executed") else "normal")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlabel="action value Q; line: spread of the ensemble", ylim=(-0.6, len(q) - 0.4))
    light_grid(ax, "x")
    preferred = int((bad["q"] < executed[0]).sum())
    ax.set_title(
        f"this state: the executed chunk beats {preferred} of {bad.height} others; square: preferred to it"
    )
    return figure


@house_style
def part_sweep(state: pl.DataFrame, part: str, offset: float) -> Figure:
    """Draw Q over the offset of one part of the action, and beside it how much each part matters in this state."""
    executed = _executed(state)
    rows = state.filter(pl.col("kind") == "part")
    one = rows.filter(pl.col("part") == part).sort("offset")
    if one.is_empty():
        raise DataError(
            f"The part '{part}' was not swapped; there are {', '.join(rows['part'].unique(maintain_order=True))}.",
            "Choose one of these.",
        )
    figure = new_figure(WIDE, 3.4)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    x, q, s = (one[c].to_numpy() for c in ("offset", "q", "q_std"))
    left.fill_between(x, q - s, q + s, color=GOOD, alpha=0.16, lw=0)
    left.plot(x, q, color=GOOD)
    left.axhline(executed[0], color=MUTED, lw=0.8, ls=(0, (4, 3)))
    nearest = int(np.abs(x - offset).argmin())
    left.axvline(x[nearest], color=INK, lw=0.7)
    left.plot([x[nearest]], [q[nearest]], "o", color=INK, mec=PAPER, ms=7, zorder=5)
    change = q[nearest] - executed[0]
    left.set(xlabel=f"offset of {part.replace('_', ' ')}, command units", ylabel="action value Q")
    left.set_title(f"at {x[nearest]:+.1f}: Q {q[nearest]:.3f}, {change:+.3f} against executed")
    light_grid(left)
    _reach(right, rows, part)
    return figure


@house_style
def counterfactual_bars(c: Counterfactual) -> Figure:
    """Draw per kind of chunk how often it changed the outcome, and whether Q had preferred the better one."""
    figure = new_figure(WIDE, 1.15 + 0.27 * len(c.kinds))
    left, right = figure.subplots(1, 2, sharey=True)
    y = np.arange(len(c.kinds))[::-1]
    n = np.array([k.n for k in c.kinds])
    spoiled, saved = (np.array([getattr(k, name) for k in c.kinds]) / n for name in ("spoiled", "saved"))
    left.barh(y, spoiled, 0.62, color=BAD, hatch="////", ec=PAPER, lw=0.5, label="spoiled")
    left.barh(y, saved, 0.62, left=spoiled, color=GOOD, ec=PAPER, lw=0.5, label="saved")
    changed_share = spoiled + saved
    around = np.array([wilson(k.spoiled + k.saved, k.n) for k in c.kinds]).reshape(-1, 2)
    spans = np.stack([changed_share - around[:, 0], around[:, 1] - changed_share])
    left.errorbar(
        changed_share, y, xerr=np.maximum(spans, 0.0), fmt="none", ecolor=INK, elinewidth=0.9, capsize=2
    )
    left.set_yticks(y, [SWAP_TITLES.get(k.kind, k.kind.replace("_", " ")) for k in c.kinds])
    left.set(xlim=(0, max(0.2, 1.05 * float(around[:, 1].max()))), xlabel="share of futures")
    left.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    left.set_title(f"{c.states} states of {c.episodes} episodes")
    for at, k in zip(y, c.kinds, strict=True):
        changed = k.spoiled + k.saved
        if k.agree is None or k.lo is None or k.hi is None:
            right.text(0.52, at, "no outcome changed", color=MUTED, va="center", fontsize=7.5)
            continue
        right.errorbar(
            k.agree,
            at,
            xerr=[[k.agree - k.lo], [k.hi - k.agree]],
            fmt="o",
            color=INK,
            elinewidth=0.9,
            capsize=2,
        )
        right.text(1.02, at, f"n {changed}", va="center", fontsize=7.5, transform=right.get_yaxis_transform())
    right.axvline(0.5, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    right.set(xlim=(-0.02, 1.02), xlabel="share in which Q preferred the better chunk")
    right.set_title(
        "all kinds: " + (_span(c.agree, c.lo, c.hi) + f", n {c.differing}" if c.differing else "none")
    )
    for ax in (left, right):
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        light_grid(ax, "x")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8)
    return figure


def _span(value: float | None, lo: float | None, hi: float | None) -> str:
    return "-" if value is None or lo is None or hi is None else f"{value:.2f} [{lo:.2f}, {hi:.2f}]"


def _reach(ax: Axes, rows: pl.DataFrame, part: str) -> None:
    """Draw the span of Q over the offsets of every part, widest first."""
    reach = (
        rows.group_by("part", maintain_order=True)
        .agg(span=pl.col("q").max() - pl.col("q").min())
        .sort("span", descending=True)
        .head(12)
    )
    y = np.arange(reach.height)[::-1]
    for at, name, span in zip(y, *reach.get_columns(), strict=True):
        here = name == part
        ax.barh(at, span, 0.66, color=INK if here else GOOD, hatch="" if here else "/////", ec=PAPER, lw=0.5)
    ax.set_yticks(y, [name.replace("_", " ") for name in reach["part"]], fontsize=7.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("span of Q over the offsets")
    ax.set_title(f"what matters here, first {reach.height}")
    light_grid(ax, "x")


def _executed(state: pl.DataFrame) -> tuple[float, float]:
    row = state.filter(pl.col("kind") == "executed")
    if row.height != 1:
        raise DataError(
            f"{row.height} executed chunks among the rows of one state; expected one.",
            "Choose one state with `swaps.state`.",
        )
    return float(row["q"][0]), float(row["q_std"][0])
