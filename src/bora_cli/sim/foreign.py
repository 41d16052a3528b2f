"""Any Gymnasium environment as a rig: its profile says what its observations, actions and ends mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import ConfigError, MissingSystemLibrary, RobotFault, SchemaMismatch
from bora_cli.profiles import EnvProfile
from bora_cli.profiles.env import Picture
from bora_cli.sim.state import StepResult
from bora_cli.types import F32, U8, Observation

if TYPE_CHECKING:
    import gymnasium

_PROFILE = "Change the profile of the environment."


class EnvRig:
    """A Gymnasium environment, stepped one tick at a time.

    Success ends the episode as *terminated*, whatever the environment itself does.  There are no snapshots.
    image_size: px, side of the square images.  Raises ConfigError if gymnasium or the environment is not there,
    SchemaMismatch if its spaces are not what the profile says.
    """

    backend = "environment"

    def __init__(self, profile: EnvProfile, *, image_size: int = 64) -> None:
        self.profile = profile
        self.image_size = image_size
        self.action_spec = profile.action_spec
        self.state_names = profile.state.names
        self.cameras = tuple(camera.name for camera in profile.cameras)
        self.dt = profile.dt
        self.max_ticks = profile.env.max_ticks
        self._env = make_environment(profile)
        try:
            _require_spaces(self._env, profile)
        except SchemaMismatch:
            self._env.close()
            raise
        self._initial: dict[str, Any] | None = None
        self._seen: Any = None
        self._applied: F32 = self.rest()

    @property
    def environment(self) -> gymnasium.Env[Any, Any]:
        """The environment itself, for demonstrators who know it; a policy never gets the rig."""
        return self._env

    def start_from(self, initial: dict[str, Any] | None) -> None:
        """Let the next `prepare` begin in a recorded initial state: name -> numbers.

        Raises ConfigError if the profile does not say how the environment takes one.
        """
        if initial is not None and not self.profile.env.initial_state:
            raise ConfigError(
                f"The episode has an initial state, but profile '{self.profile.name}' does not say which reset"
                " option takes it.",
                'Add initial_state = "..." to its [env] table.',
            )
        self._initial = initial

    def prepare(self, scene_seed: int) -> None:
        """Reset the environment with a seed, or into the state that `start_from` named."""
        options = None
        if self._initial is not None:
            state = {name: np.asarray(value, np.float64) for name, value in self._initial.items()}
            options = {self.profile.env.initial_state: state}
        self._seen, _ = self._env.reset(seed=scene_seed, options=options)
        self._initial = None
        self._applied = self.rest()
        self._tick = self._held = 0

    def rest(self) -> F32:
        """Return the command that asks for nothing, [A]: no deltas, targets in the middle of their range."""
        rest = self.action_spec.center
        rest[self.action_spec.slice("arm")] = 0.0
        return rest

    def step(self, action: F32) -> StepResult:
        """Execute one tick.

        action: float32 [A] in the units of the profile, clipped to its limits; one with a number that is not
        finite repeats the last targets.  Raises SchemaMismatch for another shape, RobotFault if the environment
        answers with numbers that are not finite.
        """
        wanted = np.asarray(action, np.float32)
        if wanted.shape != (self.action_spec.dim,):
            raise SchemaMismatch(
                f"Action has shape {wanted.shape}; expected ({self.action_spec.dim},).",
                "Give one row in the order of the profile's actions.",
            )
        if not np.isfinite(wanted).all():
            wanted = self._applied.copy()
            wanted[self.action_spec.slice("arm")] = 0.0
        applied = self._applied = self.action_spec.clip(wanted)
        command = self.profile.to_env(applied).astype(self._env.action_space.dtype)
        self._tick += 1
        gained, met, ended, truncated = 0.0, False, False, False
        for _ in range(self.profile.env.steps_per_tick):
            reward, passed, ended, truncated = self._one_step(command)
            gained, met = gained + reward, met or passed
            if ended or truncated:
                break
        self._held = self._held + 1 if met else 0
        success = self._held >= self.profile.env.success.hold_ticks
        terminated = ended or success
        if self.profile.env.reward == "success":
            gained = self.profile.env.tick_reward(success)
        late = truncated or self._tick >= self.max_ticks
        return StepResult(applied.copy(), gained, terminated, late and not terminated, success)

    def _one_step(self, command: NDArray[Any]) -> tuple[float, bool, bool, bool]:
        """Step the environment once; returns its reward, whether the test of success is passed, and how it ended."""
        self._seen, reward, ended, truncated, info = self._env.step(command)
        state = self._state()
        if not np.isfinite(state).all():
            raise RobotFault(
                f"{self.profile.env.id} answered tick {self._tick} with a state that is not finite.",
                "Look for the cause in the environment; the episode is not recorded.",
            )
        passed = self.profile.env.success.met(self.state_names, state, float(reward), info, bool(ended))
        return float(reward), passed, bool(ended), bool(truncated)

    def hold(self) -> None:
        """Keep still; without a step nothing moves, so there is nothing to do."""

    def observe(self, images: bool = True) -> Observation:
        """Return what a policy may see; without images nothing is rendered."""
        prompt = self.profile.env.instruction
        pictures = self._pictures() if images else {}
        return Observation(images=pictures, state=self._state(), prompt=prompt, t=self._tick * self.dt)

    def frame(self, camera: str = "", size: int = 320, fancy: bool = True) -> U8:
        """Return a picture for people, uint8 [size, size, 3]: what `render` gives, or the first camera."""
        source = self.profile.cameras[0] if self.profile.cameras else Picture(name="render")
        return _fitted(
            self._source("render" if self._env.render_mode else source.source), source, size, whole=True
        )

    def close(self) -> None:
        """Close the environment."""
        self._env.close()

    def _state(self) -> F32:
        keys = self.profile.state.keys
        parts = [self._seen[key] for key in keys] if keys else [self._seen]
        flat: F32 = np.concatenate([np.asarray(part, np.float32).reshape(-1) for part in parts])
        return flat

    def _pictures(self) -> dict[str, U8]:
        sources = {camera.source: self._source(camera.source) for camera in self.profile.cameras}
        return {c.name: _fitted(sources[c.source], c, self.image_size) for c in self.profile.cameras}

    def _rendered(self) -> Any:
        try:
            return self._env.render()
        except Exception as error:  # graphics libraries raise almost anything
            why = " ".join(str(error).split())[:160].rstrip(". ") or type(error).__name__
            raise MissingSystemLibrary(
                f"{self.profile.env.id} cannot be rendered: {why}.",
                "Where there is no display set MUJOCO_GL=egl, or give the cameras the source none.",
            ) from error

    def _source(self, name: str) -> NDArray[Any]:
        if name == "none":
            return np.zeros((self.image_size, self.image_size, 3), np.uint8)
        image = self._rendered() if name == "render" else self._seen[name]
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,):
            what = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else repr(image)
            raise SchemaMismatch(
                f"Image source '{name}' of {self.profile.env.id} gave {what[:80]}; expected uint8 [H, W, 3].",
                _PROFILE,
            )
        return image


def make_environment(profile: EnvProfile) -> gymnasium.Env[Any, Any]:
    """Return the environment of a profile, with rendering if a camera needs it.

    Raises ConfigError if gymnasium, the environment's package or its id is missing, or `make` refuses the kwargs.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError(
            "The package gymnasium is not installed; --env needs it.",
            "Install it with: pip install -e '.[gym]' in the repository",
        ) from error
    wanted = profile.env
    rendered = not profile.cameras or any(camera.source == "render" for camera in profile.cameras)
    try:
        made = gymnasium.make(
            wanted.id,
            max_episode_steps=wanted.max_ticks * wanted.steps_per_tick,
            render_mode="rgb_array" if rendered else None,
            disable_env_checker=True,
            **wanted.kwargs,
        )
    except ImportError as error:
        raise ConfigError(
            f"Environment {wanted.id} cannot be imported: {str(error).rstrip('.')}.",
            "Install the package that has it.",
        ) from error
    except gymnasium.error.Error as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ConfigError(
            f"There is no environment {wanted.id}: {reason}.",
            'Write id = "package:Name-v1" in the [env] table if a package has to be imported first.',
        ) from error
    except TypeError as error:
        raise ConfigError(f"Environment {wanted.id} refuses its kwargs: {error}.", _PROFILE) from error
    if not wanted.shadows:
        _without_shadows(made, wanted.id)
    return made


