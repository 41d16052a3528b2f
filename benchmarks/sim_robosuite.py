"""robosuite's side of benchmarks/sim.py; runs in an environment with robosuite and without bora.

MUJOCO_GL=egl python benchmarks/sim_robosuite.py SIZE    side of the images, px
"""

from __future__ import annotations

import json
import sys
import time

import mujoco
import numpy as np
import robosuite

STEPS = 50
"""Ticks between two resets, about as many as an expert of ours needs."""


def main(size: int) -> None:
    """Measure with and without cameras, and print one line of JSON."""
    found = {"robosuite": robosuite.__version__, "mujoco": mujoco.__version__}
    print(json.dumps({**found, "no cameras": measure(0), "egl": measure(size)}))


def measure(size: int, episodes: int = 4) -> tuple[float, float]:
    """Return steps per second, resets included, and ms per reset; size 0 renders nothing.

    Lift at 10 Hz with a Panda arm that carries a five-finger hand, random actions, two cameras.  Counted is the
    processor time of this process; the best episode counts.
    """
    env = robosuite.make(
        "Lift",
        robots="PandaDexRH",
        has_renderer=False,
        has_offscreen_renderer=size > 0,
        use_camera_obs=size > 0,
        camera_names=["frontview", "robot0_eye_in_hand"],
        camera_heights=size or 64,
        camera_widths=size or 64,
        control_freq=10,
        horizon=10 * STEPS,
        seed=0,
    )
    low, high = env.action_spec
    rng = np.random.default_rng(0)
    rates, resets = [], []
    for _ in range(episodes + 1):
        begin = time.process_time()
        env.reset()
        resets.append(time.process_time() - begin)
        for _ in range(STEPS):
            env.step(rng.uniform(low, high))
        rates.append(STEPS / (time.process_time() - begin))
    env.close()
    return max(rates[1:]), 1e3 * min(resets[1:])


if __name__ == "__main__":
    main(int(sys.argv[1]))
