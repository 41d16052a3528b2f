"""What is lost, and saved, when a person is called by the alarm instead of watching: a table in docs/results.md.

    python benchmarks/alarm.py runs/seeds/pick_toy-0 runs/seeds/pick_toy-1 --episodes 30 --out runs/alarm.jsonl

Each RUN is a demo run (`benchmarks/demo_seeds.py` makes them).  Its offline policy acts under the run's gap, on scenes
of the online range that no run uses, several times in each: with nobody beside it, with the simulated person who
watches, and with the one who waits for the alarm, at several shares of false alarms.  The alarm comes from the run's
own analysis, RUN/analysis, in which the policy's critic judged the episodes of CP Base under the same gap.  Every
episode is one line of --out; a run that is started again goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bora_cli.analysis.alarm import fit_alarm
from bora_cli.analysis.traces import read_traces
from bora_cli.checkpoint import load_trained
from bora_cli.control.alarm import Alarm, Bell
from bora_cli.control.arbiter import DRIVEN_BY_PERSON
from bora_cli.control.loop import Tick, roll_out
from bora_cli.evaluate.collect import simulation
from bora_cli.evaluate.metrics import takeovers, wilson
from bora_cli.evaluate.monitor import Monitor
from bora_cli.seeds import scene_seeds, stream
from bora_cli.sim.operator import SimulatedOperator
from bora_cli.sim.responder import DELAY, Responder
from bora_cli.sim.styles import CORRECTOR
from bora_cli.sim.watcher import Watcher

SHARES = {"called": 0.05, "called at 20 %": 0.2, "called at 50 %": 0.5}
"""Modes with an alarm, and the share of successes in which it may have rung when it was made."""
MODES = ("nobody", "watching", *SHARES)
SEED = 90
"""Of the scenes; the demo's seeds are small."""


def main() -> None:
    """Run what is missing and print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("runs/alarm.jsonl"))
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    done = read(arguments.out)
    known = {(d["run"], d["scene"], d["mode"]) for d in done}
    with open(arguments.out, "a", buffering=1) as file:
        for number in range(arguments.episodes):  # scene by scene, so that a part of it is balanced
            for run in arguments.runs:
                for record in episodes(run, number, known):
                    file.write(json.dumps(record) + "\n")
    print(table(read(arguments.out)))
    for mode, share in SHARES.items():
        made = [alarm_of(run, share) for run in arguments.runs]
        facts = ", ".join(f"{a.detected:.2f} of failures at {a.false_alarms:.2f} of successes" for a in made)
        print(f"{mode}, when it was made: {facts}.")


def read(path: Path) -> list[dict[str, Any]]:
    """Return the episodes that are there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def alarm_of(run: Path, share: float) -> Alarm:
    """Return the alarm that the analysis of a demo run allows, with this share of false alarms at most."""
    spec = load_trained(run / "policies/bora_offline").spec
    return fit_alarm(
        read_traces(run / "analysis/traces.parquet"), every=spec.execute, dt=spec.dt, false_alarms=share
    )


def episodes(run: Path, number: int, known: set[tuple[str, int, str]]) -> Iterator[dict[str, Any]]:
    """Run the modes that are missing in one scene of one run."""
    job = json.loads((run / "demo.json").read_text())
    scene = scene_seeds("online", SEED, 1, start=number)[0]
    missing = [mode for mode in MODES if (run.name, scene, mode) not in known]
    if not missing:
        return
    trained = load_trained(run / "policies/bora_offline")
    policy, sim = trained.policy(), simulation(job["task"], "standard", job["gap"], 64)
    for mode in missing:
        monitor = Monitor(policy, trained.critic, bell=Bell(alarm_of(run, SHARES.get(mode, 0.05))))
        monitor.begin()
        rings: list[bool] = []
        busy: list[bool] = []

        def look(tick: Tick, monitor: Monitor = monitor, rings: Any = rings, busy: Any = busy) -> None:
            monitor(tick)
            rings.append(monitor.bell is not None and monitor.bell.rings)
            busy.append(tick.phase in DRIVEN_BY_PERSON)

        episode = roll_out(
            sim,
            monitor.policy,
            scene_seed=scene,
            rng=stream("policy", scene),
            meta={},
            watcher=_person(mode, job["task"], scene, monitor),
            operator=SimulatedOperator(CORRECTOR, stream("operator", scene)),
            images=False,
            on_tick=look,
        )
        first = rings.index(True) if any(rings) else None
        yield {
            "run": run.name,
            "scene": scene,
            "mode": mode,
            "success": bool(episode.success),
            "ticks": len(episode),
            "human_ticks": int(episode.intervened.sum()),
            "takeovers": takeovers(episode.controller),
            "calls": monitor.calls,
            "first_call": first,
            "attended": attended(rings, busy),
        }


