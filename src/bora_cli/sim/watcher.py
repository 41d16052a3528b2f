"""A scripted person who watches a policy and decides when to take the controls and when to give them back.

He judges what can be seen: whether the hand still comes closer, whether the object moves as it should,
whether it slipped.  He needs a moment to react, helps at most twice per episode, and lets go as soon as his
correction has taken effect.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bora_cli.sim.state import Privileged, Privy
from bora_cli.sim.tasks import get_task


@dataclass(frozen=True)
class Verdict:
    """Whether the person wants to drive at this tick, and why."""

    engage: bool
    reason: str = ""


@dataclass(frozen=True)
class TakeoverRule:
    """When a person steps in, per task.

    reach_stall, move_stall: ticks without progress before and after the object moved.  slip: loss of progress
    from its best (share of the success condition).  delay: reaction time in ticks, drawn from this inclusive
    range. takeovers: at most this many per episode.  effect, effect_ticks: the person lets go when the
    progress has grown by `effect` for this many ticks.  longest: ticks after which he lets go in any case.
    further: growth of the progress from one tick to the next that counts, share of the success condition.
    """

    reach_stall: int
    move_stall: int
    slip: float = 0.25
    delay: tuple[int, int] = (2, 4)
    takeovers: int = 2
    effect: float = 0.08
    effect_ticks: int = 2
    longest: int = 26
    further: float = 0.02


RULES: dict[str, TakeoverRule] = {
    "pick_toy": TakeoverRule(reach_stall=11, move_stall=16, longest=16),
    "open_box": TakeoverRule(reach_stall=13, move_stall=18),
    "press_button": TakeoverRule(reach_stall=11, move_stall=12, effect=1.0),
    "pick_place": TakeoverRule(reach_stall=13, move_stall=18, longest=40, further=0.008),
    "pull_tissue": TakeoverRule(reach_stall=13, move_stall=16),
}

MOVED = 0.08
"""Progress from which the object visibly moves."""
CLOSER_M = 0.003
"""Approach of the hand that counts as progress, m."""
LAST_TICKS = 6
"""A person does not step in this close to the end of the episode."""


class Watcher:
    """A person beside the robot.  rng: his reaction times."""

    def __init__(self, task: str, rng: np.random.Generator) -> None:
        self._task = get_task(task)
        self.rule = RULES[task]
        self._rng = rng

    def begin(self, sim: Privy) -> None:
        """Start watching an episode."""
        self._takeovers = 0
        self._driven = 0
        self._look_afresh()

    def observe(self, sim: Privy, human_driving: bool) -> Verdict:
        """Return whether the person drives at this tick; call it once per tick, before the step."""
        state = sim.privileged()
        if human_driving:
            return self._drive(state)
        if self._driven:
            self._driven = 0
            self._look_afresh()
        return self._watch(state)

    def _look_afresh(self) -> None:
        self._closest = np.inf
        self._best = 0.0
        self._stall = 0
        self._reacting: int | None = None
        self._reason = ""

    def _watch(self, state: Privileged) -> Verdict:
        rule = self.rule
        self._track(state)
        late = state.tick >= self._task.max_ticks - LAST_TICKS
        if self._takeovers >= rule.takeovers or late:
            return Verdict(False)
        if self._reacting is None:
            self._reason = self._complaint()
            if not self._reason:
                return Verdict(False)
            self._reacting = int(self._rng.integers(rule.delay[0], rule.delay[1] + 1))
        if self._stall == 0:  # it went on by itself while the person was reacting
            self._reacting = None
            return Verdict(False)
        self._reacting -= 1
        if self._reacting >= 0:
            return Verdict(False)
        self._takeovers += 1
        self._progress_before = state.progress
        self._effect = 0
        return Verdict(True, self._reason)

    def _track(self, state: Privileged) -> None:
        """Count the ticks without progress."""
        if state.progress > MOVED:
            better = state.progress > self._best + self.rule.further
        else:
            distance = self._distance(state)
            better = distance < self._closest - CLOSER_M
            self._closest = min(self._closest, distance) if better else self._closest
        self._slipped = state.progress < self._best - self.rule.slip
        self._best = max(self._best, state.progress)
        self._stall = 0 if better and not self._slipped else self._stall + 1

    def _complaint(self) -> str:
        if self._slipped:
            return "the object slipped"
        if self._best > MOVED:
            return "the object stopped moving" if self._stall >= self.rule.move_stall else ""
        return "the hand comes no closer" if self._stall >= self.rule.reach_stall else ""

    def _distance(self, state: Privileged) -> float:
        """Return the distance in m from the tool to where it should act."""
        phases = self._task.plan(state.item, state.target_position, state.target_yaw, state.progress)
        goal = next(p.goal for p in phases if p.name in ("grasp", "press"))
        return float(np.linalg.norm(np.array(goal) - state.tool_position))

    def _drive(self, state: Privileged) -> Verdict:
        self._driven += 1
        rising = state.progress > self._progress_before + self.rule.effect
        self._progress_before = min(self._progress_before, state.progress)
        self._effect = self._effect + 1 if rising else 0
        if self._effect >= self.rule.effect_ticks:
            return Verdict(False, "the correction took effect")
        if self._driven >= self.rule.longest:
            return Verdict(False, "long enough")
        return Verdict(True, "correcting")