def _without_shadows(env: gymnasium.Env[Any, Any], name: str) -> None:
    """Let a MuJoCo environment draw no shadows; raises ConfigError for one without a MuJoCo model."""
    quality = getattr(getattr(getattr(env.unwrapped, "model", None), "vis", None), "quality", None)
    if quality is None:
        env.close()
        raise ConfigError(
            f"{name} has no MuJoCo model whose shadows could be left out.",
            "Remove shadows from its [env] table.",
        )
    quality.shadowsize = 0


def _require_spaces(env: gymnasium.Env[Any, Any], profile: EnvProfile) -> None:
    """Raise SchemaMismatch at the first difference between the spaces and the profile."""
    who, spec = f"{profile.env.id}", profile.action_spec
    low, high = getattr(env.action_space, "low", None), getattr(env.action_space, "high", None)
    if not isinstance(low, np.ndarray) or not isinstance(high, np.ndarray) or low.shape != (spec.dim,):
        raise SchemaMismatch(
            f"{who} has the action space {env.action_space}; the profile names {spec.dim} numbers.", _PROFILE
        )
    asked = profile.to_env(spec.low), profile.to_env(spec.high)
    outside = (asked[0] < low - 1e-6 * np.abs(low)) | (asked[1] > high + 1e-6 * np.abs(high))
    if outside.any():
        i = int(outside.argmax())
        raise SchemaMismatch(
            f"{who} takes {spec.names[i]} from {low[i]:g} to {high[i]:g};"
            f" the profile would send {asked[0][i]:g} to {asked[1][i]:g}.",
            "Correct its limits, or env_low and env_high.",
        )
    shapes = _shapes(env, profile)
    total = sum(int(np.prod(shapes[key])) for key in profile.state.keys or ("",))
    if total != len(profile.state.names):
        raise SchemaMismatch(
            f"{who} observes {total} numbers; the profile names {len(profile.state.names)}.", _PROFILE
        )


