"""The figures of bora: every function takes data and returns a matplotlib Figure without a window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bora_cli.analysis.critic_summary import AurocPoint, EffectPoint, SwapScore
from bora_cli.analysis.style import (
    BAD,
    COLUMN,
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
from bora_cli.analysis.summary import ResidualSummary, Round, RunSummary, method_title
from bora_cli.analysis.trace_figures import episode_trace, value_cloud, value_traces
from bora_cli.analysis.value_tests import Calibration
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import wilson

__all__ = [
    "auroc_over_time",
    "effect_over_time",
    "episode_trace",
    "reliability",
    "residual_bars",
    "rounds",
    "success_bars",
    "swap_bars",
    "value_cloud",
    "value_traces",
]

SWAP_TITLES = {
    "other_state": "chunk of another state",
    "noise_0.1": "noise, 0.1 std",
    "noise_0.3": "noise, 0.3 std",
    "noise_1": "noise, 1 std",
    "reversed": "played backwards",
    "flipped_xyz": "translation flipped",
    "open_hand": "hand open",
    "frozen_hand": "hand frozen",
    "resampled": "policy, other noise",
    "later": "the chunk after it",
}


@house_style
def auroc_over_time(points: Sequence[AurocPoint], end: Sequence[AurocPoint] = ()) -> Figure:
    """Draw how early V tells success from failure, with 95 % bootstrap bands.

    points: over normalised time.  end: the same aligned to the end of the episodes, drawn in a second panel.
    """
    figure = new_figure(COLUMN if not end else WIDE, 2.7)
    axes = figure.subplots(1, 2 if end else 1, sharey=True, squeeze=False)[0]
    _auroc_panel(axes[0], points)
    axes[0].set(xlim=(0, 1), xlabel="normalised time", ylabel="AUROC of V", ylim=(0, 1.03))
    axes[0].text(0.99, 0.485, "chance", color=MUTED, ha="right", va="top", fontsize=8)
    if end:
        _auroc_panel(axes[1], end)
        axes[1].set(xlabel="ticks before the end", xlim=(min(p.t for p in end) - 1, 0.5))
        axes[1].xaxis.set_major_locator(MaxNLocator(integer=True))
        axes[1].xaxis.set_major_formatter(lambda x, _: f"{abs(x):.0f}")
    n = max((p.n for p in points), default=0)
    axes[0].set_title(f"{n} episodes, 95 % bootstrap band")
    return figure


@house_style
def effect_over_time(points: Sequence[EffectPoint]) -> Figure:
    """Draw by how many pooled standard deviations V separates the outcomes over time, with a 95 % bootstrap band."""
    figure = new_figure(COLUMN, 2.5)
    ax = figure.subplots()
    known = [p for p in points if p.value is not None]
    t, value, lo, hi = (np.array([getattr(p, f) for p in known], float) for f in ("t", "value", "lo", "hi"))
    ax.fill_between(t, lo, hi, color=GOOD, alpha=0.16, lw=0)
    ax.plot(t, value, "o-", color=GOOD, ms=3.5)
    ax.axhline(0, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    ax.set(xlim=(0, 1), xlabel="normalised time", ylabel="Cohen's d of V")
    light_grid(ax)
    n = max((p.n for p in points), default=0)
    ax.set_title(f"successes minus failures; {n} episodes, 95 % bootstrap band")
    return figure


@house_style
def swap_bars(scores: Sequence[SwapScore]) -> Figure:
    """Draw how often the critic prefers the executed chunk over each bad one; bars start at one half."""
    if not scores:
        raise DataError("There is no swap-test score to draw.", "Run the swap test first.")
    figure = new_figure(COLUMN, 0.9 + 0.27 * len(scores))
    ax = figure.subplots()
    y = np.arange(len(scores))[::-1]
    rate = np.array([s.win_rate for s in scores])
    whiskers = np.abs(np.array([[s.lo for s in scores], [s.hi for s in scores]]) - rate)
    colours = [GOOD if r >= 0.5 else BAD for r in rate]
    ax.barh(y, rate - 0.5, left=0.5, height=0.62, color=colours)
    for bar, r in zip(ax.patches, rate, strict=True):
        bar.set_hatch("" if r >= 0.5 else "////")
        bar.set_edgecolor(PAPER)
    ax.errorbar(rate, y, xerr=whiskers, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    ax.axvline(0.5, color=MUTED, lw=0.8)
    ax.set_yticks(y, [SWAP_TITLES.get(s.kind, s.kind.replace("_", " ")) for s in scores])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xlim=(0, 1), xlabel="share of states where the executed chunk scores higher")
    for s, at in zip(scores, y, strict=True):
        ax.text(1.02, at, f"{s.win_rate:.2f}", va="center", fontsize=8, transform=ax.get_yaxis_transform())
    light_grid(ax, "x")
    n = max(s.n for s in scores)
    ax.set_title(f"0.5 = ignores the action; {n} states, 95 %")
    return figure


@house_style
def success_bars(summary: RunSummary) -> Figure:
    """Draw the success rate of every method in every setting with 95 % Wilson intervals."""
    methods, settings = summary.methods(), summary.settings()
    if not methods:
        raise DataError("The run summary has no success cells to draw.", "Evaluate at least one method.")
    figure = new_figure(COLUMN, 0.9 + len(methods) * (0.18 + 0.2 * len(settings)))
    ax = figure.subplots()
    height = 0.8 / len(settings)
    looks = [(GOOD, ""), (MUTED, "/////"), (RULE, "....."), (PAPER, "xxxx")]
    for j, (setting, gap) in enumerate(settings):
        colour, hatch = looks[j % len(looks)]
        label = f"{setting}" if len({g for _, g in settings}) == 1 else f"{setting}, gap {gap}"
        for i, method in enumerate(methods):
            cell = summary.cell(method, setting, gap)
            if cell is None or not cell.n:
                continue
            at, rate, (lo, hi) = (
                len(methods) - i - (j + 0.5) * height,
                cell.k / cell.n,
                wilson(cell.k, cell.n),
            )
            ax.barh(at, rate, height * 0.88, color=colour, hatch=hatch, ec=PAPER, lw=0.5, label=label)
            ax.plot([lo, hi], [at, at], color=INK, lw=1)
            ax.text(
                1.02, at, f"{cell.k}/{cell.n}", va="center", fontsize=7.5, transform=ax.get_yaxis_transform()
            )
            label = "_"
    ax.set_yticks(np.arange(len(methods), 0, -1) - 0.4, [method_title(m) for m in methods])
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), xlabel="success rate, 95 % Wilson interval")
    ax.xaxis.set_major_formatter(lambda x, _: f"{100 * x:.0f} %")
    light_grid(ax, "x")
    if len(settings) > 1:
        figure.legend(loc="outside upper left", ncols=len(settings), fontsize=8, handlelength=1.6)
    return figure


@house_style
def reliability(calibration: Calibration) -> Figure:
    """Draw predicted value against collected return, in bins of equal counts, with 95 % intervals."""
    t = calibration.table
    x, y = t["v_mean"].to_numpy(), t["return_mean"].to_numpy()
    error = np.abs(np.stack([t["lo"].to_numpy(), t["hi"].to_numpy()]) - y)
    figure = new_figure(COLUMN, 2.9)
    ax = figure.subplots()
    values = np.concatenate([x, t["lo"].to_numpy(), t["hi"].to_numpy()])
    values = values[np.isfinite(values)]
    pad = 0.06 * max(1e-3, float(np.ptp(values)))
    ends = (float(values.min()) - pad, float(values.max()) + pad)
    ax.plot(ends, ends, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    ax.errorbar(
        x, y, yerr=np.nan_to_num(error), fmt="o-", ms=4, color=GOOD, ecolor=GOOD, elinewidth=0.9, lw=1.2
    )
    ax.set(xlim=ends, ylim=ends, xlabel="value V; dashed: the return", ylabel="return really collected")
    light_grid(ax)
    b = calibration.bias
    ax.set_title(f"ECE {calibration.ece:.3f}; bias {b.value:+.3f} [{b.lo:+.3f}, {b.hi:+.3f}]; {b.n} episodes")
    return figure


@house_style
def rounds(history: Sequence[Round]) -> Figure:
    """Draw what each online round brought: unaided success with and without the residual, and human share."""
    if not history:
        raise DataError("There is no online round to draw.", "Run `bora train online` first.")
    figure = new_figure(WIDE, 2.5)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    x = np.array([r.index for r in history], float)
    for key, label, offset, colour, marker, style in (
        ("base_k", "policy in use", -0.07, MUTED, "s", (0, (4, 2))),
        ("residual_k", "with the new residual", 0.07, GOOD, "o", "-"),
    ):
        k = np.array([getattr(r, key) for r in history])
        n = np.array([r.release_n for r in history])
        rate = k / np.maximum(n, 1)
        bounds = np.array([wilson(int(a), int(b)) for a, b in zip(k, n, strict=True)]).T
        left.errorbar(
            x + offset,
            rate,
            np.abs(bounds - rate),
            color=colour,
            marker=marker,
            ls=style,
            ms=5,
            elinewidth=0.9,
            label=label,
        )
    for r in history:
        verdict = "released" if r.released else "kept old"
        left.annotate(
            verdict,
            (r.index, 1.0),
            (0, 4),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
            color=INK if r.released else MUTED,
        )
    left.set(ylim=(0, 1.12), ylabel="unaided success", xlabel="round")
    left.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    figure.legend(loc="outside upper left", ncols=2, fontsize=8)
    left.set_title(f"{history[-1].release_n} paired scenes, 95 % Wilson")
    share = np.array([r.human_ticks / max(1, r.ticks) for r in history])
    right.bar(x, share, 0.5, color=HUMAN, hatch="////", ec=PAPER, lw=0.5)
    for r, s in zip(history, share, strict=True):
        per = r.takeovers / max(1, r.episodes)
        right.annotate(
            f"{per:.1f} takeovers\nper episode",
            (r.index, s),
            (0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=7.5,
        )
    right.set(ylim=(0, max(0.3, 1.5 * float(share.max()))), ylabel="human share of ticks", xlabel="round")
    right.yaxis.set_major_formatter(lambda y, _: f"{100 * y:.0f} %")
    for ax in (left, right):
        ax.set_xticks(x, [str(int(i)) for i in x])
        ax.set_xlim(x.min() - 0.6, x.max() + 0.6)
        light_grid(ax)
    return figure


@house_style
def residual_bars(residual: ResidualSummary) -> Figure:
    """Draw the constant part of a residual: command units per action dimension, arm plain, hand hatched."""
    values = residual.lam * np.asarray(residual.values, float)
    if values.shape != (len(residual.names),) or not values.size:
        raise DataError(
            f"The residual has {values.size} values for {len(residual.names)} names.", "Save it again."
        )
    figure = new_figure(WIDE, 2.5)
    ax = figure.subplots()
    x = np.arange(values.size)
    arm = np.array([n.startswith("d") and len(n) <= 3 for n in residual.names])
    ax.bar(x[arm], values[arm], 0.66, color=GOOD, ec=PAPER, lw=0.5)
    ax.bar(x[~arm], values[~arm], 0.66, color=MUTED, hatch="/////", ec=PAPER, lw=0.5)
    ax.axhline(0, color=INK, lw=0.8)
    ax.set_xticks(
        x,
        [n.replace("_", " ") for n in residual.names],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=7.5,
    )
    ax.tick_params(axis="x", length=0)
    ax.spines["bottom"].set_visible(False)
    size = 1.15 * max(0.05, float(np.abs(values).max()))
    ax.set(ylim=(-size, size), xlim=(-0.6, values.size - 0.4), ylabel="command units")
    light_grid(ax)
    ax.set_title("added to every action; 1 = half the range of a command; plain: arm, hatched: hand")
    return figure


def _auroc_panel(ax: Axes, points: Sequence[AurocPoint]) -> None:
    known = [p for p in points if p.value is not None]
    if known:
        t, value, lo, hi = (
            np.array([getattr(p, f) for p in known], float) for f in ("t", "value", "lo", "hi")
        )
        ax.fill_between(t, lo, hi, color=GOOD, alpha=0.16, lw=0)
        ax.plot(t, value, "o-", color=GOOD, ms=3.5, lw=1.6)
    ax.axhline(0.5, color=MUTED, lw=0.8, ls=(0, (4, 3)))
    light_grid(ax)
