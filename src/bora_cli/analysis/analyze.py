"""Ask a trained critic about recorded episodes, and write what it says: table, numbers, figures, thumbnails."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bora_cli.analysis import figures, occlusion_figures, ope_figure, swap_figures, trace_figures
from bora_cli.analysis.bootstrap import Estimate
from bora_cli.analysis.counterfactual import counterfactual_summary, run_futures, score_futures
from bora_cli.analysis.critic_page import critic_page, verdict
from bora_cli.analysis.critic_summary import CriticSummary
from bora_cli.analysis.critic_tests import action_sensitivity, bad_chunks, differs, swap_test
from bora_cli.analysis.folder import write_folder
from bora_cli.analysis.html import write_page
from bora_cli.analysis.occlusion import Masked, occlude, occlusion_scores
from bora_cli.analysis.ope import Measured, condition_of, measured, ope_summary, predicted
from bora_cli.analysis.part_files import box_masks, file_masks
from bora_cli.analysis.recordings import Recordings, load_recordings, open_recordings
from bora_cli.analysis.scorers import Scorer, scorer_of
from bora_cli.analysis.style import save
from bora_cli.analysis.swaps import pictured_swaps
from bora_cli.analysis.tables import critic_summary
from bora_cli.analysis.traces import EpisodeTrace, autonomous, build_traces
from bora_cli.analysis.value_tests import calibration
from bora_cli.checkpoint import Trained, load_trained
from bora_cli.data.dataset import Dataset
from bora_cli.data.files import directory_written, write_json
from bora_cli.data.windows import discounted_returns
from bora_cli.errors import BoraError, CheckpointError
from bora_cli.evaluate.futures import Successor, successor_of
from bora_cli.evaluate.workers import Workers
from bora_cli.seeds import stream
from bora_cli.types import U8

Progress = Callable[[str, int, int], None]

TABLES = ("occlusion", "counterfactual")
"""Parquet files of the tests that not every analysis makes."""
SWAPPED = 5000
"""States in which chunks are swapped, at most; more would take memory and make no interval narrower."""
OCCLUDED = 20
"""Episodes in which parts of the image are covered, unless another number is asked for."""
WINDOWS = 8192
"""Windows whose chunks are in memory at once; a multiple of what a critic is asked at once."""
SENSITIVITY_CHUNKS = 8
THUMBNAILS_PER_EPISODE = 12
THUMBNAIL_EPISODES = 3
"""How many successes, and as many failures, get thumbnails."""


def analyze(
    checkpoint: Path,
    *,
    data: Sequence[Path],
    out: Path,
    seed: int = 0,
    occlusion: int | None = None,
    masks: Path | None = None,
    boxes: Sequence[str] = (),
    counterfactual: int = 0,
    then: str = "",
    ope: Sequence[Path] = (),
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trace the critic of a checkpoint along recorded episodes and test whether it looks at the action.

    Writes traces.parquet, swaps.parquet, critic.json, report.html, frames/ and figures (PNG, SVG) into `out`, all
    of them or none, and returns the numbers; other files there stay as they are.
    occlusion: in how many episodes hand, object and background are covered; None does so in OCCLUDED of them where the
    simulator or masks, boxes say what is where (`part_files`), 0 leaves it out.  Written into occlusion.parquet.
    counterfactual: from how many recorded states other chunks are executed, see `run_futures`; 0 leaves that out.
    then: who acts after such a chunk.  What came of them is written into counterfactual.parquet.
    ope: evaluations of policies that the critic is to rank, see `ope.measured`.
    Raises CheckpointError if the checkpoint has no critic, DataError if the episodes cannot be judged, SchemaMismatch
    if they are another robot's, ConfigError for data given twice and for what is no box.
    """
    trained = load_trained(checkpoint)
    if trained.critic is None and trained.decoupled is None:
        raise CheckpointError(f"{checkpoint} has no critic.", "Train one with `bora train bora`.")
    gamma = float(trained.provenance.get("gamma", 0.97))
    goes_on, policies = _checked(
        trained, checkpoint, data, masks, boxes, then if counterfactual else None, ope
    )
    backbone = trained.load_backbone()
    recordings = load_recordings(data, trained, backbone, gamma=gamma, progress=progress)
    scorer = scorer_of(trained, backbone, recordings)
    traces = build_traces(_traces(recordings, scorer, gamma))
    swap, sensitivity = _swap(recordings, scorer, stream("swap", seed))
    summary = critic_summary(traces, rng=stream("bootstrap", seed), swap=swap, action_sensitivity=sensitivity)
    if not summary.auroc:
        outcome = "failed" if summary.failures else "succeeded"
        kind = "demonstration" if summary.demonstrations else "unaided episode"
        kind = "episode" if 0 < summary.demonstrations < summary.successes + summary.failures else kind
        note = f"Every {kind} {outcome}, so V has no outcomes to tell apart. Analyse some of both."
        summary = replace(summary, notes=(note,))
    tables: dict[str, pl.DataFrame] = {}
    pictures: dict[str, Figure] = {}
    if occlusion != 0:
        masked = Masked(occlusion or OCCLUDED, masks, tuple(boxes), data, trained.spec.cameras)
        try:
            table, shown = occlude(masked, recordings, scorer, stream("occlusion", seed), workers, progress)
        except BoraError as error:
            if occlusion is not None or masks is not None or boxes:
                raise
            summary = replace(summary, notes=(*summary.notes, f"Nothing was covered: {error}"))
        else:
            tables["occlusion"] = table
            pictures["occluded"] = occlusion_figures.occluded_pictures(shown)
            summary = replace(summary, occlusion=occlusion_scores(table, rng=stream("bootstrap", seed)))
    if counterfactual:
        futures = run_futures(
            recordings,
            trained.spec.action,
            counterfactual,
            gamma=gamma,
            execute=trained.spec.execute,
            successor=goes_on,
            seed=seed,
            workers=workers,
            progress=progress,
        )
        tables["counterfactual"] = score_futures(futures, recordings, scorer.q)
        counted = counterfactual_summary(tables["counterfactual"], rng=stream("bootstrap", seed))
        summary = replace(summary, counterfactual=counted)
    if policies:
        values = predicted(policies, recordings, scorer, data, progress=progress)
        summary = replace(summary, ope=ope_summary(policies, values, rng=stream("bootstrap", seed)))
    out = Path(out)
    frames = thumbnails(data, traces["success"].to_numpy(), traces["episode"].to_numpy())
    swaps = pictured_swaps(recordings, scorer.q, trained.spec.action, frames, rng=stream("swap", seed))
    drawn = draw(traces, summary, frames, seed) | pictures
    options: list[tuple[str, object]] = [("--data", d) for d in data]
    options += [("--out", out), ("--seed", seed)]
    options += [("--occlusion", occlusion)] if occlusion is not None else []
    options += [("--masks", masks)] if masks is not None else []
    options += [("--box", box) for box in boxes]
    options += [("--counterfactual", counterfactual)] if counterfactual else []
    options += [("--then", then)] if counterfactual and then else []
    options += [("--ope", o) for o in ope]
    said = " ".join(f"{name} {shlex.quote(str(value))}" for name, value in options)
    text = critic_page(
        summary,
        drawn,
        checkpoint=str(checkpoint),
        data=[str(d) for d in data],
        command=f"bora analyze {shlex.quote(str(checkpoint))} {said}",
    )
    with directory_written(out, keep=True) as fresh:
        write_folder(fresh, traces, frames, swaps=swaps)
        for name in TABLES:
            (fresh / f"{name}.parquet").unlink(missing_ok=True)
            if name in tables:
                tables[name].write_parquet(fresh / f"{name}.parquet", compression="zstd")
        write_json(fresh / "critic.json", summary.to_json())
        write_page(fresh / "report.html", text)
        for name, figure in drawn.items():
            save(figure, fresh / f"{name}.png")
            save(figure, fresh / f"{name}.svg")
    return {
        "checkpoint": str(checkpoint),
        "episodes": summary.successes + summary.failures,
        **summary.to_json(),
        "says": verdict(summary),
        "report": str(out / "report.html"),
        "figures": [str(out / f"{name}.png") for name in drawn],
    }


