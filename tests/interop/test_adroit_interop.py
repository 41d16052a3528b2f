"""The door of gymnasium-robotics as a rig, and 25 human demonstrations of it replayed open loop.

gymnasium-robotics is not among the dependencies.  Name an interpreter that has it beside bora, and where the
demonstrations are (docs/environments.md tells where they come from):

    BORA_ADROIT_PYTHON=adroit/bin/python BORA_DOOR_DEMOS=door_human_demos.npz pytest tests/interop

Where there is no display it needs MUJOCO_GL=egl.
Tried with gymnasium-robotics 1.4.2, gymnasium 1.4.0, mujoco 4.0.0 and numpy 2.4.6.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PYTHON = os.environ.get("BORA_ADROIT_PYTHON", "")
DEMOS = os.environ.get("BORA_DOOR_DEMOS", "")

needs_adroit = pytest.mark.skipif(not PYTHON, reason="BORA_ADROIT_PYTHON names no interpreter")
needs_demos = pytest.mark.skipif(not DEMOS, reason="BORA_DOOR_DEMOS names no file")

LOOK = """
import json, numpy as np
from bora_cli.profiles import load_environment
from bora_cli.sim.foreign import EnvRig

profile = load_environment("adroit_door")
rig = EnvRig(profile)
rig.prepare(0)
first = rig.observe()
results = [rig.step(rig.rest()) for _ in range(3)]
control = rig._env.unwrapped.model.actuator_ctrlrange
print(json.dumps({
    "control": control.tolist(),
    "images": [first.images[name].shape for name in rig.cameras],
    "seen": [float(image.std()) for image in first.images.values()],
    "ends": [r.terminated or r.truncated for r in results],
    "dt": rig._env.unwrapped.dt,
    "door": float(first.state[profile.state.names.index("door_hinge")]),
}))
"""


def python(*arguments: str) -> Any:
    """Run the other interpreter and return the JSON document it prints last."""
    done = subprocess.run([PYTHON, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])


@needs_adroit
def test_the_profile_says_what_the_door_is() -> None:
    from bora_cli.profiles import load_environment

    profile, seen = load_environment("adroit_door"), python("-c", LOOK)
    np.testing.assert_allclose(np.array(seen["control"])[:, 0], profile.action_spec.low, rtol=1e-6)
    np.testing.assert_allclose(np.array(seen["control"])[:, 1], profile.action_spec.high, rtol=1e-6)
    assert seen["dt"] * profile.env.steps_per_tick == pytest.approx(profile.dt)
    assert seen["images"] == [[64, 64, 3]] * 2
    assert min(seen["seen"]) > 10
    assert seen["ends"] == [False] * 3
    assert abs(seen["door"]) < 0.01


@needs_adroit
@needs_demos
def test_some_of_the_demonstrations_open_the_door_again(tmp_path: Path) -> None:
    raw = str(tmp_path / "raw")
    bora = ("-m", "bora_cli")
    imported = python(*bora, "data", "import", DEMOS, "--profile", "adroit_door", "--out", raw, "--json")
    assert (imported["episodes"], imported["ticks"]) == (25, 1355)
    replayed = python(*bora, "replay", raw, "--env", "adroit_door", "--all", "--json")
    assert replayed["episodes"] == 25
    assert replayed["recorded_successes"] == 7
    assert 7 <= replayed["successes"] <= 9
