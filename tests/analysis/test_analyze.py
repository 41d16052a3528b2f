"""`bora analyze` on recorded episodes of the point world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bora_cli.analysis import analyze as module
from bora_cli.analysis.analyze import analyze
from bora_cli.analysis.folder import read_folder
from bora_cli.analysis.style import new_figure
from bora_cli.checkpoint import load_trained, save_trained
from bora_cli.errors import CheckpointError, DataError
from bora_cli.types import Episode
from toy_world import toy_dataset, toy_demonstrations


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return toy_demonstrations(8)


def run(policy: Path, episodes: list[Episode], out: Path) -> dict[str, Any]:
    data = toy_dataset(out.with_name(f"{out.name} data"), episodes)
    return analyze(policy, data=[data.root], out=out)


def test_it_writes_traces_numbers_figures_and_thumbnails(
    toy_policy: Path, episodes: list[Episode], tmp_path: Path
) -> None:
    out = tmp_path / "analysis"
    result = run(toy_policy, episodes, out)
    assert result["episodes"] == 8
    folder = read_folder(out)
    assert len(folder.traces) == sum(len(e) for e in episodes)
    assert {len(ticks) for ticks in folder.thumbnails.values()} <= set(range(1, 13))
    shown = [episodes[i].success for i in folder.thumbnails]
    assert (shown.count(True), shown.count(False)) == (3, 3)
    assert json.loads((out / "critic.json").read_text())["successes"] == 4
    assert {Path(f).name for f in result["figures"]} >= {"value_traces.png", "swap.png", "reliability.png"}
    assert all(Path(f).stat().st_size > 1000 for f in result["figures"])


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("killed_in", ["write_folder", "write_json", "save"])
def test_a_killed_analysis_leaves_what_was_there(
    toy_policy: Path,
    episodes: list[Episode],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_in: str,
    before: bool,
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    out, data = tmp_path / "analysis", toy_dataset(tmp_path / "data", episodes[:4]).root
    if before:
        out.mkdir()
        (out / "critic.json").write_text("an earlier one")
        (out / "notes.txt").write_text("mine")
    monkeypatch.setattr(module, "draw", lambda *_: {"blank": new_figure(1.0, 1.0)})
    with monkeypatch.context() as patch:
        patch.setattr(module, killed_in, killed)
        with pytest.raises(KeyboardInterrupt):
            analyze(toy_policy, data=[data], out=out)
    if before:
        assert {f.name: f.read_text() for f in out.iterdir()} == {
            "critic.json": "an earlier one",
            "notes.txt": "mine",
        }
    else:
        assert not out.exists()
    result = analyze(toy_policy, data=[data], out=out)
    assert result["figures"] == [str(out / "blank.png")]
    assert json.loads((out / "critic.json").read_text())["successes"] == 2
    assert len(read_folder(out).traces) == sum(len(e) for e in episodes[:4])
    assert (out / "notes.txt").exists() == before  # what an analysis does not write is not its own
    assert sorted(f.name for f in tmp_path.iterdir()) == ["analysis", "data"]


@pytest.mark.parametrize("successes", [0, 1])
def test_one_success_or_none_is_enough(
    toy_policy: Path,
    episodes: list[Episode],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    successes: int,
) -> None:
    monkeypatch.setattr(module, "draw", lambda *_: {})
    good = [e for e in episodes if e.success][:successes]
    bad = [e for e in episodes if not e.success][:2]
    result = run(toy_policy, [*good, *bad], tmp_path / "analysis")
    assert result["successes"] == successes
    one = "Every demonstration failed, so V has no outcomes to tell apart"
    assert any(one in note for note in result["notes"]) == (successes == 0)
    assert len(result["swap"]) > 0


def test_what_cannot_be_analysed(toy_policy: Path, episodes: list[Episode], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs two or more episodes"):
        run(toy_policy, episodes[:1], tmp_path / "one")
    blind = load_trained(toy_policy)
    blind.critic = None
    with pytest.raises(CheckpointError, match=r"blind has no critic\. Train one with `bora train bora`"):
        run(save_trained(tmp_path / "blind", blind), episodes[:2], tmp_path / "two")


def test_what_is_wrong_with_a_mask_file_is_told_before_anything_is_encoded(
    toy_policy: Path, episodes: list[Episode], tmp_path: Path
) -> None:
    data, worked = toy_dataset(tmp_path / "data", episodes[:4]).root, []

    def progress(*of: Any) -> None:
        worked.append(of)

    for file, message in (("none.npz", "There is no mask file"), ("torn.npz", "is not a readable")):
        (tmp_path / "torn.npz").write_bytes(b"PK")
        with pytest.raises(DataError, match=message):
            analyze(toy_policy, data=[data], out=tmp_path / "out", masks=tmp_path / file, progress=progress)
    assert not worked
    assert not (tmp_path / "out").exists()
