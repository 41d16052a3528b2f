"""An online run as tables: what people changed, why they took over, what has happened so far."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bora_cli.analysis import live, online, online_figures
from bora_cli.analysis.style import png
from bora_cli.errors import DataError
from bora_cli.types import Controller, Decision
from toy_world import toy_dataset, toy_demonstrations

ROUNDS = [
    {"index": i, "episodes": 3, "ticks": 30, "human_ticks": 6, "takeovers": 2, "base_k": 1, "residual_k": 2}
    | {"release_n": 4, "released": True}
    for i in (1, 2)
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An online run of two rounds of three episodes, made by hand."""
    root = tmp_path_factory.mktemp("online") / "run"
    episodes = toy_demonstrations(6)
    for i, e in enumerate(episodes):
        e.controller[:] = Controller.POLICY
        e.human[:] = np.nan
        e.meta |= {"round": 1 + i // 3, "scene_seed": 10 + i, "takeovers": 0, "control_changes": []}
        if i % 2 == 0:
            e.controller[2:4] = Controller.HUMAN
            e.human[2:4] = e.proposed[2:4] + 0.5
            e.meta["takeovers"] = 1
            e.meta["control_changes"] = [
                {"tick": 2, "event": "takeover", "reason": "the object slipped"},
                {"tick": 4, "event": "release", "reason": "the correction took effect"},
            ]
        base = np.zeros((4, e.action.shape[1]), np.float32)
        lam = float(i >= 3)
        added = base + np.float32(0.25 * lam)
        tokens = np.zeros((0, 0), np.float16)
        e.decisions = [Decision(0, 0, "", lam, 4, base, added, base + added, tokens, executed=2)]
    toy_dataset(root / "episodes", episodes)
    (root / "job.json").write_text(json.dumps({"task": "reach", "rounds": 2, "episodes": 3}))
    for r in ROUNDS:
        folder = root / f"round-{r['index']}"
        folder.mkdir()
        (folder / "round.json").write_text(json.dumps(r | {"human_share": 0.2}))
        lines = [{"phase": "online critic", "update": u, "v": 0.1 * u} for u in (1, 2)]
        lines += [{"phase": "residual", "update": u, "residual_rms": 0.1} for u in (1, 2)]
        text = "\n".join(json.dumps(x) for x in lines)
        (folder / "metrics.jsonl").write_text(text + '\n{"phase": "resid')  # the last line is being written
    return root


def test_the_tables_say_who_did_what(run):
    found = online.read_online(run)
    assert found.episodes["human_ticks"].to_list() == [2, 0, 2, 0, 2, 0]
    assert found.episodes["round"].to_list() == [1, 1, 1, 2, 2, 2]
    assert found.episodes["lam"].to_list() == [0, 0, 0, 1, 1, 1]
    assert found.changes.select("episode", "tick", "until", "reason").row(0) == (
        0,
        2,
        4,
        "the object slipped",
    )
    half = found.spec.half_range
    given = online.columns(found.ticks, "correction")
    known = np.isfinite(given).all(1)
    assert known.sum() == 6
    np.testing.assert_allclose(given[known], np.broadcast_to(0.5 / half, (6, half.size)), rtol=1e-4)
    acted = online.columns(found.ticks.filter(pl.col("episode") == 3), "residual")
    np.testing.assert_allclose(acted[:2], np.broadcast_to(0.25 / half, (2, half.size)), rtol=1e-5)
    assert not acted[2:].any()
    assert [r.index for r in found.rounds] == [1, 2]
    assert found.metrics.height == 8


def test_a_copy_says_the_same(run, tmp_path):
    found = online.read_online(run)
    picture = np.full((8, 8, 3), 90, np.uint8)
    online.write_online(tmp_path, found, {(0, 2): picture})
    again = online.read_online(tmp_path)
    for name in online.TABLES:
        assert getattr(again, name).equals(getattr(found, name), null_equal=True), name
    assert (again.rounds, again.job) == (found.rounds, found.job)
    assert again.frame(0, 2).shape == (8, 8, 3)
    assert again.frame(1, 2) is None
    assert found.frame(0, 2) is not None
    assert live.read_live(tmp_path).done


def test_what_is_no_online_run_is_named(run, tmp_path):
    with pytest.raises(DataError, match="There is nothing at"):
        online.read_online(tmp_path / "none")
    with pytest.raises(DataError, match="holds no online run"):
        online.read_online(tmp_path)
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(DataError, match="has no episode yet"):
        online.read_online(tmp_path)
    online.write_online(tmp_path / "copy", online.read_online(run), {})
    (tmp_path / "copy" / "ticks.parquet").unlink()
    with pytest.raises(DataError, match=r"lacks ticks\.parquet"):
        online.read_online(tmp_path / "copy")


def test_every_figure_is_drawn(run):
    found = online.read_online(run)
    drawn = [
        online_figures.takeover_map(found, episode=2),
        online_figures.corrections(found),
        online_figures.corrections(found, round_=1),
        online_figures.reasons(found),
        online_figures.learning(found.metrics),
        online_figures.progress(found.episodes),
    ]
    assert all(png(f).startswith(b"\x89PNG") for f in drawn)
    with pytest.raises(DataError, match="No tick with a correction"):
        online_figures.corrections(found, round_=7)


def test_a_run_without_an_episode_or_a_takeover_is_told(run):
    found = online.read_online(run)
    with pytest.raises(DataError, match="no episode yet"):
        online_figures.progress(found.episodes.clear())
    bare = online.OnlineRun(
        run,
        {},
        (),
        found.spec,
        found.metrics.clear(),
        found.episodes,
        found.ticks,
        found.changes.clear(),
    )
    with pytest.raises(DataError, match="Nobody took over"):
        online_figures.reasons(bare)
    with pytest.raises(DataError, match="Nothing has been learned"):
        online_figures.learning(bare.metrics)


def test_the_live_view_follows_a_run(run, tmp_path):
    now = live.read_live(run)
    assert (now.done, now.wanted, now.episodes.height) == (True, 6, 6)
    early = tmp_path / "early"
    shutil.copytree(run, early)
    shutil.rmtree(early / "round-2")
    begun = live.read_live(early)
    assert not begun.done
    last = float(begun.episodes["finished"][-1])
    assert not any("No episode for" in a for a in live.alarms(begun, last + 30))
    assert any("No episode for 200 s" in a for a in live.alarms(begun, last + 200))
    assert not any("No episode for" in a for a in live.alarms(begun, last + 7200))
    shutil.rmtree(early / "episodes")
    assert live.read_live(early).episodes.height == 0
    alone = live.read_live(run / "episodes")
    assert (alone.wanted, alone.episodes.height) == (0, 6)
    with pytest.raises(DataError, match="neither an online run nor a dataset"):
        live.read_live(tmp_path)
    with pytest.raises(DataError, match="There is nothing at"):
        live.read_live(tmp_path / "none")


def test_alarms_name_what_is_wrong(run):
    now = live.read_live(run)
    bad = now.episodes.with_columns(
        success=pl.lit(False), human_ticks=pl.col("ticks"), takeovers=pl.lit(4, pl.Int32)
    )
    metrics = pl.DataFrame({"round": [1], "phase": ["residual"], "update": [1], "loss": [float("nan")]})
    found = live.alarms(live.Live(run, {}, bad, metrics), float(bad["finished"][-1]))
    assert any("The last 5 episodes failed" in a for a in found)
    assert any("A person drove 100 % of the last 5 episodes" in a for a in found)
    assert any("needed 4 takeovers" in a for a in found)
    assert any("'loss' of the training is not finite" in a for a in found)
