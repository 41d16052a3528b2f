"""One episode, tick by tick: who proposes, who drives, what was applied, what is written down.

Two functions: `demonstrate` (an operator alone) and `roll_out` (a policy, watched by an operator or unaided).
Both return an `Episode`; nothing here knows how a policy computes or what a task is.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bora_cli.control.arbiter import ArbiterSettings, ArbiterState, Event, Phase, arbitrate
from bora_cli.input.operator import OperatorSample
from bora_cli.types import F32, ActionSpec, Controller, Decision, Episode, Observation


class Applied(Protocol):
    """What a rig says about one tick.

    applied: float32 [A], units of the rig's `action_spec`, what was executed after all limits.  reward: of this
    tick, raw.  terminated: the task ended.  truncated: the clock ran out, never together with terminated.
    success: the task is fulfilled.
    """

    @property
    def applied(self) -> F32: ...
    @property
    def reward(self) -> float: ...
    @property
    def terminated(self) -> bool: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def success(self) -> bool: ...


class Rig(Protocol):
    """A robot with a task, stepped one tick at a time by the one thread that runs the loop.

    action_spec: names, units and limits of the A numbers of an action.  dt: seconds per tick.
    """

    @property
    def action_spec(self) -> ActionSpec: ...
    @property
    def dt(self) -> float: ...
    def prepare(self, scene_seed: int) -> None:
        """Bring robot and scene to the start of an episode; the seed fixes everything about a simulated scene."""

    def step(self, action: F32) -> Applied:
        """Execute one tick.  action: float32 [A], units of `action_spec`; one that is not finite must hold."""
        ...

    def observe(self, images: bool = True) -> Observation:
        """Return what a policy may see now: uint8 [H, W, 3] per camera (none without images), float32 [S].

        The state ends with the commanded hand joints, in the order and units of the action's group "hand".
        """
        ...

    def hold(self) -> None:
        """Stop and keep position.  Never raises, and may be called at any time and twice.

        The loop calls it however an episode ends.
        """


@runtime_checkable
class Resting(Protocol):
    """A rig that knows the command that asks for nothing, float32 [A]."""

    def rest(self) -> F32: ...


@runtime_checkable
class Gentle(Protocol):
    """A rig that says how control changes hands.

    takeover_step: float32 [A], how far the command changes per tick at most.  ramp_ticks: ticks of blending.
    """

    @property
    def takeover_step(self) -> F32: ...
    @property
    def ramp_ticks(self) -> int: ...


class Policy(Protocol):
    """Something that plans a chunk of actions from an observation, deterministically given `rng`.

    execute: ticks of a chunk that are executed before the next decision, at most H.
    """

    @property
    def execute(self) -> int: ...
    def decide(self, obs: Observation, rng: np.random.Generator) -> Decision:
        """Return base, residual and final chunk, float32 [H, A] in the units of the rig's actions."""
        ...


class Demonstrator(Protocol):
    """An operator that can drive a whole episode.  A scripted one reads the rig itself, a person looks at it."""

    def begin(self, rig: Any) -> None:
        """Take the controls, at the start of an episode or of a takeover."""

    def act(self, rig: Any) -> tuple[F32, bool]:
        """Return this tick's command, float32 [A] in the units of the rig's actions, and whether he gives up."""
        ...


class Verdict(Protocol):
    """Whether the person wants to drive at this tick, and why (a word or two for the record)."""

    @property
    def engage(self) -> bool: ...
    @property
    def reason(self) -> str: ...


class Watcher(Protocol):
    """A person who watches a policy."""

    def begin(self, rig: Any) -> None:
        """Begin to watch an episode."""

    def observe(self, rig: Any, human_driving: bool) -> Verdict:
        """Return whether he wants to drive at this tick; called once per tick.  human_driving: he does already."""
        ...


