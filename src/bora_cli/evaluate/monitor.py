"""What the critic says while a policy acts, told to whoever looks on, and to an alarm."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from bora_cli.control.alarm import Bell
from bora_cli.control.arbiter import DRIVEN_BY_PERSON, Event
from bora_cli.control.loop import Tick
from bora_cli.control.telemetry import Telemetry
from bora_cli.models.critic import ChunkCritic
from bora_cli.models.policy import VLAPolicy
from bora_cli.types import Controller, Decision, Observation


class Gauged:
    """A policy whose every decision a critic judges; it acts as the policy alone does, bit for bit.

    v: value of the state at the last decision.  q: of the chunk that was decided, over the ticks to be executed; both
    NaN before the first one, and without a critic.
    """

    def __init__(self, policy: VLAPolicy, critic: ChunkCritic | None) -> None:
        self._policy, self._critic = policy, critic
        self.v = self.q = float("nan")

    @property
    def execute(self) -> int:
        return self._policy.execute

    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        """Decide, then ask the critic about it."""
        decision = self._policy.decide(obs, rng)
        if self._critic is not None:
            self.v, self.q = self._judge(decision, obs)
        return decision

    @torch.no_grad()
    def _judge(self, decision: Decision, obs: Observation) -> tuple[float, float]:
        assert self._critic is not None
        actor = self._policy.actor
        z = torch.from_numpy(decision.tokens.astype(np.float32))[None]
        s = actor.state.normalize(torch.from_numpy(np.asarray(obs.state, np.float32))[None])
        a = actor.action.normalize(torch.from_numpy(decision.final)[None])
        q = self._critic.q(z, s, a).mean(0)[0, : self.execute]
        return float(self._critic.v(z, s)[0, 0]), float(q.mean())


class Monitor:
    """Looks on while episodes run: `policy` acts, the object itself is the loop's `on_tick`.

    bell: rung with V at every tick.  telemetry: told a few times per second, and at once when something happens.
    """

    def __init__(
        self,
        policy: VLAPolicy,
        critic: ChunkCritic | None,
        *,
        bell: Bell | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.policy = Gauged(policy, critic)
        self.bell = bell
        self._telemetry = telemetry
        self._beside: Callable[[], Mapping[str, Any]] = dict
        self._facts: dict[str, Any] = {}
        self._began = 0.0
        self._rang = False
        self.calls = 0

    def begin(self, beside: Callable[[], Mapping[str, Any]] = dict, **facts: Any) -> None:
        """Begin an episode.  facts: what every record says about it.  beside: further ones, asked for each record."""
        self._beside, self._facts = beside, facts
        self._began = time.monotonic()
        self._rang = False
        self.calls = 0
        if self.bell is not None:
            self.bell.begin()

    def __call__(self, tick: Tick) -> None:
        """Take what happened at a tick."""
        rings = False
        if self.bell is not None:
            rings = self.bell.hear(self.policy.v, tick.phase in DRIVEN_BY_PERSON)
        called = rings and not self._rang
        self._rang = rings
        self.calls += int(called)
        if self._telemetry is None:
            return
        urgent = tick.over or called or tick.event is not Event.NOTHING
        passed = time.monotonic() - self._began
        record = {
            **self._facts,
            "tick": tick.number,
            "phase": tick.phase.name.lower(),
            "drives": Controller(tick.controller).name.lower(),
            "reason": tick.reason,
            "v": self.policy.v,
            "q": self.policy.q,
            "lam": float(tick.decision.lam),
            "hz": (tick.number + 1) / passed if passed > 0 else 0.0,
            "over": tick.over,
            "success": tick.success,
            "alarm": rings,
            **({"expected": self.bell.short + self.policy.v} if self.bell is not None else {}),
            **self._beside(),
        }
        self._telemetry.say(record, urgent=urgent)
