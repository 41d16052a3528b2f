"""Which pixels of a camera image show the robot, the object of the task, or neither."""

from __future__ import annotations

from typing import Any

import numpy as np

from bora_cli.sim.arm_hand import FINGERS
from bora_cli.sim.rays import shoot
from bora_cli.sim.scene import BYSTANDERS
from bora_cli.sim.simulation import CAMERAS
from bora_cli.types import U8

BACKGROUND, HAND, OBJECT = 0, 1, 2
"""Values of a mask.  The hand comes with the arm that it hangs on, the object with everything else of the task."""


def part_masks(sim: Any, size: int) -> U8:
    """Return what every pixel shows now, uint8 [C, size, size] in the order of CAMERAS.

    sim: a `Simulation`, or one behind limits.  One ray per pixel, through its centre: the masks are those of the images
    whatever renders them.
    """
    model = sim.model
    bodies = np.full(model.nbody, OBJECT, np.uint8)
    bodies[0] = BACKGROUND
    bodies[1 : 1 + max(model.body(f"{name}_distal").id for name in FINGERS)] = HAND
    bodies[[i for i in range(model.nbody) if model.body(i).name.startswith(BYSTANDERS)]] = BACKGROUND
    seen = np.append(bodies[model.geom_bodyid], np.uint8(BACKGROUND))  # geom -1 is the last: nothing met
    return np.stack(
        [seen[shoot(model, sim.data, model.camera(name).id, size)[0]].reshape(size, size) for name in CAMERAS]
    )
