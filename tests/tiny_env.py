"""A Gymnasium environment of the tests' own: a point with a gripper on a plane, and a profile for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from bora_cli.types import F32, U8

POINT = "tiny_env:tests/Point-v0"
FLAT = "tiny_env:tests/FlatPoint-v0"
REACH = 0.1
STEP = 0.05

PROFILE = """
name = "point"
description = "A point that has to reach a goal with its gripper closed."

[env]
id = "tiny_env:tests/Point-v0"
control_rate = "10 Hz"
max_ticks = 30
instruction = "press the button"
success = { info = "reached" }
initial_state = "start"

[env.kwargs]
goal = 0.5

[state]
keys = ["position", "grip"]
names = ["x", "y", "grip"]

[actions]
env_low = -1.0
env_high = 1.0
deltas = [
  { name = "dx", low = "-50 mm/tick", high = "50 mm/tick" },
  { name = "dy", low = "-50 mm/tick", high = "50 mm/tick" },
]
targets = [{ name = "grip", low = "0 deg", high = "90 deg" }]

[[cameras]]
name = "scene"
source = "camera"

[[cameras]]
name = "wrist"
source = "camera"
crop = [0.0, 0.0, 0.5, 0.5]
"""


def write_profile(directory: Path, *edits: tuple[str, str]) -> Path:
    """Write the profile with some of its text replaced; each old text must occur once."""
    text = PROFILE
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} must occur once"
        text = text.replace(old, new)
    path = directory / "point.toml"
    path.write_text(text)
    return path


class PointEnv(gymnasium.Env[dict[str, Any], F32]):
    """A point on the unit square: action [dx, dy, grip] from -1 to 1, reached where it is close and gripping."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, goal: float = 0.5, poison: bool = False, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1, 1, (3,), np.float32)
        self.observation_space = spaces.Dict(
            {
                "position": spaces.Box(-2, 2, (2,), np.float64),
                "grip": spaces.Box(0, 1, (1,), np.float64),
                "camera": spaces.Box(0, 255, (24, 32, 3), np.uint8),
            }
        )
        self.goal = np.array([goal, goal])
        self.poison = poison
        self.sent: list[F32] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        start = (options or {}).get("start")
        self.position = self.np_random.uniform(-0.2, 0.2, 2) if start is None else start["position"].copy()
        self.grip = 0.0
        self.sent = []
        return self._seen(), {}

    def step(self, action: F32) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.sent.append(action)
        self.position = np.clip(self.position + STEP * action[:2], -1, 1)
        self.grip = float(action[2] + 1) / 2
        distance = float(np.linalg.norm(self.position - self.goal))
        reached = distance < REACH and self.grip > 0.5
        if self.poison and len(self.sent) == 2:
            self.position = np.full(2, np.nan)
        lost = bool((self.position <= -1).any())
        return self._seen(), 10.0 if reached else -distance, lost, False, {"reached": np.bool_(reached)}

    def render(self) -> U8:  # type: ignore[override]
        image = np.zeros((24, 32, 3), np.uint8)
        row, column = (np.clip((self.position + 1) / 2, 0, 0.99) * [24, 32]).astype(int)
        image[row, column] = (255, 200, 0)
        return image

    def _seen(self) -> Any:
        camera = np.zeros((24, 32, 3), np.uint8) if self.poison else self.render()
        return {"position": self.position.copy(), "grip": np.array([self.grip]), "camera": camera}


class FlatPoint(PointEnv):
    """The same, observed as one array [x, y, grip]; pictures come from `render` alone."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.observation_space = spaces.Box(-2, 2, (3,), np.float64)  # type: ignore[assignment]

    def _seen(self) -> Any:
        return np.array([*self.position, self.grip])


class Expert:
    """A demonstrator who goes straight to the goal; reads the state, as any observer may."""

    def begin(self, rig: Any) -> None:
        pass

    def act(self, rig: Any) -> tuple[F32, bool]:
        away = 0.5 - rig.observe(images=False).state[:2]
        return np.array([*np.clip(away, -0.05, 0.05), np.pi / 2], np.float32), False


gymnasium.register("tests/Point-v0", entry_point="tiny_env:PointEnv")
gymnasium.register("tests/FlatPoint-v0", entry_point="tiny_env:FlatPoint")
