"""What a critic sees, as a section of the run report and as the page of `bora analyze`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from bora_cli.analysis.critic_summary import Counterfactual, CriticSummary, EarlyWarning, OcclusionScore
from bora_cli.analysis.figures import SWAP_TITLES
from bora_cli.analysis.html import CAPTIONS, figure_html, marks, page
from bora_cli.analysis.style import svg

DEAF = 0.5
"""Win rate of a critic that ignores the action; AUROC of chance."""


FEW = 10
"""Successes or failures below which an interval drawn over episodes is too narrow to be believed."""


def judged(c: CriticSummary) -> str:
    """Say of what kind the episodes of a critic's marks are: unaided, demonstrations, or both."""
    n, demonstrations = c.successes + c.failures, c.demonstrations
    if not demonstrations:
        return f"{n} unaided episodes"
    drove = "the operator, a person or a simulated one, drove every tick"
    if demonstrations == n:
        return f"{n} demonstrations ({drove})"
    return f"{n} episodes, {demonstrations} of them demonstrations ({drove}) and the others unaided"


def critic_section(c: CriticSummary | None, drawn: Mapping[str, str]) -> str:
    """Return marks and figures of a critic as HTML; drawn: figure name -> SVG text."""
    parts = []
    if c is not None:
        parts.append(f"<p>Measured on {judged(c)}: {c.successes} successes and {c.failures} failures.</p>")
        late = next((p for p in reversed(c.auroc) if p.value is not None), None)
        first = next((p for p in c.auroc if p.value is not None and p.value > 0.8), None)
        other = next((x for x in c.swap if x.kind == "other_state"), None)
        wanted = [
            (
                "AUROC of V at the end",
                None if late is None else late.value,
                "" if late is None or late.lo is None else f"95 % interval {late.lo:.2f} to {late.hi:.2f}",
            ),
            (
                "first time with AUROC over 0.8",
                None if first is None else first.t,
                "0 = start, 1 = end of the episode",
            ),
            (
                "separation",
                c.separation,
                f"mean distance of the two mean curves, value units{_between(c, 'separation')}",
            ),
            (
                "Spearman of time and V",
                c.spearman,
                f"mean over successes; 1 = rises all the way{_between(c, 'spearman')}",
            ),
            (
                "failures with a late drop",
                c.late_drop,
                f"share whose V falls by over 0.2 in the last third{_between(c, 'late_drop')}{_successes(c)}",
            ),
            (
                "prefers its own chunk",
                None if other is None else other.win_rate,
                "over a chunk of another state; 0.5 = ignores the action"
                + ("" if other is None else _range(other.lo, other.hi)),
            ),
            (
                "knows the better chunk",
                None if c.counterfactual is None else c.counterfactual.agree,
                ""
                if c.counterfactual is None
                else f"where executing it showed one, n {c.counterfactual.differing}"
                + _range(c.counterfactual.lo, c.counterfactual.hi),
            ),
            (
                "action sensitivity",
                c.action_sensitivity,
                f"share of Q's variance that the action causes{_between(c, 'action_sensitivity')}",
            ),
            (
                "failures that an alarm finds",
                None if c.warning is None else c.warning.detected,
                "" if c.warning is None else _alarm(c.warning),
            ),
            (
                "spread of the ensemble",
                c.spread,
                f"in standard deviations of Q{_between(c, 'spread')}"
                + (
                    ""
                    if c.spread_error is None
                    else f"; rank correlation with its error {c.spread_error:.2f}{_between(c, 'spread_error')}"
                ),
            ),
            (
                "calibration error",
                c.ece,
                f"mean distance of V from the collected return, value units{_between(c, 'ece')}",
            ),
            (
                "bias",
                c.bias,
                f"mean of V minus return; expectiles are optimistic by design{_between(c, 'bias')}",
            ),
            (
                "slope of the return over V",
                c.slope,
                f"1 = as steep as V says{_between(c, 'slope')}",
            ),
            (
                "cost of a wrong order",
                None if c.ope is None else c.ope.mmrv,
                "of policies, in success, mean over each one's worst (MMRV)"
                + ("" if c.ope is None else _range(c.ope.mmrv_lo, c.ope.mmrv_hi)),
            ),
        ]
        parts.append(marks([(n, f"{v:.2f}", note) for n, v, note in wanted if v is not None]))
    parts.append(figure_html("value_traces", drawn) + figure_html("auroc", drawn))
    parts.append(figure_html("separation", drawn))
    both = figure_html("swap", drawn) + figure_html("reliability", drawn)
    parts.append(f'<div class="pair">{both}</div>' if both else "")
    parts += [
        figure_html(name, drawn) for name in ("counterfactual", "occlusion", "occluded", "ope", "warning")
    ]
    if c is not None and c.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in c.notes)
        parts.append(f'<h3>Left out</h3><ul class="plain">{items}</ul>')
    return "".join(parts)


