"""Every notebook opens on its example, says what is missing, and answers to a hand in a browser."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bora_cli.analysis.folder import read_folder
from bora_cli.analysis.live import read_live
from bora_cli.analysis.online import read_online
from bora_cli.cli.notebook import NOTEBOOKS, arguments
from bora_cli.data.check import check
from bora_cli.data.dataset import Dataset
from bora_cli.errors import DataError

ROOT = Path(__file__).parents[2]
DATASETS = ROOT / "datasets"
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
SAYS = {
    "value_traces": ("AUROC exceeds 0.8", "picture of tick", "ECE"),
    "swap_test": ("the executed chunk beats", "span of Q over the offsets", "0.5 = ignores the action"),
    "interventions": ("14 takeovers", "the object slipped", "236 corrected ticks"),
    "rounds": ("20 paired scenes", "14 takeovers", "size of the residual"),
    "dataset": ("2 successes", "failure after", "Nothing found"),
    "live": ("20 of 20", "The run has ended.", "6 of them without help"),
}
"""What each notebook shows on its example."""


def app(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"notebook_{name}", ROOT / "notebooks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def page(outputs: Any) -> str:
    return "".join(getattr(o, "text", "") for o in outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_opens_on_its_example(name: str) -> None:
    shown = page(app(name).run()[0])
    for text in SAYS[name]:
        assert text in shown, text
    assert "Nothing to" not in shown


def test_notebooks_are_short_and_hold_no_algorithm() -> None:
    for name in NOTEBOOKS:
        source = (ROOT / "notebooks" / f"{name}.py").read_text()
        assert source.count("@app.cell") <= 15, name
        assert "import torch" not in source
        assert "def " not in source.replace("def _(", "")


def test_marimo_finds_nothing_to_complain_about() -> None:
    files = [str(ROOT / "notebooks" / f"{name}.py") for name in NOTEBOOKS]
    done = subprocess.run(
        [sys.executable, "-m", "marimo", "check", "--strict", *files],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_run_as_scripts_and_fail_in_one_sentence(tmp_path: Path) -> None:
    """All in one process, as `python NOTEBOOK` and as `python NOTEBOOK --run EMPTY`."""
    code = (
        "import runpy, sys\n"
        f"files = {[str(ROOT / 'notebooks' / f'{name}.py') for name in NOTEBOOKS]!r}\n"
        "for file in files:\n"
        "    sys.argv = [file]\n"
        "    runpy.run_path(file, run_name='__main__')\n"
        "    try:\n"
        f"        sys.argv = [file, '--run', {str(tmp_path)!r}]\n"
        "        runpy.run_path(file, run_name='__main__')\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error.__cause__ or error)\n"
        "    else:\n"
        "        print('no error of', file)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(NOTEBOOKS), done.stdout
    assert not [line for line in lines if "no error of" in line]
    assert sum(str(tmp_path) in line for line in lines) == len(NOTEBOOKS), done.stdout


def test_a_run_without_takeovers_is_said_and_not_an_error() -> None:
    run = read_online(DATASETS / "example_online")
    quiet = dataclasses.replace(run, changes=run.changes.clear(), ticks=run.ticks.clear())
    shown = page(app("interventions").run(defs={"run": quiet})[0])
    assert "Nobody took over in this run" in shown
    assert "No tick with a correction" in shown


def test_what_a_control_loop_tells_is_shown(tmp_path: Path) -> None:
    now = read_live(DATASETS / "example_online")
    assert "No control loop has told anything lately" in page(app("live").run(defs={"now": now})[0])
    told = {"t": time.time(), "pid": 1, "tick": 7, "phase": "human", "drives": "human", "reason": "asked"}
    (tmp_path / "live.jsonl").write_text(json.dumps(told) + "\n")
    going_on = dataclasses.replace(now, path=tmp_path, rounds=(), still=False)
    shown = page(app("live").run(defs={"now": going_on})[0])
    assert "Right now" in shown
    assert "human (human), asked" in shown


def test_a_run_that_has_only_begun_is_followed() -> None:
    now = read_live(DATASETS / "example_online")
    begun = dataclasses.replace(
        now, episodes=now.episodes.clear(), metrics=now.metrics.clear(), rounds=(), still=False, wanted=20
    )
    shown = page(app("live").run(defs={"now": begun})[0])
    assert "Waiting for the first episode" in shown
    assert "No training has begun" in shown
    assert "0 of 20" in shown
    run = read_online(DATASETS / "example_online")
    early = dataclasses.replace(run, metrics=run.metrics.clear(), rounds=())
    shown = page(app("rounds").run(defs={"run": early})[0])
    assert "No round has ended with a release test yet" in shown
    assert "Nothing has been learned in this run yet" in shown


def test_an_analysis_without_swaps_shows_what_it_has() -> None:
    folder = read_folder(DATASETS / "example")
    assert folder.swaps is not None
    assert folder.critic() is not None
    bare = dataclasses.replace(folder, path=ROOT, summary=None)
    assert bare.critic() is None
    shown = page(app("swap_test").run(defs={"folder": bare})[0])
    assert "The full test is in the output of" in shown


@pytest.mark.parametrize("name", ["example", "example_online", "example_demos"])
def test_examples_are_small_and_name_nobody(name: str) -> None:
    files = [p for p in (DATASETS / name).rglob("*") if p.is_file()]
    assert 0 < sum(p.stat().st_size for p in files) < 1_000_000
    for file in files:
        assert b"/home/" not in file.read_bytes()
        assert str(ROOT).encode() not in file.read_bytes()


def test_the_example_dataset_can_be_opened() -> None:
    data = Dataset.open(DATASETS / "example_demos")
    assert len(data) == 6
    assert not [f for f in check(data.root) if f.severity == "error"]
    with pytest.raises(DataError):
        Dataset.open(DATASETS / "example")


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_exports_to_html(name: str, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = subprocess.run(arguments(name, html=out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown = out.read_text(encoding="utf-8")
    assert all(text in shown for text in SAYS[name])


PATIENCE_S = 180.0
"""How long a busy machine may take to show a page."""


@contextmanager
def served(name: str) -> Iterator[str]:
    """Serve a notebook on its example and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = arguments(name, port=port, browser=False)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + PATIENCE_S
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                assert server.poll() is None, command
                assert time.monotonic() < until, "the notebook does not start"
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    if not CHROMIUM.is_file():
        pytest.skip(f"no Chromium at {CHROMIUM}; set CHROMIUM to one")
    api = pytest.importorskip("playwright.sync_api", reason="pip install 'bora-cli[browser]'")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield opened
        opened.close()


