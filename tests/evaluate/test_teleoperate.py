"""A session of driving: keys decide, ticks take their time, and what is recorded is what was done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from desk_fakes import FakeDesk, FakeTime, driver, job

from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import ConfigError
from bora_cli.evaluate.teleoperate import Session, enlarged
from bora_cli.input.keyboard import Keyboard
from bora_cli.profiles import find_profile, load_profile
from bora_cli.seeds import scene_seeds
from bora_cli.sim.tasks.press_button import TIP_FROM_TOOL
from bora_cli.types import Controller


def drive(
    script: list[tuple[float, str]], out: Path | None = None, **options: Any
) -> tuple[Session, FakeDesk]:
    desk = FakeDesk(FakeTime(), script, **options)
    session = Session(job(), driver(desk), out)
    session.run()
    return session, desk


def test_a_key_is_one_step_of_the_arm(tmp_path: Path) -> None:
    session, _ = drive([(0.0, "enter"), (0.45, "r"), (0.95, "n"), (1.5, "q")], tmp_path / "mine")
    episode = session.dataset.episode(0)  # type: ignore[union-attr]
    moved = np.flatnonzero(episode.action[:, :6].any(axis=1))
    assert len(moved) == 1
    np.testing.assert_allclose(episode.action[moved[0], :6], [0, 0, 0.025, 0, 0, 0])
    np.testing.assert_array_equal(episode.human, episode.proposed)
    assert set(episode.controller) == {Controller.DEMO}
    assert not episode.success
    assert episode.terminated[-1]
    assert episode.meta["judged_by"] == "person"
    assert episode.meta["operator"] == "person"
    assert episode.meta["devices"] == ["keyboard"]


@pytest.mark.parametrize(("believed", "moved"), [("0.25 s", 1), ("0.11 s", 0)])
def test_the_profile_says_how_long_a_device_is_believed(
    believed: str, moved: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = find_profile("sim").read_text()
    (tmp_path / "rig.toml").write_text(
        text.replace('watchdog = "200 ms"', f'watchdog = "200 ms"\nwatchdog_operator = "{believed}"')
    )
    monkeypatch.setattr(Keyboard, "press", lambda keys, key, t: keys._pressed.append((key, t - 0.12)))
    desk = FakeDesk(FakeTime(), [(0.0, "enter"), (0.45, "r"), (0.95, "n"), (1.5, "q")])
    profile = load_profile(tmp_path / "rig.toml")
    asked = replace(job(), profile=str(tmp_path / "rig.toml"), profile_hash=profile.hash)
    session = Session(asked, driver(desk), tmp_path / "mine")
    session.run()
    episode = session.dataset.episode(0)  # type: ignore[union-attr]
    assert np.count_nonzero(episode.action[:, :6].any(axis=1)) == moved
    assert episode.meta["profile_hash"] == profile.hash != load_profile("sim").hash


def test_ticks_take_as_long_as_they_should() -> None:
    session, desk = drive([(0.0, "enter"), (2.02, "n"), (2.5, "q")])
    assert 20 <= session.tally.ticks <= 22
    assert session.tally.late == 0
    assert desk.elapsed >= 2.0


def test_away_is_away_in_the_picture(tmp_path: Path) -> None:
    """The scene camera faces the robot: what is away for the person is towards the robot's base."""
    session, _ = drive([(0.0, "enter"), (0.15, "w"), (0.5, "n"), (1.0, "q")], tmp_path / "mine")
    moved = session.dataset.episode(0).action[:, :3].sum(axis=0)  # type: ignore[union-attr]
    assert moved[0] < -0.01
    assert moved[2] == pytest.approx(0.0)


def test_the_signs_of_a_profile_are_the_persons(tmp_path: Path) -> None:
    """Who stands on the other side pushes away what comes nearer in the picture."""
    text = find_profile("sim").read_text()
    there = tmp_path / "there.toml"
    there.write_text(text.replace('ramp = "0.2 s"', 'ramp = "0.2 s"\naxis_signs = [-1, -1, 1, -1, -1, 1]'))
    script = [(0.0, "enter"), (0.15, "w"), (0.5, "n"), (1.0, "q")]
    given = replace(job(), profile=str(there), profile_hash=load_profile(str(there)).hash)
    session = Session(given, driver(FakeDesk(FakeTime(), script)), tmp_path / "mine")
    session.run()
    moved = session.dataset.episode(0).action[:, :3].sum(axis=0)  # type: ignore[union-attr]
    assert moved[0] > 0.01


def test_success_by_word_is_kept_beside_what_the_simulator_saw(tmp_path: Path) -> None:
    session, desk = drive([(0.0, "enter"), (0.5, "y"), (1.0, "q")], tmp_path / "mine")
    episode = session.dataset.episode(0)  # type: ignore[union-attr]
    assert episode.success
    assert (episode.meta["judged_by"], episode.meta["simulator_success"]) == ("person", False)
    assert "success, 7 ticks; the simulator saw no success" in desk.scenes[-1].lines
    assert session.tally.successes == 1


