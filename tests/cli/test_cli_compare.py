"""`bora compare`: tables for people, one document for programs, one line for mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bora_cli.cli.app import main
from bora_cli.evaluate.evaluate import EvalJob, EvalResult, Trial


@pytest.fixture
def evaluations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two evaluations on the same scenes."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)
    for name, every in (("old", 5), ("new", 1)):
        job = EvalJob(name, name, "pick_toy", "standard", "none@1.0", 64)
        trials = [Trial(7 + i, i % every == 0, True, 20) for i in range(20)]
        Path(f"{name}.json").write_text(json.dumps(EvalResult(job, trials).to_json()))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(["compare", *arguments])
    out, err = capsys.readouterr()
    return int(leaving.value.code or 0), out, err


def test_it_prints_a_table_and_a_verdict(evaluations, capsys):
    code, out, err = run(capsys, "old.json", "new.json", "--figure", "c.svg")
    assert code == 0
    assert "pick_toy, standard objects, gap none@1.0" in out
    assert "new against old: +80 points" in out
    assert "larger than noise" in out
    assert "figure: c.svg" in err
    assert "<svg" in Path("c.svg").read_text()


def test_json_is_one_document(evaluations, capsys):
    code, out, _ = run(capsys, "old.json", "new.json", "--against", "new", "--json")
    assert code == 0
    assert json.loads(out)["pairs"][0]["success"]["value"] == pytest.approx(-0.8)


@pytest.mark.parametrize(
    ("arguments", "expected", "says"),
    [
        (("old.json",), 3, "There is one system to compare, old."),
        (("old.json", "nowhere"), 3, "There is nothing at nowhere."),
        (
            ("old.json", "new.json", "./old.json"),
            3,
            "old.json was named twice; it cannot differ from itself.",
        ),
        (("old.json", "new.json", "--against", "x"), 3, "There is no system 'x' among old, new."),
        (("old.json", "new.json", "--figure", "c.pdf"), 3, "--figure c.pdf is neither .png nor .svg."),
        (("old.json", "new.json", "--task", "pick_toy"), 2, "--task has no meaning"),
        (("old.json", "new.json", "--task", "pick_toi"), 2, "Did you mean 'pick_toy'?"),
    ],
)
def test_mistakes_are_told_in_one_sentence(evaluations, capsys, arguments, expected, says):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (expected, "")
    assert says in " ".join(err.replace("│", " ").split())


def test_policies_need_a_task(evaluations, capsys):
    Path("policy").mkdir()
    Path("policy/config.json").write_text("{}")
    code, _, err = run(capsys, "policy", "old.json")
    assert code == 2
    assert "say what to evaluate it on" in err
