"""Checkpoints: a directory that loads without the data it was trained on.

    DIR/config.json           what the parts are and where they come from (written last; its presence means complete)
    DIR/norm_stats.json       statistics that turn physical numbers into normalised ones and back
    DIR/<part>.safetensors    weights of one part: expert, critic, value, residual
    DIR/README.md             model card

The frozen backbone is not copied: config.json names its source and its hash, and loading refuses another one.
Writing goes to a temporary neighbour that is renamed, so a checkpoint is wholly there or not at all.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bora_cli import __version__
from bora_cli.errors import CheckpointError

FORMAT = 1


def package_versions() -> dict[str, str]:
    """Return the versions that shape results, for provenance."""
    versions = {"bora-cli": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "numpy", "mujoco"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def save_checkpoint(
    path: Path,
    config: Mapping[str, Any],
    norm_stats: Mapping[str, Any],
    parts: Mapping[str, Mapping[str, Tensor]],
    card: str,
) -> Path:
    """Write a checkpoint directory; an existing one at `path` is replaced only once the new one is complete.

    config: JSON-serialisable; `format` and `versions` are added.  parts: name -> state dict.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.writing")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for name, weights in parts.items():
        save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, fresh / f"{name}.safetensors")
    _write(fresh / "norm_stats.json", json.dumps(norm_stats, indent=1))
    _write(fresh / "README.md", card)
    full = {"format": FORMAT, **config, "parts": sorted(parts), "versions": package_versions()}
    _write(fresh / "config.json", json.dumps(full, indent=1))
    if path.exists():
        old = path.with_name(f".{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        fresh.rename(path)
        shutil.rmtree(old)
    else:
        fresh.rename(path)
    return path


def read_config(path: Path) -> dict[str, Any]:
    """Return config.json of a checkpoint; raises CheckpointError with the remedy if there is none."""
    path = Path(path)
    if not path.is_dir():
        raise CheckpointError(f"No checkpoint at {path}: there is no such directory.", "Make one with `bora train`.")
    file = path / "config.json"
    if not file.is_file():
        raise CheckpointError(
            f"{path} is not a checkpoint: it has no config.json.", "Name the directory that `bora train --out` made."
        )
    try:
        config: dict[str, Any] = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}).", "Train the checkpoint again.") from error
    if config.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} has checkpoint format {config.get('format')}; this version reads format {FORMAT}.",
            "Use the bora version that wrote it, or train again.",
        )
    return config


def read_norm_stats(path: Path) -> dict[str, Any]:
    """Return norm_stats.json of a checkpoint."""
    stats: dict[str, Any] = json.loads((Path(path) / "norm_stats.json").read_text())
    return stats


def read_part(path: Path, name: str) -> dict[str, Tensor]:
    """Return the state dict of one part; raises CheckpointError if it is absent or damaged."""
    file = Path(path) / f"{name}.safetensors"
    if not file.is_file():
        have = ", ".join(read_config(path)["parts"])
        raise CheckpointError(
            f"The checkpoint {path} has no part '{name}'; it has: {have}.",
            "A critic comes with `bora train bora`." if name in ("critic", "value") else "Train it again.",
        )
    try:
        return dict(load_file(file))
    except SafetensorError as error:
        raise CheckpointError(f"{file} is damaged ({error}).", "Train the checkpoint again.") from error


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
