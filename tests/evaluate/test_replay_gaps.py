"""A recorded episode is executed again exactly under every kind of gap and with switches of the scene."""

from __future__ import annotations

from pathlib import Path

import pytest

from bora_cli.evaluate.collect import collect
from bora_cli.evaluate.replay import replay


@pytest.mark.parametrize(
    ("gap", "setting", "identity"),
    [
        ("latency@2", "standard", "latency@2.0"),
        ("weak_hand+bias@0.5+latency", "unseen", "bias@0.5+latency@1.0+weak_hand@1.0"),
        ("scale@2", "unseen,hue=any,light=wide,distractors=2", "scale@2.0"),
        ("payload", "standard,table=wide,camera=wide", "payload@1.0"),
    ],
)
def test_replay_reproduces_every_state(tmp_path: Path, gap: str, setting: str, identity: str) -> None:
    dataset = collect(
        task="press_button", episodes=1, out=tmp_path / "demos", gap=gap, setting=setting, image_size=16
    )
    meta = dataset.episode(0, images=False).meta
    assert (meta["gap"], meta["setting"]) == (identity, setting)
    result = replay(tmp_path / "demos", 0)
    assert result.repeats
    assert result.difference == 0.0