def draw(
    traces: Any, summary: CriticSummary, frames: dict[int, dict[int, U8]], seed: int = 0
) -> dict[str, Any]:
    """Return the figures of an analysis by name; those that need both outcomes are left out where one is missing."""
    drawn: dict[str, Any] = {}
    shown = next(iter(frames), None)
    taken = sorted(frames[shown].items()) if shown is not None else []
    strip = [
        taken[i] for i in np.unique(np.linspace(0, len(taken) - 1, min(8, len(taken))).round().astype(int))
    ]
    drawn["value_traces"] = trace_figures.value_traces(traces, episode=shown, frames=strip)
    if summary.auroc:
        drawn["auroc"] = figures.auroc_over_time(summary.auroc, end=summary.auroc_end)
    if summary.effect:
        drawn["separation"] = figures.effect_over_time(summary.effect)
    if summary.swap:
        drawn["swap"] = figures.swap_bars(summary.swap)
    drawn["reliability"] = figures.reliability(calibration(autonomous(traces), rng=stream("bootstrap", seed)))
    if summary.occlusion:
        drawn["occlusion"] = occlusion_figures.occlusion_bars(summary.occlusion)
    if summary.counterfactual is not None:
        drawn["counterfactual"] = swap_figures.counterfactual_bars(summary.counterfactual)
    if summary.ope is not None:
        drawn["ope"] = ope_figure.ope_scatter(summary.ope)
    if summary.warning is not None:
        drawn["warning"] = trace_figures.warning_curve(summary.warning)
    return drawn


