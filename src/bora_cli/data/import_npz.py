"""Read demonstrations of a Gymnasium environment that somebody else recorded, from one .npz file.

Arrays, for N episodes of together M ticks:

    lengths        integer [N]     ticks of each episode; the others are concatenated in this order
    observations   float [M, S]    as the environment gave them, *before* the action of the same row
    actions        float [M, A]    as they were sent, in the environment's own numbers
    rewards        float [M]       needed if the profile's reward or its test of success is the environment's reward
    successes      bool [N]        needed if the profile's test of success cannot be applied to recorded data
    init_NAME      float [N, ...]  any number of them: parts of the state in which each episode began

Where the profile steps the environment several times per tick, so many rows become one tick: the state before the
first of them, the mean of their actions, the sum of their rewards.

The file has no images.  `bora collect --replay` executes the actions again and records what the cameras see.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bora_cli.data.copy import require_sound
from bora_cli.data.dataset import Dataset
from bora_cli.data.exchange import new_directory
from bora_cli.data.untrusted import MALFORMED
from bora_cli.errors import DataError, SchemaMismatch
from bora_cli.profiles import EnvProfile
from bora_cli.types import F32, Bool, Controller, Episode

Arrays = dict[str, NDArray[Any]]
Progress = Callable[[str, int, int], None]

INITIAL = "init_"
PERSON_DRIVES = 2
"""The arbiter's phase in which a person drives."""
_ARRAYS = (
    "See the head of bora_cli/data/import_npz.py, or docs/environments.md, for the arrays that are expected."
)


@dataclass(frozen=True)
class Recording:
    """One episode, tick by tick: state [T, S], actions [T, A] in the profile's units, reward [T].

    wanted: as they were sent; applied: inside the limits of the profile.
    passed: bool [T], whether the test of success was passed after each tick, or None where only `success` is known.
    """

    state: NDArray[Any]
    wanted: F32
    applied: F32
    reward: NDArray[Any]
    initial: dict[str, Any]
    passed: Bool | None
    success: bool


def import_npz(path: Path, out: Path, profile: EnvProfile, *, progress: Progress | None = None) -> Dataset:
    """Write the episodes of an .npz file as a dataset without cameras, and return it.

    Actions beyond the limits of the profile are kept as the person's command and executed clipped.  An episode
    with success counts as *terminated*, any other as *truncated*; it is not cut at its success.
    Raises DataError for a file that is not what it should be, SchemaMismatch where it does not fit the profile;
    nothing is left at `out` then.
    """
    arrays = _read(path, profile)
    lengths = arrays["lengths"].tolist()
    with new_directory(out) as fresh:
        dataset = Dataset.create(
            fresh,
            spec=profile.action_spec,
            state_names=profile.state.names,
            cameras=(),
            image_size=64,
            fps=profile.env.control_rate,
            robot_type=profile.name,
            extra={"imported": {"file": path.name, "profile": profile.name, "profile_hash": profile.hash}},
        )
        for index in range(len(lengths)):
            recording = _recording(arrays, index, sum(lengths[:index]), profile)
            dataset.append(_episode(recording, profile, path.name))
            if progress is not None:
                progress("import", index + 1, len(lengths))
        require_sound(fresh, name=path)
    return Dataset.open(out)


def try_npz(path: Path, profile: EnvProfile) -> list[int]:
    """Return how many ticks each imported episode would have, after every check of `import_npz`; writes nothing.

    Raises what `import_npz` raises for the file.
    """
    arrays = _read(path, profile)
    lengths: list[int] = arrays["lengths"].tolist()
    return [
        len(_recording(arrays, index, sum(lengths[:index]), profile).state) for index in range(len(lengths))
    ]


def _read(path: Path, profile: EnvProfile) -> Arrays:
    """Return the arrays of the file, checked for presence, shape and finiteness."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        raw = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
        if raw:
            raise ValueError(f"{raw[0]} is no array")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}.", "Give the .npz file to import.") from None
    except (*MALFORMED, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is not a .npz file of plain arrays ({error!s:.200}).", _ARRAYS) from error
    missing = [name for name in ("lengths", "observations", "actions") if name not in arrays]
    if missing:
        raise DataError(
            f"{path} has no array {', '.join(missing)}; it has {', '.join(arrays) or 'none'}.", _ARRAYS
        )
    lengths = arrays["lengths"]
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu" or not len(lengths) or (lengths < 1).any():
        raise DataError(f"{path}: lengths is not a list of positive whole numbers.", _ARRAYS)
    count, ticks = len(lengths), sum(lengths.tolist())
    shapes: dict[str, tuple[int, ...]] = {
        "observations": (ticks, len(profile.state.names)),
        "actions": (ticks, profile.action_spec.dim),
        "rewards": (ticks,),
        "successes": (count,),
    }
    for name, array in arrays.items():
        wanted = (count, *array.shape[1:]) if name.startswith(INITIAL) else shapes.get(name, array.shape)
        if array.shape != wanted:
            raise SchemaMismatch(
                f"{path}: {name} has shape {list(array.shape)}; profile '{profile.name}' and lengths ask for"
                f" {list(wanted)}.",
                "Use the profile of the environment in which it was recorded.",
            )
        if array.dtype.kind not in "fiub" or not _finite(array, stored=not name.startswith(INITIAL)):
            raise DataError(f"{path}: {name} has entries that are no finite numbers.", "Repair the file.")
    return arrays


def _finite(array: NDArray[Any], stored: bool) -> bool:
    """Return whether all numbers are finite, also in the precision in which a dataset stores them."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(np.float32) if stored else array).all())


