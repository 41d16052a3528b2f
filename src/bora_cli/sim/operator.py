"""A scripted person at the controls.

The operator reads privileged state, plans a short list of phases from wherever the scene stands (a dropped
object is grasped again), and gives one command per tick.  How well he does it is his `OperatorStyle`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bora_cli.sim.arm_hand import NEUTRAL, POSTURES
from bora_cli.sim.limits import HAND_RATE, ROTATION_LIMIT, TRANSLATION_LIMIT, action_spec
from bora_cli.sim.mistakes import style_of_quality
from bora_cli.sim.rotations import about_z, vector_from_rotation
from bora_cli.sim.state import Privileged, Privy
from bora_cli.sim.styles import CORRECTOR, EXPERT, OperatorStyle, mixed_style
from bora_cli.sim.tasks import get_task
from bora_cli.sim.tasks.base import Phase
from bora_cli.types import F32

__all__ = [
    "CORRECTOR",
    "EXPERT",
    "OperatorStyle",
    "SimulatedOperator",
    "mixed_style",
    "style_of_quality",
]

F64 = NDArray[np.float64]

PHASE_TIMEOUT = 20
"""Ticks after which a phase that does not reach its goal is left."""
GIVE_UP_TICKS = 18
"""Ticks between a failed attempt and the operator's giving up."""
NOTICE_TICKS = 3
"""Ticks a person needs to see that an attempt failed."""
CLEARANCE = 0.05
"""How far above the grasp height the open hand passes over the object, m."""
POSTURE_TOLERANCE = 0.05
"""rad, every joint command."""
LIFTING = ("lift", "arc", "carry")
CARRYING = (*LIFTING, "lower")
"""Phases with the object in the hand; during the first ones it should move with the hand."""


class SimulatedOperator:
    """A person at the controls.  rng: his noise and his chances; independent of the scene's."""

    def __init__(self, style: OperatorStyle, rng: np.random.Generator) -> None:
        self.style = style
        self._rng = rng
        self._spec = action_spec()

    def begin(self, sim: Privy) -> None:
        """Take the controls: plan from the present state."""
        state = sim.privileged()
        self._hand = state.hand_command.copy()
        self._stop_in: int | None = None
        self._pause = 0
        self._mistake = self.style.mistake
        self._attempt(state)

    def act(self, sim: Privy) -> tuple[F32, bool]:
        """Return this tick's command, float32 [18] in physical units, and whether the operator stops here."""
        state = sim.privileged()
        self._advance(state)
        if self._stop_in is not None:
            self._stop_in -= 1
        command = self._command(state)
        return command, self._stop_in is not None and self._stop_in <= 0

    # -- planning
    # -----------------------------------------------------------------------------------------------

    def _attempt(self, state: Privileged) -> None:
        """Plan a new attempt from the present state."""
        style = self.style
        offset = self._rng.normal(0.0, 1.0, 3) * style.goal_error_m * np.array([1.0, 1.0, 0.3])
        if self._mistake == "depth":
            offset += style.mistake_size * state.view
        elif self._mistake in ("high", "premature"):
            offset[2] += style.mistake_size
        task = get_task(state.task)
        place, yaw = self._aim(state)
        phases = task.plan(state.item, place, yaw, state.progress)
        self._phases = tuple(_shift(p, offset) if p.name != "hover" else p for p in phases)
        self._anchor = place.copy()
        if self._mistake == "premature":
            self._phases = tuple(
                replace(p, posture="close") if p.name == "descend" else p for p in self._phases
            )
        if self._mistake == "early" and phases[-1].name == "press":
            self._phases = (*self._phases[:-1], replace(phases[0], name="retreat"))
        self._phases = _from_here(self._phases, state, task.crowded)
        low = [p.goal[2] for p in self._phases if p.name == "grasp"]
        self._grasp_height = low[0] if low else float(state.tool_position[2])
        self._index = self._ticks = self._lost_ticks = 0

    def _aim(self, state: Privileged) -> tuple[F64, float]:
        """Return position [3] m and yaw of what he goes for: the target, or by mistake the other object."""
        if self._mistake == "other" and state.decoy is not None:
            return state.decoy
        return state.target_position, state.target_yaw

    def _advance(self, state: Privileged) -> None:
        """Go to the next phase if this one is fulfilled; notice a failed attempt."""
        phase = self._phases[self._index]
        self._ticks += 1
        last = self._index == len(self._phases) - 1
        distance = float(np.linalg.norm(self._goal(phase, state) - state.tool_position))
        arrived = distance <= phase.tolerance
        rested = self._ticks * state.dt >= phase.dwell
        posed = np.abs(np.array(POSTURES[phase.posture]) - self._hand).max() <= POSTURE_TOLERANCE
        timed_out = self._ticks >= PHASE_TIMEOUT
        if not last and ((arrived and rested and posed) or timed_out):
            self._index, self._ticks = self._index + 1, 0
        if self._stop_in is None and self._failed(state, arrived, timed_out, last):
            self._lost_ticks += 1
            if self._lost_ticks >= NOTICE_TICKS:
                self._react(state)

    def _failed(self, state: Privileged, arrived: bool, timed_out: bool, last: bool) -> bool:
        """Return whether this tick looks like a failed attempt."""
        phase = self._phases[self._index]
        if phase.name in LIFTING:
            risen = state.tool_position[2] - self._grasp_height
            if risen > 0.05 and state.progress < 0.15:
                return True
        return last and (arrived or timed_out) and state.progress < 1.0

    def _react(self, state: Privileged) -> None:
        """Try again without the mistake, or stop after a while."""
        if self._rng.random() < self.style.retry_probability:
            self._mistake = None
            self._attempt(state)
        else:
            self._stop_in = GIVE_UP_TICKS

    # -- one command
    # --------------------------------------------------------------------------------------------

    def _goal(self, phase: Phase, state: Privileged) -> F64:
        """Return the tool point this phase wants, [3] m."""
        goal = np.array(phase.goal)
        return goal + (self._aim(state)[0] - self._anchor) if phase.live else goal

    def _command(self, state: Privileged) -> F32:
        style, phase = self.style, self._phases[self._index]
        step = self._goal(phase, state) - state.commanded_position - state.drift
        length = float(np.linalg.norm(step))
        bound = TRANSLATION_LIMIT * style.speed * phase.speed
        if length > bound:
            step *= bound / length
        turn = vector_from_rotation(about_z(phase.yaw) @ NEUTRAL @ state.commanded_rotation.T)
        turn = np.clip(turn, -ROTATION_LIMIT, ROTATION_LIMIT)
        if self._hesitates():
            step, turn = -state.drift, np.zeros(3)
        else:
            self._move_hand(np.array(POSTURES[self._posture(phase)]), state.dt)
        noise = self._rng.normal(0.0, 1.0, self._spec.dim) * style.noise * self._spec.half_range
        noise[3:6] *= 0.5
        noise[6:] *= 0.3
        return self._spec.clip((np.concatenate([step, turn, self._hand]) + noise).astype(np.float32))

    def _posture(self, phase: Phase) -> str:
        lets_go = (
            self._mistake == "early"
            and phase.name in CARRYING
            and self._ticks_since_grasp() >= self.style.mistake_size
        )
        return "release" if lets_go else phase.posture

    def _ticks_since_grasp(self) -> int:
        grasp = next(i for i, p in enumerate(self._phases) if p.name in CARRYING)
        return self._ticks if self._index == grasp else PHASE_TIMEOUT

    def _move_hand(self, posture: F64, dt: float) -> None:
        """Move the intended hand command towards a posture at a person's speed."""
        reach = HAND_RATE * dt
        self._hand = self._hand + np.clip(posture - self._hand, -reach, reach)

    def _hesitates(self) -> bool:
        """Return whether this tick is part of a pause; pauses begin at random."""
        if self._mistake != "hesitate":
            return False
        if self._pause == 0 and self._rng.random() < 0.06:
            self._pause = round(self.style.mistake_size)
        self._pause = max(0, self._pause - 1)
        return self._pause > 0