def _between(c: CriticSummary, name: str) -> str:
    """Return the interval of a mark as text, "" where there is none."""
    return _range(*c.intervals.get(name, (None, None)))


def _range(lo: float | None, hi: float | None) -> str:
    return "" if lo is None or hi is None else f"; {lo:.2f} to {hi:.2f}"


def _successes(c: CriticSummary) -> str:
    """Return the share of the successes that drop late too, as text, "" where it is not known."""
    if c.late_drop_success is None:
        return ""
    return f"; of the successes {c.late_drop_success:.2f}{_between(c, 'late_drop_success')}"


def verdict(c: CriticSummary) -> list[str]:
    """Say what the numbers of a critic mean, a sentence each, uncertainty included."""
    said = []
    known = [p for p in c.auroc if p.value is not None and p.lo is not None]
    end, first = (known[-1] if known else None), None
    for p in reversed(known):  # from this time on, without a gap
        if p.lo is None or p.lo <= DEAF:
            break
        first = p
    if end is not None and end.value is not None:
        when = (
            f"from {first.t:.0%} of the episode on it does better than chance"
            if first is not None
            else "at no time is that surely better than chance"
        )
        between = f"{end.value:.2f} [{end.lo:.2f}, {end.hi:.2f}]"
        said.append(f"At the end V ranks a success above a failure with probability {between}; {when}.")
    for kind, name in (
        ("other_state", "one of another state"),
        ("flipped_xyz", "one that moves the other way"),
    ):
        score = next((s for s in c.swap if s.kind == kind), None)
        if score is not None:
            heard = "" if score.lo > DEAF else ": it may not listen to the action at all"
            said.append(
                f"Q prefers the executed chunk to {name} in {100 * score.win_rate:.0f} % of the states"
                f" [{100 * score.lo:.0f}, {100 * score.hi:.0f}]{heard}."
            )
    fooled = [s for s in c.swap if s.hi < DEAF]
    if fooled:
        kinds = ", ".join(SWAP_TITLES.get(s.kind, s.kind) for s in fooled)
        said.append(
            f"It prefers what was not executed for: {kinds}. A policy that follows it may learn that."
        )
    if c.counterfactual is not None:
        said.append(_executed(c.counterfactual))
    if c.occlusion:
        said += _looks(c.occlusion)
    if c.ope is not None:
        said.append(
            f"It ranks {len(c.ope.policies)} policies by their first chunk with a rank correlation of"
            f" {c.ope.spearman:.2f} [{c.ope.lo:.2f}, {c.ope.hi:.2f}] to their measured success."
        )
    if c.bias is not None and "bias" in c.intervals:
        lo, hi = c.intervals["bias"]
        if lo is not None and hi is not None and (lo > 0 or hi < 0):
            way = "high" if c.bias > 0 else "low"
            said.append(f"V is too {way} by {abs(c.bias):.2f} on average [{lo:+.2f}, {hi:+.2f}].")
    if c.warning is not None:
        w = c.warning
        found = f"An alarm on V finds {100 * w.detected:.0f} % of {w.failures} failures"
        found += f" [{100 * w.detected_lo:.0f}, {100 * w.detected_hi:.0f}]"
        ahead = "" if w.lead is None else f", half of them at least {w.lead:.0f} ticks before they end"
        said.append(
            f"{found}{ahead}, at {100 * w.false_alarms:.0f} % false alarms in {w.successes} successes."
        )
    if said and c.demonstrations:
        said.append(f"Judged were {judged(c)}.")
    if said and min(c.successes, c.failures) < FEW:
        said.append(
            f"{c.successes} successes and {c.failures} failures: intervals from few episodes are too narrow;"
            " a bootstrap cannot leave the edge."
        )
    return said


