"""Looking on changes nothing: the policy acts as it does alone, and what it says is what the critic thinks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from bora_cli.checkpoint import load_trained
from bora_cli.control.alarm import Alarm, Bell
from bora_cli.control.loop import roll_out
from bora_cli.control.telemetry import Telemetry
from bora_cli.evaluate.monitor import Monitor
from bora_cli.seeds import stream
from bora_cli.types import Episode
from toy_world import BIAS, ToyOperator, ToyRig, ToyWatcher


def test_a_policy_that_is_watched_acts_as_alone_and_what_is_told_is_true(
    toy_policy: Path, tmp_path: Path
) -> None:
    trained = load_trained(toy_policy)
    critic, policy = trained.critic, trained.policy()
    assert critic is not None
    alarm = Alarm((1e6,), 0.0, 3, 0.05, 0.5, None)  # V is always too low for it
    told = Telemetry(tmp_path / "live")
    monitor = Monitor(policy, critic, bell=Bell(alarm), telemetry=told)

    def acted(watched: bool) -> Episode:
        return roll_out(
            ToyRig(BIAS),
            monitor.policy if watched else policy,
            scene_seed=5,
            rng=stream("policy", 5),
            meta={},
            watcher=ToyWatcher(),
            operator=ToyOperator(rng=np.random.default_rng(0)),
            on_tick=monitor if watched else None,
        )

    monitor.begin(lambda: {"late_ms": 1.5}, round=2)
    seen, alone = acted(True), acted(False)
    told.close()
    for name in ("state", "action", "proposed", "controller"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(alone, name))
    for one, other in zip(seen.decisions, alone.decisions, strict=True):
        np.testing.assert_array_equal(one.final, other.final)

    records = [json.loads(line) for line in (tmp_path / "live").read_text().splitlines()]
    last = records[-1]
    assert (last["tick"], last["over"], last["round"], last["late_ms"]) == (len(seen) - 1, True, 2, 1.5)
    decision = seen.decisions[-1]
    with torch.no_grad():
        z = torch.from_numpy(decision.tokens.astype(np.float32))[None]
        s = policy.actor.state.normalize(torch.from_numpy(seen.state[decision.t_start])[None])
        v = float(critic.v(z, s)[0, 0])
    assert abs(last["v"] - v) <= 1e-4 * max(1.0, abs(v))
    assert last["expected"] > 9e5
    phases = {record["phase"] for record in records}
    assert {"autonomous", "taking", "returning"} <= phases
    ringing = [record["tick"] for record in records if record["alarm"]]
    assert ringing[0] == 2  # the third tick in a row
    assert not any(3 < tick < 10 for tick in ringing)  # nobody is called while he drives
    assert monitor.calls >= 2


def test_without_a_critic_there_is_nothing_to_say(toy_policy: Path) -> None:
    policy = load_trained(toy_policy).policy()
    rig = ToyRig()
    rig.prepare(3)
    monitor = Monitor(policy, None)
    monitor.begin()
    monitor.policy.decide(rig.observe(), np.random.default_rng(0))
    assert np.isnan([monitor.policy.v, monitor.policy.q]).all()