def _recording(arrays: Arrays, index: int, first: int, profile: EnvProfile) -> Recording:
    rows = slice(first, first + int(arrays["lengths"][index]))
    state = arrays["observations"][rows].astype(np.float32)
    reward = arrays["rewards"][rows].astype(np.float32) if "rewards" in arrays else None
    test, needs_reward = profile.env.success, profile.env.reward == "environment"
    if reward is None and (needs_reward or (test.reward is not None and "successes" not in arrays)):
        raise DataError("The file has no array rewards, which the profile's [env] table asks for.", _ARRAYS)
    initial = {
        name.removeprefix(INITIAL): array[index].tolist()
        for name, array in arrays.items()
        if name.startswith(INITIAL)
    }
    passed = None
    if "successes" not in arrays:
        if test.state is None and test.reward is None:
            raise DataError(
                "The file has no array successes, and the profile's test of success needs the running environment.",
                "Add successes, bool [N], or test a state or the reward in the profile.",
            )
        passed = _passed(state, reward, profile)
    success = bool(arrays["successes"][index]) if passed is None else bool(passed.any())
    kept = np.zeros(len(state), np.float32) if reward is None else reward
    begins = np.arange(0, len(state), profile.env.steps_per_tick)
    steps = np.diff(np.append(begins, len(state)))[:, None].astype(np.float32)
    wanted = profile.from_env(arrays["actions"][rows])
    clipped = profile.action_spec.clip(wanted)
    return Recording(
        state[begins],
        (np.add.reduceat(wanted, begins) / steps).astype(np.float32),
        (np.add.reduceat(clipped, begins) / steps).astype(np.float32),
        np.add.reduceat(kept, begins),
        initial,
        passed,
        success,
    )


def _passed(state: NDArray[Any], reward: NDArray[Any] | None, profile: EnvProfile) -> Bool:
    """Return bool [T]: whether the test was passed in this tick and in `hold_ticks` - 1 before it.

    state [n, S], reward [n]: of the environment's steps.  The state after the last action was not recorded, so a test
    of the state cannot be passed there.
    """
    test, names, per_tick = profile.env.success, profile.state.names, profile.env.steps_per_tick
    met = np.zeros(len(state), np.bool_)
    for at in range(len(state) - (test.state is not None)):
        following = state[at + 1] if test.state is not None else state[at]
        met[at] = test.met(names, following, 0.0 if reward is None else float(reward[at]), {}, False)
    in_tick = np.logical_or.reduceat(met, np.arange(0, len(state), per_tick))
    held, passed = 0, np.zeros(len(in_tick), np.bool_)
    for tick, now in enumerate(in_tick):
        held = held + 1 if now else 0
        passed[tick] = held >= test.hold_ticks
    return passed


def _episode(recording: Recording, profile: EnvProfile, source: str) -> Episode:
    wanted, applied = recording.wanted, profile.action_spec.clip(recording.applied)
    ticks = len(wanted)
    reward = recording.reward
    if profile.env.reward == "success":
        reward = np.full(ticks, profile.env.tick_reward(False), np.float32)
        if recording.success:
            at = ticks - 1 if recording.passed is None else int(recording.passed.argmax())
            reward[at] = profile.env.tick_reward(True)
    last = np.arange(ticks) == ticks - 1
    meta: dict[str, Any] = {
        "task": profile.env.id,
        "profile": profile.name,
        "profile_hash": profile.hash,
        "operator": "recorded elsewhere",
        "source": source,
        "clipped_ticks": int((applied != wanted).any(axis=1).sum()),
    }
    if recording.initial:
        meta["initial_state"] = recording.initial
    return Episode(
        images={},
        state=recording.state,
        action=applied,
        proposed=wanted,
        human=wanted,
        controller=np.full(ticks, Controller.DEMO, np.uint8),
        phase=np.full(ticks, PERSON_DRIVES, np.uint8),
        reward=reward,
        terminated=last & recording.success,
        truncated=last & (not recording.success),
        success=recording.success,
        prompt=profile.env.instruction,
        meta=meta,
    )
