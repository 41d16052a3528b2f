"""Put a damaged dataset right, as far as what it holds allows, and keep everything that is taken out."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bora_cli.data.check import ambiguous_tasks, check
from bora_cli.data.copy import Place, Progress, complete, create, no_progress, require_sound
from bora_cli.data.dataset import Dataset
from bora_cli.data.exchange import interrupted, link_or_copy, recover, rewrite
from bora_cli.data.files import (
    TEMPORARY,
    Tracer,
    locked,
    no_trace,
    read_json,
    read_table,
    write_json,
)
from bora_cli.data.leftovers import counted_episodes, new_folder, quarantined
from bora_cli.data.rows import named_episode, read_row
from bora_cli.data.salvage import Salvaged, salvage, write_salvaged
from bora_cli.data.schema import (
    DATA_PATH,
    IDENTITY,
    INFO,
    STATS,
    TASKS,
    Identity,
    episode_file,
)
from bora_cli.data.statistics import recompute
from bora_cli.data.tables import column_array
from bora_cli.data.tasks import read_tasks, write_tasks
from bora_cli.errors import DataError

PATTERNS = (
    "meta/episodes/chunk-*/file-*.parquet",
    "data/chunk-*/file-*.parquet",
    "decisions/chunk-*/file-*.parquet",
    "videos/*/chunk-*/file-*.mp4",
)
Action = Literal["mended", "set aside", "moved", "renewed", "recovered"]


@dataclass(frozen=True)
class Step:
    """One thing that a repair does.

    action: "mended" (an episode stays, something about it was computed again), "set aside" (an episode goes
    into the quarantine folder), "moved" (a leftover file goes there), "renewed" (a file about the whole
    dataset), "recovered" (the whole dataset got its name back).  episode: its old index, or None.
    """

    action: Action
    episode: int | None
    message: str


@dataclass(frozen=True)
class Report:
    """What a repair did, or would do.

    episodes: how many the dataset has afterwards.  renumbered: old index -> new one, where they differ.
    left: what `check` still says.  backup: where the dataset is as it was, None where no episode changed.
    """

    steps: tuple[Step, ...]
    episodes: int
    renumbered: dict[int, int]
    left: tuple[str, ...] = ()
    backup: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """What is wrong with a dataset, and what to do.

    tasks: instruction -> number, complete.  files: episode -> its files.  kept: old indices, in order.
    gone: old index -> why.  leftovers: files of interrupted writes.  rewrites: whether episodes change.
    """

    identity: Identity
    tasks: dict[str, int]
    files: dict[int, list[Path]]
    kept: tuple[int, ...]
    gone: dict[int, str]
    leftovers: tuple[Path, ...]
    rewrites: bool
    steps: tuple[Step, ...]


def repair(
    root: Path,
    *,
    like: Path | None = None,
    dry_run: bool = False,
    keep_backup: bool = True,
    progress: Progress = no_progress,
    trace: Tracer = no_trace,
) -> Report:
    """Put a dataset right.

    Episodes that were never committed, and those with errors that do not follow from the rest, go into the
    folder `quarantine` with the reason beside them.  like: a dataset of the same rig, for the case that
    meta/bora.json is lost.  dry_run: only say what would be done.
    Raises DataError, with nothing changed, where there is no dataset, its identity is lost, or another
    process appends.
    """
    steps: list[Step] = []
    if backup := interrupted(root) if dry_run else recover(root):
        root = backup if dry_run else root
        steps.append(Step("recovered", None, f"A rewrite was interrupted; {backup.name} gets its name back."))
    root = root.resolve()
    plan = examine(root, like, progress)
    steps += plan.steps
    renumbered = {old: new for new, old in enumerate(plan.kept) if old != new}
    if dry_run or not plan.steps:
        return Report(tuple(steps), len(plan.kept), renumbered)
    kept_at = None
    if plan.rewrites:

        def fill(fresh: Path) -> None:
            _require_unchanged(root, plan)
            _fill(fresh, root, plan, progress)
            _put_away(root, fresh, plan, move=False)

        kept_at = rewrite(root, fill, keep_backup=keep_backup, trace=trace)
    else:
        with locked(root / IDENTITY) as mine:
            if not mine:
                raise DataError(f"Another process is appending to {root}.", "Wait until it has finished.")
            _require_unchanged(root, plan)
            _put_away(root, root, plan, move=True)
            if plan.tasks != _known_tasks(root):
                write_tasks(root / TASKS, plan.tasks)
        dataset = Dataset.open(root)
        dataset.repair()
        write_json(root / STATS, recompute(dataset))
    left = tuple(finding.message for finding in check(root))
    return Report(tuple(steps), len(plan.kept), renumbered, left, str(kept_at) if kept_at else None)


def examine(root: Path, like: Path | None = None, progress: Progress = no_progress) -> Plan:
    """Return what is wrong with a dataset and what a repair does about it; changes nothing."""
    identity, steps = _identity(root, like)
    rewrites = bool(steps)
    files = _files(root)
    committed = counted_episodes(root) - 1
    committed = max(
        committed, max((i for i, found in files.items() if any(_is_row(root, p) for p in found)), default=-1)
    )
    tasks, told = _tasks(root, files)
    steps += told
    instructions = {number: prompt for prompt, number in tasks.items()}
    kept: list[int] = []
    gone: dict[int, str] = {}
    first = 0
    for done, index in enumerate(sorted(files)):
        try:
            if index > committed:
                raise DataError("Its recording was interrupted before it was committed.")
            found = salvage(root, identity, index, instructions)
        except DataError as error:
            gone[index] = error.message
            steps.append(Step("set aside", index, error.message))
            rewrites = rewrites or index <= committed
            continue
        finally:
            progress("examine", done + 1, len(files))
        tasks.setdefault(found.episode.prompt, max(tasks.values(), default=-1) + 1)
        place = Place(len(kept), first, tasks[found.episode.prompt])
        misplaced = not _stands(root, index, found, place)
        notes = list(found.notes)
        if misplaced and not any(i < index for i in gone) and not notes:
            notes.append("The numbers of its place written again.")
        steps += [Step("mended", index, note) for note in notes]
        rewrites = rewrites or misplaced or bool(notes)
        kept.append(index)
        first += len(found.episode)
    known = {path for found in files.values() for path in found}
    leftovers = [path for path in _everything(root) if path not in known]
    for path in leftovers:
        why = (
            "left by an interrupted write" if path.name.endswith(TEMPORARY) else "not the name of an episode"
        )
        steps.append(Step("moved", None, f"{path.relative_to(root)}, {why}."))
    if not rewrites:
        steps += _stale(root)
    return Plan(identity, tasks, files, tuple(kept), gone, tuple(leftovers), rewrites, tuple(steps))


def _identity(root: Path, like: Path | None) -> tuple[Identity, list[Step]]:
    if not root.is_dir() or not any((root / part).is_dir() for part in ("meta", "data")):
        raise DataError(f"{root} is not a dataset: it has neither meta/ nor data/.", "Check the path.")
    try:
        return Identity.from_json(read_json(root / IDENTITY)), []
    except DataError as error:
        if like is None:
            if not _files(root):
                raise DataError(
                    f"{root} was interrupted while it was made and has no episode.",
                    "Remove it and record again.",
                ) from None
            raise DataError(
                f"{error.message} It says what the numbers mean, which follows from nothing else.",
                "Name a dataset of the same rig and cameras with --like.",
            ) from None
    identity = Identity.from_json(read_json(like / IDENTITY))
    _require_features(root, identity, like)
    return identity, [Step("renewed", None, f"{IDENTITY} taken from {like}.")]


def _require_features(root: Path, identity: Identity, like: Path) -> None:
    """Raise DataError if the header of a dataset lists other columns than an identity implies."""
    try:
        features = read_json(root / INFO)["features"]
    except (DataError, KeyError, TypeError):
        return
    mine = identity.features
    wrong = sorted(name for name in {*features, *mine} if features.get(name) != mine.get(name))
    if wrong:
        raise DataError(
            f"{like} is of another rig: {root / INFO} says otherwise about {', '.join(wrong)}.",
            "Name a dataset with the same columns.",
        )


def _files(root: Path) -> dict[int, list[Path]]:
    """Return episode -> its files, whatever their state."""
    found: dict[int, list[Path]] = {}
    for pattern in PATTERNS:
        for path in sorted(root.glob(pattern)):
            if (index := named_episode(path)) is not None:
                found.setdefault(index, []).append(path)
    return found


def _everything(root: Path) -> list[Path]:
    """Return every file that lies where episodes lie, and every temporary one."""
    places = (root / "meta/episodes", *(root / part for part in ("data", "decisions", "videos")))
    found = {path for place in places for path in place.rglob("*") if path.is_file()}
    return sorted(found | set((root / "meta").glob("*" + TEMPORARY)))


def _is_row(root: Path, path: Path) -> bool:
    return path.is_relative_to(root / "meta")


def _known_tasks(root: Path) -> dict[str, int] | None:
    try:
        if not (root / TASKS).exists() or ambiguous_tasks(root):
            return None
        return read_tasks(root / TASKS)
    except (OSError, ValueError, KeyError, DataError):
        return None


def _tasks(root: Path, files: Collection[int]) -> tuple[dict[str, int], list[Step]]:
    """Return the table of instructions, put together from rows and ticks if it is lost."""
    known = _known_tasks(root)
    if known is not None or not files:
        return dict(known or {}), []
    found: dict[str, int] = {}
    for index in sorted(files):
        with suppress(DataError):
            ticks = read_table(episode_file(root, DATA_PATH, index), ["task_index"])
            found.setdefault(read_row(root, index).prompt, ticks["task_index"][0].as_py())
    if len(set(found.values())) != len(found):
        found = {prompt: number for number, prompt in enumerate(found)}
    return found, [Step("renewed", None, f"{TASKS} put together from the episodes.")]


def _stands(root: Path, index: int, found: Salvaged, place: Place) -> bool:
    """Return whether an episode's files already carry the numbers of a place."""
    if index != place.index or found.row is None:
        return found.row is None and index == place.index
    ticks = len(found.episode)
    row = read_row(root, index)
    starts = found.row["dataset_to_index"][0].as_py()
    numbers = {name: column_array(found.data[name]) for name in ("episode_index", "index", "task_index")}
    return bool(
        row.first_index == place.first
        and starts == place.first + ticks
        and (numbers["episode_index"] == place.index).all()
        and (numbers["task_index"] == place.task).all()
        and (numbers["index"] == range(place.first, place.first + ticks)).all()
    )