MOVED = {
    "value_traces": (("slider", 0, "ArrowRight", 0),),
    "swap_test": (("slider", 1, "ArrowRight", 1), ("slider", 0, "ArrowRight", 0)),
    "interventions": (("select", -1, "round 1", 2),),
    "rounds": (("select", 0, "round 1", 1),),
    "dataset": (("slider", 0, "ArrowRight", 0),),
    "live": (("slider", 0, "ArrowLeft", 0),),
}
"""Notebook -> controls that are moved: kind, which of its kind, how, and which figure changes."""


PHONE = 420
"""Pixels."""
BOXES = """() => [...document.querySelectorAll('svg.plot')].map(p => [
    p.parentElement.getBoundingClientRect().right, p.parentElement.scrollWidth, p.getBoundingClientRect().width])"""
"""Of each figure: where its box ends, how far its box scrolls, and how wide it is itself."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_moved_control_changes_the_figure_and_a_phone_can_read_it(browser: Any, name: str) -> None:
    with served(name) as address:
        view = browser.new_page(viewport={"width": 1280, "height": 1600})
        view.set_default_timeout(1000 * PATIENCE_S)
        view.goto(address)
        last = max(figure for *_, figure in MOVED[name])
        view.locator("svg.plot").nth(last).wait_for()
        for kind, which, how, figure in MOVED[name]:
            before = view.locator("svg.plot").nth(figure).inner_html()
            if kind == "slider":
                view.get_by_role("slider").nth(which).focus()
                view.keyboard.press(how)
            else:
                view.locator("select").nth(which).select_option(label=how)
            view.wait_for_function(
                "([old, i]) => { const p = document.querySelectorAll('svg.plot')[i]; return p && p.innerHTML !== old }",
                arg=[before, figure],
            )
        view.set_viewport_size({"width": PHONE, "height": 1600})
        boxes = view.evaluate(BOXES)
        assert boxes
        assert all(box <= PHONE for box, _, _ in boxes), boxes
        assert all(scrolled >= shown for _, scrolled, shown in boxes), boxes
        assert max(shown for _, _, shown in boxes) >= 560, boxes
        charts = [chart.bounding_box() for chart in view.locator("canvas").all()]
        assert all(chart["width"] >= 560 for chart in charts), charts
        assert view.evaluate("document.documentElement.scrollWidth") <= PHONE
        view.close()
