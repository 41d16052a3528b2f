"""Where actor and learner meet: episodes one way, a pointer to weights the other way, and nothing else.

The actor collects a round with the weights that the pointer names, then waits until it names those of the next round.
The learner waits for a round's episodes, learns, tests, and moves the pointer.  Neither ever writes a file of the
other, every file appears whole, and all that either knows is in files: each may die at any moment, and be started again
here or on another computer that sees the directory.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from bora_cli.data.dataset import Dataset
from bora_cli.data.files import write_json
from bora_cli.data.lease import Lease
from bora_cli.data.rows import count_episodes
from bora_cli.errors import BoraError, CorruptEpisode, DataError
from bora_cli.evaluate.evaluate import checkpoint_hash
from bora_cli.types import Episode

logger = logging.getLogger(__name__)

Role = Literal["both", "actor", "learner"]
Wait = Callable[[str], None]
"""Called again and again with what is waited for; returns when it is time to look again."""
UNKNOWN: dict[Role, tuple[str, ...]] = {
    "both": (),
    "actor": ("data_hash",),
    "learner": ("operator", "limit_s", "alarm"),
}
"""What of a job a role cannot tell: an actor need not have the offline episodes, a learner does not see who helps."""
POINTER = "weights.json"
LOOK_S = 1.0


def patiently(reason: str) -> None:
    """Wait a second."""
    logger.info("waiting for %s", reason)
    time.sleep(LOOK_S)


@contextmanager
def playing(out: Path, role: Role) -> Iterator[Callable[[], None]]:
    """Hold a role in a run, or both, and yield a function that raises ConfigError once it is lost."""
    roles = ("actor", "learner") if role == "both" else (role,)
    with ExitStack() as stack:
        leases = [stack.enter_context(Lease(out / f".{name}.lease", name)) for name in roles]

        def check() -> None:
            for lease in leases:
                lease.check()

        yield check


def publish(out: Path, finished: int, policy: Path) -> None:
    """Move the pointer: after `finished` rounds, act with this policy, which lies in `out` or is the base."""
    inside = policy.is_relative_to(out)
    where = policy.relative_to(out).as_posix() if inside else ""
    pointer = {"finished": finished, "policy": where, "hash": checkpoint_hash(policy)}
    file = out / POINTER
    if not file.is_file() or json.loads(file.read_text()) != pointer:
        write_json(file, pointer)


def weights_after(out: Path, finished: int, base: Path, wait: Wait) -> Path:
    """Return the policy to act with once so many rounds are finished; waits until it is wholly there.

    A pointer may arrive before the files that it points to, where a directory is synchronised file by file.
    """
    while finished:
        try:
            pointer = json.loads((out / POINTER).read_text())
            if pointer["finished"] >= finished:
                policy: Path = out / pointer["policy"] if pointer["policy"] else base
                if checkpoint_hash(policy) == pointer["hash"]:
                    return policy
        except (OSError, ValueError, BoraError):  # not there yet
            pass
        wait(f"the learner to finish round {finished}")
    return base


def round_of(out: Path, index: int, episodes: int, wait: Wait) -> list[Episode]:
    """Return a round's episodes without images, once all of them are there and can be read.  index: from 1.

    The dataset is opened only then: opening one looks for leftovers, which whoever appends should not be met with.
    """
    first, last = (index - 1) * episodes, index * episodes
    while True:
        present = min(count_episodes(out / "episodes"), last)
        reason = ""
        if present == last:
            try:
                dataset = Dataset.open(out / "episodes")
                return [dataset.episode(i, images=False) for i in range(first, last)]
            except CorruptEpisode as error:
                reason = f"; {error.message}"
            except DataError:  # what it is has not arrived yet
                pass
        wait(f"episodes of round {index}: {max(0, present - first)} of {episodes} are there{reason}")