def _shapes(env: gymnasium.Env[Any, Any], profile: EnvProfile) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the parts of an observation that the profile names, "" for a plain array."""
    space = env.observation_space
    images = [camera.source for camera in profile.cameras if camera.source not in ("render", "none")]
    parts: Any = getattr(space, "spaces", None)
    if not isinstance(parts, dict):
        if profile.state.keys or images:
            raise SchemaMismatch(
                f"{profile.env.id} observes a plain array ({space}); the profile names the keys"
                f" {', '.join(dict.fromkeys([*profile.state.keys, *images]))}.",
                "Leave state.keys out, and take images from render.",
            )
        return {"": space.shape or ()}
    if not profile.state.keys:
        raise SchemaMismatch(
            f"{profile.env.id} observes a dict ({', '.join(parts)}); the profile does not say which are the state.",
            "Name them in state.keys.",
        )
    missing = [key for key in (*profile.state.keys, *images) if key not in parts]
    if missing:
        raise SchemaMismatch(
            f"{profile.env.id} observes no '{missing[0]}'; it has {', '.join(parts)}.", _PROFILE
        )
    return {key: parts[key].shape or () for key in parts}


def _fitted(image: NDArray[Any], camera: Picture, size: int, whole: bool = False) -> U8:
    """Return the camera's part of an image, uint8 [size, size, 3]; whole: of all of it, at its own proportions."""
    from PIL import Image, ImageOps

    picture = Image.fromarray(image)
    if whole:
        return np.asarray(ImageOps.fit(picture, (size, size)))
    w, h = picture.size
    left, top, right, bottom = camera.crop
    box = (left * w, top * h, right * w, bottom * h)
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))
