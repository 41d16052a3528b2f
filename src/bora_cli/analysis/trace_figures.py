"""Figures of value traces: V over the time of many episodes, and V and Q along one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from numpy.typing import NDArray

from bora_cli.analysis.bootstrap import F64
from bora_cli.analysis.critic_summary import EarlyWarning, WarningPoint
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
from bora_cli.analysis.traces import outcomes
from bora_cli.errors import DataError
from bora_cli.types import U8

_LINE = {True: (GOOD, "-"), False: (BAD, (0, (4, 2)))}


@house_style
def value_traces(
    traces: pl.DataFrame,
    *,
    episode: int | None = None,
    frames: Sequence[tuple[int, U8]] = (),
    grid: int = 51,
) -> Figure:
    """Draw V over normalised time: median and 10-90 % band of successes and of failures.

    episode: one episode to draw on top, its human ticks shaded.  frames: (tick, uint8 [H, W, 3]) of that
    episode, shown as a strip above the time they were taken at.  Raises DataError if the episode is not in
    the table.
    """
    strip = list(frames) if episode is not None else []
    if strip:
        tall, wide = strip[0][1].shape[:2]
        above = min(1.3, 0.85 * WIDE / len(strip) * tall / wide)
        figure = new_figure(WIDE, 3.2 + above)
        top, ax = figure.subplots(2, 1, height_ratios=[above, 2.6])
    else:
        figure = new_figure(WIDE, 3.1)
        ax = figure.subplots()
    notes = _bands(ax, traces, grid)
    ax.set(xlim=(0, 1), xlabel="normalised time of the episode", ylabel="value V")
    light_grid(ax)
    caption = "median and 10-90 % band"
    if episode is not None:
        one = _one(traces, episode)
        t, v = one["t_norm"].to_numpy(), one["v"].to_numpy()
        _shade_human(ax, t, one["intervened"].to_numpy())
        ax.plot(t, v, color=INK, lw=1.1, zorder=5)
        outcome = "success" if one["success"][0] else "failure"
        caption += f"; thin line: episode {episode} ({outcome}, {len(v)} ticks)"
        if one["intervened"].any():
            caption += ", hatched: human"
        if strip:
            _strip(top, ax, strip, one)
    _label_ends(ax, notes)
    (top if strip else ax).set_title(caption)
    return figure


@house_style
def value_cloud(traces: pl.DataFrame) -> Figure:
    """Draw V of every tick of every episode over normalised time: successes as points, failures as crosses."""
    figure = new_figure(WIDE, 2.9)
    ax = figure.subplots()
    for success, marker, colour in ((False, "x", BAD), (True, "o", GOOD)):
        rows = traces.filter(pl.col("success") == success)
        if not rows.is_empty():
            n = rows["episode"].n_unique()
            label = f"{'success' if success else 'failure'}, {n} episodes"
            ax.plot(
                rows["t_norm"],
                rows["v"],
                marker,
                color=colour,
                ms=3,
                mew=0.8,
                alpha=0.5,
                ls="none",
                label=label,
            )
    ax.set(xlim=(-0.01, 1.01), xlabel="normalised time of the episode", ylabel="value V")
    light_grid(ax)
    figure.legend(loc="outside upper right", ncols=2, fontsize=8)
    ax.set_title(f"{traces.height} ticks")
    return figure


@house_style
def episode_trace(traces: pl.DataFrame, episode: int, *, tick: int | None = None, grid: int = 51) -> Figure:
    """Draw V and Q of one episode over its ticks, before the bands of all successes and failures.

    The bands are those of normalised time, stretched to this episode's length.  tick: where to put the
    cursor.
    """
    one = _one(traces, episode)
    ticks, v, q, spread = (one[c].to_numpy() for c in ("tick", "v", "q", "q_std"))
    last = max(1, int(ticks[-1]))
    figure = new_figure(WIDE, 3.2)
    ax = figure.subplots()
    notes = _bands(ax, traces, grid, scale=last, faint=True)
    _shade_human(ax, ticks, one["intervened"].to_numpy())
    ax.plot(ticks, v, color=INK, lw=1.6, zorder=5)
    notes.append((float(v[-1]), "V", INK))
    if np.isfinite(q).any():
        ax.plot(ticks, q, color=MUTED, lw=1.2, ls=(0, (1, 1.2)), zorder=4)
        if np.isfinite(spread).any():
            ax.fill_between(ticks, q - spread, q + spread, color=MUTED, alpha=0.18, lw=0, zorder=3)
        notes.append((float(q[np.isfinite(q)][-1]), "Q", MUTED))
    if tick is not None:
        at = int(np.clip(tick, 0, ticks[-1]))
        ax.axvline(at, color=INK, lw=0.7, zorder=6)
        ax.plot([at], [v[at]], "o", color=INK, mec=PAPER, mew=1, ms=6, zorder=7)
    ax.set(xlim=(0, last), xlabel="tick", ylabel="value")
    light_grid(ax)
    _label_ends(ax, notes)
    outcome = "success" if one["success"][0] else "failure"
    caption = f"episode {episode}: {outcome} after {len(v)} ticks; bands: 10-90 % of all episodes"
    ax.set_title(caption + ("; hatched: human" if one["intervened"].any() else ""))
    return figure


@house_style
def warning_curve(warning: EarlyWarning) -> Figure:
    """Draw failures found and median lead time over the share of false alarms; the mark is the chosen alarm."""
    curve = sorted(warning.curve, key=lambda p: p.false_alarms)
    figure = new_figure(WIDE, 2.6)
    left, right = figure.subplots(1, 2)
    x = [p.false_alarms for p in curve]
    left.plot(x, [p.detected for p in curve], color=GOOD, drawstyle="steps-post")
    _band(left, curve, "detected")
    left.plot([0, 1], [0, 1], color=MUTED, lw=0.8, ls=(0, (4, 3)))
    found = np.array([[warning.detected - warning.detected_lo], [warning.detected_hi - warning.detected]])
    left.errorbar(warning.false_alarms, warning.detected, found, fmt="o", color=INK, ms=6, capsize=2)
    left.set(xlim=(-0.02, 1), ylim=(-0.02, 1.04), ylabel="failures found")
    right.plot(x, [np.nan if p.lead is None else p.lead for p in curve], color=GOOD, drawstyle="steps-post")
    _band(right, curve, "lead")
    if warning.lead is not None:
        right.plot([warning.false_alarms], [warning.lead], "o", color=INK, ms=6)
        if warning.lead_lo is not None and warning.lead_hi is not None:
            right.plot([warning.false_alarms] * 2, [warning.lead_lo, warning.lead_hi], color=INK, lw=1)
    right.set(xlim=(-0.02, 1), ylabel="median ticks before the end")
    right.set_ylim(bottom=0)
    for ax in (left, right):
        ax.set_xlabel("false alarms among successes")
        light_grid(ax)
    left.set_title(f"{warning.failures} failures, {warning.successes} successes; 95 %")
    return figure


def _band(ax: Axes, curve: Sequence[WarningPoint], name: str) -> None:
    """Shade the intervals of an alarm's curve, where it has any."""
    bounds = [[getattr(p, f"{name}_{end}") for p in curve] for end in ("lo", "hi")]
    low, high = ([np.nan if v is None else v for v in values] for values in bounds)
    ax.fill_between([p.false_alarms for p in curve], low, high, step="post", color=GOOD, alpha=0.15, lw=0)


