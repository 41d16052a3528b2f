"""Recognise what somebody else recorded and import it; refuse what would execute code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bora_cli.data.copy import Progress, no_progress
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import read_json
from bora_cli.data.foreign import ImportOptions, import_source
from bora_cli.data.hdf5 import RobomimicFile
from bora_cli.data.lerobot import LeRobotDataset
from bora_cli.data.lerobot_v21 import VERSIONS, open_v21
from bora_cli.data.schema import IDENTITY, INFO
from bora_cli.data.select import merge
from bora_cli.data.sources import Source
from bora_cli.data.untrusted import malformed
from bora_cli.errors import DataError

PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib", ".dill")
HDF5 = (".hdf5", ".h5", ".hdf")
_KNOWN = (
    "Known are LeRobot directories (v3.0, v2.1), robomimic .hdf5 files, and .npz files with the profile of an"
    " environment."
)


def refuse_pickles(path: Path) -> None:
    """Raise DataError for a file whose format runs code while it is loaded."""
    if path.suffix.lower() in PICKLES:
        raise DataError(
            f"{path} is a pickle; loading one runs whatever code is in it, so bora does not.",
            "Whoever trusts it can write its arrays with numpy.savez, or convert it to LeRobot or HDF5.",
        )
    if path.suffix.lower() == ".npy":
        raise DataError(
            f"{path} is a single array, which says neither what it is nor where episodes end.",
            "Put the arrays into one .npz file; docs/data.md names them.",
        )


def open_foreign(path: Path) -> tuple[Source, dict[str, Sequence[str]], str]:
    """Return a recording as a source of episodes, the names of its numbers by column, and what it is.

    Raises DataError for what cannot be recognised.
    """
    refuse_pickles(path)
    if not path.exists():
        raise DataError(f"There is no {path}.", "Check the path.")
    if path.suffix.lower() in HDF5 and path.is_file():
        return RobomimicFile(path), {}, "robomimic HDF5"
    if (path / INFO).is_file():
        info = read_json(path / INFO)
        version = str(info.get("codebase_version", "")) if isinstance(info, dict) else ""
        with malformed(path / INFO):
            source = open_v21(path) if version in VERSIONS else LeRobotDataset.open(path)
            return source, _column_names(info), f"LeRobot {version}"
    inside = [p for p in path.glob("*") if p.suffix.lower() in PICKLES] if path.is_dir() else []
    for file in inside:
        refuse_pickles(file)
    raise DataError(f"{path} is no recording that bora knows.", _KNOWN)


def import_any(path: Path, out: Path, options: ImportOptions, *, progress: Progress = no_progress) -> Dataset:
    """Import a recording of any known kind but .npz, which needs an environment's profile.

    A dataset of ours is copied as it is.  Nothing is left at `out` if the import fails.
    """
    if (path / IDENTITY).is_file():
        merge([path], out, progress=progress)
        return Dataset.open(out)
    source, names, kind = open_foreign(path)
    return import_source(source, out, options, names=names, kind=kind, progress=progress)


def _column_names(info: dict[str, Any]) -> dict[str, Sequence[str]]:
    """Return the names of a header's features; LeRobot writes a list, or one list under a key such as "motors"."""
    out: dict[str, Sequence[str]] = {}
    for column, about in info["features"].items():
        names = about.get("names") if isinstance(about, dict) else None
        if isinstance(names, dict) and len(names) == 1:
            names = next(iter(names.values()))
        if isinstance(names, list):
            out[column] = names
    return out
