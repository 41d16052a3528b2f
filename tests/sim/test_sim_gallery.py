"""The picture of the suite: every cell is there, and shows something else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bora_cli.cli.app import main
from bora_cli.sim.gallery import ROWS, Sheet, gallery
from bora_cli.sim.scene_options import parse_setting
from bora_cli.sim.tasks import TASKS

SMALL = Sheet(cell=32, gap=2, head=12, label=10)


def test_the_sheet_has_a_picture_per_task_and_setting() -> None:
    seen: list[tuple[str, int, int]] = []
    sheet = gallery(backend="rays", sheet=SMALL, suns=1, progress=lambda *event: seen.append(event))
    rows, columns = len(ROWS), len(TASKS)
    assert [parse_setting(setting)[0] for _, setting in ROWS[:2]] == ["standard", "unseen"]
    assert seen[-1] == ("gallery", rows * columns, rows * columns)
    assert sheet.shape == (12 + rows * (10 + SMALL.height), columns * 32 + (columns - 1) * 2, 3)
    cells = []
    for row in range(rows):
        top = 12 + row * (10 + SMALL.height) + 10
        for column in range(columns):
            cell = sheet[top : top + SMALL.height, column * 34 : column * 34 + 32]
            assert cell.std() > 15
            cells.append(cell.tobytes())
    assert len(set(cells)) == rows * columns
    assert np.all(sheet[: SMALL.head, -1] == 255)


def test_another_kind_of_file_is_refused_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["sim", "gallery", "--out", str(tmp_path / "gallery.gif")])
    assert leaving.value.code == 3
    assert "gallery.gif is neither .png nor .webp" in capsys.readouterr().err.replace("\n", "")