def thumbnails(
    data: Sequence[Path], success: NDArray[np.bool_], episode: NDArray[np.int32]
) -> dict[int, dict[int, U8]]:
    """Return pictures of the scene camera of some successes and failures: episode -> tick -> uint8 [h, w, 3]."""
    first = np.unique(episode, return_index=True)[1]
    outcome = success[first]
    chosen = sorted(
        int(i) for value in (True, False) for i in np.flatnonzero(outcome == value)[:THUMBNAIL_EPISODES]
    )
    frames: dict[int, dict[int, U8]] = {}
    start = 0
    for path in data:
        dataset = Dataset.open(path)
        for i in (c for c in chosen if start <= c < start + len(dataset)):
            images = dataset.episode(i - start).images[dataset.cameras[0]]
            ticks = np.unique(np.linspace(0, len(images) - 1, THUMBNAILS_PER_EPISODE).round().astype(int))
            frames[i] = {int(t): images[t] for t in ticks}
        start += len(dataset)
    return frames


def _checked(
    trained: Trained,
    checkpoint: Path,
    data: Sequence[Path],
    masks: Path | None,
    boxes: Sequence[str],
    then: str | None,
    ope: Sequence[Path],
) -> tuple[Successor | None, list[Measured]]:
    """Tell what is wrong with what `analyze` got before anything is encoded; return who goes on, and whom to rank.

    then: None where nobody has to go on.
    """
    datasets = open_recordings(data, trained)
    rows = [row for dataset in datasets for row in dataset.rows()]
    if boxes:
        box_masks(boxes, trained.spec.cameras, datasets[0].image_size, 0)
    if masks is not None:
        ticks, none = sum(row.length for row in rows), np.zeros(0, np.int64)
        file_masks(masks, trained.spec.cameras, datasets[0].image_size, none, ticks)
    near = [checkpoint, *data]
    alone = [r for r in rows if not r.human_ticks]
    goes_on = None if then is None else successor_of(alone, then, near=near)
    return goes_on, measured(ope, condition_of(rows), near=near) if ope else []


def _traces(recordings: Recordings, scorer: Scorer, gamma: float) -> Iterator[EpisodeTrace]:
    """Yield the critic's outputs along every episode.  q of a tick without a window (the last one) is NaN."""
    first = recordings.first
    v = scorer.v(np.arange(first[-1]))
    q, spread = np.full((2, len(v)), np.nan, np.float32)
    w = recordings.windows
    rows = np.asarray(first[w.episode] + w.t, np.int64)
    for at in range(0, len(rows), WINDOWS):
        w = recordings.windows  # mapped anew, so that no more than WINDOWS of its chunks are in memory
        some = slice(at, at + WINDOWS)
        q[rows[some]], spread[rows[some]] = scorer.q(rows[some], w.action[some], w.mask[some])
    for i, e in enumerate(recordings.episodes):
        ticks = slice(first[i], first[i + 1])
        yield EpisodeTrace(
            v=v[ticks],
            q=q[ticks],
            q_std=spread[ticks],
            mc_return=discounted_returns(e.reward, e.terminated, gamma),
            success=e.success,
            controller=e.controller,
            setting=str(e.meta.get("setting", "")),
            task=str(e.meta.get("task", "")),
        )


def _swap(recordings: Recordings, scorer: Scorer, rng: np.random.Generator) -> tuple[Any, Estimate]:
    """Return the action-swap scores and the action sensitivity on full windows of successful episodes.

    Where fewer than two episodes succeeded, all are used: one of the swaps takes a chunk from another episode.
    """
    w = recordings.windows
    full = w.e == w.action.shape[1]
    chosen = full & w.success
    found = np.flatnonzero(chosen if len(np.unique(w.episode[chosen])) > 1 else full)
    if len(found) > SWAPPED:
        found = np.sort(stream("swap states").permutation(found)[:SWAPPED])
    good = recordings.take(found)
    rows = recordings.first[good.episode] + good.t
    spec = scorer.spec
    bad = {k: c for k, c in bad_chunks(good.action, good.episode, spec, rng=rng).items()}
    valid = {k: differs(good.action, c, spec) for k, c in bad.items()}
    bad = {k: c for k, c in bad.items() if valid[k].any()}
    executed = scorer.q(rows, good.action, good.mask)[0]
    swapped = {k: scorer.q(rows, c, good.mask)[0] for k, c in bad.items()}
    scores = swap_test(executed, swapped, good.episode, rng=rng, valid=valid)
    picks = [rng.integers(0, len(good), len(good)) for _ in range(SENSITIVITY_CHUNKS)]
    candidates = np.stack([scorer.q(rows, good.action[p], good.mask)[0] for p in picks], axis=1)
    return scores, action_sensitivity(candidates, good.episode, rng=rng)