@dataclass(frozen=True)
class Tick:
    """What happened at a tick, for somebody who looks on.

    number: counted from 0.  phase, controller, event, reason: of the arbiter's command.  decision: the one that runs.
    over: the episode ended with this tick.  success: the task is fulfilled.
    """

    number: int
    phase: Phase
    controller: Controller
    event: Event
    reason: str
    decision: Decision
    over: bool
    success: bool


@dataclass
class _Log:
    """Columns of the episode being recorded."""

    images: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    rows: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    decisions: list[Decision] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def observe(self, obs: Observation, images: bool) -> None:
        for camera, image in obs.images.items() if images else ():
            self.images[camera].append(image)
        self.tick(state=obs.state, wall_ns=time.time_ns(), monotonic_ns=time.monotonic_ns())

    def tick(self, **values: Any) -> None:
        for name, value in values.items():
            self.rows[name].append(value)

    def episode(self, success: bool, prompt: str, meta: dict[str, Any]) -> Episode:
        rows = self.rows
        takeovers = [r for r in self.changes if r["event"] == "takeover"]
        return Episode(
            images={camera: np.stack(frames) for camera, frames in self.images.items()},
            state=np.stack(rows["state"]).astype(np.float32),
            action=np.stack(rows["action"]).astype(np.float32),
            proposed=np.stack(rows["proposed"]).astype(np.float32),
            human=np.stack(rows["human"]).astype(np.float32),
            controller=np.asarray(rows["controller"], np.uint8),
            phase=np.asarray(rows["phase"], np.uint8),
            reward=np.asarray(rows["reward"], np.float32),
            terminated=np.asarray(rows["terminated"], np.bool_),
            truncated=np.asarray(rows["truncated"], np.bool_),
            success=success,
            prompt=prompt,
            meta={**meta, "control_changes": self.changes, "takeovers": len(takeovers)},
            decisions=self.decisions,
            wall_ns=np.asarray(rows["wall_ns"], np.int64),
            monotonic_ns=np.asarray(rows["monotonic_ns"], np.int64),
        )


def demonstrate(
    rig: Rig, operator: Demonstrator, *, scene_seed: int, meta: dict[str, Any], images: bool = True
) -> Episode:
    """Let an operator drive one whole episode.

    An operator that gives up declares the attempt failed: the episode is *terminated* without success.
    However this ends, the rig holds.
    images: whether to render and record every tick.
    """
    try:
        rig.prepare(scene_seed)
        operator.begin(rig)
        log = _Log()
        while True:
            obs = rig.observe(images)
            log.observe(obs, images)
            action, gives_up = operator.act(rig)
            result = rig.step(action)
            terminated = result.terminated or (gives_up and not result.truncated)
            log.tick(
                action=result.applied,
                proposed=action,
                human=action,
                controller=Controller.DEMO,
                phase=Phase.HUMAN,
                reward=result.reward,
                terminated=terminated,
                truncated=result.truncated and not terminated,
            )
            if terminated or result.truncated:
                return log.episode(result.success, obs.prompt, {**meta, "scene_seed": scene_seed})
    finally:
        rig.hold()