def _one(traces: pl.DataFrame, episode: int) -> pl.DataFrame:
    one = traces.filter(pl.col("episode") == episode)
    if one.is_empty():
        raise DataError(
            f"Episode {episode} is not in the table, which has {traces['episode'].n_unique()} episodes.",
            "Choose one of those.",
        )
    return one


def _curves(traces: pl.DataFrame, success: bool, grid: int) -> F64:
    """Interpolate V of every episode of one outcome onto normalised time, [episodes, grid]."""
    at = np.linspace(0, 1, grid)
    chosen = traces.filter(pl.col("success") == success).select("episode", "t_norm", "v")
    rows = [
        np.interp(at, g["t_norm"].to_numpy(), g["v"].to_numpy())
        for g in chosen.partition_by("episode", maintain_order=True)
    ]
    return np.array(rows, np.float64).reshape(-1, grid)


def _bands(
    ax: Axes, traces: pl.DataFrame, grid: int, *, scale: float = 1.0, faint: bool = False
) -> list[tuple[float, str, str]]:
    """Draw median and band per outcome; return (height at the right edge, text, colour) for the labels."""
    notes = []
    counts = outcomes(traces)["success"]
    x = np.linspace(0, scale, grid)
    for success in (False, True):
        curves = _curves(traces, success, grid)
        if not len(curves):
            continue
        colour, style = _LINE[success]
        lo, middle, hi = np.percentile(curves, [10, 50, 90], axis=0)
        ax.fill_between(x, lo, hi, color=colour, alpha=0.10 if faint else 0.16, lw=0)
        ax.plot(x, middle, color=colour, ls=style, lw=1.0 if faint else 1.8)
        n = int(counts.sum() if success else (~counts).sum())
        notes.append((float(middle[-1]), f"{'success' if success else 'failure'}\nn = {n}", colour))
    return notes


