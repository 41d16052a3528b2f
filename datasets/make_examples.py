"""Make the small examples that the notebooks open with, from a finished demo run.

    python datasets/make_examples.py runs/demo-pick_toy-0

example/         the critic's analysis: value traces, swapped chunks, thumbnails, the run's numbers
example_online/  the run's online rounds: episodes, takeovers, corrections, training numbers, pictures of takeovers
example_demos/   six demonstrations of mixed quality, collected afresh with small images
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from bora_cli.analysis.analyze import analyze
from bora_cli.analysis.folder import read_folder, write_folder
from bora_cli.analysis.online import read_online, write_online
from bora_cli.analysis.summary import RunSummary
from bora_cli.analysis.traces import outcomes
from bora_cli.evaluate.collect import collect

HERE = Path(__file__).parent
KEPT = 20
"""Successes, and as many failures, of the analysed episodes."""
LARGEST = 1_000_000


def example(run: Path, out: Path) -> None:
    """Analyse the run's recorded evaluation again and keep a part of it."""
    with tempfile.TemporaryDirectory() as scratch:
        rollouts = shutil.copytree(run / "rollouts", Path(scratch) / "rollouts")
        folder = Path(scratch) / "analysis"
        analyze(run / "policies" / "bora_offline", data=[rollouts], out=folder)
        read = read_folder(folder)
        episodes = outcomes(read.traces)
        kept = pl.concat([episodes.filter(pl.col("success") == s).head(KEPT) for s in (True, False)])[
            "episode"
        ]
        traces = read.traces.filter(pl.col("episode").is_in(kept.implode()))
        frames = {e: {t: read.frame(e, t)[1] for t in ticks} for e, ticks in read.thumbnails.items()}  # type: ignore[index]
        write_folder(out, traces, frames, RunSummary.load(run / "summary.json"), swaps=read.swaps)
        shutil.copyfile(folder / "critic.json", out / "critic.json")
    summary = (out / "summary.json").read_text()
    for root in {str(run), str(run.resolve())}:
        summary = summary.replace(root, f"runs/{run.resolve().name}")
    (out / "summary.json").write_text(summary)


def example_online(run: Path, out: Path) -> None:
    """Copy the online rounds, with two pictures per takeover: where it began and where it ended."""
    found = read_online(run)
    moments = {
        (row["episode"], t)
        for row in found.changes.iter_rows(named=True)
        for t in (row["tick"], row["until"])
    }
    frames = {m: image for m in sorted(moments) if (image := found.frame(*m)) is not None}
    found.job["checkpoint"] = Path(str(found.job["checkpoint"])).name
    write_online(out, found, {m: np.asarray(image) for m, image in frames.items()})


def example_demos(out: Path) -> None:
    """Collect six demonstrations."""
    collect(task="pick_toy", episodes=6, out=out, quality="mixed", seed=5, image_size=40)


def main() -> None:
    """Make all three and say how large they are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="directory of a finished `bora demo`")
    parser.add_argument("--out", type=Path, default=HERE, help="where the examples go")
    given = parser.parse_args()
    sizes = {}
    for name in ("example", "example_online", "example_demos"):
        out = given.out / name
        shutil.rmtree(out, ignore_errors=True)
        if name == "example_demos":
            example_demos(out)
        else:
            {"example": example, "example_online": example_online}[name](given.run, out)
        sizes[name] = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(json.dumps(sizes))
    if max(sizes.values()) >= LARGEST:
        raise SystemExit(f"An example is larger than {LARGEST} bytes.")


if __name__ == "__main__":
    main()