def _shift(phase: Phase, offset: F64) -> Phase:
    x, y, z = (float(v) for v in np.array(phase.goal) + offset)
    return replace(phase, goal=(x, y, z))


def _from_here(phases: tuple[Phase, ...], state: Privileged, crowded: bool) -> tuple[Phase, ...]:
    """Return the phases that are still needed from the present state.

    With the object in the hand only the last legs are left; above the object with the hand ready the hover is
    skipped; low beside the object the hand opens and goes straight up first, on a crowded table from anywhere
    and as high as the hover.
    """
    hover, descend = phases[0], phases[1]
    tool = state.tool_position
    closed = np.abs(np.array(POSTURES["close"]) - state.hand_command).max() < 0.2
    if state.touching and state.progress > 0.05 and closed:
        offset = tool - state.target_position
        names = [p.name for p in phases]
        legs = phases[names.index("grasp") + 1 :] if "grasp" in names else ()
        return tuple(_shift(p, offset) for p in legs) or phases
    ready = np.abs(np.array(POSTURES[hover.posture]) - state.hand_command).max() < 0.3
    sideways = float(np.linalg.norm(tool[:2] - np.array(hover.goal[:2])))
    above = descend.goal[2] + 0.01 < tool[2]
    if ready and above and sideways < 0.035:
        return phases[1:]
    clear = hover.goal[2] - 0.02 if crowded else descend.goal[2] + CLEARANCE
    if (crowded or sideways < 0.12) and tool[2] < clear:
        lower = (hover.goal[0], hover.goal[1], min(clear, hover.goal[2]))
        up = (float(tool[0]), float(tool[1]), lower[2])
        retreat = Phase("retreat", up, hover.yaw, hover.posture, 0.02)
        return (retreat, replace(hover, goal=lower), *phases[1:])
    return phases
