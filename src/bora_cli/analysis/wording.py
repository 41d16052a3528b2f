"""Sentences made from numbers: the headline of a run and the caveats that its size calls for."""

from __future__ import annotations

from bora_cli.analysis.summary import Cell, RunSummary, method_title
from bora_cli.evaluate.metrics import Difference, newcombe, wilson

THIN = "\u202f"
"""Narrow space that does not break, between a number and its per-cent sign."""


def percent(x: float) -> str:
    """Return a rate as whole per cent; never 0 or 100 unless it is exactly that."""
    rounded = round(100 * x)
    if rounded == 100 and x < 1:
        rounded = 99
    if rounded == 0 and x > 0:
        rounded = 1
    return f"{rounded}{THIN}%"


def points(x: float) -> str:
    """Return a difference of rates in points, with its sign."""
    value = round(100 * x)
    return "±0" if value == 0 else f"{'+' if value > 0 else '−'}{abs(value)}"


def duration(seconds: float) -> str:
    """Return a duration as seconds below two minutes, else minutes, else hours and minutes."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(cell: Cell) -> str:
    """Return `k of n episodes (p %, 95 % interval lo-hi %)` for a cell."""
    lo, hi = wilson(cell.k, cell.n)
    if not cell.n:
        return "0 of 0 episodes"
    bounds = f"{round(100 * lo)}–{round(100 * hi)}{THIN}%"
    return f"{cell.k} of {cell.n} episodes ({percent(cell.k / cell.n)}, 95{THIN}% interval {bounds})"


def difference(summary: RunSummary, method: str, against: str, setting: str, gap: str) -> Difference | None:
    """Return the difference of two methods, the paired one if the run has it, else Newcombe's; or None."""
    paired = summary.comparison(method, against, setting, gap)
    if paired is not None:
        return Difference(paired.difference, paired.lo, paired.hi, paired.n)
    a, b = summary.cell(method, setting, gap), summary.cell(against, setting, gap)
    if a is None or b is None or not a.n or not b.n:
        return None
    return newcombe(a.k, a.n, b.k, b.n)


def ends(summary: RunSummary) -> tuple[str, str] | None:
    """Return (best system, baseline) of the run: BORA-Full against CP Base where both were evaluated."""
    methods = summary.methods()
    if not methods:
        return None
    order = ("bora_full", "bora_offline")
    best = next((m for m in order if m in methods), methods[-1])
    base = "cp_base" if "cp_base" in methods else methods[0]
    return best, base


def headline(summary: RunSummary) -> str:
    """State the main result in a few sentences, each computed from the numbers, uncertainty included."""
    pair = ends(summary)
    if pair is None:
        return "No method has been evaluated in this run."
    best, base = pair
    sentences: list[str] = []
    gaps = {gap for _, gap in summary.settings()}
    for setting, gap in summary.settings():
        a, b = summary.cell(best, setting, gap), summary.cell(base, setting, gap)
        if a is None or not a.n:
            continue
        under = (
            f" under the execution gap “{gap}”" if gap != "none" and (not sentences or len(gaps) > 1) else ""
        )
        where = f"With {setting} objects{under}"
        if b is None or not b.n or best == base:
            sentences.append(f"{where}, {method_title(best)} succeeded in {count(a)}.")
        elif not sentences:
            both = f"{method_title(best)} succeeded in {count(a)} and {method_title(base)} in {count(b)}"
            sentences.append(f"{where}, {both}{_verdict(summary, best, base, setting, gap)}.")
        else:
            both = f"it was {a.k} of {a.n} against {b.k} of {b.n}"
            sentences.append(f"{where}, {both}{_verdict(summary, best, base, setting, gap)}.")
    own = _beyond_corrections(summary)
    if own:
        sentences.append(own)
    if summary.human is not None and summary.human.episodes:
        h = summary.human
        sentences.append(
            f"A person drove {percent(h.share)} of the ticks of {h.episodes} online episodes"
            f" ({h.takeovers_per_episode:.1f} takeovers per episode)."
        )
    return " ".join(sentences)


def _verdict(summary: RunSummary, a: str, b: str, setting: str, gap: str) -> str:
    d = difference(summary, a, b, setting, gap)
    if d is None:
        return ""
    text = f": {points(d.value)} points [{points(d.lo)}, {points(d.hi)}]"
    return text + (", which these episodes cannot tell from no difference" if d.lo <= 0 <= d.hi else "")


def _beyond_corrections(summary: RunSummary) -> str:
    """Say, for every setting, whether the run shows a gain over imitating the corrections alone."""
    settings = summary.settings()
    if not settings or "bc_interventions" not in summary.methods() or "bora_full" not in summary.methods():
        return ""
    found = [(s, difference(summary, "bora_full", "bc_interventions", s, gap)) for s, gap in settings]
    parts = [
        f"{points(d.value)} points [{points(d.lo)}, {points(d.hi)}] with {setting} objects"
        for setting, d in found
        if d is not None
    ]
    if not parts:
        return ""
    text = f"Over the corrections alone (BC on interventions) that is {' and '.join(parts)}"
    if all(d.lo <= 0 <= d.hi for _, d in found if d is not None):
        text += ": no proof that more than the corrections helped"
    return text + "."


def caveats(summary: RunSummary) -> list[str]:
    """Return what a reader must know before quoting the numbers: those of the run, then those of its size."""
    found = list(summary.caveats)
    sizes = [c.n for c in summary.cells if c.n]
    if sizes:
        n = min(sizes)
        lo, hi = wilson(n // 2, n)
        found.append(
            f"A rate near one half measured in {n} episodes is known to ±{round(50 * (hi - lo))} points;"
            " smaller differences between two rows mean nothing by themselves."
        )
    if summary.cells and max(c.seeds for c in summary.cells) == 1:
        found.append(
            "Every method was trained once: how much another training seed would change is not shown."
        )
    if summary.machine.get("robot", "simulation") == "simulation":
        found.append("Robot, scene and operator are simulated; nothing here was measured on hardware.")
    return list(dict.fromkeys(found))
