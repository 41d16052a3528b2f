import re
import xml.etree.ElementTree as ET

import made_up
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from bora_cli.analysis import figures, style
from bora_cli.analysis.critic_summary import AurocPoint, SwapScore
from bora_cli.analysis.summary import Cell, ResidualSummary, Round, RunSummary
from bora_cli.analysis.traces import EpisodeTrace, build_traces
from bora_cli.analysis.value_tests import calibration
from bora_cli.errors import DataError

TABLE = made_up.traces(12)
POINTS = [AurocPoint(0.25, 12, 0.5, 0.3, 0.7), AurocPoint(0.75, 12, None, None, None)]
SUMMARY = RunSummary(
    "pick_toy",
    0,
    cells=(
        Cell("cp_base", "standard", "none", 3, 10),
        Cell("bora_full", "standard", "none", 9, 10),
        Cell("bora_full", "unseen", "none", 0, 0),
    ),
)


def words(figure: Figure) -> str:
    return " ".join(t.get_text() for t in figure.findobj(mpl.text.Text))


def every_figure() -> dict[str, Figure]:
    rng = np.random.default_rng(0)
    strip = [(t, np.zeros((8, 8, 3), np.uint8)) for t in (0, 12, 24)]
    return {
        "traces": figures.value_traces(TABLE, episode=0, frames=strip),
        "plain": figures.value_traces(TABLE),
        "episode": figures.episode_trace(TABLE, 6, tick=5),
        "auroc": figures.auroc_over_time(POINTS, [AurocPoint(-1.5, 12, 0.9, 0.8, 1.0)]),
        "swap": figures.swap_bars(
            [SwapScore("other_state", 9, 0.7, 0.6, 0.8, 1), SwapScore("x_y", 9, 0.4, 0.3, 0.5, None)]
        ),
        "success": figures.success_bars(SUMMARY),
        "reliability": figures.reliability(calibration(TABLE, rng=rng, resamples=50)),
        "rounds": figures.rounds(
            [Round(1, 10, 400, 80, 9, 4, 7, 10, True), Round(2, 10, 400, 20, 2, 6, 6, 10, False)]
        ),
        "residual": figures.residual_bars(ResidualSummary(("dx", "thumb_1"), (0.1, -0.2))),
    }


def test_every_figure_renders_and_leaves_matplotlib_alone():
    before = dict(mpl.rcParams)
    for name, figure in every_figure().items():
        assert style.png(figure, dpi=40).startswith(b"\x89PNG"), name
        assert ET.fromstring(style.svg(figure, name)).tag.endswith("svg")
    assert dict(mpl.rcParams) == before


def test_captions_give_the_counts():
    drawn = every_figure()
    assert "n = 6" in words(drawn["plain"])
    assert "episode 0 (success" in words(drawn["traces"])
    assert "hatched: human" in words(drawn["traces"])
    assert "episode 6: success" in words(drawn["episode"])
    assert "12 episodes" in words(drawn["auroc"])
    assert "chunk of another state" in words(drawn["swap"])
    assert "x y" in words(drawn["swap"])
    assert "9/10" in words(drawn["success"])
    assert "released" in words(drawn["rounds"])
    assert "kept old" in words(drawn["rounds"])


def test_the_cursor_moves_with_the_tick():
    def x(tick):
        axes = figures.episode_trace(TABLE, 1, tick=tick).axes[0]
        return [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]

    assert x(7) == [7]
    assert x(10**6) == [TABLE.filter(TABLE["episode"] == 1).height - 1]


def test_one_outcome_without_q_still_draws():
    table = build_traces([EpisodeTrace(v=[0.1], success=True, controller=[0])])
    assert "Q" not in words(figures.episode_trace(table, 0)).split()
    assert "failure" not in words(figures.value_traces(table))


def test_labels_do_not_overlap():
    table = build_traces(
        [EpisodeTrace(v=[0, 1 - 0.01 * i], success=i < 2, controller=[0, 0]) for i in range(4)]
    )
    figure = figures.value_traces(table)
    style.png(figure, dpi=50)
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert len(boxes) == 2
    assert not boxes[0].overlaps(boxes[1])


def test_missing_data_is_named():
    with pytest.raises(DataError, match="Episode 99 is not in the table, which has 12 episodes"):
        figures.value_traces(TABLE, episode=99)
    with pytest.raises(DataError, match="no swap-test score"):
        figures.swap_bars([])
    with pytest.raises(DataError, match="no success cells"):
        figures.success_bars(RunSummary("a", 0))
    with pytest.raises(DataError, match="no online round"):
        figures.rounds([])
    with pytest.raises(DataError, match="1 values for 2 names"):
        figures.residual_bars(ResidualSummary(("a", "b"), (0.1,)))


def test_svg_takes_the_colours_and_the_font_of_the_page():
    figure = figures.swap_bars([SwapScore("other_state", 9, 0.7, 0.6, 0.8, 1)])
    text = style.svg(figure, "swap")
    assert f"var(--fig-good, {style.GOOD})" in text
    assert "DejaVu" not in text
    assert not re.search(r"<g id=", text)
    assert "<metadata>" not in text
    again = figures.swap_bars([SwapScore("other_state", 9, 0.7, 0.6, 0.8, 1)])
    assert style.svg(again, "swap") == text


def test_save_by_suffix(tmp_path):
    figure = figures.success_bars(SUMMARY)
    style.save(figure, tmp_path / "f" / "a.png")
    style.save(figure, tmp_path / "f" / "a.svg")
    assert (tmp_path / "f" / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "f" / "a.svg").read_text()
