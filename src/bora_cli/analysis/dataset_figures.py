"""Figures of recorded data: which episodes there are, what happens in one, how the range of actions is used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

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
from bora_cli.data.rows import EpisodeRow
from bora_cli.errors import DataError
from bora_cli.types import F32, ActionSpec, Episode

SHOWN = 40
"""Episodes in `episodes`, at most."""
LIMIT = 0.98
"""Share of half the range beyond which an action counts as being at its limit."""


def label(row: EpisodeRow) -> str:
    """Return what an episode says about itself in a few words: quality or mistake, gap, round."""
    meta = row.meta
    said = [str(meta[k]) for k in ("mistake", "operator_name") if meta.get(k)]
    said += [f"round {meta['round']}"] if "round" in meta else []
    gap = str(meta.get("gap", "none")).partition("@")[0]
    said += [f"gap {gap}"] if gap != "none" else []
    return ", ".join(said)


@house_style
def episodes(rows: Sequence[EpisodeRow], *, marked: int | None = None) -> Figure:
    """Draw the length of every episode; successes plain, failures hatched, a person's ticks in a third look.

    Of more than SHOWN episodes those around the marked one are drawn.
    """
    if not rows:
        raise DataError("The dataset has no episode.", "Record one with `bora collect`.")
    first = max(0, min((marked or 0) - SHOWN // 2, len(rows) - SHOWN))
    shown = rows[first : first + SHOWN]
    figure = new_figure(WIDE, 0.85 + 0.2 * len(shown))
    ax = figure.subplots()
    y = np.arange(len(shown))[::-1]
    longest = max(r.length for r in shown)
    for at, row in zip(y, shown, strict=True):
        colour, hatch = (GOOD, "") if row.success else (BAD, "/////")
        strength = 1 if row.index == marked else 0.55
        ax.barh(at, row.length, 0.7, color=colour, hatch=hatch, ec=PAPER, lw=0, alpha=strength)
        human = row.human_ticks
        if human:
            ax.barh(at, human, 0.22, color=HUMAN, lw=0)
        text = ("success" if row.success else "failure") + (f", {told}" if (told := label(row)) else "")
        ax.text(row.length + 0.01 * longest, at, text, va="center", fontsize=7.5)
    ax.set_yticks(y, [str(r.index) for r in shown], fontsize=7.5)
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="ticks", ylabel="episode", xlim=(0, 1.45 * longest), ylim=(-0.6, len(shown) - 0.4))
    light_grid(ax, "x")
    k = sum(r.success for r in rows)
    part = "" if len(shown) == len(rows) else f"; shown: {shown[0].index} to {shown[-1].index}"
    ax.set_title(f"{len(rows)} episodes, {k} successes (plain), {len(rows) - k} failures (hatched){part}")
    return figure


@house_style
def signals(episode: Episode, spec: ActionSpec, state_names: Sequence[str], tick: int) -> Figure:
    """Draw one episode over its ticks: where the tool is, what arm and hand are told, a person's ticks hatched."""
    n = len(episode)
    at = int(np.clip(tick, 0, n - 1))
    places = [
        (name[-1], list(state_names).index(name))
        for name in ("tool_x", "tool_y", "tool_z")
        if name in state_names
    ]
    groups = list(spec.groups) or ["all"]
    figure = new_figure(WIDE, 1.15 * (len(groups) + bool(places)) + 0.7)
    panels = figure.subplots(len(groups) + bool(places), 1, sharex=True, squeeze=False)[:, 0]
    x = np.arange(n)
    styles = ((GOOD, "-"), (INK, (0, (4, 2))), (BAD, (0, (1, 1.2))))
    if places:
        for (name, column), (colour, style) in zip(places, styles, strict=False):
            values = 100 * (episode.state[:, column] - episode.state[0, column])
            panels[0].plot(x, values, color=colour, ls=style, label=name)
        panels[0].set_ylabel("tool, cm")
        figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    for ax, group in zip(panels[bool(places) :], groups, strict=True):
        part = spec.slice(group) if group != "all" else slice(None)
        units = (episode.action[:, part] - spec.center[part]) / spec.half_range[part]
        lo, middle, hi = np.percentile(units, [0, 50, 100], axis=1)
        ax.fill_between(x, lo, hi, color=MUTED, alpha=0.25, lw=0)
        ax.plot(x, middle, color=INK, lw=1.2)
        ax.set(ylim=(-1.08, 1.08), ylabel=f"{group} action")
    human = episode.intervened.astype(int)
    edges = np.diff(human, prepend=0, append=0)
    for ax in panels:
        for a, b in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            ax.axvspan(a - 0.5, b - 0.5, fc=HUMAN, alpha=0.16, lw=0, zorder=0)
        ax.axvline(at, color=INK, lw=0.8)
        light_grid(ax)
    panels[-1].set(xlabel="tick", xlim=(0, max(1, n - 1)))
    outcome = "success" if episode.success else "failure"
    ended = "terminated" if episode.terminated[-1] else "truncated"
    panels[0].set_title(
        f"{outcome} after {n} ticks, {ended}; band: all dimensions of a group, -1 to 1 its limits"
    )
    return figure


@house_style
def ranges(actions: F32, spec: ActionSpec) -> Figure:
    """Draw per dimension which part of its range is used (5-95 %), and how often it is at a limit.

    actions: float32 [ticks, A], executed.  Raises DataError without a tick.
    """
    if not len(actions):
        raise DataError("There is no action to draw.", "Record an episode first.")
    units = (actions - spec.center) / spec.half_range
    lo, middle, hi = np.percentile(units, [5, 50, 95], axis=0)
    stuck = (np.abs(units) > LIMIT).mean(0)
    figure = new_figure(WIDE, 2.8)
    ax = figure.subplots()
    x = np.arange(spec.dim)
    heavy = stuck > 0.2
    for part, hatch in ((~heavy, ""), (heavy, "/////")):
        if part.any():
            colour = BAD if hatch else RULE
            ax.bar(x[part], (hi - lo)[part], 0.7, lo[part], color=colour, hatch=hatch, ec=PAPER, lw=0.5)
    ax.hlines(middle, x - 0.35, x + 0.35, color=INK, lw=1.4)
    for at, share, top in zip(x, stuck, hi, strict=True):
        if share > 0.005:
            ax.text(float(at), min(float(top), 1) + 0.05, f"{100 * share:.0f} %", ha="center", fontsize=7)
    ax.axhline(0, color=MUTED, lw=0.8)
    names = [n.replace("_", " ") for n in spec.names]
    ax.set_xticks(x, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7.5)
    ax.tick_params(axis="x", length=0)
    ax.set(ylim=(-1.1, 1.3), ylabel="share of the range", xlim=(-0.7, spec.dim - 0.3))
    light_grid(ax)
    ax.set_title(
        f"{len(actions)} ticks; bar 5-95 %, line median; number: ticks at a limit, hatched above 20 %"
    )
    return figure
