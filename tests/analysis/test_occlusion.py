"""Covering parts of the image: the pictures, the masks, and what is said about critics that look elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bora_cli.analysis.analyze import analyze
from bora_cli.analysis.critic_page import verdict
from bora_cli.analysis.critic_summary import CriticSummary, OcclusionScore
from bora_cli.analysis.occlusion import (
    KINDS,
    SCHEMA,
    images_at,
    looked_at,
    occlusion_scores,
    occlusion_table,
    pictures,
    simulated_masks,
)
from bora_cli.analysis.occlusion_figures import occluded_pictures, occlusion_bars
from bora_cli.analysis.part_files import box_masks, file_masks
from bora_cli.checkpoint import load_trained
from bora_cli.control.loop import demonstrate
from bora_cli.errors import ConfigError, DataError, SchemaMismatch
from bora_cli.evaluate.resimulate import recorded, seen_parts
from bora_cli.seeds import stream
from bora_cli.sim.operator import EXPERT, SimulatedOperator
from bora_cli.sim.simulation import Simulation
from bora_cli.train.buffer import Buffer, load_buffer
from bora_cli.types import F32, U8
from toy_world import CAMERAS, toy_dataset, toy_demonstrations

SIZE = (64, 64)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_only_the_part_changes(seed: int) -> None:
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, (3, 2, 8, 8, 3), np.uint8)
    masks = draw.integers(0, 3, (3, 2, 8, 8), np.uint8)
    made = pictures(images, masks, draw)
    assert list(made) == [k for k in KINDS if k in made]
    changed = {k: (p != images).any(-1) for k, (p, _) in made.items()}
    assert not (changed["object"] & (masks != 2)).any()
    assert not (changed["hand"] & (masks != 1)).any()
    assert not (changed["object_and_hand"] & (masks == 0)).any()
    for kind in ("background_patch", "background_recoloured"):
        if kind in made:
            assert not (changed[kind] & (masks != 0)).any()
    whole, area = made["everything"]
    assert len(np.unique(whole.reshape(3, 2, -1, 3)[:, 0], axis=1)) == 3
    assert (whole[0, 0] == whole[2, 0, 5, 5]).all()
    assert (area == 1).all()
    assert made["object"][1] == pytest.approx((masks == 2).mean(axis=(1, 2, 3)))


class Looker:
    """A critic whose values are the mean red within a region, and the outcome if it looks at everything."""

    def __init__(self, region: Any) -> None:
        self.region = region

    def glance(self, rows: Any, images: U8, chunks: F32, mask: F32) -> tuple[F32, F32]:
        value = images[:, 0][:, *self.region, 0].mean(axis=(1, 2)).astype(np.float32)
        return value, value


@pytest.fixture
def buffer(toy_policy: Path, tmp_path: Path) -> Buffer:
    root = toy_dataset(tmp_path / "data", toy_demonstrations(8)).root
    return load_buffer([root], load_trained(toy_policy).load_backbone(), horizon=8, gamma=0.97, copies=1)


def scores(buffer: Buffer, region: Any) -> dict[str, Any]:
    """Ask a Looker about random images in which the object is the upper left quarter, the hand beside it."""
    chosen = looked_at(buffer, 6, rng())
    images = rng().integers(0, 256, (len(chosen), 2, *SIZE, 3), np.uint8)
    images[:, :, :32, :32] = rng().integers(0, 256, (len(chosen), 2, 1, 1, 3), np.uint8)
    boxes = [f"{part}:{c}={x},0,{x + 32},32" for part, x in (("object", 0), ("hand", 32)) for c in CAMERAS]
    masks = box_masks(boxes, CAMERAS, SIZE, len(chosen))
    table = occlusion_table(buffer, Looker(region), chosen, images, masks, rng())  # type: ignore[arg-type]
    assert dict(table.schema) == SCHEMA
    found = occlusion_scores(table, rng=rng())
    occlusion_bars(found)
    return {s.kind: s for s in found}


def test_a_critic_of_the_object_is_told_from_one_of_the_background(buffer: Buffer) -> None:
    good = scores(buffer, (slice(0, 32), slice(0, 32)))
    assert good["object"].v_change > 0.5
    assert good["hand"].v_change == good["background_patch"].v_change == 0
    assert good["background_recoloured"].v_change == good["background_recoloured"].q_change == 0
    assert good["object"].area == 0.25
    assert good["seen"].v_change == 0
    hacked = scores(buffer, (slice(32, 64), slice(0, 64)))
    assert hacked["object"].v_change == 0
    assert hacked["background_recoloured"].v_change > 0.5
    said = [" ".join(verdict(CriticSummary(3, 3, occlusion=tuple(s.values())))) for s in (good, hacked)]
    assert "standard deviations, more than covering as much background" in said[0]
    near = replace(good["background_patch"], v_change=0.4, v_change_lo=0.1, v_change_hi=9.0)
    unsure = verdict(CriticSummary(3, 3, occlusion=(good["object_and_hand"], near)))
    assert "not surely more than covering as much background" in unsure[0]
    assert "no more than covering as much background" in said[1]
    assert good["everything"].auroc == 0.5  # nothing to see: all episodes alike
    assert not any("everything covered" in s for s in said)
    reads_the_state = replace(good["everything"], auroc=0.9, auroc_lo=0.7)
    told = verdict(CriticSummary(3, 3, occlusion=(reads_the_state,)))
    assert told[0].startswith(
        "With everything covered V still tells the outcomes apart (AUROC 0.90): it reads them"
    )


def test_states_are_of_both_outcomes_and_all_times(buffer: Buffer) -> None:
    chosen = looked_at(buffer, 4, rng())
    w = buffer.windows
    episodes = np.unique(w.episode[chosen])
    assert [bool(buffer.episodes[i].success) for i in episodes].count(True) == 2
    assert len(episodes) == 4
    assert (w.e[chosen] == 8).all()
    assert (np.bincount(w.episode[chosen])[episodes] >= 1).all()
    with pytest.raises(DataError, match="does not say its gap"):
        simulated_masks(buffer, chosen)


def test_values_that_are_not_finite() -> None:
    table = pl.DataFrame(
        {
            "episode": [0],
            "tick": [0],
            "success": [True],
            "kind": ["seen"],
            "area": [0.0],
            "v": [np.nan],
            "q": [0.0],
        }
    )
    with pytest.raises(DataError, match="are not finite"):
        occlusion_scores(table, rng=rng())


def test_the_simulator_says_what_was_seen_in_a_recorded_episode() -> None:
    person = SimulatedOperator(EXPERT, stream("operator", 3))
    meta = {"task": "press_button", "setting": "standard", "gap": "none"}
    episode = demonstrate(Simulation("press_button"), person, scene_seed=100_011, meta=meta, images=False)
    first, last = seen_parts((recorded(episode), (0, len(episode) - 1)))
    assert first.shape == (2, 64, 64)
    assert (first != last).any()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (
            ["object=1,2,3,4"],
            r"'object=1,2,3,4' is no box; expected PART:CAMERA=X0,Y0,X1,Y1 .* object:scene=20,24",
        ),
        (["table:scene=1,2,3,4"], "a part of object, hand and a camera of scene, wrist"),
        (["hand:scene=9,2,3,4"], r"is empty or leaves the image of 64 x 64 px"),
        (["hand:wrist=0,0,65,4"], r"is empty or leaves the image"),
    ],
)
def test_what_is_no_box(boxes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        box_masks(boxes, CAMERAS, SIZE, 1)


def test_masks_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "masks.npz"
    moving = np.zeros((9, *SIZE), bool)
    moving[4, 10:20] = True
    still = np.zeros(SIZE, np.uint8)
    still[15:30] = 1
    np.savez(file, object_scene=moving, hand_scene=still)
    masks = file_masks(file, CAMERAS, SIZE, np.array([3, 4]), 9)
    assert (masks[:, 1] == 0).all()
    assert (masks[0, 0, 15:30] == 1).all()
    assert (masks[1, 0, 10:20] == 2).all()  # the object hides the hand
    with pytest.raises(
        SchemaMismatch, match=r"hand_scene of .* has shape \(64, 64\); expected \(32, 32\) or \(9, 32, 32\)"
    ):
        file_masks(file, CAMERAS, (32, 32), np.array([3]), 9)
    with pytest.raises(SchemaMismatch, match="has an array 'hand_scene'"):
        file_masks(file, ("wrist",), SIZE, np.array([3]), 9)
    file.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"is not a readable \.npz file"):
        file_masks(file, CAMERAS, SIZE, np.array([3]), 9)
    np.savez(file, object_scene=np.array([{"an": "object"}]))
    with pytest.raises(DataError, match=r"masks\.npz is not a readable") as raised:
        file_masks(file, CAMERAS, SIZE, np.array([3]), 9)
    assert "pickle" not in str(raised.value)
    assert ".." not in str(raised.value)
    with pytest.raises(DataError, match="There is no mask file at"):
        file_masks(tmp_path / "none.npz", CAMERAS, SIZE, np.array([3]), 9)


def test_analyze_covers_boxes_of_real_recordings_and_says_what_it_left_out(
    toy_policy: Path, toy_demos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bora_cli.analysis.analyze.draw", lambda *_: {})
    result = analyze(
        toy_policy, data=[toy_demos], out=tmp_path / "a", occlusion=4, boxes=["object:scene=20,20,50,50"]
    )
    assert [s["kind"] for s in result["occlusion"]] == ["seen", *(k for k in KINDS if k != "hand")]
    assert [Path(f).name for f in result["figures"]] == ["occluded.png"]
    assert pl.read_parquet(tmp_path / "a" / "occlusion.parquet")["kind"].n_unique() == 6
    result = analyze(toy_policy, data=[toy_demos], out=tmp_path / "a")
    assert not (tmp_path / "a" / "occlusion.parquet").exists()
    assert result["notes"][0].startswith("Nothing was covered: An episode does not say its gap")
    assert "<h3>Left out</h3>" in (tmp_path / "a" / "report.html").read_text()
    with pytest.raises(DataError, match="does not say its gap"):
        analyze(toy_policy, data=[toy_demos], out=tmp_path / "b", occlusion=4)
    monkeypatch.setattr("bora_cli.analysis.recordings.encode", lambda *_: pytest.fail("encoded"))
    with pytest.raises(ConfigError, match="is no box"):
        analyze(toy_policy, data=[toy_demos], out=tmp_path / "b", boxes=["table:scene=1,2,3,4"])


def test_images_are_those_of_the_ticks(buffer: Buffer, tmp_path: Path) -> None:
    chosen = looked_at(buffer, 3, rng())
    images = images_at([tmp_path / "data"], buffer, chosen, CAMERAS)
    assert images.shape == (len(chosen), 2, *SIZE, 3)
    occluded_pictures({"scene": images[:, 0], "wrist": images[:, 1]})
    w = buffer.windows
    for i, at in enumerate(chosen):
        episode = toy_demonstrations(8)[w.episode[at]]
        assert (images[i, 1] == episode.images["wrist"][w.t[at]]).all()


def test_no_panel_without_an_auroc() -> None:
    one = OcclusionScore("object", 5, 1, 0.1, 0.5, 0.4, 0.6, 0.5, 0.4, 0.6, None, None, None)
    assert len(occlusion_bars([replace(one, kind="seen"), one]).axes) == 1
    assert len(occlusion_bars([one, replace(one, auroc=0.7, auroc_lo=0.6, auroc_hi=0.8)]).axes) == 2