def test_a_discarded_episode_repeats_its_scene(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    script = [(0.0, "enter"), (0.5, "z"), (1.0, "enter"), (1.5, "n"), (2.0, "enter"), (2.5, "n"), (3.0, "q")]
    session, _ = drive(script, out)
    dataset = Dataset.open(out)
    seeds = [dataset.episode(i, images=False).meta["scene_seed"] for i in range(2)]
    assert seeds == scene_seeds("collect", 3, 2)
    assert (session.tally.discarded, session.tally.recorded) == (1, 2)
    assert not check(out)


def test_a_recording_goes_on_with_the_next_scene(tmp_path: Path) -> None:
    once = [(0.0, "enter"), (0.3, "n"), (1.0, "q")]
    drive(once, tmp_path / "mine")
    session, _ = drive(once, tmp_path / "mine")
    assert session.dataset.episode(1).meta["scene_seed"] == scene_seeds("collect", 3, 2)[1]  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="holds another collection"):
        Session(job(seed=4), driver(FakeDesk(FakeTime())), tmp_path / "mine")


def test_stopping_discards_the_episode_that_runs(tmp_path: Path) -> None:
    session, _ = drive([(0.0, "enter"), (0.5, "q")], tmp_path / "mine")
    assert len(session.dataset) == 0  # type: ignore[arg-type]


def test_closing_the_window_is_stopping(tmp_path: Path) -> None:
    session, _ = drive([(0.0, "enter")], tmp_path / "mine", gone_at=1.0)
    assert len(session.dataset) == 0  # type: ignore[arg-type]


def test_a_held_enter_begins_once_and_ends_nothing() -> None:
    session, _ = drive([*((0.03 * i, "enter") for i in range(20)), (1.0, "n"), (2.0, "q")])
    assert session.tally.recorded == 1
    assert session.tally.ticks >= 9


def test_time_runs_out(tmp_path: Path) -> None:
    desk = FakeDesk(FakeTime(), [(0.0, "enter")])
    session = Session(job(limit_s=1.0), driver(desk), tmp_path / "mine")
    session.run(episodes=1)
    episode = session.dataset.episode(0)  # type: ignore[union-attr]
    assert len(episode) == 10
    assert episode.truncated[-1]
    assert episode.meta["judged_by"] == "simulator"


def test_lines_tell_what_happens() -> None:
    _, desk = drive([(0.0, "enter"), (0.2, "g"), (0.3, "space"), (0.4, "-"), (0.8, "n"), (1.0, "q")])
    texts = ["  ".join(scene.lines) for scene in desk.scenes]
    assert "press enter to begin, q to stop" in texts[0]
    assert any("axes move the fingers" in text and "hand to close" in text for text in texts)
    assert "step 0.5" in texts[-1]


def test_pictures_are_those_of_both_cameras() -> None:
    _, desk = drive([(0.0, "q")], picture_size=32)
    assert {camera: p.shape for camera, p in desk.scenes[0].pictures.items()} == {
        "scene": (32, 32, 3),
        "wrist": (32, 32, 3),
    }


def test_enlarging_repeats_pixels() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert enlarged(image, 5).shape == (4, 4, 3)
    np.testing.assert_array_equal(enlarged(image, 5)[::2, ::2], image)
    np.testing.assert_array_equal(enlarged(image, 1), image)


@pytest.mark.slow
def test_the_keyboard_is_enough_to_press_the_button(tmp_path: Path) -> None:
    """Somebody who sees where the fingertip and the button are presses it, key by key, in the time there is."""
    desk = FakeDesk(FakeTime(), [(0.0, "enter")])
    session = Session(job(), driver(desk), tmp_path / "mine")
    postures = list(load_profile("sim").postures)

    def keys() -> Iterator[str]:
        if session.waiting or desk.time.slept % 20:  # one look per tick
            return
        now = session.rig.privileged()
        if now.tick == 0:
            yield str(1 + postures.index("point"))
        away = now.target_position - np.array(TIP_FROM_TOOL) - now.commanded_position
        yaw = np.arctan2(-now.view[1], -now.view[0])
        ahead = np.cos(yaw) * away[0] + np.sin(yaw) * away[1]
        left = np.cos(yaw) * away[1] - np.sin(yaw) * away[0]
        yield "=" if max(abs(ahead), abs(left)) > 0.05 else "-"
        if abs(ahead) > 0.004:
            yield "w" if ahead > 0 else "s"
        if abs(left) > 0.004:
            yield "a" if left > 0 else "d"
        if max(abs(ahead), abs(left)) < 0.008:
            yield "f"
        elif away[2] > -0.06:
            yield "r"

    desk.typist = keys
    assert session.run(episodes=1).successes == 1
    episode = session.dataset.episode(0)  # type: ignore[union-attr]
    assert (episode.meta["judged_by"], episode.success) == ("simulator", True)
    assert len(episode) < 150
