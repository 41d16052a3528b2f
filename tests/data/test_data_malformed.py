"""Whatever is wrong with a dataset: one error that says where, what and what to do; exit code 3; nothing changed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from episode_factory import CAMERAS, SIZE, SPEC, STATES, H, P, make_decision, make_episode
from malformed import CASES

from bora_cli.cli.app import main
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return one sound dataset with PNG images and one with video."""
    base = tmp_path_factory.mktemp("sound")
    for kind, codec in (("png", ""), ("video", "h264")):
        dataset = Dataset.create(
            base / kind, SPEC, STATES, CAMERAS, image_size=SIZE, fps=10, robot_type="test", video=codec
        )
        log = [make_decision(0, 2), make_decision(2, 4)]
        dataset.append(make_episode(6, seed=1, decisions=log))
        dataset.append(make_episode([P] * 3 + [H] * 4, seed=2))
        dataset.append(make_episode(4, seed=3, truncated=True, success=False))
        dataset.append(make_episode(7, seed=4))
        assert check(dataset.root) == []
    return {kind: base / kind for kind in ("png", "video")}


def fingerprint(root: Path) -> dict[str, tuple[str, int]]:
    """Return hash and time of change of every file."""
    return {
        str(p.relative_to(root)): (hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns)
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


@pytest.mark.parametrize("case", CASES)
def test_malformed_data_is_refused_with_one_clear_error(
    case: str,
    sound: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind, damage, message = CASES[case]
    root = Path(shutil.copytree(sound[kind], tmp_path / "d"))
    damage(root)
    before = fingerprint(root)
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as leaving:
        main(["data", "check", str(root)])
    said = "".join(capsys.readouterr())
    errors = [line for line in said.splitlines() if line.lower().startswith("error")]
    assert leaving.value.code == 3
    assert len(errors) == 1, said
    assert message in errors[0]
    assert ".json" in errors[0] or ".parquet" in errors[0] or ".mp4" in errors[0], "it names no file"
    assert errors[0].rstrip().endswith("."), "it names no remedy"
    assert fingerprint(root) == before


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 60