def attended(rings: list[bool], busy: list[bool]) -> int:
    """Return the ticks that cost a called person his attention: from a call until he has come, and driving."""
    mask = np.array(busy)
    for tick in np.flatnonzero(rings):
        mask[tick : tick + DELAY[1] + 1] = True
    return int(mask.sum())


def _person(mode: str, task: str, scene: int, monitor: Monitor) -> Any:
    rng = stream("watcher", scene)
    if mode == "nobody":
        return None
    if mode == "watching":
        return Watcher(task, rng)
    return Responder(task, rng, lambda: monitor.bell is not None and monitor.bell.rings)


def table(records: list[dict[str, Any]]) -> str:
    """Return success, human share, attention and take-overs per mode, and what the alarm saw and missed."""
    lines = [
        "| person | success | drives, share of ticks | attends | takeovers per episode |",
        "|---|---|---|---|---|",
    ]
    for mode in MODES:
        part = [r for r in records if r["mode"] == mode]
        k, n, ticks = sum(r["success"] for r in part), len(part), sum(r["ticks"] for r in part)
        low, high = wilson(k, n)
        driven = sum(r["human_ticks"] for r in part) / ticks
        attention = {"nobody": 0.0, "watching": 1.0}.get(mode, sum(r["attended"] for r in part) / ticks)
        lines.append(
            f"| {mode} | {k / n:.2f} ({low:.2f}-{high:.2f}), n = {n} | {100 * driven:.0f} % | {100 * attention:.0f} %"
            f" | {sum(r['takeovers'] for r in part) / n:.2f} |"
        )
    alone = [r for r in records if r["mode"] == "nobody"]
    failed, good = ([r for r in alone if r["success"] == wanted] for wanted in (False, True))
    found = [r for r in failed if r["first_call"] is not None]
    lead = [r["ticks"] - 1 - r["first_call"] for r in found]
    lines += [
        "",
        f"With nobody there the alarm (at 5 %) rang in {len(found)} of {len(failed)} failures"
        f" ({_interval(len(found), len(failed))}), {0.1 * float(np.median(lead)) if lead else float('nan'):.1f} s"
        f" before the end in the median, and in {sum(r['first_call'] is not None for r in good)} of {len(good)}"
        f" successes ({_interval(sum(r['first_call'] is not None for r in good), len(good))}).",
        "",
    ]
    outcome = {(r["run"], r["scene"]): r["success"] for r in alone}
    for mode in MODES[1:]:
        part = [r for r in records if r["mode"] == mode and (r["run"], r["scene"]) in outcome]
        fine, lost = ([r for r in part if outcome[r["run"], r["scene"]] == well] for well in (True, False))
        called = f"called in {sum(r['calls'] > 0 for r in fine)}, " if mode in SHARES else ""
        lines.append(
            f"- {mode}: of {len(lost)} that fail alone {sum(r['success'] for r in lost)} succeed; of {len(fine)} that"
            f" succeed alone, {called}taken over in {sum(r['takeovers'] > 0 for r in fine)},"
            f" lost {sum(not r['success'] for r in fine)}."
        )
    return "\n".join(lines)


def _interval(k: int, n: int) -> str:
    low, high = wilson(k, n)
    return f"{low:.2f}-{high:.2f}"


if __name__ == "__main__":
    main()
