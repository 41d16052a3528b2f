import re
from html.parser import HTMLParser

import made_up
import numpy as np
import pytest

from bora_cli.analysis import figures
from bora_cli.analysis.critic_summary import CriticSummary, SwapScore
from bora_cli.analysis.media import webp_film
from bora_cli.analysis.report import render_report, write_report
from bora_cli.analysis.summary import Cell, Comparison, Human, RunSummary, Stage
from bora_cli.analysis.wording import caveats, duration, headline, percent, points
from bora_cli.errors import DataError

N = "\u202f"


def summary(full: int = 45, rival: int = 30, **more) -> RunSummary:
    counts = {"cp_base": 15, "bora_offline": 25, "bc_interventions": rival, "bora_full": full}
    made = {
        "task": "pick_toy",
        "seed": 0,
        "cells": tuple(Cell(m, "standard", "deployment", k, 50) for m, k in counts.items()),
    }
    return RunSummary(**(made | more))


class Page(HTMLParser):
    """Collects tags, checks nesting."""

    void = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag


def test_headline_states_counts_intervals_and_difference():
    text = headline(summary(human=Human(20, 1000, 200, 15)))
    assert "under the execution gap “deployment”" in text
    assert f"BORA-Full succeeded in 45 of 50 episodes (90{N}%, 95{N}% interval 79–96{N}%)" in text
    assert f"CP Base in 15 of 50 episodes (30{N}%, 95{N}% interval 19–44{N}%): +60 points" in text
    assert (
        "Over the corrections alone (BC on interventions) that is +30 points [+13, +45] with standard objects"
        in text
    )
    assert f"drove 20{N}% of the ticks of 20 online episodes (0.8 takeovers per episode)" in text


def test_headline_admits_what_the_episodes_do_not_show():
    text = headline(summary(full=17, rival=17))
    assert "which these episodes cannot tell from no difference" in text
    assert "no proof that more than the corrections helped" in text
    worse = headline(summary(full=5))
    assert "−20 points" in worse


def test_headline_prefers_the_paired_interval():
    paired = Comparison("bora_full", "cp_base", "standard", "deployment", 0.6, 0.55, 0.65, 50)
    assert "+60 points [+55, +65]" in headline(summary(comparisons=(paired,)))


def test_headline_of_smaller_runs():
    assert headline(RunSummary("a", 0)) == "No method has been evaluated in this run."
    only = RunSummary("a", 0, cells=(Cell("cp_base", "standard", "none", 1, 4),))
    assert headline(only).startswith("With standard objects, CP Base succeeded in 1 of 4 episodes (25")


def test_wording_of_numbers():
    assert [percent(x) for x in (0, 0.001, 0.5, 0.999, 1)] == [f"{p}{N}%" for p in (0, 1, 50, 99, 100)]
    assert [points(x) for x in (0.101, -0.1, 0.001)] == ["+10", "−10", "±0"]
    assert [duration(x) for x in (9.6, 119, 150, 7500)] == ["10 s", "119 s", "2 min", "2 h 05 min"]


def test_caveats_grow_with_small_numbers():
    few = caveats(RunSummary("a", 0, cells=(Cell("x", "s", "none", 2, 5),), caveats=("Own.",)))
    assert few[0] == "Own."
    assert "5 episodes is known to ±3" in few[1]
    assert any("trained once" in c for c in few)
    many = caveats(RunSummary("a", 0, cells=(Cell("x", "s", "none", 2, 500, seeds=3),)))
    assert not any("trained once" in c for c in many)
    assert any("simulated" in c for c in many)
    assert not any("simulated" in c for c in caveats(RunSummary("a", 0, machine={"robot": "franka"})))


def test_report_is_one_sound_file_without_network(tmp_path):
    film = webp_film([np.zeros((16, 16, 3), np.uint8)] * 2)
    s = summary(
        comparisons=(Comparison("bora_full", "cp_base", "standard", "deployment", -0.1, -0.2, 0.0, 50),),
        stages=(Stage("Train <base>", "bora train base --x 'a&b'", 12.0),),
        human=Human(20, 1000, 200, 15),
        critic=CriticSummary(5, 5, swap=(SwapScore("other_state", 9, 0.7, 0.6, 0.8, 1),), spearman=0.9),
        versions={"bora": "0.1.0"},
        hashes={"base": "abc"},
    )
    drawn = {"value_traces": figures.value_traces(made_up.traces(6)), "my_own": figures.success_bars(s)}
    write_report(
        tmp_path / "out" / "report.html", s, drawn, {"bora_full/success": film, "cp_base/failure": film}
    )
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    addresses = [a.get(k, "") for _, a in page.seen for k in ("href", "src", "xlink:href")]
    assert all(not a or a.startswith(("#", "data:")) for a in addresses)
    assert "url(http" not in text
    assert not any(tag in ("script", "link", "iframe") for tag, _ in page.seen)
    ids = {a["id"] for tag, a in page.seen if tag == "section"}
    assert ids == {"success", "rollouts", "human", "critic", "more", "stages", "reading", "provenance"}
    assert {a["href"][1:] for tag, a in page.seen if tag == "a"} == ids
    assert "Train &lt;base&gt;" in text
    assert "a&amp;b" in text
    assert text.count("data:image/webp;base64,") == 2
    assert all(a.get("alt") for tag, a in page.seen if tag == "img")
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    assert re.search(r"BORA-Full.*?45/50 \[79, 96\]", text, re.DOTALL)


def test_clip_paths_of_several_figures_do_not_collide():
    table = made_up.traces(6)
    text = render_report(
        RunSummary("a", 0), {n: figures.value_traces(table) for n in ("value_traces", "auroc")}
    )
    defined = re.findall(r'<clipPath id="([^"]+)"', text)
    assert len(defined) == len(set(defined)) >= 2


def test_a_run_without_anything_still_makes_a_page():
    text = render_report(RunSummary("pick_toy", 0))
    assert "Pick toy: what this run learnt" in text
    assert Page(text).open == []
    assert 'id="success"' not in text


def test_films_must_be_webp():
    with pytest.raises(DataError, match=r"'cp_base/success' is not WebP"):
        render_report(RunSummary("a", 0), videos={"cp_base/success": b"GIF89a"})
