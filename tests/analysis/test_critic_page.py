"""The page of an analysis says what its numbers mean; a critic that ignores actions is caught by `bora analyze`."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import made_up
import numpy as np
import polars as pl
import pytest
import torch

from bora_cli.analysis.analyze import analyze, draw
from bora_cli.analysis.critic_page import critic_page, critic_section, verdict
from bora_cli.analysis.critic_summary import AurocPoint, CriticSummary, Ope, SwapScore
from bora_cli.analysis.figures import swap_bars
from bora_cli.analysis.html import figure_html
from bora_cli.analysis.style import COLUMN
from bora_cli.analysis.tables import critic_summary
from bora_cli.analysis.value_tests import ensemble_spread
from bora_cli.checkpoint import load_trained, save_trained
from bora_cli.errors import SchemaMismatch
from bora_cli.models.critic import ChunkCritic
from bora_cli.types import Controller
from toy_world import toy_dataset, toy_demonstrations


def made(win: float = 0.9) -> CriticSummary:
    swap = [SwapScore("other_state", 300, win, win - 0.05, win + 0.05, 1.0)]
    return critic_summary(made_up.traces(40, takeovers=False), rng=np.random.default_rng(0), swap=swap)


def test_all_marks_are_there_and_survive_json():
    c = made()
    assert len(c.auroc) == len(c.auroc_end) == 10
    assert sum(b.n for b in c.reliability) == len(made_up.traces(40, takeovers=False))
    assert c.slope is not None
    assert set(c.intervals) == {
        *(
            "spearman",
            "late_drop",
            "late_drop_success",
            "bias",
            "separation",
            "ece",
            "slope",
            "intercept",
            "spread",
            "spread_error",
        ),
    }
    assert all(lo <= hi for lo, hi in c.intervals.values())
    assert all(lo <= getattr(c, name) <= hi for name, (lo, hi) in c.intervals.items())
    again = CriticSummary.from_json(json.loads(json.dumps(c.to_json())))
    assert again == c
    with pytest.raises(SchemaMismatch, match=r"Unknown key 'x' in critic\.reliability"):
        CriticSummary.from_json(c.to_json() | {"reliability": [{"x": 1}]})


def test_summaries_of_earlier_versions_are_read():
    old = {"successes": 3, "failures": 4, "auroc": [], "swap": [], "ece": 0.1}
    assert CriticSummary.from_json(old).warning is None


def test_the_verdict_follows_the_numbers():
    said = " ".join(verdict(made()))
    assert re.search(r"ranks a success above a failure with probability 1\.00 \[\d\.\d\d, 1\.00\];", said)
    assert "of the episode on it does better than chance" in said
    assert "Q prefers the executed chunk to one of another state in 90 % of the states [85, 95]." in said
    assert "An alarm on V finds" in said
    deaf = " ".join(verdict(made(win=0.5)))
    assert "it may not listen to the action at all" in deaf
    fooled = CriticSummary(3, 3, swap=(SwapScore("open_hand", 9, 0.2, 0.1, 0.3, -1.0),))
    assert "It prefers what was not executed for: hand open." in " ".join(verdict(fooled))
    blind = CriticSummary(
        3, 3, auroc=(AurocPoint(0.05, 6, 0.9, 0.8, 1.0), AurocPoint(0.95, 6, 0.6, 0.3, 0.8))
    )
    assert "probability 0.60 [0.30, 0.80]; at no time is that surely better than chance" in verdict(blind)[0]
    assert verdict(CriticSummary(1, 0)) == []


def test_every_mark_has_its_interval():
    ranked = Ope((), 9, 0.5, 0.1, 0.9, 0.2, 0.05, 0.3)
    shown = critic_section(dataclasses.replace(made(), ope=ranked), {})
    for mark in (
        r"share whose V falls by over 0\.2 in the last third; \S+ to \S+; of the successes 0\.00; 0\.00 to 0\.\d\d",
        r"0\.5 = ignores the action; 0\.85 to 0\.95",
        r"rank correlation with its error \S+; \S+ to \S+",
        r"1 = as steep as V says; \S+ to \S+",
        r"mean over each one&#x27;s worst \(MMRV\); 0\.05 to 0\.30",
        r"median \d+ ticks before the end \(\d+ to \d+\); \d+ % \(\d+ to \d+\) of the successes interrupted",
    ):
        assert re.search(mark, shown), mark


def test_demonstrations_are_not_called_unaided():
    table = made_up.traces(40, takeovers=False)
    assert "Measured on 40 unaided episodes: 20 successes" in critic_section(made(), {})
    assert "demonstrations" not in " ".join(verdict(made()))
    for driven, text in (
        (pl.lit(True), "40 demonstrations (the operator, a person or a simulated one, drove every tick)"),
        (pl.col("episode") < 12, "40 episodes, 12 of them demonstrations"),
    ):
        demonstrated = table.with_columns(
            pl.when(driven).then(int(Controller.DEMO)).otherwise(0).cast(pl.UInt8).alias("controller")
        )
        c = critic_summary(demonstrated, rng=np.random.default_rng(0))
        assert f"Measured on {text}" in critic_section(c, {})
        assert f"Judged were {text}" in " ".join(verdict(c))
        assert "40 unaided" not in critic_section(c, {})


@pytest.mark.parametrize(("episodes", "few"), [(18, True), (20, False)])
def test_intervals_from_few_episodes_come_with_a_warning(episodes, few):
    table = made_up.traces(episodes, takeovers=False)
    said = " ".join(verdict(critic_summary(table, rng=np.random.default_rng(0))))
    warned = (
        "9 successes and 9 failures: intervals from few episodes are too narrow; a bootstrap cannot leave"
    )
    assert (warned in said) == few
    assert ("too narrow" in said) == few


def test_figures_of_a_whole_page_are_not_shrunk_to_a_phone():
    table = made_up.traces(40, takeovers=False)
    for name, figure in draw(table, made(), {}).items():
        shown = figure_html(name, {name: "<svg></svg>"})
        assert ('class="wide"' in shown) == (figure.get_figwidth() > COLUMN), name


def test_the_page_needs_no_network_and_escapes():
    c = made()
    page = critic_page(
        c,
        {"swap": swap_bars(c.swap), "mine": swap_bars(c.swap)},
        checkpoint="a<b",
        data=["d"],
        command="bora",
    )
    assert "a&lt;b" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") == 2
    assert "More figures" in page
    assert "too few episodes of both outcomes" in critic_page(
        CriticSummary(1, 0), {}, checkpoint="", data=[], command=""
    )


def test_the_spread_of_an_ensemble_is_set_against_its_error():
    table = made_up.traces(10)
    spread = ensemble_spread(table, rng=np.random.default_rng(0))
    assert spread is not None
    assert 0 < spread.size.lo < spread.size.value < spread.size.hi
    assert spread.error is not None
    assert spread.error.lo < spread.error.value < spread.error.hi
    assert abs(spread.error.value) < 0.5  # the made-up spread knows nothing of the error
    without = table.with_columns(q_std=table["q_std"] * 0)
    assert ensemble_spread(without, rng=np.random.default_rng(0)) is None


def test_a_critic_that_ignores_actions_is_caught(toy_policy: Path, tmp_path: Path) -> None:
    """Wherever the actions enter the critic, its weights are set to zero; the swap test then says 0.5 exactly."""
    trained = load_trained(toy_policy)
    critic = trained.critic
    assert isinstance(critic, ChunkCritic)
    with torch.no_grad():
        for weights in critic.q_net.act.parameters():
            weights.zero_()
    save_trained(tmp_path / "deaf", trained)
    data = toy_dataset(tmp_path / "data", toy_demonstrations(8))
    result = analyze(tmp_path / "deaf", data=[data.root], out=tmp_path / "analysis")
    assert {s["win_rate"] for s in result["swap"]} == {0.5}
    assert result["action_sensitivity"] == pytest.approx(0, abs=1e-9)
    assert any("may not listen to the action at all" in s for s in result["says"])
    assert "0.5" in (tmp_path / "analysis" / "report.html").read_text()
