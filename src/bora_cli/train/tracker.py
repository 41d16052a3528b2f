"""Numbers of a training run, one JSON object per line, for people and notebooks that look on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Tracker:
    """Appends to a metrics file.  Every line has `phase`, `update` and the numbers of that update.

    continued: go on behind the lines that are there, instead of starting the file afresh.  A continued run repeats
    what followed the last saved state; lines that are there already are not written twice, so that its file equals
    that of a run that was not interrupted.
    path: None writes nothing.  rows: all lines, those of before included.
    """

    def __init__(self, path: Path | None, *, continued: bool = False) -> None:
        self.rows: list[dict[str, Any]] = []
        self._file = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            if continued and path.is_file():
                self.rows = read_metrics(path)
                _cut_torn_line(path)
            self._file = path.open("a" if continued else "w", encoding="utf-8", buffering=1)
        self._there = {(row["phase"], row["update"]) for row in self.rows}

    def log(self, phase: str, update: int, values: Mapping[str, float]) -> None:
        """Write one line; values are rounded to six digits."""
        if (phase, update) in self._there:
            return
        row = {"phase": phase, "update": update} | {k: float(f"{v:.6g}") for k, v in values.items()}
        self.rows.append(row)
        if self._file is not None:
            self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file; one that is being written, or was torn off, is left out."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def _cut_torn_line(path: Path) -> None:
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
