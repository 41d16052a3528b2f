"""Pieces of a self-contained HTML page: the frame, figures with captions, marks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path

CAPTIONS: dict[str, str] = {
    "success": "Success rates with 95 % Wilson intervals; the same numbers as in the table.",
    "value_traces": "State value V over the episodes. A useful critic lets the two bands part before the end;"
    " where they overlap, it cannot yet tell success from failure.",
    "auroc": "How early V tells: the probability that a success has the higher V at that time, over"
    " normalised time and aligned to the end. One half is chance.",
    "separation": "How far apart the values of successes and failures are, in pooled standard deviations.",
    "swap": "Action-swap test: the state stays, the executed chunk is replaced by a bad one. A critic"
    " that only looks at the picture scores exactly 0.5.",
    "counterfactual": "Another chunk executed from the same state of the simulator, with the same successor and noise."
    " Left: how often that changed the outcome. Right: in which share of the changed outcomes Q preferred the chunk"
    " that ended better; one half is a critic that does not look at the action.",
    "occlusion": "Where the critic looks: parts of the image are covered by the mean colour, or the colours of the"
    " background exchanged. What matters to the task should change its answer, the background should not.",
    "occluded": "The pictures of one state that the critic was asked about.",
    "ope": "What the critic expects of other policies, from their first chunk alone, against how often they succeeded.",
    "warning": "An alarm that rings where V stays below what successes showed at the same tick: which share of the"
    " failures it finds, and how many ticks before they end, over the share of successes it interrupts needlessly.",
    "reliability": "Predicted value against the return really collected. Below the dashed line the critic was"
    " too optimistic.",
    "rounds": "Each online round: unaided success with and without the new residual on scenes kept for this"
    " purpose, and how much the person had to drive.",
    "residual": "What the online phase adds to every action, whatever the state: a correction per joint. Large"
    " bars show where the executed motion missed what was commanded.",
}
"""Caption of each known figure; figures under other names get their name as caption."""

_WIDE = {"value_traces", "auroc", "counterfactual", "occlusion", "occluded", "warning", "rounds", "residual"}


def page(title: str, over: str, head: str, sections: Sequence[tuple[str, str, str]], footer: str) -> str:
    """Return a page that opens without a network.  sections: (key, name, HTML); empty ones are left out."""
    kept = [s for s in sections if s[2]]
    css = resources.files("bora_cli.analysis").joinpath("report.css").read_text(encoding="utf-8")
    nav = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in kept)
    body = "".join(
        f'<section id="{key}"><h2>{escape(name)}</h2>{content}</section>\n' for key, name, content in kept
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)} - bora</title>\n<style>\n{css}</style>\n</head>\n<body>\n"
        f'<header class="top"><p class="over">{escape(over)}</p><h1>{escape(title)}</h1>{head}'
        f"<nav>{nav}</nav></header>\n<main>\n{body}</main>\n<footer>{footer}</footer>\n</body>\n</html>\n"
    )


def write_page(path: Path, text: str) -> None:
    """Write a page, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def marks(rows: Iterable[tuple[str, str, str]]) -> str:
    """Return (name, value, note) as a list of marks."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>"
        for name, value, note in rows
    )
    return f'<dl class="marks">{items}</dl>' if items else ""


def figure_html(name: str, drawn: Mapping[str, str]) -> str:
    """Return a drawn figure (SVG text by name) with its caption, "" if it was not drawn."""
    if name not in drawn:
        return ""
    caption = CAPTIONS.get(name, name.replace("_", " "))
    svg = drawn[name].replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
    kind = ' class="wide"' if name in _WIDE else ""
    return (
        f'<figure{kind}><div class="plotbox">{svg}</div><figcaption>{escape(caption)}</figcaption></figure>'
    )
