"""A person who is called: never by himself, after a while, and not where the robot has gone on."""

from __future__ import annotations

import numpy as np
import pytest

from bora_cli.sim.responder import DELAY, Responder
from bora_cli.sim.simulation import Simulation
from bora_cli.sim.tasks.press_button import TIP_FROM_TOOL


@pytest.fixture(scope="module")
def sim() -> Simulation:
    return Simulation("press_button", image_size=16)


def engaged(sim: Simulation, rings: set[int], ticks: int = 30, towards: bool = False) -> list[int]:
    """Return the ticks at which he wants to drive beside a robot that stands still, or goes to the button."""
    sim.prepare(7)
    now = [0]
    person = Responder("press_button", np.random.default_rng(0), lambda: now[0] in rings)
    person.begin(sim)
    wanted = []
    for tick in range(ticks):
        now[0] = tick
        if person.observe(sim, bool(wanted)).engage:
            wanted.append(tick)
            break
        action = sim.action_spec.center.copy()
        state = sim.privileged()
        action[6:] = state.hand_command
        if towards:
            away = state.target_position - np.array(TIP_FROM_TOOL) - state.commanded_position
            action[:3] = 0.008 * away / np.linalg.norm(away)
        sim.step(action)
    return wanted


def test_nobody_comes_without_an_alarm(sim: Simulation) -> None:
    assert engaged(sim, set()) == []


def test_he_comes_when_he_is_called_and_needs_a_while(sim: Simulation) -> None:
    (tick,) = engaged(sim, set(range(10, 30)))
    assert DELAY[0] <= tick - 10 <= DELAY[1]


def test_he_does_not_take_over_from_a_robot_that_goes_on(sim: Simulation) -> None:
    assert engaged(sim, {3}, ticks=14, towards=True) == []
