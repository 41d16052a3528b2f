"""What the commands print: one JSON document on stdout, or tables for people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from bora_cli.cli import options
from bora_cli.cli.app import main
from bora_cli.evaluate.workers import Workers


@pytest.fixture(autouse=True)
def wide_plain_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recorded demonstrations."""
    from bora_cli.evaluate.collect import collect

    root = tmp_path_factory.mktemp("cli") / "demos"
    collect(task="press_button", episodes=3, out=root, gap="deployment", image_size=16, workers=Workers(1))
    return root


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


def document(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_names_are_those_of_the_library() -> None:
    """Options repeat the names so that --help needs no heavy import; here they are held together."""
    from bora_cli.algos.bora_offline import OfflineConfig
    from bora_cli.algos.bora_online import OnlineConfig
    from bora_cli.seeds import stream
    from bora_cli.sim.gaps import GAPS, parse_gap
    from bora_cli.sim.mistakes import MISTAKES, style_of_quality
    from bora_cli.sim.tasks import TASKS
    from bora_cli.sim.variation import SETTINGS
    from bora_cli.train.offline import METHODS
    from bora_cli.train.residual import OnlineMethod, ResidualKind

    assert tuple(TASKS) == options.TASKS
    assert tuple(SETTINGS) == options.SETTINGS
    assert tuple(GAPS) == options.GAPS
    assert METHODS == options.METHODS
    assert get_args(OnlineMethod) == options.ONLINE_METHODS
    assert get_args(ResidualKind) == options.RESIDUALS
    for config in (OfflineConfig, OnlineConfig):
        assert get_args(get_type_hints(config.preset)["name"]) == options.PRESETS
    parse_gap("bias@0.5+latency")
    assert options.known_gap("bias@0.5+latency") == "bias@0.5+latency"
    assert tuple(MISTAKES) == options.MISTAKES
    assert options.known_quality("jitter@2=0.1") == "jitter@2=0.1"
    assert options.known_setting("unseen,light=wide, hue=any") == "unseen,hue=any,light=wide"
    for quality in options.QUALITIES:
        style_of_quality(quality, stream("test", 0), "pick_toy")


def test_profile_list(capsys: pytest.CaptureFixture[str]) -> None:
    names = [profile["name"] for profile in document(capsys, "profile", "list")]
    assert names == ["franka_dexhand021", "sim", "adroit_door", "adroit_door_state"]
    _, out, _ = run(capsys, "profile", "list")
    assert "needs no hardware" in out


def test_profile_show(capsys: pytest.CaptureFixture[str]) -> None:
    shown = document(capsys, "profile", "show", "sim")
    assert shown["limits"]["leash"] == 0.05
    assert shown["action"]["names"][0] == "dx"
    assert len(shown["hash"]) == 12
    _, out, _ = run(capsys, "profile", "show", "sim")
    assert "workspace_low" in out
    assert "thumb_yaw" in out
    assert "joints of the arm" not in out
    _, out, _ = run(capsys, "profile", "show", "franka_dexhand021")
    assert "joints of the arm" in out
    assert "joint4     -2.97      -0.17         1.08" in out


def test_profile_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "profile", "check", "franka_dexhand021")
    assert code == 3
    assert "no driver 'franka' in this version (there is: sim); give yours as --driver MODULE:NAME" in out
    assert out.endswith("2 unfit: no robot will move with it\n")
    code, out, _ = run(capsys, "profile", "check", "adroit_door")
    assert code == 0
    assert out.startswith("note: ")
    assert out.endswith("was not opened\n")
    code, out, _ = run(capsys, "profile", "check", "sim")
    assert code == 0
    assert "unfit" not in out
    bad = tmp_path / "bad.toml"
    bad.write_text("[robot]\ndrivr = 'x'\n")
    code, out, _ = run(capsys, "profile", "check", bad)
    assert code == 3
    assert f"error: {bad}:2: unknown key 'robot.drivr'; did you mean 'driver'?" in out


def test_data_info_and_check(capsys: pytest.CaptureFixture[str], demos: Path, tmp_path: Path) -> None:
    assert document(capsys, "data", "info", demos)["episodes"] == 3
    assert document(capsys, "data", "check", demos) == []
    _, out, _ = run(capsys, "data", "check", demos)
    assert out == f"{demos}: nothing found\n"
    broken = shutil.copytree(demos, tmp_path / "broken")
    (broken / "data" / "chunk-000" / "file-001.parquet").write_bytes(b"PAR1 torn")
    code, out, _ = run(capsys, "data", "check", broken)
    assert code == 3
    assert out.startswith("error: episode 1: ")


