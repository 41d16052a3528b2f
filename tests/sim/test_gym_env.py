"""The suite's Gymnasium environments: what Gymnasium asks of them, and what we promise beside it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from bora_cli.errors import ConfigError
from bora_cli.seeds import RANGES
from bora_cli.sim.gym_env import TaskEnv, environment_id
from bora_cli.sim.limits import action_spec
from bora_cli.sim.simulation import CAMERAS, Simulation
from bora_cli.sim.state import Privileged
from bora_cli.sim.tasks import TASKS
from bora_cli.sim.variation import SETTINGS

RECOMMENDATION = "For Box action spaces, we recommend using a symmetric and normalized space"
"""The checker prefers normalised actions; ours are in physical units, on purpose."""


@pytest.fixture
def env() -> Iterator[gymnasium.Env[Any, Any]]:
    made = gymnasium.make("bora/PressButton-v0", image_size=16)
    yield made
    made.close()


def as_bytes(obs: dict[str, Any]) -> list[Any]:
    return [obs[key].tobytes() if isinstance(obs[key], np.ndarray) else obs[key] for key in sorted(obs)]


@pytest.mark.parametrize("task", TASKS)
def test_gymnasiums_checker_has_nothing_to_say(task: str) -> None:
    env = gymnasium.make(environment_id(task), image_size=16)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    env.close()
    assert [str(w.message) for w in said if RECOMMENDATION not in str(w.message)] == []


def test_every_task_and_setting_has_an_id() -> None:
    assert environment_id("pick_toy") == "bora/PickToy-v0"
    assert environment_id("pick_toy", "unseen") == "bora/PickToyUnseen-v0"
    for task in TASKS:
        for setting in SETTINGS:
            spec = gymnasium.spec(environment_id(task, setting))
            assert spec.kwargs == {"task": task, "setting": setting}


def test_gymnasium_finds_the_module_by_itself() -> None:
    code = "import gymnasium; print(gymnasium.make('bora_cli.sim.gym_env:bora/PressButton-v0').spec.id)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "bora/PressButton-v0"


def test_without_gymnasium_the_message_names_the_extra() -> None:
    code = "import sys; sys.modules['gymnasium'] = None\nimport bora_cli.sim.gym_env"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'bora-cli[gym]'" in result.stderr


def test_the_spaces_are_those_of_the_robot(env: gymnasium.Env[Any, Any]) -> None:
    spec = action_spec()
    assert isinstance(env.action_space, gymnasium.spaces.Box)
    assert isinstance(env.observation_space, gymnasium.spaces.Dict)
    assert np.array_equal(env.action_space.low, spec.low)
    assert np.array_equal(env.action_space.high, spec.high)
    assert set(env.observation_space) == {*CAMERAS, "state", "instruction"}


def test_a_named_scene_is_that_of_the_simulation(env: gymnasium.Env[Any, Any]) -> None:
    obs, info = env.reset(options={"scene_seed": 7})
    direct = Simulation("press_button", image_size=16)
    first = direct.reset(7)
    assert info["scene_seed"] == 7
    assert obs["instruction"] == first.prompt
    assert np.array_equal(obs["state"], first.state)
    assert all(np.array_equal(obs[camera], first.images[camera]) for camera in CAMERAS)
    action = action_spec().center
    ours, theirs = env.step(action), direct.step(action)
    assert np.array_equal(ours[4]["applied"], theirs.applied)
    assert ours[1:4] == (theirs.reward, theirs.terminated, theirs.truncated)
    direct.close()


def test_an_action_that_is_not_finite_holds_and_says_so(env: gymnasium.Env[Any, Any]) -> None:
    env.reset(options={"scene_seed": 7})
    action = action_spec().center
    assert env.step(action)[4]["held"] is False
    action[2] = np.nan
    info = env.step(action)[4]
    assert info["held"] is True
    assert not info["applied"][:6].any()


def test_equal_seeds_draw_equal_scenes(env: gymnasium.Env[Any, Any]) -> None:
    low, high = RANGES["collect"]

    def two_scenes() -> list[Any]:
        first, info = env.reset(seed=3)
        second, other = env.reset()
        assert low <= info["scene_seed"] < high
        assert info["scene_seed"] != other["scene_seed"]
        return [*as_bytes(first), *as_bytes(second), info, other]

    assert two_scenes() == two_scenes()


def test_running_out_of_time_truncates(env: gymnasium.Env[Any, Any]) -> None:
    env.reset(options={"scene_seed": 1})
    rest = env.unwrapped.privileged().hand_command  # type: ignore[attr-defined]
    still = np.concatenate([np.zeros(6), rest]).astype(np.float32)
    ended, ticks = (False, False), 0
    while not any(ended):
        *_, terminated, truncated, info = env.step(still)
        ended, ticks = (terminated, truncated), ticks + 1
    assert ended == (False, True)
    assert ticks == TASKS["press_button"].max_ticks
    assert not info["success"]


def test_nothing_privileged_is_observed(env: gymnasium.Env[Any, Any]) -> None:
    _, first = env.reset(options={"scene_seed": 2})
    *_, info = env.step(action_spec().center)
    assert set(first) | set(info) == {"scene_seed", "success", "applied", "held"}
    task_env = env.unwrapped
    assert isinstance(task_env, TaskEnv)
    assert isinstance(task_env.privileged(), Privileged)
    names = {field.name for field in dataclasses.fields(Privileged)}
    assert not names & set(env.observation_space)  # type: ignore[call-overload]


def test_a_snapshot_is_continued_bit_by_bit() -> None:
    env = TaskEnv("press_button", image_size=16)
    rng = np.random.default_rng(0)
    env.reset(options={"scene_seed": 4})
    actions = [rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32) for _ in range(4)]
    env.step(actions[0])
    kept, seen = env.snapshot(), as_bytes(env.step(actions[1])[0])
    following = [as_bytes(env.step(a)[0]) for a in actions[2:]]
    env.reset(options={"scene_seed": 5})
    env.restore(kept)
    assert as_bytes(env.step(actions[1])[0]) == seen
    assert [as_bytes(env.step(a)[0]) for a in actions[2:]] == following
    assert env.step(actions[0])[4]["scene_seed"] == 4
    env.close()


def test_settings_and_gaps_are_arguments() -> None:
    unseen = gymnasium.make("bora/PickToyUnseen-v0", image_size=16)
    same = gymnasium.make("bora/PickToy-v0", setting="unseen", gap="none", image_size=16)
    images = [e.reset(options={"scene_seed": 3})[0]["scene"] for e in (unseen, same)]
    assert np.array_equal(*images)
    unseen.close()
    same.close()


def test_pictures_for_people() -> None:
    env = gymnasium.make("bora/PressButton-v0", image_size=16, render_mode="rgb_array")
    env.reset(options={"scene_seed": 0})
    picture: Any = env.render()
    assert picture.shape == (320, 320, 3)
    assert picture.dtype == np.uint8
    env.close()


def test_several_at_once() -> None:
    envs = gymnasium.make_vec("bora/PressButton-v0", 2, vectorization_mode="sync", image_size=16)
    obs, _ = envs.reset(seed=0)
    assert obs["scene"].shape == (2, 16, 16, 3)
    assert obs["state"].shape == (2, 33)
    assert len(obs["instruction"]) == 2
    assert not np.array_equal(*obs["state"])
    envs.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scene": 7}, "Unknown reset option 'scene'; expected scene_seed."),
        ({"scene_seed": -1}, "Scene seed -1 is no scene; expected an integer, 0 or more."),
        ({"scene_seed": True}, "Scene seed True is no scene"),
        ({"scene_seed": "7"}, "Scene seed '7' is no scene"),
    ],
)
def test_wrong_options_are_refused(env: gymnasium.Env[Any, Any], options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        env.reset(options=options)
    assert text in str(caught.value)


def test_other_render_modes_are_refused() -> None:
    with pytest.raises(ConfigError, match="Render mode 'human' does not exist; expected None or 'rgb_array'"):
        TaskEnv("press_button", render_mode="human")