def critic_page(
    c: CriticSummary, figures: Mapping[str, Figure], *, checkpoint: str, data: Sequence[str], command: str
) -> str:
    """Return the page of an analysis, one HTML file that opens without a network."""
    drawn = {name: svg(figure, name) for name, figure in figures.items()}
    facts = [("checkpoint", checkpoint), ("episodes", ", ".join(data))]
    items = "".join(f"<li>{k} <b>{escape(v)}</b></li>" for k, v in facts)
    said = verdict(c) or ["There are too few episodes of both outcomes to say anything."]
    head = f'<ul class="facts">{items}</ul><p class="headline">{escape(said[0])}</p>'
    rest = "".join(f"<li>{escape(s)}</li>" for s in said[1:])
    reading = (
        "<p>Only episodes in which nobody took over. Intervals are 95 % and drawn over whole episodes, since the ticks"
        " of one episode"
        " are not independent. That a swapped chunk is worse is an assumption: one played backwards, or with another"
        " hand posture, may do no harm in many states. The counterfactual test (<code>--counterfactual</code>)"
        " executes it and sees.</p>"
    )
    sections = [
        ("says", "What it says", f'<ul class="plain">{rest}</ul>' if rest else ""),
        ("critic", "What the critic sees", critic_section(c, drawn)),
        ("more", "More figures", "".join(figure_html(n, drawn) for n in drawn if n not in CAPTIONS)),
        ("reading", "How to read this", reading),
        ("again", "Make it again", f"<p><code>{escape(command)}</code></p>"),
    ]
    return page("Does the critic know?", "bora analysis", head, sections, "This file needs no network.")


def _executed(c: Counterfactual) -> str:
    """Say what executing other chunks showed."""
    tried = sum(k.n for k in c.kinds)
    if c.agree is None or c.lo is None or c.hi is None:
        return f"None of {tried} other chunks changed the outcome when it was executed; that asks for more states."
    knows = "Q knows the better one"
    if c.lo <= DEAF <= c.hi:
        knows = "whether Q knows the better one remains open: it prefers it"
    elif c.hi < DEAF:
        knows = "Q prefers the worse one, the better one"
    return (
        f"{c.differing} of {tried} other chunks changed the outcome when they were executed; {knows} in"
        f" {100 * c.agree:.0f} % of them [{100 * c.lo:.0f}, {100 * c.hi:.0f}]."
    )


def _looks(scores: Sequence[OcclusionScore]) -> list[str]:
    """Say where the critic looks: V's change where the task is covered, against the background's."""
    by_kind = {s.kind: s for s in scores if s.v_change is not None}
    task, patch = by_kind.get("object_and_hand"), by_kind.get("background_patch")
    said = []
    if task is not None and patch is not None:
        more = "more than" if (task.v_change_lo or 0) > (patch.v_change_hi or 0) else "not surely more than"
        more = more if (task.v_change or 0) > (patch.v_change or 0) else "no more than"
        said.append(
            f"Covering hand and object moves V by {_moved(task)}, {more} covering as much background"
            f" ({_moved(patch)})."
        )
    if (hue := by_kind.get("background_recoloured")) is not None:
        said.append(f"Another colour of the background alone moves V by {_moved(hue)}.")
    blind = by_kind.get("everything")
    if blind is not None and blind.auroc is not None and (blind.auroc_lo or 0) > DEAF:
        said.append(
            f"With everything covered V still tells the outcomes apart (AUROC {blind.auroc:.2f}):"
            " it reads them from the robot's own state."
        )
    return said


def _moved(s: OcclusionScore) -> str:
    return f"{s.v_change:.2f} [{s.v_change_lo:.2f}, {s.v_change_hi:.2f}] standard deviations"


def _alarm(w: EarlyWarning) -> str:
    lead = "none" if w.lead is None else f"median {w.lead:.0f} ticks before the end"
    if w.lead_lo is not None and w.lead_hi is not None:
        lead += f" ({w.lead_lo:.0f} to {w.lead_hi:.0f})"
    disturbed = f"{100 * w.false_alarms:.0f} %"
    if w.false_alarms_lo is not None and w.false_alarms_hi is not None:
        disturbed += f" ({100 * w.false_alarms_lo:.0f} to {100 * w.false_alarms_hi:.0f})"
    found = f"{w.detected_lo:.2f} to {w.detected_hi:.2f}"
    return f"{found}; {lead}; {disturbed} of the successes interrupted"
