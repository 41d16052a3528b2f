"""What a profile says about a Gymnasium environment: how its observations, actions and ends map onto ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from bora_cli.errors import ConfigError
from bora_cli.profiles.schema import Part
from bora_cli.profiles.units import UNITS, Hertz
from bora_cli.types import F32, ActionSpec, content_hash

F64 = NDArray[np.float64]

ACTION_UNITS: dict[str, tuple[str, float]] = {
    **UNITS,
    "m/tick": ("m/tick", 1.0),
    "mm/tick": ("m/tick", 1e-3),
    "rad/tick": ("rad/tick", 1.0),
    "deg/tick": ("rad/tick", math.pi / 180),
    "N": ("N", 1.0),
    "Nm": ("Nm", 1.0),
    "none": ("none", 1.0),
}
"""As `UNITS`, and what a profile of a robot has no use for.  "none" is for numbers that have no unit."""


TICK_COST = 0.5
"""Sum of the costs per tick over a whole episode, as in `bora_cli.sim.simulation`."""


class Amount(Part):
    """A number of any kind with its unit, written as text: "0.5 rad", "-1 none".  value: SI."""

    value: float
    unit: str


def _amount(given: Any) -> Any:
    words = given.split() if isinstance(given, str) else []
    if len(words) != 2 or words[1] not in ACTION_UNITS:
        known = ", ".join(ACTION_UNITS)
        raise ValueError(f'{given!r} is not a number with a unit; expected text like "0.5 rad" ({known})')
    unit, factor = ACTION_UNITS[words[1]]
    try:
        value = float(words[0]) * factor
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f'"{given}" does not begin with a finite number; expected text like "0.5 rad"')
    return Amount(value=value, unit=unit)


Limit = Annotated[Amount, BeforeValidator(_amount)]


class Success(Part):
    """When the task counts as fulfilled: exactly one of four tests, passed at `hold_ticks` ticks in a row.

    A tick of several steps passes it if one of them does.
    info: key of the info dict that must be true.  reward: the environment's reward must reach this.
    terminated: the environment must have ended the episode.  state: name of a state number that must reach
    `at_least`; the only test that can be applied to recorded data too.
    """

    info: str | None = None
    reward: float | None = None
    terminated: bool = False
    state: str | None = None
    at_least: float | None = None
    hold_ticks: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _one(self) -> Self:
        tests = (self.info is not None, self.reward is not None, self.terminated, self.state is not None)
        if sum(tests) != 1:
            raise ValueError(
                f"{sum(tests)} tests of success; expected one of info, reward, terminated, state"
            )
        if (self.state is None) != (self.at_least is None):
            raise ValueError("state and at_least belong together; expected both or neither")
        return self

    def met(
        self, names: tuple[str, ...], state: F32, reward: float, info: Mapping[str, Any], terminated: bool
    ) -> bool:
        """Return whether the test is passed at one tick; names, state: [S], as in the profile.

        Raises ConfigError if the info dict has no such key.
        """
        if self.info is not None:
            if self.info not in info:
                raise ConfigError(
                    f"The environment's info has no '{self.info}'; it has {', '.join(info) or 'nothing'}.",
                    "Change success in the profile's [env] table.",
                )
            return bool(np.any(info[self.info]))
        if self.reward is not None:
            return reward >= self.reward
        if self.state is not None and self.at_least is not None:
            return bool(state[names.index(self.state)] >= np.float32(self.at_least))
        return terminated


class Environment(Part):
    """Which environment, how often it is stepped, for how long, and what it is asked to do.

    id: as `gymnasium.make` takes it; "package:Name-v1" imports the package first.  kwargs: given to `make`.
    control_rate: ticks per second.  steps_per_tick: how often the environment is stepped with the action of one
    tick.  max_ticks: the episode is truncated there.  shadows: False leaves them out of rendered pictures, which
    needs a MuJoCo model and is many times faster without a GPU.  initial_state: reset option that takes a recorded
    initial state, "" if the environment has none.  reward: "success" is the suite's own (1 at success, small costs
    that add up to 0.5 over max_ticks), on which the training presets were measured; "environment" is what `step`
    returns, summed over the steps of a tick.
    """

    id: Annotated[str, Field(min_length=1)]
    control_rate: Hertz
    max_ticks: Annotated[int, Field(ge=1)]
    instruction: Annotated[str, Field(min_length=1)]
    success: Success
    initial_state: str = ""
    steps_per_tick: Annotated[int, Field(ge=1)] = 1
    shadows: bool = True
    reward: Literal["success", "environment"] = "success"
    kwargs: dict[str, Any] = Field(default_factory=dict)

    def tick_reward(self, success: bool) -> float:
        """Return the suite's reward of one tick."""
        return float(success) - TICK_COST / self.max_ticks


