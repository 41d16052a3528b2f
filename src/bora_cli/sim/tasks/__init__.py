"""The tasks of the suite, by name."""

from __future__ import annotations

from bora_cli.errors import ConfigError
from bora_cli.sim.tasks.base import Task
from bora_cli.sim.tasks.open_box import OpenBox
from bora_cli.sim.tasks.pick_place import PickPlace
from bora_cli.sim.tasks.pick_toy import PickToy
from bora_cli.sim.tasks.press_button import PressButton
from bora_cli.sim.tasks.pull_tissue import PullTissue

TASKS: dict[str, Task] = {
    "pick_toy": PickToy(),
    "open_box": OpenBox(),
    "press_button": PressButton(),
    "pick_place": PickPlace(),
    "pull_tissue": PullTissue(),
}


def get_task(name: str) -> Task:
    """Return a task.  Raises ConfigError, which lists the tasks, if there is none of that name."""
    if name not in TASKS:
        raise ConfigError(f"Unknown task '{name}'; expected one of {', '.join(TASKS)}.", "Change --task.")
    return TASKS[name]
