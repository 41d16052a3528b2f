"""Profiles of Gymnasium environments: what they accept, what they refuse, and how they say it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bora_cli.errors import ConfigError
from bora_cli.profiles import (
    EnvProfile,
    check_profile,
    list_environments,
    list_profiles,
    load_environment,
    load_profile,
    read_profile,
)
from tiny_env import POINT, PROFILE, write_profile


def point(tmp_path: Path, *edits: tuple[str, str]) -> EnvProfile:
    return load_environment(write_profile(tmp_path, *edits))


@pytest.mark.parametrize("name", list_environments())
def test_environments_that_come_with_bora_are_valid(name: str) -> None:
    profile = load_environment(name)
    assert profile.name == name
    (finding,) = check_profile(name)
    assert (finding.level, finding.message) == ("note", f"the environment '{profile.env.id}' was not opened")
    assert profile.action_spec.dim == len(profile.actions.deltas) + len(profile.actions.targets)


def test_the_door_is_there_under_three_names() -> None:
    door = load_environment("adroit_door")
    assert (door.action_spec.dim, len(door.state.names), door.dt) == (28, 39, 0.05)
    for name in (door.env.id, "AdroitHandDoor-v1"):
        assert load_environment(name) == door


def test_the_door_without_pictures_is_the_same_door() -> None:
    seen, blind = load_environment("adroit_door"), load_environment("adroit_door_state")
    assert [camera.source for camera in blind.cameras] == ["none", "none"]
    assert [camera.name for camera in blind.cameras] == [camera.name for camera in seen.cameras]
    assert (blind.state, blind.actions) == (seen.state, seen.actions)
    drawn = {"kwargs": {}, "shadows": True}
    assert blind.env == seen.env.model_copy(update=drawn)


def test_robots_and_environments_are_told_apart() -> None:
    assert not set(list_profiles()) & set(list_environments())
    assert isinstance(read_profile("adroit_door"), EnvProfile)
    with pytest.raises(
        ConfigError, match=r"describes a Gymnasium environment, not a robot. Use it as --env adroit_door"
    ):
        load_profile("adroit_door")
    with pytest.raises(ConfigError, match=r"Profile 'sim' has no \[env\] table"):
        load_environment("sim")
    with pytest.raises(
        ConfigError, match=f"No profile describes the environment '{POINT}'; those that come with bora"
    ):
        load_environment(POINT)


def test_units_become_si_and_groups_say_what_rests(tmp_path: Path) -> None:
    profile = point(tmp_path)
    spec = profile.action_spec
    np.testing.assert_allclose(spec.high, [0.05, 0.05, np.pi / 2], rtol=1e-6)
    assert spec.units == ("m/tick", "m/tick", "rad")
    assert spec.groups == {"arm": (0, 2), "hand": (2, 3)}
    assert profile.dt == 0.1


def test_the_hash_ignores_the_description_alone(tmp_path: Path) -> None:
    base = point(tmp_path).hash
    assert point(tmp_path, ("A point that", "A dot that")).hash == base
    assert point(tmp_path, ("max_ticks = 30", "max_ticks = 31")).hash != base


@given(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3))
def test_the_two_ways_of_counting_are_inverse(action: list[float]) -> None:
    profile = load_environment("adroit_door")
    there = np.resize(np.array(action), 28)
    np.testing.assert_allclose(profile.to_env(profile.from_env(there)), there, atol=1e-5)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (('instruction = "press the button"\n', ""), "key 'env.instruction' is missing"),
        (('name = "point"\n', ""), "key 'name' is missing"),
        (("max_ticks = 30", "max_tick = 30"), "unknown key 'env.max_tick'; did you mean 'max_ticks'?"),
        (('"10 Hz"', "10"), "env.control_rate: 10 has no unit"),
        (
            ('"0 deg"', '"0"'),
            "actions.targets.0.low: '0' is not a number with a unit; expected text like \"0.5 rad\"",
        ),
        (('"0 deg"', '"x deg"'), '"x deg" does not begin with a finite number'),
        (('"0 deg"', '"0 m"'), "action grip runs from 0 m to 1.5708 rad; expected one unit and low < high"),
        (('"0 deg"', '"91 deg"'), "expected one unit and low < high"),
        (
            ('{ info = "reached" }', "{ }"),
            "0 tests of success; expected one of info, reward, terminated, state",
        ),
        (('{ info = "reached" }', '{ info = "a", reward = 1 }'), "2 tests of success"),
        (('{ info = "reached" }', '{ state = "x" }'), "state and at_least belong together"),
        (
            ('{ info = "reached" }', '{ state = "z", at_least = 1 }'),
            "success.state is 'z'; expected one of state.names",
        ),
        (('"x", "y", "grip"', '"x", "x", "grip"'), "states x are listed twice"),
        (('name = "wrist"', 'name = "scene"'), "cameras scene are listed twice"),
        (('"dy"', '"dx"'), "actions dx are listed twice"),
        (("env_high = 1.0\n", ""), "env_low and env_high belong together"),
        (("env_high = 1.0", "env_high = -1.0"), "env_low -1 and env_high -1; expected low < high"),
        (("0.5, 0.5]", "0.5, 1.5]"), "crop of camera wrist is [0.0, 0.0, 0.5, 1.5]"),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path: Path, edit: tuple[str, str], text: str) -> None:
    path = write_profile(tmp_path, edit)
    with pytest.raises(ConfigError) as caught:
        load_environment(path)
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")
    assert "\n" not in str(caught.value)
    assert {finding.level for finding in check_profile(path)} == {"error"}


def test_a_file_without_the_table_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "rig.toml"
    path.write_text(PROFILE.replace("[env]", "[environment]").replace("[env.", "[environment."))
    with pytest.raises(ConfigError, match=r"rig.toml' has no \[env\] table; expected the profile"):
        load_environment(path)


def test_no_action_at_all_is_refused(tmp_path: Path) -> None:
    text = write_profile(tmp_path).read_text()
    start, end = text.index("deltas = ["), text.index("[[cameras]]")
    path = tmp_path / "none.toml"
    path.write_text(text[:start] + text[end:])
    with pytest.raises(ConfigError, match="no action is named; expected deltas, targets or both"):
        load_environment(path)