class State(Part):
    """The numbers a policy sees.  keys: of a dict observation, in this order; empty for a plain array."""

    names: Annotated[tuple[str, ...], Field(min_length=1)]
    keys: tuple[str, ...] = ()


class ActionNumber(Part):
    """One number of the action with its limits, in the unit in which it is recorded."""

    name: str
    low: Limit
    high: Limit

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low.unit != self.high.unit or not self.low.value < self.high.value:
            raise ValueError(
                f"action {self.name} runs from {self.low.value:g} {self.low.unit} to {self.high.value:g}"
                f" {self.high.unit}; expected one unit and low < high"
            )
        return self


class Actions(Part):
    """The action row, in the environment's order: first deltas (0 asks for nothing), then targets.

    env_low, env_high: what the environment calls the limits, if it counts differently; then each action is
    mapped linearly.  Without them it gets the numbers as they are, in SI.
    """

    env_low: float | None = None
    env_high: float | None = None
    deltas: tuple[ActionNumber, ...] = ()
    targets: tuple[ActionNumber, ...] = ()

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.deltas and not self.targets:
            raise ValueError("no action is named; expected deltas, targets or both")
        if (self.env_low is None) != (self.env_high is None):
            raise ValueError("env_low and env_high belong together; expected both or neither")
        if self.env_low is not None and self.env_high is not None and not self.env_low < self.env_high:
            raise ValueError(f"env_low {self.env_low:g} and env_high {self.env_high:g}; expected low < high")
        return self

    @property
    def env_range(self) -> tuple[float, float] | None:
        """Limits in the environment's own numbers, where they are not those of the profile."""
        if self.env_low is None or self.env_high is None:
            return None
        return self.env_low, self.env_high


class Picture(Part):
    """One camera.  source: "render", the key of an image in a dict observation, or "none": a black picture, for
    policies that shall live on the state and the instruction.
    crop: left, top, right, bottom as shares of the picture.
    """

    name: str
    source: str = "render"
    crop: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        left, top, right, bottom = self.crop
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"crop of camera {self.name} is {list(self.crop)};"
                " expected left < right and top < bottom, from 0 to 1"
            )
        return self


class EnvProfile(Part):
    """How a Gymnasium environment becomes a rig."""

    name: str
    description: str = ""
    env: Environment
    state: State
    actions: Actions
    cameras: tuple[Picture, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        actions = [a.name for a in (*self.actions.deltas, *self.actions.targets)]
        named = {"states": self.state.names, "actions": actions, "cameras": [c.name for c in self.cameras]}
        for what, names in named.items():
            twice = sorted({name for name in names if list(names).count(name) > 1})
            if twice:
                raise ValueError(f"{what} {', '.join(twice)} are listed twice; expected distinct names")
        if self.env.success.state not in (None, *self.state.names):
            raise ValueError(f"success.state is '{self.env.success.state}'; expected one of state.names")
        return self

    @property
    def dt(self) -> float:
        """Seconds per tick."""
        return 1.0 / self.env.control_rate

    @property
    def hash(self) -> str:
        """Short hash of everything but the description."""
        return content_hash(self.model_dump(mode="json", exclude={"description"}))

    @cached_property
    def action_spec(self) -> ActionSpec:
        """The action row; the group "arm" holds the deltas, "hand" the targets."""
        numbers = (*self.actions.deltas, *self.actions.targets)
        split = len(self.actions.deltas)
        return ActionSpec(
            names=tuple(a.name for a in numbers),
            units=tuple(a.low.unit for a in numbers),
            low=np.array([a.low.value for a in numbers], np.float32),
            high=np.array([a.high.value for a in numbers], np.float32),
            groups={"arm": (0, split), "hand": (split, len(numbers))},
        )

    def to_env(self, action: F32) -> F64:
        """Return actions float [..., A], in the profile's units, as the environment wants them."""
        values = np.asarray(action, np.float64)
        if self.actions.env_range is None:
            return values
        low, high = self.actions.env_range
        share = (values - self._low) / (self._high - self._low)
        return low + share * (high - low)

    def from_env(self, action: F64) -> F32:
        """Return the environment's actions float [..., A] in the profile's units; not clipped."""
        values = np.asarray(action, np.float64)
        if self.actions.env_range is not None:
            low, high = self.actions.env_range
            values = self._low + (values - low) / (high - low) * (self._high - self._low)
        return values.astype(np.float32)

    @property
    def _low(self) -> F64:
        return self.action_spec.low.astype(np.float64)

    @property
    def _high(self) -> F64:
        return self.action_spec.high.astype(np.float64)
