import importlib.util
from pathlib import Path

import numpy as np
import pytest

from bora_cli.analysis.folder import read_folder, write_folder
from bora_cli.analysis.traces import EpisodeTrace, build_traces

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "value_traces.py"


@pytest.fixture
def run(tmp_path):
    rng = np.random.default_rng(0)
    episodes = [
        EpisodeTrace(
            v=np.linspace(0.3, 0.3 + 0.5 * (1 if i % 2 else -1), 12) + 0.05 * rng.standard_normal(12),
            mc_return=np.full(12, float(i % 2)),
            success=bool(i % 2),
            controller=np.zeros(12, np.uint8),
        )
        for i in range(8)
    ]
    frames = {0: {t: np.full((16, 16, 3), 20 * t, np.uint8) for t in (0, 5, 11)}}
    write_folder(tmp_path / "run", build_traces(episodes), frames)
    return tmp_path / "run"


def notebook():
    spec = importlib.util.spec_from_file_location("value_traces_notebook", NOTEBOOK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def html(outputs) -> str:
    return "".join(getattr(o, "text", "") for o in outputs)


def test_it_runs_on_a_folder_and_shows_its_numbers(run):
    outputs, names = notebook().app.run(defs={"folder": read_folder(run)})
    page = html(outputs)
    assert names["pick"].value == 0
    assert names["scrub"].value == 5
    assert "picture of tick 5" in page
    assert "AUROC exceeds 0.8" in page
    assert "episode 0: failure after 12 ticks" in page
    assert "ECE" in page


def test_brushed_steps_are_listed(run):
    class Brush:
        class value:
            @staticmethod
            def get_mask(x, y):
                return (np.asarray(x) > 0.9) & (np.asarray(y) > 0.5)

    folder = read_folder(run)
    outputs, _ = notebook().app.run(defs={"folder": folder, "brush": Brush})
    assert "No step is chosen" not in html(outputs)
    assert "No step is chosen" in html(notebook().app.run(defs={"folder": folder})[0])


def test_one_outcome_is_said_and_not_an_error(run):
    folder = read_folder(run)
    wins = folder.traces.filter(folder.traces["success"])
    write_folder(run, wins)
    outputs, names = notebook().app.run(defs={"folder": read_folder(run)})
    page = html(outputs)
    assert "All 4 episodes succeeded" in page
    assert "no picture of this episode" in page
    assert names["pick"].value == 1
