"""Other futures of a recorded tick: another chunk first, then whoever goes on, and what comes of it.

The simulation is brought to the tick by executing the recorded actions again, and its state is kept.  Every future
starts from that state, bit by bit, and whoever goes on draws the same noise in all of them.  A recorded policy goes on
with the noise that it would have drawn next, so the future of the recorded chunk is the recorded episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bora_cli.control.planned import PlannedRig
from bora_cli.data.rows import EpisodeRow
from bora_cli.errors import ConfigError
from bora_cli.evaluate.collect import simulation
from bora_cli.evaluate.evaluate import acting_policy, checkpoint_hash
from bora_cli.evaluate.moved import find_policy
from bora_cli.evaluate.resimulate import Recorded, advance, recorded
from bora_cli.models.policy import VLAPolicy
from bora_cli.seeds import stream
from bora_cli.sim.operator import SimulatedOperator
from bora_cli.sim.styles import EXPERT
from bora_cli.types import F32, Episode

EXECUTED, RESAMPLED = "executed", "resampled"
"""Kinds of a chunk: the recorded one, and one that the policy plans in the same state with other noise."""
PERSON = "expert"
"""Name of the scripted faultless person, where he goes on."""


@dataclass(frozen=True)
class Successor:
    """Who acts after the chunk: a policy, or the scripted faultless person where there is no checkpoint.

    lam: share of the policy's residual, None for its own.
    """

    checkpoint: str = ""
    digest: str = ""
    lam: float | None = None

    @property
    def name(self) -> str:
        return self.checkpoint or PERSON


@dataclass(frozen=True)
class Branch:
    """A tick of a recorded simulated episode, and the chunks to be executed there, one future each.

    again: the episode up to the tick.  drawn: noise seeds of the recorded decisions up to and with this one.
    chunks: kind -> float32 [h, A], h >= execute, of which `execute` ticks are executed.  resample: also execute another
    chunk of the policy that goes on.  gamma: discount of the return.
    """

    again: Recorded
    drawn: tuple[int, ...]
    chunks: dict[str, F32]
    execute: int
    successor: Successor
    resample: bool
    gamma: float


@dataclass(frozen=True)
class Future:
    """What came of a chunk.  ticks: from the branch on.  ret: discounted sum of the raw rewards from the branch on."""

    kind: str
    chunk: F32
    success: bool
    ticks: int
    ret: float


def successor_of(
    episodes: Sequence[Episode | EpisodeRow], named: str = "", *, near: Sequence[Path] = ()
) -> Successor:
    """Return who goes on: who is named (a checkpoint or "expert"), or else the policy that was recorded.

    near: where that policy is looked for if it was moved, see `find_policy`.  Demonstrations go on with the scripted
    person.  Raises CheckpointError if the recorded policy is not found, ConfigError if the episodes are of several.
    """
    if named == PERSON:
        return Successor()
    if named:
        return Successor(named, checkpoint_hash(Path(named)))
    wanted = "Say who goes on: --then CHECKPOINT, or --then expert."
    policies = {
        (str(e.meta["checkpoint"]), str(e.meta["checkpoint_hash"]), e.meta.get("lam"))
        for e in episodes
        if "checkpoint_hash" in e.meta
    }
    if not policies and not any(e.decisions for e in episodes):
        return Successor()
    if len(policies) != 1 or not all("checkpoint_hash" in e.meta for e in episodes):
        raise ConfigError(
            f"The episodes were recorded with {len(policies)} known policies; expected one.", wanted
        )
    recorded_at, digest, lam = policies.pop()
    return Successor(str(find_policy(Path(recorded_at), digest, near, remedy=wanted)), digest, lam)


def branch(
    episode: Episode,
    tick: int,
    chunks: Mapping[str, F32],
    *,
    execute: int,
    successor: Successor,
    resample: bool,
    gamma: float,
) -> Branch:
    """Return the branch of a recorded tick.  Raises DataError for an episode that was not simulated here."""
    again = recorded(episode)
    return Branch(
        again=replace(again, actions=again.actions[:tick], state=again.state[: tick + 1]),
        drawn=tuple(d.noise_seed for d in episode.decisions if d.t_start <= tick),
        chunks=dict(chunks),
        execute=execute,
        successor=successor,
        resample=resample and bool(successor.checkpoint),
        gamma=gamma,
    )


def futures(item: Branch) -> list[Future]:
    """Run every future of a branch.

    Raises DataError if the recorded state does not come back, ConfigError for a profile with limits on motion, whose
    envelope has a state that cannot be kept.
    """
    tick = len(item.again.actions)
    sim = simulation(**item.again.world)
    if isinstance(sim, PlannedRig):
        raise ConfigError(
            f"The episodes were recorded under profile '{item.again.world.get('profile')}', which plans the motion; its"
            " state cannot be put back.",
            "Record episodes with --profile sim for this test.",
        )
    sim.prepare(item.again.scene_seed)
    advance(sim, item.again, 0, tick)
    kept = sim.snapshot()
    chunks = dict(item.chunks)
    policy = None
    if item.successor.checkpoint:
        policy = acting_policy(item.successor.checkpoint, item.successor.digest)
        policy.lam = policy.own_lam if item.successor.lam is None else item.successor.lam
        if item.resample:
            other = stream("counterfactual chunk", item.again.scene_seed, tick)
            chunks[RESAMPLED] = policy.decide(sim.observe(), other).final
    found = []
    for kind, chunk in chunks.items():
        sim.restore(kept)
        found.append(_future(sim, item, kind, chunk, policy))
    return found


def _future(sim: Any, item: Branch, kind: str, chunk: F32, policy: VLAPolicy | None) -> Future:
    rng = _noise(item)
    person = SimulatedOperator(EXPERT, rng) if policy is None else None
    queue, ticks, ret = list(chunk[: item.execute]), 0, 0.0
    begun = False
    while True:
        stops = False
        if not queue and policy is not None:
            queue = list(policy.decide(sim.observe(), rng).final[: policy.execute])
        elif not queue and person is not None:
            if not begun:
                person.begin(sim)
                begun = True
            command, stops = person.act(sim)
            queue = [command]
        result = sim.step(queue.pop(0))
        ret += item.gamma**ticks * float(result.reward)
        ticks += 1
        if result.terminated or result.truncated or stops:
            return Future(kind, chunk, bool(result.success), ticks, ret)


def _noise(item: Branch) -> np.random.Generator:
    """Return the noise that the recorded policy would have drawn next, or a stream of the branch's own."""
    rng = stream("policy", item.again.scene_seed)
    if item.drawn and all(int(rng.integers(2**31)) == seed for seed in item.drawn):
        return rng
    return stream("counterfactual", item.again.scene_seed, len(item.again.actions))
