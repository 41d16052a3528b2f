"""The figure of off-policy evaluation."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from bora_cli.analysis.critic_summary import Ope
from bora_cli.analysis.style import COLUMN, GOOD, INK, PAPER, house_style, light_grid, new_figure


@house_style
def ope_scatter(ope: Ope) -> Figure:
    """Draw the value that the critic predicted of each policy against its measured success, with 95 % intervals."""
    figure = new_figure(COLUMN, 3.2)
    ax = figure.subplots()
    x, y = np.array([p.value for p in ope.policies]), np.array([p.k / p.n for p in ope.policies])
    ax.errorbar(
        x,
        y,
        xerr=[x - [p.value_lo for p in ope.policies], [p.value_hi for p in ope.policies] - x],
        yerr=[y - [p.lo for p in ope.policies], [p.hi for p in ope.policies] - y],
        fmt="o",
        color=GOOD,
        mec=PAPER,
        ms=6,
        elinewidth=0.8,
    )
    numbers = [str(i) for i in range(1, len(x) + 1)]
    for number, px, py in zip(numbers, x, y, strict=True):
        ax.annotate(number, (px, py), (5, 4), textcoords="offset points", fontsize=8, color=INK)
    ax.set(ylim=(-0.03, 1.03), xlabel="predicted: mean Q of the first chunk", ylabel="measured success")
    ax.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    light_grid(ax)
    ax.set_title(
        f"Spearman {ope.spearman:.2f} [{ope.lo:.2f}, {ope.hi:.2f}], {len(x)} policies, {ope.states} first states"
    )
    key = "\n".join(f"{n}  {p.name}" for n, p in zip(numbers, ope.policies, strict=True))
    figure.supxlabel(key, x=0.02, ha="left", fontsize=7.5)
    return figure
