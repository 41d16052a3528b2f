"""The command that the demo prints at a stage asks the library for exactly what the stage asks it for."""

from __future__ import annotations

import importlib
import inspect
import shlex
from pathlib import Path
from typing import Any

import pytest

from bora_cli.cli.app import main
from bora_cli.cli.pipeline import Job, Pipeline, Stage

LIBRARY = (
    "evaluate.collect.collect",
    "train.offline.train",
    "evaluate.evaluate.evaluate",
    "train.online.run_rounds",
    "analysis.analyze.analyze",
    "analysis.run_report.report",
)
TALK = {"workers", "progress", "label", "wait"}
"""Arguments that do not change a result."""
KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10"]


class Asked(Exception):
    """Ends a command where it would begin to work."""


class Answer(dict[str, Any]):
    """What a stage gets instead of a result."""

    def to_json(self) -> dict[str, Any]:
        return {}


class Recorder:
    """Stands in for the functions that do the work: binds and keeps what each is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.stop = False
        for path in LIBRARY:
            module, name = path.rsplit(".", 1)
            owner = importlib.import_module(f"bora_cli.{module}")
            monkeypatch.setattr(owner, name, self._stand_in(name, inspect.signature(getattr(owner, name))))

    def _stand_in(self, name: str, signature: inspect.Signature) -> Any:
        def stand_in(*args: Any, **kwargs: Any) -> Answer:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            self.asked.append((name, {k: v for k, v in bound.arguments.items() if k not in TALK}))
            if self.stop:
                raise Asked
            return Answer()

        return stand_in


def prepared(root: Path, quick: bool) -> Pipeline:
    """A claimed run in which every file is there that a command looks for before it begins."""
    pipeline = Pipeline(root, Job.make("open_box", 3, "deployment", quick), None, lambda *_, **__: None)
    pipeline.claim()
    for dataset in ("demos", "rollouts", "online/episodes"):
        (root / dataset / "meta").mkdir(parents=True)
        (root / dataset / "meta" / "info.json").write_text("{}")
    policies = [f"policies/{name}" for name in ("cp_base", "filtered_bc", "bora_offline", "bc_interventions")]
    for policy in (*policies, "online/policy"):
        (root / policy).mkdir(parents=True)
        (root / policy / "config.json").write_text("{}")
    return pipeline


def stage_of(pipeline: Pipeline, number: str) -> Stage:
    return next(s for s in pipeline.stages() if s.key.partition("-")[0] == number)


@pytest.mark.parametrize("quick", [False, True], ids=["full", "quick"])
@pytest.mark.parametrize("number", KEYS)
def test_a_printed_command_asks_for_what_its_stage_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, quick: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Path("runs/a demo")
    recorder = Recorder(monkeypatch)
    stage = stage_of(prepared(root, quick), number)
    stage.run()
    wanted, recorder.asked, recorder.stop = recorder.asked, [], True
    for command in stage.commands:
        with pytest.raises(Asked):
            main(shlex.split(command)[1:])
    again = Path("runs/a demo-again")
    for (_, of_stage), (name, of_command) in zip(wanted, recorder.asked, strict=True):
        target = "record" if name == "evaluate" else "out"
        if of_stage.get(target) is not None:
            assert of_command.pop(target) == again / of_stage.pop(target).relative_to(root)
    assert recorder.asked == wanted


@pytest.mark.parametrize("out", [".", "..", "run"])
def test_the_folder_of_repetitions_lies_beside_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str
) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "below")
    pipeline = Pipeline(Path(out), Job.make("open_box", 0, "none", True), None, print)
    words = shlex.split(next(pipeline.stages()).commands[0])
    target = Path(words[words.index("--out") + 1])
    beside = Path(out).resolve()
    assert target.absolute() == beside.with_name(f"{beside.name}-again") / "demos"
