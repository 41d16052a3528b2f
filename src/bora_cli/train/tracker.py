"""Numbers of a training run, one JSON object per line, for people and notebooks that look on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path


class Tracker:
    """Appends to a metrics file.  Every line has `phase`, `update` and the numbers of that update."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8", buffering=1)

    def log(self, phase: str, update: int, values: Mapping[str, float]) -> None:
        """Write one line; values are rounded to six digits."""
        row = {"phase": phase, "update": update} | {k: float(f"{v:.6g}") for k, v in values.items()}
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        self._file.close()
