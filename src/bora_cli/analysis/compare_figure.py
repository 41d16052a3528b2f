"""The figure of `bora compare`: rates with Wilson intervals, and paired differences beside them."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bora_cli.analysis.compare import Comparison, Pair, Row
from bora_cli.analysis.style import GOOD, INK, MUTED, PAPER, RULE, WIDE, house_style, light_grid, new_figure
from bora_cli.errors import DataError


@house_style
def comparison(result: Comparison) -> Figure:
    """Draw every system's success rate and its difference to the reference, one block per condition.

    A full marker is larger than noise, a hollow one is not.
    """
    blocks = list(dict.fromkeys(r.condition for r in result.rows))
    if not blocks:
        raise DataError("There is no success rate to draw.", "Compare two or more systems.")
    sizes = [sum(r.condition == b for r in result.rows) for b in blocks]
    figure = new_figure(WIDE, 0.75 + sum(0.34 + 0.25 * n for n in sizes))
    panels = figure.subplots(
        len(blocks), 2, height_ratios=[0.6 + n for n in sizes], width_ratios=[1.25, 1], squeeze=False
    )
    widest = max((max(abs(p.success.lo), abs(p.success.hi)) for p in result.pairs), default=0.1)
    limit = min(1.0, 1.12 * widest + 0.02)
    for (left, right), block in zip(panels, blocks, strict=True):
        rows = [r for r in result.rows if r.condition == block]
        pairs = {p.system: p for p in result.pairs if p.condition == block}
        _rates(left, rows, result.against)
        _differences(right, rows, pairs, limit)
        where = f"{block.setting} objects, gap {block.gap}"
        left.set_title(f"{where}; n = {_counts(rows)}")
        right.set_title(f"minus {result.against}, points")
    panels[-1, 0].set_xlabel("success rate, 95 % Wilson interval")
    panels[-1, 1].set_xlabel("95 % bootstrap; full: larger than noise")
    for left, right in panels[:-1]:
        left.tick_params(labelbottom=False)
        right.tick_params(labelbottom=False)
    return figure


def _counts(rows: list[Row]) -> str:
    counts = sorted({r.n for r in rows})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _rates(ax: Axes, rows: list[Row], against: str) -> None:
    for y, row in zip(np.arange(len(rows))[::-1], rows, strict=True):
        reference = row.system == against
        ax.barh(
            y,
            row.k / row.n,
            0.62,
            color=RULE if reference else GOOD,
            hatch="/////" if reference else "",
            ec=PAPER,
            lw=0.5,
        )
        ax.plot([row.lo, row.hi], [y, y], color=INK, lw=1)
        ax.text(1.02, y, f"{row.k}/{row.n}", va="center", fontsize=7.5, transform=ax.get_yaxis_transform())
    ax.set_yticks(np.arange(len(rows))[::-1], [r.system for r in rows])
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), ylim=(-0.6, len(rows) - 0.4))
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    light_grid(ax, "x")


def _differences(ax: Axes, rows: list[Row], pairs: dict[str, Pair], limit: float) -> None:
    ax.axvline(0, color=MUTED, lw=0.8)
    for y, row in zip(np.arange(len(rows))[::-1], rows, strict=True):
        pair = pairs.get(row.system)
        if pair is None:
            continue
        d = pair.success
        ax.plot([d.lo, d.hi], [y, y], color=INK, lw=1.2, zorder=2)
        ax.plot([d.value], [y], "o", ms=5.5, mfc=INK if pair.larger else PAPER, mec=INK, zorder=3)
    ax.set(xlim=(-limit, limit), ylim=(-0.6, len(rows) - 0.4))
    ax.set_yticks([])
    ax.spines["left"].set_visible(False)
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:+.0f}" if round(100 * x) else "0")
    light_grid(ax, "x")