def _label_ends(ax: Axes, notes: list[tuple[float, str, str]]) -> None:
    """Write labels beside the right edge, pushed apart where they would overlap."""
    low, high = ax.get_ylim()
    unit = 0.085 * (high - low)
    order = [int(i) for i in np.argsort([y for y, _, _ in notes])]
    half = [unit * (1 + notes[i][1].count("\n")) / 2 for i in order]
    place = [notes[i][0] for i in order]
    for i in range(len(order)):
        place[i] = max(place[i], place[i - 1] + half[i - 1] + half[i] if i else low + half[i])
    for i in reversed(range(len(order))):
        above = place[i + 1] - half[i + 1] if i + 1 < len(order) else high
        place[i] = min(place[i], above - half[i])
    for i, y in zip(order, place, strict=True):
        _, text, colour = notes[i]
        ax.annotate(
            text,
            (1, y),
            (5, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8,
        )


def _shade_human(ax: Axes, x: NDArray[np.generic], human: NDArray[np.bool_]) -> None:
    """Hatch the stretches of ticks in which a person had a share."""
    step = float(x[1] - x[0]) if len(x) > 1 else 1.0
    edges = np.diff(human.astype(int), prepend=0, append=0)
    for a, b in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        left, right = float(x[a]) - step / 2, float(x[b - 1]) + step / 2
        ax.axvspan(left, right, fc=HUMAN, alpha=0.12, lw=0, zorder=0)
        ax.axvspan(left, right, fc="none", ec=HUMAN, alpha=0.4, hatch="////", lw=0, zorder=0)


def _strip(top: Axes, ax: Axes, frames: Sequence[tuple[int, U8]], one: pl.DataFrame) -> None:
    """Put pictures side by side above the plot, each tied to its time by a hairline."""
    last = max(1, one.height - 1)
    top.set(xlim=(0, len(frames)), ylim=(0, 1))
    for i, (tick, image) in enumerate(frames):
        inner = top.inset_axes((i / len(frames) + 0.004, 0.0, 1 / len(frames) - 0.008, 1.0))
        inner.imshow(image, aspect="equal", interpolation="lanczos")
        inner.set_anchor("S")
        inner.set(xticks=[], yticks=[])
        for spine in inner.spines.values():
            spine.set(visible=True, color=RULE, linewidth=0.6)
        tie = ConnectionPatch(
            ((i + 0.5) / len(frames), 0.0),
            (tick / last, 1.0),
            coordsA=top.transAxes,
            coordsB=ax.get_xaxis_transform(),
            color=RULE,
            lw=0.7,
        )
        ax.figure.add_artist(tie)
    top.set_axis_off()
