"""However an episode ends, the robot is told to hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from loop_fakes import FakeOperator, FakePolicy, FakeRig, FakeWatcher, run, ticks

from bora_cli.control.loop import demonstrate, roll_out
from bora_cli.types import F32


@pytest.mark.parametrize("rig", [FakeRig(), FakeRig(succeeds_at=7), FakeRig(fails_at=3)])
def test_the_robot_holds_when_an_episode_is_over(rig: FakeRig) -> None:
    episode = run(rig)
    assert rig.held == [len(episode)]
    rig.held.clear()
    episode = demonstrate(rig, FakeOperator(), scene_seed=3, meta={})
    assert rig.held == [len(episode)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize(
    ("breaks", "at"),
    [("prepare", 0), ("observe", 5), ("step", 5), ("decide", 4), ("act", 6), ("watch", 6)],
)
def test_the_robot_holds_whatever_happens(error: type[BaseException], breaks: str, at: int) -> None:
    rig, policy, watcher, operator = FakeRig(), FakePolicy(), FakeWatcher(ticks((5, 9))), FakeOperator()
    owner: Any = {"decide": policy, "act": operator, "watch": watcher}.get(breaks, rig)
    name = "observe" if breaks == "watch" else breaks
    real = getattr(owner, name)

    def broken(*args: Any, **options: Any) -> Any:
        if rig.tick >= at:
            raise error("in the middle")
        return real(*args, **options)

    setattr(owner, name, broken)
    people: dict[str, Any] = {"watcher": watcher, "operator": operator}
    with pytest.raises(error, match="in the middle"):
        roll_out(rig, policy, scene_seed=5, rng=np.random.default_rng(0), meta={}, **people)
    assert len(rig.held) == 1
    assert rig.held[0] == rig.tick >= at


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_robot_holds_when_a_demonstration_breaks_off(error: type[BaseException]) -> None:
    class Leaves(FakeOperator):
        def act(self, rig: FakeRig) -> tuple[F32, bool]:
            if rig.tick == 4:
                raise error("leaves")
            return super().act(rig)

    rig = FakeRig()
    with pytest.raises(error, match="leaves"):
        demonstrate(rig, Leaves(), scene_seed=3, meta={})
    assert rig.held == [4]
