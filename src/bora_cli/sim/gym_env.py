"""The tasks of the suite as Gymnasium environments, under ids such as `bora/PickToy-v0`.

Importing this module registers them, which is what Gymnasium asks of a module named before the colon in
`gymnasium.make("bora_cli.sim.gym_env:bora/PickToy-v0")`.  Each task has one id per setting; task, setting, gap and
image size are keyword arguments of `make` too.
"""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from bora_cli.errors import ConfigError
from bora_cli.seeds import RANGES
from bora_cli.sim.gaps import Gap
from bora_cli.sim.simulation import CAMERAS, DT, STATE_NAMES, Simulation
from bora_cli.sim.state import Privileged, Snapshot
from bora_cli.sim.tasks import TASKS
from bora_cli.sim.variation import SETTINGS
from bora_cli.types import F32, U8, Observation

try:
    import gymnasium
    from gymnasium import spaces
except ImportError as error:
    raise ConfigError(
        "The package gymnasium is not installed; the Gymnasium environments need it.",
        "Install it with: pip install 'bora-cli[gym]'",
    ) from error

STATE_BOUND = 10.0
"""No number of the state (m, rad, or a component of a unit vector) comes near this."""
FRAME_SIZE = 320
"""Side of the pictures that `render` returns, px."""


class TaskEnv(gymnasium.Env[dict[str, Any], F32]):
    """One task of the suite, one tick per step.

    Observation: a dict with uint8 [image_size, image_size, 3] for each camera, "state" float32 [33] (see
    `STATE_NAMES`) and "instruction", a text.  Action: float32 [18], physical units, limits as in `ActionSpec`;
    `gymnasium.wrappers.RescaleAction(env, -1, 1)` makes it what most learners expect.  Reward, terminated and
    truncated are the simulation's.  info: scene_seed, success, and after a step `applied`, float32 [18], and `held`:
    whether the action had a number that is not finite, so that the robot held instead.
    What a policy must not see is in neither of them: `privileged` is the one way to it.
    Raises ConfigError for an unknown task, setting, gap or render mode.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / DT)}  # noqa: RUF012

    def __init__(
        self,
        task: str = "pick_toy",
        *,
        setting: str = "standard",
        gap: str | Gap = "none",
        image_size: int = 64,
        backend: str = "auto",
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ConfigError(
                f"Render mode {render_mode!r} does not exist; expected None or 'rgb_array'.",
                "Films are made from rgb_array pictures.",
            )
        self._sim = Simulation(task, setting=setting, gap=gap, image_size=image_size, backend=backend)
        self.render_mode = render_mode
        spec = self._sim.action_spec
        self.action_space = spaces.Box(spec.low.copy(), spec.high.copy(), dtype=np.float32)
        image = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        state = spaces.Box(-STATE_BOUND, STATE_BOUND, (len(STATE_NAMES),), np.float32)
        text = spaces.Text(max_length=200, charset=string.printable)
        self.observation_space = spaces.Dict(
            {**dict.fromkeys(CAMERAS, image), "state": state, "instruction": text}
        )
        self._scene_seed = -1

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Build a scene and return its first observation.

        options: {"scene_seed": n} names the scene; without it one is drawn from the demonstrations' range, so that
        learning here never meets a scene of `bora eval`.  The same `seed` draws the same scenes.
        Raises ConfigError for another option or a scene seed that is no non-negative integer.
        """
        super().reset(seed=seed)
        self._scene_seed = self._chosen_scene(options or {})
        obs = self._sim.reset(self._scene_seed)
        return _as_dict(obs), {"scene_seed": self._scene_seed, "success": False}

    def step(self, action: F32) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute one tick; action: float32 [18] in physical units."""
        result = self._sim.step(action)
        info = {
            "scene_seed": self._scene_seed,
            "success": result.success,
            "applied": result.applied.copy(),
            "held": not bool(np.isfinite(action).all()),
        }
        obs = _as_dict(self._sim.observe())
        return obs, result.reward, result.terminated, result.truncated, info

    def render(self) -> U8 | None:
        """Return a picture for people, uint8 [320, 320, 3], if the render mode is rgb_array."""
        return self._sim.frame(size=FRAME_SIZE) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Release the renderer."""
        self._sim.close()

    def privileged(self) -> Privileged:
        """Return what only scripted operators and metrics may read; a policy that reads it cheats."""
        return self._sim.privileged()

    def snapshot(self) -> Snapshot:
        """Return the complete state of the scene; the generator that draws scenes is not part of it."""
        return self._sim.snapshot()

    def restore(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return to a snapshot of this task, setting and gap, bit for bit, and observe there."""
        self._sim.restore(snapshot)
        self._scene_seed = snapshot.scene_seed
        return _as_dict(self._sim.observe())

    def _chosen_scene(self, options: dict[str, Any]) -> int:
        unknown = sorted(set(options) - {"scene_seed"})
        if unknown:
            raise ConfigError(
                f"Unknown reset option '{unknown[0]}'; expected scene_seed.",
                'Write reset(options={"scene_seed": 7}).',
            )
        if "scene_seed" not in options:
            return int(self.np_random.integers(*RANGES["collect"]))
        wanted = options["scene_seed"]
        if isinstance(wanted, bool) or not isinstance(wanted, int | np.integer) or wanted < 0:
            raise ConfigError(
                f"Scene seed {wanted!r} is no scene; expected an integer, 0 or more.",
                'Write reset(options={"scene_seed": 7}).',
            )
        return int(wanted)


def environment_id(task: str, setting: str = "standard") -> str:
    """Return the id of a task in a setting: ("pick_toy", "unseen") -> "bora/PickToyUnseen-v0"."""
    words = task.split("_") + ([] if setting == "standard" else setting.split("_"))
    return f"bora/{''.join(word.capitalize() for word in words)}-v0"


def register() -> None:
    """Register one id per task and setting; those already there stay as they are."""
    for task in TASKS:
        for setting in SETTINGS:
            name = environment_id(task, setting)
            if name not in gymnasium.registry:
                gymnasium.register(
                    name,
                    entry_point="bora_cli.sim.gym_env:TaskEnv",
                    kwargs={"task": task, "setting": setting},
                )


def _as_dict(obs: Observation) -> dict[str, Any]:
    return {**obs.images, "state": obs.state, "instruction": obs.prompt}


register()