def roll_out(
    rig: Rig,
    policy: Policy,
    *,
    scene_seed: int,
    rng: np.random.Generator,
    meta: dict[str, Any],
    watcher: Watcher | None = None,
    operator: Demonstrator | None = None,
    images: bool = True,
    max_ticks: int | None = None,
    on_tick: Callable[[Tick], None] | None = None,
) -> Episode:
    """Let a policy act for one episode, with a person who may take over if `watcher` and `operator` are given.

    rng: noise of the policy.  images: record every tick (unaided evaluation needs images only at decisions).
    While the person drives, the policy decides at every tick in shadow, so that its proposal is known wherever
    there is a correction.  A takeover or a release closes the running decision and opens a new one.
    An operator is asked at every tick and answers for that tick, so no sample grows old on its way to the arbiter: a
    device that falls silent is the operator's to notice.  `Person` then rests, and commands what is not a number (the
    arbiter holds) when all devices are in trouble.
    on_tick: told after every tick what happened; it must not wait for anything.
    However this ends, the rig holds.
    """
    try:
        rig.prepare(scene_seed)
        if watcher is not None:
            watcher.begin(rig)
        settings = _settings(rig)
        state, previous = ArbiterState(), _rest(rig)
        log = _Log()
        decision: Decision | None = None
        inner = tick = 0
        while True:
            driving = state.phase in (Phase.TAKING, Phase.HUMAN)
            verdict = watcher.observe(rig, driving) if watcher is not None and operator is not None else None
            shadow = driving or (verdict is not None and verdict.engage)
            deciding = decision is None or shadow or inner >= policy.execute
            obs = rig.observe(images or deciding)
            log.observe(obs, images)
            if deciding:
                if shadow and not driving and decision is not None:
                    decision.closed = "takeover"
                decision = policy.decide(obs, rng)
                decision.t_start, decision.planned, decision.shadow, inner = tick, policy.execute, shadow, 0
                log.decisions.append(decision)
            assert decision is not None
            sample = None
            if verdict is not None and operator is not None:
                if verdict.engage and not driving:
                    operator.begin(rig)
                action = operator.act(rig)[0] if verdict.engage else previous
                sample = OperatorSample(action, verdict.engage, tick * rig.dt, verdict.reason)
            state, command = arbitrate(
                state,
                proposal=decision.final[inner],
                sample=sample,
                previous=previous,
                now=tick * rig.dt,
                settings=settings,
            )
            if command.event in (Event.ENGAGE, Event.RELEASE):
                name = "takeover" if command.event is Event.ENGAGE else "release"
                log.changes.append({"tick": tick, "event": name, "reason": command.reason})
            result = rig.step(command.action)
            previous = np.asarray(result.applied, np.float32)
            truncated = result.truncated or (max_ticks is not None and tick + 1 >= max_ticks)
            truncated = truncated and not result.terminated
            person = sample is not None and command.phase in (Phase.TAKING, Phase.HUMAN)
            log.tick(
                action=result.applied,
                proposed=decision.final[inner],
                human=sample.action if sample is not None and person else np.full_like(previous, np.nan),
                controller=command.controller,
                phase=command.phase,
                reward=result.reward,
                terminated=result.terminated,
                truncated=truncated,
            )
            decision.executed += int(command.controller == Controller.POLICY)
            over = result.terminated or truncated
            if on_tick is not None:
                on_tick(
                    Tick(
                        tick,
                        command.phase,
                        command.controller,
                        command.event,
                        command.reason,
                        decision,
                        over,
                        result.success,
                    )
                )
            inner, tick = inner + 1, tick + 1
            if command.event in (Event.RELEASE, Event.SETTLED):
                decision.closed = "release" if command.event is Event.RELEASE else decision.closed
                decision = None  # whoever drives next starts from a fresh look
            if over:
                log.decisions[-1].closed = "terminated" if result.terminated else "truncated"
                return log.episode(result.success, obs.prompt, {**meta, "scene_seed": scene_seed})
    finally:
        rig.hold()


def _settings(rig: Rig) -> ArbiterSettings:
    """Return how control changes hands on a rig; one that does not say takes the arbiter's own numbers."""
    if isinstance(rig, Gentle):
        return ArbiterSettings.for_spec(
            rig.action_spec, rig.takeover_step, n_ramp=rig.ramp_ticks, n_release=1
        )
    return ArbiterSettings.for_spec(rig.action_spec, n_release=1)


def _rest(rig: Rig) -> F32:
    """Return the command that asks for nothing: no arm motion, hand where it is commanded.  [A]

    A rig whose state does not end in the commanded hand says so itself.
    """
    if isinstance(rig, Resting):
        return rig.rest()
    spec = rig.action_spec
    rest = np.zeros(spec.dim, np.float32)
    hand = spec.slice("hand")
    rest[hand] = rig.observe(images=False).state[-(hand.stop - hand.start) :]
    return rest
