"""A training run that is killed goes on where it was saved, and ends as one that was not killed, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bora_cli.checkpoint import load_trained
from bora_cli.errors import ConfigError, TrainingDiverged
from bora_cli.train import clone as clone_module
from bora_cli.train import folder
from bora_cli.train import run as run_module
from bora_cli.train.folder import is_interrupted
from bora_cli.train.offline import train
from bora_cli.train.run import Phase
from toy_world import weights

UPDATES = 16
PHASES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "bora": ({}, ("clone", "critic", "value 2", "improve")),
    "bora, gated": ({"warm_up": "gated"}, ("value 2", "clone", "improve")),
    "decoupled": ({}, ("clone", "decoupled critic", "improve")),
    "bora, adapted": (
        {"adapt": "lora@2", "advantages": "q_minus_v"},
        ("clone", "critic", "improve", "critic of the trained backbone"),
    ),
}

Trainer = Callable[[Path], dict[str, Any]]


@pytest.fixture
def trainer(toy_demos: Path, toy_backbone: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    """Return a way to start the same training several times; every update is saved and logged."""
    monkeypatch.setattr(run_module, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(run_module, "SAVING_SHARE", 0.0)
    monkeypatch.setattr(run_module, "LOG_EVERY", 1)

    def of(case: str, **changes: Any) -> Trainer:
        options = {"backbone": str(toy_backbone), "updates": UPDATES, **PHASES[case][0], **changes}
        return lambda out: train(case.partition(",")[0], data=[toy_demos], out=out, **options)

    return of


def killed(start: Trainer, out: Path, phase: str, update: int) -> None:
    """Train in a child that kills itself in the middle of an update."""
    child = os.fork()
    if not child:
        real = Phase.step

        def die(self: Phase, *arguments: Any) -> None:
            if (self.name, self.update) == (phase, update):
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, *arguments)

        Phase.step = die  # type: ignore[method-assign]
        start(out)
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), f"{phase} has no update {update}"


@pytest.mark.parametrize("case", PHASES)
def test_a_run_killed_in_every_phase_ends_as_one_that_was_not(
    trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    start, phases = trainer(case), PHASES[case][1]
    start(tmp_path / "whole")
    out = tmp_path / "broken"
    for phase in phases:
        killed(start, out, phase, 1)
    assert not out.exists()
    steps: Counter[str] = Counter()
    real = Phase.step

    def count(self: Phase, *arguments: Any) -> None:
        steps[self.name] += 1
        real(self, *arguments)

    monkeypatch.setattr(Phase, "step", count)
    start(out)
    assert set(steps) == {phases[-1]}, "a finished phase was repeated"
    assert weights(out) == weights(tmp_path / "whole")
    metrics = [(tmp_path / f"{name}.run" / "metrics.jsonl").read_text() for name in ("whole", "broken")]
    assert metrics[0] == metrics[1]
    logged = {json.loads(line)["phase"] for line in metrics[0].splitlines()}
    assert logged >= set(phases)
    assert ("improve probe" in logged) == ("adapt" in PHASES[case][0])
    root = tmp_path / "broken.run"
    about = json.loads((root / "run.json").read_text())
    assert (len(about["starts"]), about["ended"]) == (len(phases) + 1, "finished")
    assert sorted(f.name for f in root.iterdir()) == ["metrics.jsonl", "profile.json", "run.json"]


def test_what_was_not_saved_is_repeated_and_not_logged_twice(
    trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Saved are finished phases only; the torn line is of the moment of the kill."""
    start = trainer("bora")
    start(tmp_path / "whole")
    monkeypatch.setattr(run_module, "SAVE_EVERY_S", 1e9)
    out = tmp_path / "broken"
    killed(start, out, "value 2", 1)
    log = tmp_path / "broken.run" / "metrics.jsonl"
    with log.open("a") as file:
        file.write('{"phase": "value 2", "upd')
    start(out)
    assert weights(out) == weights(tmp_path / "whole")
    assert log.read_text() == (tmp_path / "whole.run" / "metrics.jsonl").read_text()


def test_an_interrupted_run_is_not_mixed_with_another(
    trainer: Callable[..., Trainer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "policy"
    killed(trainer("bora"), out, "critic", 1)
    said = (
        r"policy\.run holds an interrupted training of something else: seed 0, now 1\. Repeat its command to"
    )
    with pytest.raises(ConfigError, match=said):
        trainer("bora", seed=1)(out)
    with pytest.raises(ConfigError, match=r"something else: settings\.\S+ \d+, now \d+; "):
        trainer("bora", updates=7)(out)
    assert is_interrupted(out)
    monkeypatch.setattr(folder, "code_hash", lambda: "changed")
    trainer("bora")(out)
    assert "The code has changed since" in caplog.text
    assert not is_interrupted(out)
    assert load_trained(out).provenance["seed"] == 0
    trainer("bora", seed=1)(
        out
    )  # whoever asks the library for it gets a new run in the place of a finished one
    assert load_trained(out).provenance["seed"] == 1


def test_a_run_that_saved_nothing_is_begun_anew(trainer: Callable[..., Trainer], tmp_path: Path) -> None:
    out = tmp_path / "policy"
    killed(trainer("bora"), out, "clone", 0)
    trainer("bora", seed=1)(out)
    assert load_trained(out).provenance["seed"] == 1


def test_a_run_that_diverges_leaves_the_policy_before_that(
    trainer: Callable[..., Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = clone_module.bc_loss, []

    def explode(*arguments: Any, **options: Any) -> Any:
        loss, info = real(*arguments, **options)
        calls.append(1)
        return (loss * float("inf") if len(calls) == 4 else loss), info

    out = tmp_path / "policy"
    with monkeypatch.context() as patch:
        patch.setattr(clone_module, "bc_loss", explode)
        with pytest.raises(
            TrainingDiverged, match=r"became inf at update 3\. .*before that is in .*run/last"
        ):
            trainer("bora")(out)
    assert not out.exists()
    last = load_trained(tmp_path / "policy.run" / "last")
    assert (last.provenance["phase"], last.provenance["update"]) == ("clone", 3)
    about = json.loads((tmp_path / "policy.run" / "run.json").read_text())
    assert about["ended"] == "diverged: The clone loss became inf at update 3."
    trainer("bora", seed=1)(out)  # nothing has to be cleared away first
    assert about["job"]["seed"] == 0