def _stale(root: Path) -> list[Step]:
    """Return what is out of date among the files about the whole dataset."""
    return [
        Step("renewed", None, finding.message)
        for finding in check(root, images_per_episode=0)
        if finding.episode is None and (INFO.name in finding.message or STATS.name in finding.message)
    ]


def _require_unchanged(root: Path, plan: Plan) -> None:
    if _files(root) != plan.files:
        raise DataError(f"{root} changed while it was examined.", "Nothing was changed; run it again.")


def _fill(fresh: Path, root: Path, plan: Plan, progress: Progress) -> None:
    create(fresh, plan.identity)
    instructions = {number: prompt for prompt, number in plan.tasks.items()}
    first = 0
    for new, old in enumerate(plan.kept):
        found = salvage(root, plan.identity, old, instructions)
        place = Place(new, first, plan.tasks[found.episode.prompt])
        write_salvaged(found, root, old, fresh, plan.identity, place)
        first += len(found.episode)
        progress("write", new + 1, len(plan.kept))
    if plan.tasks:
        write_tasks(fresh / TASKS, plan.tasks)
    complete(fresh)
    require_sound(fresh)


def _put_away(root: Path, target: Path, plan: Plan, *, move: bool) -> None:
    """Bring what is taken out of a dataset into the quarantine folder of `target`."""
    for index, reason in plan.gone.items():
        folder = new_folder(root, target, f"episode-{index:06d}")
        for path in plan.files[index]:
            _bring(path, folder / quarantined(root, path), move)
        (folder / "reason.txt").write_text(f"{reason}\n")
    if plan.leftovers:
        folder = new_folder(root, target, "leftovers")
        for path in plan.leftovers:
            _bring(path, folder / quarantined(root, path), move)


def _bring(path: Path, target: Path, move: bool) -> None:
    if move:
        path.rename(target)
    else:
        link_or_copy(path, target)
