"""Take the pictures of the notebooks that are in the docs: every notebook on its example, wide and narrow.

pip install playwright   (and a Chromium, which is not downloaded by this)
python benchmarks/notebook_pictures.py --out docs/notebooks --live runs/demo-pick_toy-0/online

--live names an online run with two rounds or more; its last round is played again while the notebook `live` is open.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bora_cli.cli.notebook import NOTEBOOKS, arguments
from bora_cli.control.telemetry import LIVE
from bora_cli.data.dataset import Dataset
from bora_cli.data.select import split

WIDE, NARROW = 1280, 480
TALLEST = 3300
"""Pixels of a page that are kept."""
LARGEST = 150_000
PATIENCE = 180.0
PACE = 3.0
"""Seconds between two records of a run that is played again: slower than a loop, for a picture takes a while."""
TRIES = 20
IDLE = """() => !document.querySelector(
    '[data-testid=loading-indicator], .marimo-output-stale, .marimo-output-loading')"""
"""Whether marimo computes nothing, and shows nothing that it is about to replace."""
HEIGHT = """() => Math.max(document.body.scrollHeight, ...[...document.querySelectorAll('*')].map(
    e => e.scrollHeight > e.clientHeight + 50 ? e.scrollHeight : 0))"""


@contextmanager
def served(name: str, run: Path | None = None) -> Iterator[str]:
    """Serve a notebook while the block runs and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = arguments(name, run=run, port=port, browser=False)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=1).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > until:
                    raise SystemExit(f"{name} does not start: {' '.join(command)}") from None
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()


@contextmanager
def playing(run: Path) -> Iterator[Path]:
    """Play the last round of an online run again while the block runs, and yield where.

    Its records come one by one, with the time of day of now, and each of its episodes when its records are over.
    """
    records = [json.loads(line) for line in (run / LIVE).read_text().splitlines()]
    played = max(r["round"] for r in records)
    recorded = Dataset.open(run / "episodes")
    before = [row.index for row in recorded.rows() if row.meta["round"] < played]
    over = threading.Event()

    def play(root: Path) -> None:
        growing, scene = Dataset.open(root / "episodes"), None
        for record in (r for r in records if r["round"] == played):
            if scene not in (None, record["scene"]):
                growing.append(recorded.episode(len(growing)))
            scene = record["scene"]
            with open(root / LIVE, "a") as file:
                file.write(json.dumps(record | {"t": time.time()}) + "\n")
            if over.wait(PACE):
                return

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "online"
        split(run / "episodes", {"episodes": before}, root)
        shutil.copy(run / "job.json", root)
        for i in range(1, played):
            shutil.copytree(run / f"round-{i}", root / f"round-{i}", ignore=shutil.ignore_patterns("policy"))
        player = threading.Thread(target=play, args=(root,))
        player.start()
        try:
            yield root
        finally:
            over.set()
            player.join()


def picture(browser: Any, address: str, width: int, dark: bool = False) -> bytes:
    """Return a notebook's page as PNG, once nothing in it is running any more."""
    page = browser.new_page(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        device_scale_factor=1 if width == WIDE else 1.5,
    )
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(address)
    page.wait_for_selector("svg.plot")
    seen = 0
    while True:  # figures come one by one, and the page grows with them
        page.wait_for_timeout(2500)
        page.wait_for_function(IDLE)
        height = int(page.evaluate(HEIGHT))
        if height <= seen or seen == TALLEST:
            break
        seen = min(height + 40, TALLEST)
        page.set_viewport_size({"width": width, "height": seen})
    shot = b""
    for _ in range(TRIES):  # a notebook that reads a run again may grey its figures while it is taken
        page.wait_for_function(IDLE)
        shot = page.screenshot()
        if page.evaluate(IDLE):
            break
    page.close()
    return shot


def write(png: bytes, path: Path) -> int:
    """Write a PNG as WebP, as good as LARGEST allows, and return its size."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    data = b""
    for quality in (82, 70, 58, 46):
        out = io.BytesIO()
        image.save(out, "WEBP", quality=quality, method=6)
        data = out.getvalue()
        if len(data) < LARGEST:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return len(data)


def main() -> None:
    """Take all pictures and say how large they are."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="directory for NAME.webp and NAME-narrow.webp"
    )
    parser.add_argument("--only", nargs="+", choices=tuple(NOTEBOOKS), help="some notebooks")
    parser.add_argument("--live", type=Path, help="online run that is played again for `live`")
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        for name in given.only or NOTEBOOKS:
            for width, suffix in ((WIDE, ""), (NARROW, "-narrow")):
                with ExitStack() as stack:
                    moves = name == "live" and given.live is not None
                    run = stack.enter_context(playing(given.live)) if moves else None
                    address = stack.enter_context(served(name, run))
                    size = write(picture(browser, address, width), given.out / f"{name}{suffix}.webp")
                    print(f"{name}{suffix}.webp {size / 1000:.0f} kB", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