@pytest.mark.parametrize("episode", [0, 1, 2])
def test_replay_repeats_what_was_recorded(
    capsys: pytest.CaptureFixture[str], demos: Path, episode: int
) -> None:
    result = document(capsys, "replay", demos, "--episode", episode)
    assert result["repeats"] is True
    assert result["ticks"] == result["recorded_ticks"]
    assert result["difference"] == 0.0
    assert (result["worst_state"], result["worst_tick"]) == (None, None)


@pytest.mark.parametrize(
    ("file", "says", "hint"),
    [
        ("traces.parquet", "it is an analysis of episodes", "bora notebook value_traces --run x"),
        ("demo.json", "it is a demo run", "Its datasets are x/demos"),
    ],
)
def test_what_is_no_dataset_says_what_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, says: str, hint: str
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / file).touch()
    code, _, err = run(capsys, "data", "info", "x")
    assert code == 3
    assert f"No dataset at x: {says}." in err
    assert hint in err


def test_replay_writes_a_film(capsys: pytest.CaptureFixture[str], demos: Path, tmp_path: Path) -> None:
    from PIL import Image

    code, _, err = run(capsys, "replay", demos, "--video", "film.webp")
    assert code == 0
    assert "film: film.webp" in err
    with Image.open(tmp_path / "film.webp") as film:
        assert film.n_frames > 5  # type: ignore[attr-defined]


def test_replay_of_an_episode_that_is_not_there(capsys: pytest.CaptureFixture[str], demos: Path) -> None:
    code, _, err = run(capsys, "replay", demos, "--episode", 9)
    assert code == 3
    assert f"error: {demos} has no episode 9; expected 0 to 2." in err


def test_replay_notices_another_outcome(demos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bora_cli.evaluate import replay
    from bora_cli.sim.gaps import get_gap

    monkeypatch.setattr(replay, "parse_gap", lambda text: get_gap("none"))
    assert not replay.replay(demos, 0).repeats


def test_collect_continues_its_own_and_refuses_another_job(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    same = ("collect", "--task", "press_button", "--image-size", 16, "--workers", 1, "--out", "demos")
    assert document(capsys, *same, "--episodes", 1)["episodes"] == 1
    assert document(capsys, *same, "--episodes", 2)["episodes"] == 2
    code, _, err = run(capsys, *same, "--episodes", 2, "--seed", 1)
    assert code == 3
    assert "error: demos holds another collection (seed 0 there, 1 asked)." in err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "doctor", "--json")
    report = json.loads(out)
    names = {check["name"] for check in report["checks"]}
    assert {
        "python",
        "torch",
        "cores",
        "torch device",
        "render rays",
        "backbone",
        "profile sim",
        "disk",
    } <= names
    assert report["ok"] == (code == 0)


def test_train_evaluate_analyze_and_adapt(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every wrapper fits the library: a few updates on a fresh backbone, from data to a run of rounds."""
    from PIL import Image

    from bora_cli.models.vlm import build_tiny

    words = ["press", "the", "button", "push", "down", "with", "your", "finger"]
    build_tiny(words, 0).save(tmp_path / "backbone")
    task, gap = ("--task", "press_button"), ("--gap", "deployment")
    document(capsys, "collect", *task, "--seed", 3, "--episodes", 6, "--workers", 1, "--out", "demos")
    trained = document(
        capsys,
        "train",
        "bora",
        "--data",
        "demos",
        "--backbone",
        "backbone",
        "--updates",
        4,
        "--out",
        "policy",
    )
    assert trained["method"] == "bora"
    one = ("--episodes", 1, "--workers", 1)
    judged = document(capsys, "eval", "policy", *task, *gap, *one, "--video", "film.webp")
    assert judged["episodes"] == 1
    assert judged["trials"][0]["scene_seed"] == 7
    with Image.open(tmp_path / "film.webp") as film:
        assert film.size == (320, 320)
    _, out, _ = run(capsys, "eval", "policy", *task, *one)
    assert "of 1 succeeded" in out
    assert document(capsys, "analyze", "policy", "--data", "demos", "--out", "report")["episodes"] == 6
    adapted = document(capsys, "online", "policy", *task, *gap, *one, "--rounds", 1, "--out", "run")
    assert len(adapted["rounds"]) == 1
    (why,) = adapted["warnings"]
    _, _, err = run(capsys, "online", "policy", *task, *gap, *one, "--rounds", 1, "--out", "run")
    assert "4 are needed; the policy is unchanged" in why
    assert f"warning: {why}\n" in err
    assert "next: bora eval" not in err
    code, _, err = run(capsys, "online", "policy", *task, *one, "--rounds", 1, "--out", "run")
    assert code == 3
    assert "error: run holds another online run" in err
