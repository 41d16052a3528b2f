"""A Gymnasium environment as a rig: units, images, ends, and clear words where it does not fit its profile."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bora_cli.errors import BoraError, ConfigError, MissingSystemLibrary, RobotFault, SchemaMismatch
from bora_cli.profiles import load_environment
from bora_cli.profiles.env import TICK_COST as PROFILE_COST
from bora_cli.sim.foreign import EnvRig
from bora_cli.sim.simulation import TICK_COST
from tiny_env import PointEnv, write_profile

Make = Callable[..., EnvRig]
TO_GOAL = np.array([0.05, 0.05, np.pi / 2], np.float32)
STILL = np.array([0, 0, 0], np.float32)
NEAR = {"position": [0.4, 0.4]}
FLAT_EDITS = (
    ("tiny_env:tests/Point-v0", "tiny_env:tests/FlatPoint-v0"),
    ('keys = ["position", "grip"]\n', ""),
    ('name = "scene"\nsource = "camera"', 'name = "scene"'),
    ('source = "camera"\ncrop', 'source = "render"\ncrop'),
)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[EnvRig] = []

    def rig(*edits: tuple[str, str], **options: Any) -> EnvRig:
        made.append(EnvRig(load_environment(write_profile(tmp_path, *edits)), **options))
        return made[-1]

    yield rig
    for one in made:
        one.close()


def test_actions_are_physical_here_and_normalised_there(make: Make) -> None:
    rig = make()
    assert rig.action_spec.units == ("m/tick", "m/tick", "rad")
    rig.prepare(0)
    before = rig.observe(images=False).state
    result = rig.step(np.array([0.025, -0.05, np.pi / 4], np.float32))
    env: Any = rig._env.unwrapped
    assert env.sent[0].dtype == np.float32
    np.testing.assert_allclose(env.sent[0], [0.5, -1, 0], atol=1e-6)
    np.testing.assert_allclose(rig.observe(images=False).state - before, [0.025, -0.05, 0.5], atol=1e-6)
    np.testing.assert_allclose(result.applied, [0.025, -0.05, np.pi / 4])


def test_limits_hold_and_nonsense_repeats_the_last_targets(make: Make) -> None:
    rig = make()
    rig.prepare(0)
    np.testing.assert_allclose(rig.step(np.full(3, 9, np.float32)).applied, [0.05, 0.05, np.pi / 2])
    np.testing.assert_allclose(rig.step(np.full(3, np.nan, np.float32)).applied, [0, 0, np.pi / 2])
    np.testing.assert_allclose(rig.rest(), [0, 0, np.pi / 4])
    with pytest.raises(SchemaMismatch, match=r"Action has shape \(2,\); expected \(3,\)"):
        rig.step(np.zeros(2, np.float32))


def test_without_limits_of_its_own_the_environment_gets_si(make: Make) -> None:
    rig = make(("env_low = -1.0\nenv_high = 1.0\n", ""), ('"90 deg"', '"57.2 deg"'))
    rig.prepare(0)
    rig.step(np.array([0.01, 0, 0.5], np.float32))
    env: Any = rig._env.unwrapped
    np.testing.assert_allclose(env.sent[0], [0.01, 0, 0.5], atol=1e-6)


def test_images_are_cropped_and_square(make: Make) -> None:
    rig = make(image_size=16)
    rig.start_from({"position": [-0.6, -0.6]})
    rig.prepare(0)
    images = rig.observe().images
    assert {name: image.shape for name, image in images.items()} == dict.fromkeys(rig.cameras, (16, 16, 3))
    assert images["wrist"].max() > images["scene"].max()  # the upper left quarter shows the point larger
    assert rig.observe(images=False).images == {}
    assert rig.frame(size=40).shape == (40, 40, 3)


def test_a_plain_array_and_render_do_as_well(make: Make) -> None:
    rig = make(*FLAT_EDITS, image_size=16)
    rig.prepare(0)
    obs = rig.observe()
    assert obs.state.shape == (3,)
    assert obs.images["scene"].max() > 0
    assert obs.prompt == "press the button"


def test_a_graphics_library_that_is_missing_is_said_in_one_error(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make(*FLAT_EDITS, image_size=16)
    rig.prepare(0)

    def fail(self: PointEnv) -> None:
        raise RuntimeError("an OpenGL platform\nlibrary has not been loaded.")

    monkeypatch.setattr(PointEnv, "render", fail)
    with pytest.raises(MissingSystemLibrary, match="platform library has not been loaded") as error:
        rig.observe()
    assert "MUJOCO_GL=egl" in error.value.hint


def test_success_terminates_and_pays_as_in_the_suite(make: Make) -> None:
    assert PROFILE_COST == TICK_COST
    rig = make()
    rig.start_from(NEAR)
    rig.prepare(0)
    results = [rig.step(TO_GOAL) for _ in range(2)]
    first = next(r for r in results if r.success)
    assert (first.terminated, first.truncated) == (True, False)
    assert first.reward == pytest.approx(1 - 0.5 / 30)


@pytest.mark.parametrize(
    ("test", "ticks"),
    [
        ('{ info = "reached" }', 1),
        ('{ info = "reached", hold_ticks = 3 }', 3),
        ("{ reward = 10.0 }", 1),
        ('{ state = "x", at_least = 0.52 }', 3),
    ],
)
def test_success_is_what_the_profile_says(make: Make, test: str, ticks: int) -> None:
    rig = make(('{ info = "reached" }', test))
    rig.start_from(NEAR)
    rig.prepare(0)
    done = [rig.step(TO_GOAL).success for _ in range(ticks)]
    assert done == [False] * (ticks - 1) + [True]


def test_the_environments_own_end_can_be_success_or_not(make: Make) -> None:
    for test, success in (("{ terminated = true }", True), ('{ info = "reached" }', False)):
        rig = make(('{ info = "reached" }', test))
        rig.start_from({"position": [-0.99, 0.0]})
        rig.prepare(0)
        result = rig.step(-TO_GOAL)
        assert (result.terminated, result.truncated, result.success) == (True, False, success)


def test_the_clock_truncates(make: Make) -> None:
    rig = make(("max_ticks = 30", "max_ticks = 4"), ('start"\n', 'start"\nreward = "environment"\n'))
    rig.prepare(0)
    results = [rig.step(STILL) for _ in range(4)]
    assert [r.truncated for r in results] == [False, False, False, True]
    assert not any(r.terminated for r in results)
    assert results[0].reward < -0.3  # the distance, as the environment counts


def test_a_tick_may_be_several_steps_of_the_environment(make: Make) -> None:
    often = ("max_ticks = 30", 'max_ticks = 3\nsteps_per_tick = 4\nreward = "environment"')
    rig = make(often)
    rig.prepare(0)
    before = rig.observe(images=False).state
    result = rig.step(np.array([0.01, 0, 0], np.float32))
    env: Any = rig._env.unwrapped
    assert len(env.sent) == 4
    np.testing.assert_allclose(rig.observe(images=False).state - before, [0.04, 0, 0], atol=1e-6)
    assert result.reward < -4 * 0.3  # four times the distance
    assert [rig.step(STILL).truncated for _ in range(2)] == [False, True]


def test_success_inside_a_tick_counts(make: Make) -> None:
    past = ("goal = 0.5", "goal = 0.4")
    rig = make(("max_ticks = 30", "max_ticks = 30\nsteps_per_tick = 6"), past)
    rig.start_from(NEAR)
    rig.prepare(0)
    result = rig.step(TO_GOAL)
    assert (
        np.linalg.norm(rig.observe(images=False).state[:2] - 0.4) > 0.3
    )  # it went on, to the end of the tick
    assert (result.success, result.terminated) == (True, True)


def test_a_policy_may_be_shown_nothing(make: Make) -> None:
    dark = ('name = "scene"\nsource = "camera"', 'name = "scene"\nsource = "none"')
    rig = make(dark, image_size=16)
    rig.prepare(0)
    images = rig.observe().images
    assert images["scene"].shape == (16, 16, 3)
    assert not images["scene"].any()
    assert images["wrist"].any()


def test_shadows_are_left_out_where_there_is_a_model(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    without = ("max_ticks = 30", "max_ticks = 30\nshadows = false")
    with pytest.raises(ConfigError, match="has no MuJoCo model whose shadows could be left out"):
        make(without)
    quality = SimpleNamespace(shadowsize=4096)
    model = SimpleNamespace(vis=SimpleNamespace(quality=quality))
    monkeypatch.setattr(PointEnv, "model", model, raising=False)
    make(without)
    assert quality.shadowsize == 0


def test_the_same_seed_begins_the_same(make: Make) -> None:
    rig = make()

    def start(seed: int) -> bytes:
        rig.prepare(seed)
        return rig.observe(images=False).state.tobytes()

    assert start(3) == start(3) != start(4)


def test_a_recorded_start_is_used_once(make: Make) -> None:
    rig = make()
    rig.start_from(NEAR)
    rig.prepare(1)
    np.testing.assert_allclose(rig.observe(images=False).state, [0.4, 0.4, 0], atol=1e-6)
    rig.prepare(1)
    assert rig.observe(images=False).state[0] != pytest.approx(0.4)
    with pytest.raises(ConfigError, match=r"does not say which reset option takes it. Add initial_state"):
        make(('initial_state = "start"\n', "")).start_from(NEAR)


def test_a_state_that_is_not_finite_is_a_fault(make: Make) -> None:
    rig = make(("goal = 0.5", "goal = 0.5\npoison = true"))
    rig.prepare(0)
    rig.step(STILL)
    with pytest.raises(RobotFault, match="answered tick 2 with a state that is not finite"):
        rig.step(STILL)


@pytest.mark.parametrize(
    ("edits", "kind", "text"),
    [
        (
            [("tiny_env:tests/Point-v0", "tests/Pint-v0")],
            ConfigError,
            "There is no environment tests/Pint-v0: Environment `Pint` doesn't exist in namespace tests",
        ),
        (
            [("tiny_env:tests/Point-v0", "no_such_package:Point-v0")],
            ConfigError,
            "no_such_package:Point-v0 cannot be imported: No module named 'no_such_package'.",
        ),
        ([("goal = 0.5", "gaol = 0.5")], ConfigError, "refuses its kwargs: "),
        (
            [('targets = [{ name = "grip", low = "0 deg", high = "90 deg" }]', "")],
            SchemaMismatch,
            "has the action space Box(-1.0, 1.0, (3,), float32); the profile names 2 numbers.",
        ),
        (
            [("env_low = -1.0", "env_low = -2.0")],
            SchemaMismatch,
            "takes dx from -1 to 1; the profile would send -2 to 1. Correct its limits, or env_low and env_high.",
        ),
        (
            [('"x", "y", "grip"]', '"x", "y"]')],
            SchemaMismatch,
            "observes 3 numbers; the profile names 2.",
        ),
        (
            [('["position", "grip"]', '["position", "hand"]')],
            SchemaMismatch,
            "observes no 'hand'; it has camera, grip, position.",
        ),
        (
            [('keys = ["position", "grip"]\n', "")],
            SchemaMismatch,
            "observes a dict (camera, grip, position); the profile does not say which are the state.",
        ),
        (
            [("tiny_env:tests/Point-v0", "tiny_env:tests/FlatPoint-v0")],
            SchemaMismatch,
            "the profile names the keys position, grip, camera.",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    make: Make, edits: list[tuple[str, str]], kind: type[BoraError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        make(*edits)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_info_key_or_image_is_named(make: Make) -> None:
    rig = make(('{ info = "reached" }', '{ info = "success" }'))
    rig.prepare(0)
    with pytest.raises(ConfigError, match="The environment's info has no 'success'; it has reached"):
        rig.step(STILL)
    rig = make(('name = "scene"\nsource = "camera"', 'name = "scene"\nsource = "position"'))
    rig.prepare(0)
    with pytest.raises(
        SchemaMismatch, match=r"Image source 'position' .* gave float64 \[2\]; expected uint8"
    ):
        rig.observe()


def test_a_missing_gymnasium_is_told_with_its_remedy(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ConfigError, match="gymnasium is not installed") as caught:
        make()
    assert "pip install -e '.[gym]'" in caught.value.hint


def test_the_sentence_of_a_missing_package_ends_with_one_full_stop(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gymnasium

    def refuse(*_: object, **__: object) -> None:
        raise ImportError("Install mujoco_py first.")

    monkeypatch.setattr(gymnasium, "make", refuse)
    with pytest.raises(ConfigError, match=r"cannot be imported: Install mujoco_py first\. Install the"):
        make()
