"""The report of a run: one HTML file that opens without a network, on a phone, in the dark and on paper."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from bora_cli.analysis import style
from bora_cli.analysis.critic_page import critic_section
from bora_cli.analysis.html import CAPTIONS, figure_html, marks, page, write_page
from bora_cli.analysis.summary import METHOD_NOTES, Comparison, RunSummary, method_title
from bora_cli.analysis.wording import caveats, count, duration, ends, headline, percent, points
from bora_cli.errors import DataError
from bora_cli.evaluate.metrics import wilson


def write_report(
    path: Path,
    summary: RunSummary,
    figures: Mapping[str, Figure] | None = None,
    videos: Mapping[str, bytes] | None = None,
) -> None:
    """Write the report of a run as one self-contained HTML file, whole or not at all.

    figures: name -> Figure; `CAPTIONS` lists the known names, others follow under "More figures".
    videos: "method/success", "method/failure" or "method/any label" -> bytes of an (animated) WebP.
    What a run does not have is left out of the page.
    Raises DataError for a film that is not WebP.
    """
    write_page(path, render_report(summary, figures, videos))


def render_report(
    summary: RunSummary,
    figures: Mapping[str, Figure] | None = None,
    videos: Mapping[str, bytes] | None = None,
) -> str:
    """Return the report as HTML text; see `write_report`."""
    drawn = {name: style.svg(figure, name) for name, figure in (figures or {}).items()}
    sections = [
        ("success", "Success", _success(summary, drawn)),
        ("rollouts", "Rollouts", _films(summary, videos or {})),
        ("human", "The person in the loop", _human(summary, drawn)),
        ("critic", "What the critic sees", critic_section(summary.critic, drawn)),
        ("residual", "What the residual does", figure_html("residual", drawn)),
        ("more", "More figures", "".join(figure_html(n, drawn) for n in drawn if n not in CAPTIONS)),
        ("stages", "How it was made", _stages(summary)),
        ("reading", "How to read this", _reading(summary)),
        ("provenance", "Versions, hashes, seeds", _provenance(summary)),
    ]
    title = summary.title or f"{summary.task.replace('_', ' ').capitalize()}: what this run learnt"
    head = f'{_facts(summary)}<p class="headline">{escape(headline(summary))}</p>{_tiles(summary)}'
    footer = (
        f"Written by bora {escape(summary.versions.get('bora', ''))}. This file needs no network;"
        " everything in it can be computed again with the commands above."
    )
    return page(title, "bora run report", head, sections, footer)


def _facts(s: RunSummary) -> str:
    facts = [("task", s.task), ("seed", str(s.seed)), ("preset", s.preset), ("made", s.created)]
    items = [f"<li>{k} <b>{escape(v)}</b></li>" for k, v in facts if v]
    if s.instruction:
        items.insert(0, f"<li>instruction <b>“{escape(s.instruction)}”</b></li>")
    if s.command:
        items.append(f"<li><code>{escape(s.command)}</code></li>")
    return f'<ul class="facts">{"".join(items)}</ul>'


def _tiles(s: RunSummary) -> str:
    tiles = []
    pair = ends(s)
    for setting, gap in s.settings()[:2] if pair else ():
        assert pair is not None
        a, b = s.cell(pair[0], setting, gap), s.cell(pair[1], setting, gap)
        if a and a.n:
            before = f"<small>{percent(b.k / b.n)} → </small>" if b and b.n and pair[0] != pair[1] else ""
            names = f"{method_title(pair[1])} → {method_title(pair[0])}" if before else method_title(pair[0])
            tiles.append((before + percent(a.k / a.n), f"{setting} objects, {names}"))
    if s.human and s.human.episodes:
        tiles.append((percent(s.human.share), f"human share of {s.human.episodes} online episodes"))
    if s.stages:
        tiles.append((duration(sum(x.seconds for x in s.stages)), "from nothing to this page"))
    if not tiles:
        return ""
    cells = "".join(
        f'<div class="tile"><div class="value">{v}</div><div class="label">{escape(label)}</div></div>'
        for v, label in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _success(s: RunSummary, drawn: Mapping[str, str]) -> str:
    if not s.cells:
        return ""
    settings, pair = s.settings(), ends(s)
    many_gaps = len({gap for _, gap in settings}) > 1
    names = [f"{setting}, gap {gap}" if many_gaps else setting for setting, gap in settings]
    head = "".join(f'<th scope="col">{escape(n)} objects</th>' for n in names)
    rows = []
    for method in s.methods():
        best = pair is not None and method == pair[0]
        note = f'<span class="note">{escape(METHOD_NOTES[method])}</span>' if method in METHOD_NOTES else ""
        tds = []
        for name, (setting, gap) in zip(names, settings, strict=True):
            c = s.cell(method, setting, gap)
            content = '<span class="muted">not run</span>'
            if c is not None and c.n:
                lo, hi = wilson(c.k, c.n)
                content = (
                    f'<div class="rate"><b>{percent(c.k / c.n)}</b><span>{c.k}/{c.n}'
                    f" [{round(100 * lo)}, {round(100 * hi)}]</span></div>"
                    + _rate_bar(c.k / c.n, lo, hi, count(c), best)
                )
            tds.append(f'<td data-label="{escape(name)} objects">{content}</td>')
        mark = ' class="main"' if best else ""
        rows.append(f'<tr{mark}><th scope="row">{escape(method_title(method))}{note}</th>{"".join(tds)}</tr>')
    gap = settings[0][1]
    under = f" under the execution gap “{escape(gap)}”" if not many_gaps and gap != "none" else ""
    seeds = max(c.seeds for c in s.cells)
    intro = (
        f"<p>Unaided success{under}: all methods on the same scenes, {seeds} training"
        f" seed{'s' * (seeds > 1)}. The line over each bar is the 95 % Wilson interval.</p>"
    )
    table = _success_table("method", head, rows)
    return intro + table + _differences(s) + figure_html("success", drawn)


def _rate_bar(rate: float, lo: float, hi: float, label: str, best: bool) -> str:
    kind = "fill" if best else "plain"
    inner = f'<rect class="{kind}" x="0" y="3" width="{100 * rate:.2f}" height="10"/>'
    return _bar(label, inner, 100 * lo, 100 * hi)


def _differences(s: RunSummary) -> str:
    if not s.comparisons:
        return ""
    settings = list(dict.fromkeys((c.setting, c.gap) for c in s.comparisons))
    rows = []
    for method, against in dict.fromkeys((c.method, c.against) for c in s.comparisons):
        tds = []
        for setting, gap in settings:
            c = s.comparison(method, against, setting, gap)
            content = '<span class="muted">not paired</span>' if c is None else _difference(c)
            tds.append(f'<td data-label="{escape(setting)} objects">{content}</td>')
        versus = f'<span class="note">minus {escape(method_title(against))}</span>'
        rows.append(f'<tr><th scope="row">{escape(method_title(method))}{versus}</th>{"".join(tds)}</tr>')
    head = "".join(f'<th scope="col">{escape(setting)} objects</th>' for setting, _ in settings)
    return (
        "<h3>Differences on the same scenes, in points</h3><p>Paired, so that easy and hard scenes cancel."
        " Where the line crosses the middle, these episodes cannot tell the two methods apart.</p>"
        + _success_table("difference", head, rows)
    )


def _success_table(first: str, head: str, rows: list[str]) -> str:
    return (
        f'<div class="scroll"><table class="success"><thead><tr><th'
        f' scope="col">{first}</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _difference(c: Comparison) -> str:
    x, lo, hi = (50 + 50 * v for v in (c.difference, c.lo, c.hi))
    kind = "fill" if c.difference >= 0 else "less"
    label = f"{points(c.difference)} points, 95 % interval {points(c.lo)} to {points(c.hi)}"
    numbers = f"<b>{points(c.difference)}</b><span>[{points(c.lo)}, {points(c.hi)}], {c.n} pairs</span>"
    return f'<div class="rate">{numbers}</div>' + _bar(
        label,
        f'<rect class="{kind}" x="{min(50, x):.2f}" y="3" width="{abs(x - 50):.2f}" height="10"/>'
        '<path class="zero" d="M50 0V16"/>',
        lo,
        hi,
    )


def _bar(label: str, inner: str, lo: float, hi: float) -> str:
    """Draw a bar with an interval; lo and hi in per cent of the width."""
    whisker = f"M{lo:.2f} 8H{hi:.2f}M{lo:.2f} 4.5V11.5M{hi:.2f} 4.5V11.5"
    return (
        '<svg class="bar" viewBox="0 0 100 16" preserveAspectRatio="none" role="img"'
        f' aria-label="{escape(label)}"><rect class="track" x="0" y="3" width="100" height="10"/>'
        f'{inner}<path class="span" fill="none" d="{whisker}"/></svg>'
    )


def _films(s: RunSummary, videos: Mapping[str, bytes]) -> str:
    by_method: dict[str, list[tuple[str, bytes]]] = {}
    for key, data in videos.items():
        method, _, label = key.partition("/")
        if not (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            raise DataError(f"The film '{key}' is not WebP.", "Make films with `media.webp_film`.")
        by_method.setdefault(method, []).append((label or "rollout", data))
    order = [m for m in s.methods() if m in by_method] + [m for m in by_method if m not in s.methods()]
    cards = []
    for method in order:
        films = sorted(by_method[method], key=lambda item: (item[0] != "success", item[0] != "failure"))
        shown = "".join(_film(method, label, data) for label, data in films)
        title = escape(method_title(method))
        cards.append(f'<div class="film"><h3>{title}</h3><div class="two">{shown}</div></div>')
    if not cards:
        return ""
    return (
        "<p>The first success and the first failure of each method in the order of the evaluation"
        " scenes; this says"
        f' nothing about how often either happens.</p><div class="films">{"".join(cards)}</div>'
    )


def _film(method: str, label: str, data: bytes) -> str:
    mark = {"success": "yes", "failure": "no"}.get(label, "")
    alt = escape(f"{method_title(method)}: {label}")
    return (
        f'<figure><img alt="{alt}" src="data:image/webp;base64,{base64.b64encode(data).decode()}">'
        f'<figcaption class="{mark}">{escape(label)}</figcaption></figure>'
    )


def _human(s: RunSummary, drawn: Mapping[str, str]) -> str:
    figure = figure_html("rounds", drawn)
    if s.human is None:
        return figure
    h = s.human
    told = marks(
        [
            ("human share of ticks", percent(h.share), f"{h.human_ticks} of {h.ticks} ticks"),
            (
                "takeovers per episode",
                f"{h.takeovers_per_episode:.1f}",
                f"{h.takeovers} in {h.episodes} episodes",
            ),
            (
                "ticks per takeover",
                f"{h.human_ticks / h.takeovers:.0f}" if h.takeovers else "-",
                "shorter means that the policy gets the task back earlier",
            ),
        ]
    )
    return told + figure


def _lines(commands: str) -> str:
    """Return a paragraph per command."""
    return "".join(f"<p><code>{escape(line)}</code></p>" for line in commands.splitlines())


def _stages(s: RunSummary) -> str:
    if not s.stages:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(x.name)}</th><td class="cmd">{_lines(x.command)}</td>'
        f'<td class="right num">{duration(x.seconds)}</td></tr>'
        for x in s.stages
    )
    total = duration(sum(x.seconds for x in s.stages))
    return (
        "<p>Each line can be run again by itself.</p>"
        '<table class="stages"><thead><tr><th scope="col">stage</th><th scope="col">command</th>'
        f'<th scope="col" class="right">time</th></tr></thead><tbody>{rows}<tr><th scope="row">together</th>'
        f'<td class="cmd"></td><td class="right num">{total}</td></tr></tbody></table>'
    )


def _reading(s: RunSummary) -> str:
    items = "".join(f"<li>{escape(c)}</li>" for c in caveats(s))
    return (
        "<p>Quote a rate with its counts and its interval, and a difference only where its interval leaves"
        " out zero. The methods build on each other: CP Base imitates all demonstrations; BORA-Offline"
        " improves it with the critic from the same data; BORA-Full adds a residual learnt from human"
        " takeovers. Filtered BC and BC on interventions are the simple rivals to beat at each step.</p>"
        f'<h3>Caveats</h3><ul class="plain">{items}</ul>'
    )


def _provenance(s: RunSummary) -> str:
    rows = [("seed", str(s.seed)), *s.versions.items(), *s.hashes.items(), *s.machine.items()]
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows)
    return f'<dl class="prov">{items}</dl>'
