"""Figures of covered images: how much the critic's answer changes, and what the covered images look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from bora_cli.analysis.critic_summary import OcclusionScore
from bora_cli.analysis.style import GOOD, INK, MUTED, PAPER, WIDE, house_style, light_grid, new_figure
from bora_cli.types import U8

TITLES = {
    "seen": "as it was seen",
    "object": "object covered",
    "hand": "hand covered",
    "object_and_hand": "object and hand covered",
    "background_patch": "as much background covered",
    "background_recoloured": "background recoloured",
    "everything": "everything covered",
}


@house_style
def occlusion_bars(scores: Sequence[OcclusionScore]) -> Figure:
    """Draw how much V and Q change per kind of picture, and the AUROC of V that is left; 95 % over episodes.

    Where there is no AUROC, since all episodes ended alike, its panel is left out.
    """
    shown = [s for s in scores if s.kind != "seen"]
    seen = next((s for s in scores if s.kind == "seen"), None)
    figure = new_figure(WIDE, 1.2 + 0.3 * len(shown))
    told = any(s.auroc is not None for s in scores)
    axes = figure.subplots(1, 1 + told, sharey=True, squeeze=False, width_ratios=[1.25, 1][: 1 + told])[0]
    left = axes[0]
    y = np.arange(len(shown))[::-1]
    for name, label, offset, colour, hatch in (
        ("v_change", "V", 0.19, GOOD, ""),
        ("q_change", "Q", -0.19, MUTED, "/////"),
    ):
        value, lo, hi = (_column(shown, name + end) for end in ("", "_lo", "_hi"))
        left.barh(y + offset, value, 0.34, color=colour, hatch=hatch, ec=PAPER, lw=0.5, label=label)
        left.errorbar(
            value, y + offset, xerr=[value - lo, hi - value], fmt="none", ecolor=INK, elinewidth=0.8
        )
    left.set_yticks(y, [f"{TITLES.get(s.kind, s.kind)}\n{100 * s.area:.0f} % of the pixels" for s in shown])
    left.set(xlabel="mean change, standard deviations", ylim=(-0.6, len(shown) - 0.4))
    left.set_title(f"{shown[0].n if shown else 0} states of {shown[0].episodes if shown else 0} episodes")
    for right in axes[1:]:
        value, lo, hi = (_column(shown, "auroc" + end) for end in ("", "_lo", "_hi"))
        right.errorbar(
            value, y, xerr=[value - lo, hi - value], fmt="o", color=GOOD, ms=4, elinewidth=0.9, capsize=2
        )
        right.axvline(0.5, color=MUTED, lw=0.8, ls=(0, (4, 3)))
        if seen is not None and seen.auroc is not None:
            right.axvline(seen.auroc, color=INK, lw=0.9)
            right.set_title(f"line: unchanged images, {seen.auroc:.2f}")
        right.set(xlim=(-0.02, 1.02), xlabel="AUROC of V that is left")
    for ax in axes:
        ax.tick_params(axis="y", length=0, labelsize=7.5)
        ax.spines["left"].set_visible(False)
        light_grid(ax, "x")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=2, fontsize=8)
    return figure


@house_style
def occluded_pictures(rows: Mapping[str, U8]) -> Figure:
    """Show the pictures of one state side by side.  rows: camera -> uint8 [kinds, h, w, 3] in the order of `TITLES`."""
    kinds = max(len(images) for images in rows.values())
    figure = new_figure(WIDE, 0.25 + len(rows) * (WIDE / kinds + 0.05))
    axes = figure.subplots(len(rows), kinds, squeeze=False)
    for line, (camera, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(camera, fontsize=7.5, color=MUTED)
    for ax, title in zip(axes[0], TITLES.values(), strict=False):
        ax.set_title(
            title.replace(" covered", "\ncovered", 1).replace("background r", "background\nr"),
            fontsize=6.5,
            loc="center",
        )
    return figure


def _column(scores: Sequence[OcclusionScore], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = [getattr(s, name) for s in scores]
    return np.array([np.nan if v is None else v for v in values], np.float64)
