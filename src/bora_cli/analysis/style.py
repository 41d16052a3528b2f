"""The look of every figure: colours that survive grey printing, thin lines, direct labels, no chart junk.

Colour never carries meaning alone: successes are solid lines, failures dashed; first settings are plain
bars, second ones hatched; human ticks are hatched bands.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1d2129"
MUTED = "#667085"
RULE = "#d3d8e0"
GOOD = "#1c5d99"
BAD = "#c0522b"
HUMAN = "#d99a1c"
PAPER = "#ffffff"
COLOURS = {"ink": INK, "muted": MUTED, "rule": RULE, "good": GOOD, "bad": BAD, "human": HUMAN, "paper": PAPER}
"""Name -> colour; `svg` writes them as CSS variables --fig-ink, --fig-muted, ..., the colour as fallback."""

COLUMN = 4.4
WIDE = 7.2
"""Figure widths in inches: one column of a two-column page, and the full page."""

SCROLLS = "overflow-x:auto;box-sizing:border-box;max-width:calc(100vw - 40px)"
"""CSS of a box that scrolls sideways: its largest width keeps a row of boxes from growing beyond a phone."""

RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.titlecolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "hatch.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "legend.frameon": False,
    "svg.fonttype": "none",
}

P = ParamSpec("P")


def house_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a drawing function under the house style without changing matplotlib's settings outside it."""

    @functools.wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return styled


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that lays itself out; it belongs to no window."""
    return Figure(figsize=(width, height), layout="constrained")


def light_grid(ax: Axes, axis: str = "y") -> None:
    """Draw hairlines behind the data along one axis."""
    ax.grid(visible=True, axis=axis)  # type: ignore[arg-type]


def png(figure: Figure, dpi: int = 160) -> bytes:
    """Render a figure as PNG bytes."""
    out = io.BytesIO()
    with matplotlib.rc_context(RC):
        figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()


def svg(figure: Figure, name: str = "figure") -> str:
    """Render a figure as an <svg> element to stand inside an HTML page.

    Text stays text in the page's own font, house colours become CSS variables, the background is
    transparent, and identifiers carry `name`, so that several figures can share a page.  The same figure
    gives the same text.
    """
    out = io.StringIO()
    with matplotlib.rc_context(RC | {"svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text)
    limit = f"{1.6 * 72 * figure.get_figwidth():.0f}px"
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', rf'\1 class="plot" style="max-width:{limit}"', text)
    text = re.sub(r"'DejaVu Sans'(, sans-serif)?", "inherit", text)
    for css, colour in COLOURS.items():
        text = text.replace(colour, f"var(--fig-{css}, {colour})")
    return text.strip()


def paper(figure: Figure, name: str) -> str:
    """Return a figure as HTML on white paper, so that it reads the same in a light and in a dark page.

    It shrinks with the page as far as its text can be read, and scrolls sideways in its own box below that.
    """
    drawn = svg(figure, name).replace('style="', f'style="min-width:{readable(figure)}px;', 1)
    look = "background:#fff;color:#1d2129;color-scheme:light;padding:10px;border-radius:8px"
    return f'<div style="{look};{SCROLLS}">{drawn}</div>'


def readable(figure: Figure) -> int:
    """Return the width in CSS pixels at which a figure's text of 8 points is 9 pixels high."""
    return round(0.85 * 96 * figure.get_figwidth())


def scrolling(html: str, figure: Figure) -> str:
    """Return HTML that shows a figure, a chart to draw on for one, in a box of its own that scrolls sideways."""
    return f'<div style="{SCROLLS}"><div style="min-width:{readable(figure)}px">{html}</div></div>'


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the suffix of the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(RC):
        figure.savefig(path, dpi=200, metadata={"Date": None} if path.suffix == ".svg" else None)
