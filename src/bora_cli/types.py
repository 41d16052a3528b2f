"""The nouns of bora: observations, actions, episodes and decisions.  numpy only.

Words: a *tick* is one period of the control loop (dt seconds); a *chunk* is `horizon` consecutive actions predicted at
once, of which `execute` are executed before the policy decides again; a *decision* is one such prediction.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.errors import SchemaMismatch

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
Bool = NDArray[np.bool_]


class Controller(IntEnum):
    """Who produced the action of a tick."""

    POLICY = 0
    HUMAN = 1
    BLENDED = 2
    """Between policy and human, during take-over or hand-back."""
    ASSIST = 3
    DEMO = 4
    HELD = 5
    """Nobody: the robot held because whoever should drive was silent or sent no number."""


INTERVENING = (Controller.HUMAN, Controller.BLENDED, Controller.ASSIST)
"""Controllers of ticks in which a person has a share in what a policy's roll-out does."""


@dataclass(frozen=True)
class ActionSpec:
    """Names, units and limits of an action row; the order of names is the order of columns on disk, for ever.

    low, high: float32 [A] in `units`.  groups: name -> (start, stop), e.g. {"arm": (0, 6), "hand": (6, 18)}.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    low: F32
    high: F32
    groups: dict[str, tuple[int, int]]

    def __post_init__(self) -> None:
        n = len(self.names)
        if not (len(self.units) == n and self.low.shape == (n,) and self.high.shape == (n,)):
            raise SchemaMismatch(f"Action spec has {n} names but units/limits of other lengths.")
        self.low.setflags(write=False)
        self.high.setflags(write=False)

    @property
    def dim(self) -> int:
        return len(self.names)

    @property
    def center(self) -> F32:
        """Middle of the limits, [A]."""
        return ((self.low + self.high) / 2).astype(np.float32)

    @property
    def half_range(self) -> F32:
        """Half the distance between the limits, [A]: one *command unit* per dimension."""
        return ((self.high - self.low) / 2).astype(np.float32)

    def slice(self, group: str) -> slice:
        if group not in self.groups:
            raise SchemaMismatch(
                f"Unknown action group '{group}'.", f"Known groups: {', '.join(self.groups)}."
            )
        return slice(*self.groups[group])

    def clip(self, action: F32) -> F32:
        return np.clip(action, self.low, self.high).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "units": list(self.units),
            "low": [float(x) for x in self.low],
            "high": [float(x) for x in self.high],
            "groups": {k: list(v) for k, v in self.groups.items()},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ActionSpec:
        return cls(
            names=tuple(data["names"]),
            units=tuple(data["units"]),
            low=np.asarray(data["low"], np.float32),
            high=np.asarray(data["high"], np.float32),
            groups={k: (int(v[0]), int(v[1])) for k, v in data["groups"].items()},
        )

    def require_same(
        self, other: ActionSpec, what: str, hint: str = "Use data and checkpoint of one robot."
    ) -> None:
        """Raise SchemaMismatch with the differences, and what to do, unless both specs agree."""
        mine, theirs = self.to_json(), other.to_json()
        bad = [k for k in mine if mine[k] != theirs[k]]
        if not bad:
            return
        if self.dim != other.dim:
            sizes = (f"{spec.dim} numbers, {spec.names[0]} to {spec.names[-1]}" for spec in (self, other))
            detail = ", against ".join(sizes)
        else:
            detail = "; ".join(f"{k}: {self._differing(mine[k], theirs[k])}" for k in bad)
        raise SchemaMismatch(f"{what}: action specs differ ({detail}).", hint)

    def _differing(self, mine: Any, theirs: Any) -> str:
        """Say where two entries of equal specs' JSON first differ, and in how many places more."""
        if isinstance(mine, dict):
            return f"{mine} against {theirs}"
        at = [i for i, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b]
        more = f" and {len(at) - 1} more" if at[1:] else ""
        return f"{mine[at[0]]!r} against {theirs[at[0]]!r} at {self.names[at[0]]}{more}"


@dataclass(frozen=True)
class Observation:
    """What a policy may see at one tick.

    images: camera name -> uint8 [H, W, 3].  state: float32 [S], proprioception in `state_names` order of the robot.
    prompt: the instruction.  t: monotonic seconds of the oldest sensor in it.
    """

    images: dict[str, U8]
    state: F32
    prompt: str
    t: float = 0.0


@dataclass
class Decision:
    """One inference of the policy; the row of the decision log.

    t_start: tick of the episode.  base, residual, final: float32 [H, A] physical units with
    final = base + lam * residual.  executed: ticks really executed.  closed: why it ended, one of
    horizon | takeover | release | terminated | truncated.  tokens: float16 [N, W] that the backbone gave.
    shadow: True where the policy only computed while a person was driving.
    """

    t_start: int
    noise_seed: int
    base_hash: str
    lam: float
    planned: int
    base: F32
    residual: F32
    final: F32
    tokens: NDArray[np.float16]
    executed: int = 0
    closed: str = "horizon"
    shadow: bool = False


@dataclass
class Episode:
    """One recorded episode of T ticks; row i is observed, then `action[i]` is executed, then `reward[i]` follows.

    images: camera -> uint8 [T, H, W, 3].  state: float32 [T, S].
    action: float32 [T, A], *executed* (what the robot said it applied, after blending and limits).
    proposed: float32 [T, A], what the policy wanted (equals the human command where no policy runs).
    human: float32 [T, A], what the person commanded, NaN where nobody did.
    controller: uint8 [T], `Controller`.  reward: float32 [T], raw environment reward, never relabelled.
    terminated, truncated: bool [T]; exactly one of them is True at the last tick, both are False before.
    success: whether the task was fulfilled.  phase: uint8 [T], the arbiter's phase.
    The observation *after* the last tick is not recorded; a truncated episode therefore has no successor for its
    last tick, and learning masks that tick out.
    wall_ns, monotonic_ns: int64 [T], when the tick was observed, ns since 1970 (UTC) and on the monotonic clock of the
    computer that recorded; -1 where nobody looked at a clock, None where nobody did in the whole episode.
    """

    images: dict[str, U8]
    state: F32
    action: F32
    proposed: F32
    human: F32
    controller: U8
    phase: U8
    reward: F32
    terminated: Bool
    truncated: Bool
    success: bool
    prompt: str
    meta: dict[str, Any] = field(default_factory=dict)
    """task, setting, gap, scene_seed, operator, mistake, control changes, profile and checkpoint hash, renderer..."""
    decisions: list[Decision] = field(default_factory=list)
    wall_ns: I64 | None = None
    monotonic_ns: I64 | None = None

    def __len__(self) -> int:
        return int(self.action.shape[0])

    @property
    def intervened(self) -> Bool:
        """bool [T]: ticks in which a person had a share in the executed action of a policy roll-out."""
        return np.isin(self.controller, INTERVENING)

    @property
    def human_share(self) -> float:
        return float(self.intervened.mean()) if len(self) else 0.0


def content_hash(data: Any) -> str:
    """Return a short stable hash of JSON-serialisable data (12 hexadecimal digits)."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
