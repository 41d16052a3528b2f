"""The tables of `benchmarks/online.py`: made of what is there, so they can be looked at while it is running."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from cells import SETTINGS, counted, points
from numpy.typing import NDArray

from bora_cli.analysis.summary import method_title
from bora_cli.analysis.tables import comparisons
from bora_cli.evaluate.metrics import Result, paired_difference
from bora_cli.sim.gaps import JOINT, parse_gap

BASE, FULL, NO_GAP = "bora_offline", "bora_full", "none@1.0"
TITLES = {"hg_dagger": "HG-DAgger", "resfit": "ResFiT"}
LOSS = 0.05
"""Least loss of success to a gap of which a recovered share is told; of less it would be mostly noise."""
HARM = 0.03
"""A released policy that succeeds less often than its base by more than this has done harm."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Facts:
    """What happened in the rounds of one online run.

    base: hash of the policy it began with.  released: rounds whose policy was released.  updates: of all networks.
    jump_mm: largest change of the commanded translation from one tick to the next while a person takes over.
    jump_of_limit: largest such change of any action, as a share of what the profile allows.
    seconds: per stage, [wall, processor].
    """

    base: str
    rounds: int
    episodes: int
    ticks: int
    human_ticks: int
    takeovers: int
    released: int
    updates: int
    jump_mm: float
    jump_of_limit: float
    seconds: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One method on one task with one seed under one gap; the base itself has no rounds and so no facts.

    results: its unaided episodes, standard and unseen.
    """

    task: str
    seed: int
    gap: str
    method: str
    results: Sequence[Result]
    facts: Facts | None = None

    @property
    def place(self) -> tuple[str, int]:
        return self.task, self.seed


def title(method: str) -> str:
    """Return the printed name of a method, with what follows a comma in its key."""
    name, comma, variant = method.partition(", ")
    return TITLES.get(name, method_title(name)) + comma + variant


def report(runs: Sequence[Run], methods: Sequence[str], gaps: Sequence[str]) -> str:
    """Return all tables as Markdown.  methods, gaps: the rows and the tables, in order."""
    whole = complete(runs, methods)
    bare = [r for r in runs if (r.gap, r.method) == (NO_GAP, BASE)]
    parts = []
    for gap in gaps:
        here = [r for r in whole if r.gap == gap]
        parts += gap_tables(gap, here, bare, methods) if here else [f"### gap {gap}\n\nNothing complete yet."]
    parts += [harm_table(whole, methods), stage_table(whole, methods)]
    return "\n\n".join(part for part in parts if part)


def complete(runs: Sequence[Run], methods: Sequence[str]) -> list[Run]:
    """Return the runs of those (task, seed, gap) for which every method is there."""
    there: dict[tuple[str, int, str], set[str]] = {}
    for r in runs:
        there.setdefault((*r.place, r.gap), set()).add(r.method)
    wanted = {BASE, *methods}
    return [r for r in runs if r.method in wanted and wanted <= there[*r.place, r.gap]]


def gap_tables(gap: str, runs: Sequence[Run], bare: Sequence[Run], methods: Sequence[str]) -> list[str]:
    """Return the tables and differences of one gap, for all tasks together and for each of them."""
    tasks = list(dict.fromkeys(r.task for r in runs))
    groups = [(", ".join(tasks), runs)] if len(tasks) > 1 else []
    groups += [(task, [r for r in runs if r.task == task]) for task in tasks]
    parts = [f"### gap {gap}"]
    for name, part in groups:
        seeds = ", ".join(map(str, sorted({r.seed for r in part})))
        parts += [f"#### {name}, seeds {seeds}", _table(part, bare, methods)]
        if FULL in methods:
            parts.append(_differences(part, [BASE, *(m for m in methods if m != FULL)]))
    return parts


def _table(runs: Sequence[Run], bare: Sequence[Run], methods: Sequence[str]) -> str:
    lines = [
        "| method | standard | unseen | recovered, standard | recovered, unseen | person drives, share of ticks"
        " | takeovers per episode | largest takeover jump | rounds released | updates per run | minutes per run |",
        "|---" * 11 + "|",
    ]
    for method in (BASE, *methods):
        own = [r for r in runs if r.method == method]
        cells = [counted(sum(s), len(s)) for s in (_successes(own, setting) for setting in SETTINGS)]
        if method == BASE:
            cells += [""] * 8
        else:
            cells += [_share(recovered(runs, bare, method, setting)) for setting in SETTINGS]
            cells += _rounds([r.facts for r in own if r.facts is not None])
        lines.append(f"| {title(method)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _rounds(facts: Sequence[Facts]) -> list[str]:
    ticks, episodes = sum(f.ticks for f in facts), sum(f.episodes for f in facts)
    return [
        f"{100 * sum(f.human_ticks for f in facts) / ticks:.0f} %",
        f"{sum(f.takeovers for f in facts) / episodes:.2f}",
        f"{max(f.jump_mm for f in facts):.1f} mm, {max(f.jump_of_limit for f in facts):.2f} of the limit",
        f"{sum(f.released for f in facts)}/{sum(f.rounds for f in facts)}",
        f"{sum(f.updates for f in facts) / len(facts):.0f}",
        f"{sum(s[0] for f in facts for k, s in f.seconds.items() if k != 'evaluate') / len(facts) / 60:.1f}",
    ]


def _share(found: tuple[float, float, float] | None) -> str:
    return "" if found is None else "{:.2f} ({:.2f} to {:.2f})".format(*found)


def _successes(runs: Iterable[Run], setting: str) -> list[bool]:
    return [result.success for run in runs for result in run.results if result.setting == setting]


def recovered(
    runs: Sequence[Run], bare: Sequence[Run], method: str, setting: str
) -> tuple[float, float, float] | None:
    """Return which share of the success that a gap takes from the base a method gives back, with its 95 % interval.

    bare: runs of the base without a gap.  The bootstrap draws tasks and seeds, then scenes within them, the same for
    all three.  None where the gap takes too little.
    """
    groups = []
    places = dict.fromkeys(r.place for r in runs)
    for place in places:
        kinds = ((runs, BASE), (runs, method), (bare, BASE))
        found = [
            _by_scene([r for r in rs if (*r.place, r.method) == (*place, m)], setting) for rs, m in kinds
        ]
        scenes = sorted(set.intersection(*map(set, found)))
        groups.append(np.array([[f[s] for s in scenes] for f in found], np.float64))  # [3, scenes]
    if not all(g.size for g in groups):
        return None
    lost, ratio = _recovered(np.concatenate(groups, axis=1))
    if lost < LOSS:
        return None
    rng = np.random.default_rng(0)
    drawn = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        picked = [groups[g] for g in rng.integers(len(groups), size=len(groups))]
        parts = [g[:, rng.integers(g.shape[1], size=g.shape[1])] for g in picked]
        lost, drawn[i] = _recovered(np.concatenate(parts, axis=1))
        drawn[i] = drawn[i] if lost > 0 else np.nan
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return ratio, float(low), float(high)


def _recovered(successes: NDArray[np.float64]) -> tuple[float, float]:
    base, method, bare = successes.mean(1)
    return float(bare - base), float((method - base) / (bare - base)) if bare != base else float("nan")


def _by_scene(runs: Sequence[Run], setting: str) -> dict[int, bool]:
    return {x.scene_seed: x.success for run in runs for x in run.results if x.setting == setting}


def _differences(runs: Sequence[Run], others: Sequence[str]) -> str:
    """Return how BORA-Full differs from the other rows; the bootstrap draws tasks and seeds, then scenes."""
    places = list(dict.fromkeys(r.place for r in runs))
    results = [replace(x, method=r.method, seed=places.index(r.place)) for r in runs for x in r.results]
    found = comparisons(results, rng=np.random.default_rng(0), pairs=[(FULL, other) for other in others])
    lines = [f"Paired differences of {title(FULL)}, in points (95 % bootstrap over seeds and scenes):", ""]
    return "\n".join(
        lines
        + [
            f"- over {title(c.against)}, {c.setting}: {points(c.difference, c.lo, c.hi)}, n = {c.n}"
            for c in found
        ]
    )


def mild(gap: str) -> bool:
    """Whether a gap is none, or every part of it weaker than in the table of gaps."""
    parts = [parse_gap(part) for part in gap.split(JOINT)]
    return all(part.strength < 1 or not part.active for part in parts)


def harm_table(runs: Sequence[Run], methods: Sequence[str]) -> str:
    """Return in how many runs under mild gaps or none a method's released policy is worse than its base."""
    here = [r for r in runs if mild(r.gap)]
    gaps = list(dict.fromkeys(r.gap for r in here))
    if not here:
        return ""
    base = {(*r.place, r.gap): r for r in here if r.method == BASE}
    lines = [
        "### Never harm",
        "",
        f"Runs under {', '.join(gaps)} whose released policy succeeds less often than its base by more than"
        f" {100 * HARM:.0f} points on the paired scenes, of all such runs. The mean difference is paired, in points,"
        " over both settings (95 % bootstrap over runs and scenes).",
        "",
        "| method | released anything | worse, standard | worse, unseen | worse, both together"
        " | worst, both together | mean difference |",
        "|---" * 7 + "|",
    ]
    for method in methods:
        pairs = [(r, base[*r.place, r.gap]) for r in here if r.method == method]
        cells = [str(sum(r.facts is not None and r.facts.released > 0 for r, _ in pairs))]
        cells[0] += f"/{len(pairs)}"
        drops = []
        for settings in (SETTINGS[:1], SETTINGS[1:], SETTINGS):
            drops = [float(np.mean(_paired(r, b, settings))) for r, b in pairs]
            cells.append(counted(sum(d < -HARM - 1e-9 for d in drops), len(drops)))
        cells.append(f"{100 * min(drops):+.1f}")
        each = [_paired(r, b, SETTINGS) for r, b in pairs]
        mean = paired_difference(
            np.concatenate(each),
            np.zeros(sum(map(len, each))),
            groups=np.repeat(np.arange(len(each)), [len(d) for d in each]),
            rng=np.random.default_rng(0),
        )
        lines.append(
            f"| {title(method)} | " + " | ".join([*cells, points(mean.value, mean.lo, mean.hi)]) + " |"
        )
    return "\n".join(lines)


def _paired(run: Run, base: Run, settings: Sequence[str]) -> NDArray[np.float64]:
    """Return the differences of success on the scenes that both met, [n]."""
    found = []
    for setting in settings:
        own, other = _by_scene([run], setting), _by_scene([base], setting)
        found += [float(own[s]) - float(other[s]) for s in own if s in other]
    return np.array(found, np.float64)


def stage_table(runs: Sequence[Run], methods: Sequence[str]) -> str:
    """Return the seconds per run that every stage took, of the wall clock and of the processor."""
    facts = {m: [r.facts for r in runs if r.method == m and r.facts is not None] for m in methods}
    stages = list(dict.fromkeys(s for fs in facts.values() for f in fs for s in f.seconds))
    if not stages:
        return ""
    lines = ["### Seconds per run: wall clock (processor)", "", "| method | " + " | ".join(stages) + " |"]
    lines.append("|---" * (len(stages) + 1) + "|")
    for method, fs in facts.items():
        means = [np.mean([f.seconds.get(s, [0.0, 0.0]) for f in fs], axis=0) for s in stages]
        lines.append(f"| {title(method)} | " + " | ".join(f"{m[0]:.0f} ({m[1]:.0f})" for m in means) + " |")
    return "\n".join(lines)
